"""What is checked of the daemon in every case, whichever family it is for: README.md tells of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.block import BlockError
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.reader import MalformedAnswer, ModelFault
from claudeproxyd.outcomes.classify import classify
from claudeproxyd.outcomes.types import AttemptPhase, Evidence, Failure
from claudeproxyd.translate.signatures import Signatures
from tests.golden import strict
from tests.golden.cases import HELLO, Case, add_tests
from tests.golden.client import message_of
from tests.messages.accumulate import accumulate

Json = dict[str, Any]


class Translator(Protocol):
    """The daemon's code for one family, as the cases drive it."""

    family: str
    """By which its errors are classified."""

    def translated(self, case: Case, signatures: Signatures) -> Any:
        """Return the request: ``body``, ``stop_sequences``, ``warnings``, ``empty``, ``said``. Raises Unsupported."""

    def reader(self, case: Case, machine: BlockMachine, request: Any, signatures: Signatures) -> Any:
        """Return an AnswerReader; its ``content`` tells whether a client may have some of the answer."""

    def call_key(self, request: Any, tool_use_id: str) -> str:
        """Return by what is remembered what led to a call of the turn after *request*."""

    def check_count(self, test: Any, case: Case, request: Any) -> None:
        """Check that the upstream is asked to count the same as it is sent."""


@dataclass(frozen=True)
class Checks:
    """The checks of one family's cases."""

    translator: Translator

    def test_cases(self, folder: str, module: str) -> Iterator[type]:
        """Yield the TestCases of *module*, each with a method for every case of *folder* that it is about."""
        for name, about, wants, check in (
            (
                "RequestTests",
                "The request becomes exactly the body that the case says.",
                lambda case: case.upstream_request is not None or case.empty,
                self.check_request,
            ),
            (
                "RefusalTests",
                "The request is refused, with words that name why.",
                lambda case: case.unsupported is not None,
                self.check_refusal,
            ),
            (
                "StreamTests",
                "The answer's stream, however it arrives, becomes the message that the case says.",
                lambda case: case.answer is not None,
                self.check_stream,
            ),
            (
                "WholeTests",
                "The same answer in one body becomes the same message.",
                lambda case: case.answer is not None and case.upstream_answer is not None,
                self.check_whole,
            ),
            (
                "FaultTests",
                "An answer that is none comes to the outcome that the case says.",
                lambda case: case.error is not None,
                self.check_fault,
            ),
        ):
            made = type(name, (SynchronousTestCase,), {"__doc__": about, "__module__": module, "maxDiff": None})
            add_tests(made, folder, wants, check)
            yield made

    # -- memory

    def remembering(self, case: Case) -> Signatures:
        """The memory that the case's earlier turns have left."""
        signatures = Signatures(lambda: 1.0)
        for key, signature in case.remembered.items():
            signatures.keep(self.key_of(key, case), signature)
        return signatures

    def key_of(self, key: str, case: Case) -> str:
        """``text:WORDS`` stands for the key of a text block: of the case's history, else of its answer; all else is
        the id of a call."""
        words = key.removeprefix("text:")
        messages = case.request["messages"]
        said = [message["role"] == "assistant" and words in json.dumps(message) for message in messages]
        before = messages[: said.index(True)] if any(said) else messages
        request = {**case.request, "messages": before}
        earlier = self.translator.translated(replace(case, request=request), Signatures(lambda: 1.0))
        return str(earlier.digest.key(words)) if words != key else self.translator.call_key(earlier, key)

    def check_kept(self, test: Any, case: Case, signatures: Signatures, seen: dict[str, str]) -> None:
        for key, signature in case.kept.items():
            test.assertEqual(signatures.lookup(self.key_of(seen.get(key, key), case)), signature, key)
        if case.kept:
            test.assertEqual(len(signatures), len(case.remembered | case.kept))

    # -- requests

    def check_request(self, test: Any, case: Case) -> None:
        """It becomes the body that the case says, with its warnings."""
        request = self.translator.translated(case, self.remembering(case))
        body = json.loads(request.body)
        if case.upstream_request is not None:
            expected = case.matched(body, case.upstream_request, {})
            test.assertEqual(body, expected)
            # Models answer in the order that a schema's members have.
            test.assertEqual(case.family.schemas(body), case.family.schemas(expected), "the order of members")
        check_warnings(test, request.warnings, case.warnings)
        test.assertEqual(request.empty, case.empty)
        test.assertEqual(list(request.stop_sequences), case.request.get("stop_sequences", []))
        self.translator.check_count(test, case, request)

    def check_refusal(self, test: Any, case: Case) -> None:
        refusal = test.assertRaises(Unsupported, self.translator.translated, case, self.remembering(case))
        test.assertIn(case.unsupported, str(refusal))

    # -- answers

    def machine_for(self, case: Case, request: Any, whole: bool = False) -> BlockMachine:
        return BlockMachine(
            case.request.get("model", HELLO["model"]),
            family=case.family.mark.split(".")[1],
            stop_sequences=request.stop_sequences,
            whole=whole,
        )

    def read_stream(self, case: Case, reads: Sequence[bytes], signatures: Signatures) -> tuple[list[Batch], Any]:
        """The batches of one stream, and its reader."""
        request = self.translator.translated(case, signatures)
        reader = self.translator.reader(case, self.machine_for(case, request), request, signatures)
        batches = []
        for read in reads:
            batches.append(reader.feed(read))
            if batches[-1].ended or batches[-1].error is not None:
                return batches, reader
        batches.append(reader.end())
        return batches, reader

    def read_body(self, case: Case, body: bytes, signatures: Signatures) -> Json:
        """The message of an answer that is not streamed."""
        request = self.translator.translated(case, signatures)
        machine = self.machine_for(case, request, whole=True)
        self.translator.reader(case, machine, request, signatures).read_whole(body)
        message: Json = json.loads(machine.message())
        return message

    def check_stream(self, test: Any, case: Case) -> None:
        """However it arrives it becomes the message that the case says."""
        for way, reads in answer_reads(case):
            signatures = self.remembering(case)
            batches, reader = self.read_stream(case, reads, signatures)
            test.assertTrue(batches[-1].ended, f"{way}: the stream does not end")
            frames = b"".join(batch.frames for batch in batches)
            seen: dict[str, str] = {}
            streamed = accumulate(frames)
            expected = case.matched(streamed, case.answer, seen)
            test.assertEqual(streamed, expected, way)
            test.assertEqual(reader.stop_reason, expected["stop_reason"])
            test.assertEqual(reader.usage.output, expected["usage"]["output_tokens"])
            self.check_kept(test, case, signatures, seen)
            strict.check_message(streamed)
            check_client(test, frames, streamed)

    def check_whole(self, test: Any, case: Case) -> None:
        """In one body it becomes the same message."""
        for way, body in case.family.bodies(case.upstream_answer or []):
            signatures = self.remembering(case)
            message = self.read_body(case, body, signatures)
            seen: dict[str, str] = {}
            test.assertEqual(message, case.matched(message, case.answer, seen), way)
            self.check_kept(test, case, signatures, seen)

    def check_fault(self, test: Any, case: Case) -> None:
        for way, reads in answer_reads(case):
            test.assertEqual(classify(self.fault_of(case, reads)).kind.value, case.error, way)

    def fault_of(self, case: Case, reads: Sequence[bytes]) -> Evidence:
        """What an executor would have to judge."""
        family = self.translator.family
        try:
            batches, reader = self.read_stream(case, reads, self.remembering(case))
        except ModelFault:
            return Evidence(family, AttemptPhase.STREAM, 200, failure=Failure.MODEL_FAULT)
        except (MalformedAnswer, BlockError):
            return Evidence(family, AttemptPhase.STREAM, 200, failure=Failure.MALFORMED)
        if batches[-1].error is not None:
            return Evidence(family, AttemptPhase.STREAM, 200, body=batches[-1].error)
        assert not batches[-1].ended, "the answer is whole"
        return Evidence(family, AttemptPhase.STREAM, 200, failure=Failure.CUT, message_committed=reader.content)


