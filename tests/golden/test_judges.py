"""The judges of the cases are no easy ones: what is missing from a Gemini body, one of them misses."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.golden.cases import cases
from tests.golden.test_cases import judge_request

Path = tuple[str | int, ...]

#: What only the whole comparison with a case's body sees: no fact is read of it.
UNJUDGED = {
    "generationConfig",
    "safetySettings",
    "thoughtSignature",
    "excludeDomains",
    "includeServerSideToolInvocations",
}
#: The client's own JSON: facts have it as a whole.
WHOLE = {"args", "parametersJsonSchema", "parameters"}
#: Whoever leaves these out has left out nothing.
NOTHING = ({}, {"type": "object", "properties": {}}, {"includeServerSideToolInvocations": True})


def members(value: Any, path: Path = ()) -> Iterator[Path]:
    """Where something could be left out."""
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in inner:
        if name not in UNJUDGED and member not in NOTHING:
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


class JudgeTests(SynchronousTestCase):
    """Google's types and the facts together."""

    maxDiff = None

    def test_something_missing(self) -> None:
        """Whatever is left out of any case's body, its judges refuse the rest."""
        passed = []
        for case in cases("gemini"):
            # Facts that a case calls lost are not looked at, nor is there any in what is empty.
            if case.upstream_request is None or case.lost:
                continue
            for path in members(case.upstream_request):
                try:
                    judge_request(case, without(case.upstream_request, path))
                except (AssertionError, ValueError, KeyError):  # pydantic's are ValueErrors
                    continue
                passed.append((case.name, path))
        self.assertEqual(passed, [])
