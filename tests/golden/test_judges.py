"""The judges of the cases are no easy ones: what is missing from an upstream's body, one of them misses."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from botocore.eventstream import EventStreamBuffer
from twisted.trial.unittest import SynchronousTestCase

from tests.golden.cases import Case, cases
from tests.golden.families import FAMILIES
from tests.golden.families.converse.arrivals import event
from tests.golden.test_cases import judge_answer, judge_request

Path = tuple[str | int, ...]

#: What only the whole comparison with a case's body sees: no fact is read of it.
UNJUDGED = {
    "generationConfig",
    "safetySettings",
    "thoughtSignature",
    "excludeDomains",
    "includeServerSideToolInvocations",
    # of the Converse API
    "inferenceConfig",
    "additionalModelRequestFields",
    "outputConfig",
    # of chat completions
    "max_tokens",
    "max_completion_tokens",
    "response_format",
    "safety_identifier",
    "parallel_tool_calls",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "enable_thinking",
    "chat_template_kwargs",
    "reasoning_split",
    "reasoning_format",
    "filename",
    # of the Responses API
    "detail",
    "filters",
    "include",
    "max_output_tokens",
    "max_tool_calls",
    "phase",
    "user_location",
}
#: The same, of the body itself.
UNJUDGED_AT_THE_TOP = {"text"}
#: The client's own JSON: facts have it as a whole.
WHOLE = {"args", "parametersJsonSchema", "parameters", "input", "json", "reasoning_details"}
#: Whoever leaves these out has left out nothing.
NOTHING = (
    {},
    None,
    {"type": "object", "properties": {}},
    {"includeServerSideToolInvocations": True},
    {"cachePoint": {"type": "default"}},
)
#: Of these answers something is missing by right.
CUT_OFF = {"refusal", "stop_sequence"}
SAID = {"text", "thinking", "tool_use", "server_tool_use"}
FIGURES = ("input_tokens", "cache_read_input_tokens", "output_tokens")


def members(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where something could be left out."""
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in inner:
        if name not in UNJUDGED and member not in NOTHING and (path or name not in UNJUDGED_AT_THE_TOP):
            yield (*path, name)
            if name not in WHOLE:
                yield from members(member, (*path, name))


def without(value: Any, path: Path) -> Any:
    """A copy that lacks what is there."""
    made = inner = copy.deepcopy(value)
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return made


def refuses(judge: Callable[[Case, Any], None], case: Case, value: Any) -> bool:
    """What is no legal JSON of either side may fail in any way; pydantic's refusals are ValueErrors."""
    try:
        judge(case, value)
    except (AssertionError, ValueError, LookupError):
        return True
    return False


def every_case() -> Iterator[Case]:
    for folder in FAMILIES:
        yield from cases(folder)


class EventStreamTests(SynchronousTestCase):
    """The encoder of AWS's event streams, which shares no code with the daemon."""

    def test_read_by_botocore(self) -> None:
        """botocore reads what the cases of the Converse API arrive as."""
        chunks = [chunk for case in cases("converse") for chunk in case.upstream_answer or ()]
        buffer = EventStreamBuffer()
        for chunk in chunks:
            buffer.add_data(event(chunk))
        for chunk, message in zip(chunks, buffer, strict=True):
            headers = message.headers
            name = headers.get(":event-type") or headers[":exception-type"]
            self.assertEqual({name: json.loads(message.payload)}, chunk)


class JudgeTests(SynchronousTestCase):
    """The types of each family and the facts together."""

    maxDiff = None

    def test_something_missing(self) -> None:
        """Whatever is left out of any case's body, its judges refuse the rest."""
        passed = []
        for case in every_case():
            # Facts that a case calls lost are not looked at, nor is there any in what is empty.
            if case.upstream_request is None or case.lost:
                continue
            for path in members(case.upstream_request):
                if not refuses(judge_request, case, without(case.upstream_request, path)):
                    passed.append((case.name, path))
        self.assertEqual(passed, [])

    def test_something_missing_in_an_answer(self) -> None:
        """Whichever text, thought, call or figure is left out of an answer, its judges refuse the rest."""
        passed = []
        for case in every_case():
            if not case.upstream_answer or case.answer is None or case.answer["stop_reason"] in CUT_OFF:
                continue
            # Of thoughts that are sealed their family has to be able to tell.
            blocks = [
                ("content", at)
                for at, block in enumerate(case.answer["content"])
                if block["type"] in SAID and (case.family.signs or block.get("thinking") != "")
            ]
            for path in (*blocks, *(("usage", figure) for figure in FIGURES)):
                if not refuses(judge_answer, case, without(case.answer, path)):
                    passed.append((case.name, path))
        self.assertEqual(passed, [])