def answer_reads(case: Case) -> list[tuple[str, list[bytes]]]:
    """The ways in which the case's answer arrives."""
    if case.upstream_bytes is not None:
        return [("as it is", [case.upstream_bytes.encode()])]
    return list(case.family.streams(case.upstream_answer or []))


def check_warnings(test: SynchronousTestCase, warnings: Sequence[str], expected: Sequence[str]) -> None:
    """Each expected one is there, and no other."""
    for words in expected:
        test.assertTrue(any(words in warning for warning in warnings), f"no {words!r} in {warnings}")
    unexpected = [warning for warning in warnings if not any(words in warning for words in expected)]
    test.assertEqual(unexpected, [])


def check_client(test: SynchronousTestCase, frames: bytes, expected: Json) -> None:
    """The official client puts the same message together."""
    message = message_of(frames)
    for block in message["content"]:
        block.pop("parsed_output", None)
    message["content"] = [_without_null_citations(block) for block in message["content"]]
    test.assertEqual(message["content"], expected["content"])
    for member in ("id", "model", "role", "stop_reason", "stop_sequence"):
        test.assertEqual(message[member], expected[member])
    test.assertEqual(message.get("stop_details"), expected.get("stop_details"))
    for figure, value in expected["usage"].items():
        test.assertEqual(message["usage"][figure], value)


def _without_null_citations(block: Json) -> Json:
    return {name: value for name, value in block.items() if name != "citations" or value is not None}
