"""Every case of ``gemini/``: README.md tells what is checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.block import BlockError
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.reader import Damaged, ModelFault
from claudeproxyd.outcomes.classify import classify
from claudeproxyd.outcomes.types import Evidence, Phase
from claudeproxyd.translate.conversation import Unsupported
from claudeproxyd.translate.gemini.answers import GeminiReader, read_whole
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.gemini.requests import GeminiRequest, Terms, translate
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures
from tests.golden import strict
from tests.golden.cases import HELLO, Case, add_tests, matched
from tests.golden.client import message_of
from tests.golden.merging import merge
from tests.golden.wire import arrivals
from tests.messages.accumulate import accumulate


def remembering(case: Case) -> Signatures:
    """The memory that the case's earlier turns have left."""
    signatures = Signatures(lambda: 1.0)
    for key, signature in case.remembered.items():
        signatures.keep(key_of(key, case), signature)
    return signatures


def key_of(key: str, case: Case) -> str:
    """``text:WORDS`` stands for the key of a text block: of the case's history, else of its answer."""
    if not key.startswith("text:"):
        return key
    words = key.removeprefix("text:")
    messages = case.request["messages"]
    said = [message["role"] == "assistant" and words in json.dumps(message) for message in messages]
    before = messages[: said.index(True)] if any(said) else messages
    request = {**case.request, "messages": before}
    return translated(replace(case, request=request), Signatures(lambda: 1.0)).said.key(words)


def translated(case: Case, signatures: Signatures) -> GeminiRequest:
    """What the daemon makes of the case's request."""
    conversation = read_conversation(case.body, family="google", policy=POLICY, version=case.version)
    terms = Terms(
        model=case.model,
        max_output_tokens=case.terms.get("max_output_tokens"),
        on_vertex=case.kind == "vertex",
        safety_settings=[tuple(setting) for setting in case.terms.get("safety_settings", [])],
        own_thinking=case.terms.get("own_thinking", False),
    )
    return translate(conversation, terms, signatures)


class RequestTests(SynchronousTestCase):
    """The request becomes exactly the body that the case says."""

    maxDiff = None


class RefusalTests(SynchronousTestCase):
    """The request is refused, with words that name why."""


class StreamTests(SynchronousTestCase):
    """The answer's stream, however it arrives, becomes the message that the case says."""

    maxDiff = None


class WholeTests(SynchronousTestCase):
    """The same answer in one body becomes the same message."""

    maxDiff = None


class FaultTests(SynchronousTestCase):
    """An answer that is none comes to the outcome that the case says."""


def check_request(test: RequestTests, case: Case) -> None:
    request = translated(case, remembering(case))
    body = json.loads(request.body)
    if case.upstream_request is not None:
        expected = matched(body, case.upstream_request, {})
        test.assertEqual(body, expected)
        test.assertEqual(schemas_of(body), schemas_of(expected), "the order of members")
    check_warnings(test, request.warnings, case.warnings)
    test.assertEqual(request.empty, case.empty)
    test.assertEqual(list(request.stop_sequences), case.request.get("stop_sequences", []))
    count = json.loads(request.count_body)
    if case.kind == "gemini":
        test.assertEqual(list(count), ["generateContentRequest"])
        count = count["generateContentRequest"]
        test.assertEqual(count.pop("model"), f"models/{case.model}")
    for member in ("contents", "systemInstruction", "tools"):
        test.assertEqual(count.get(member), body.get(member))


def schemas_of(body: dict[str, Any]) -> str:
    """Schemas as JSON: their members' order is the client's, and models answer in it."""
    declared = [each for tool in body.get("tools", []) for each in tool.get("functionDeclarations", [])]
    schemas = [each.get("parametersJsonSchema") for each in declared]
    return json.dumps([*schemas, body.get("generationConfig", {}).get("responseJsonSchema")])


def check_warnings(test: Any, warnings: Sequence[str], expected: Sequence[str]) -> None:
    """Each expected one is there, and no other."""
    for words in expected:
        test.assertTrue(any(words in warning for warning in warnings), f"no {words!r} in {warnings}")
    unexpected = [warning for warning in warnings if not any(words in warning for words in expected)]
    test.assertEqual(unexpected, [])


def check_refusal(test: RefusalTests, case: Case) -> None:
    refusal = test.assertRaises(Unsupported, translated, case, remembering(case))
    test.assertIn(case.unsupported, str(refusal))


def machine_for(case: Case, request: GeminiRequest, whole: bool = False) -> BlockMachine:
    return BlockMachine(
        case.request.get("model", HELLO["model"]),
        family="google",
        stop_sequences=request.stop_sequences,
        whole=whole,
    )


def read_stream(case: Case, reads: Sequence[bytes], signatures: Signatures) -> tuple[list[Batch], GeminiReader]:
    """The batches of one stream."""
    request = translated(case, signatures)
    reader = GeminiReader(machine_for(case, request), request, signatures, 1 << 20, last=case.last)
    batches = []
    for read in reads:
        batches.append(reader.feed(read))
        if batches[-1].ended or batches[-1].error is not None:
            return batches, reader
    batches.append(reader.end())
    return batches, reader


def answer_reads(case: Case) -> list[tuple[str, list[bytes]]]:
    if case.upstream_bytes is not None:
        return [("as it is", [case.upstream_bytes.encode()])]
    return list(arrivals(case.upstream_answer))


def check_stream(test: StreamTests, case: Case) -> None:
    for way, reads in answer_reads(case):
        signatures = remembering(case)
        batches, reader = read_stream(case, reads, signatures)
        test.assertTrue(batches[-1].ended, f"{way}: the stream does not end")
        frames = b"".join(batch.frames for batch in batches)
        seen: dict[str, str] = {}
        streamed = accumulate(frames)
        expected = matched(streamed, case.answer, seen)
        test.assertEqual(streamed, expected, way)
        test.assertEqual(reader.stop_reason, expected["stop_reason"])
        test.assertEqual(reader.usage.output, expected["usage"]["output_tokens"])
        check_kept(test, case, signatures, seen)
        strict.check_message(streamed)
        check_client(test, frames, streamed)


def check_client(test: StreamTests, frames: bytes, expected: dict[str, Any]) -> None:
    """The official client puts the same message together."""
    message = message_of(frames)
    for block in message["content"]:
        block.pop("parsed_output", None)
    message["content"] = [without_null_citations(block) for block in message["content"]]
    test.assertEqual(message["content"], expected["content"])
    for member in ("id", "model", "role", "stop_reason", "stop_sequence"):
        test.assertEqual(message[member], expected[member])
    test.assertEqual(message.get("stop_details"), expected.get("stop_details"))
    for figure, value in expected["usage"].items():
        test.assertEqual(message["usage"][figure], value)


def without_null_citations(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name != "citations" or value is not None}


def check_kept(test: Any, case: Case, signatures: Signatures, seen: dict[str, str]) -> None:
    for key, signature in case.kept.items():
        test.assertEqual(signatures.recall(key_of(seen.get(key, key), case)), signature, key)
    if case.kept:
        test.assertEqual(len(signatures), len(case.remembered | case.kept))


def check_whole(test: WholeTests, case: Case) -> None:
    for way, body in (("one object", merge(case.upstream_answer)), ("an array", case.upstream_answer)):
        signatures = remembering(case)
        request = translated(case, signatures)
        machine = machine_for(case, request, whole=True)
        read_whole(json.dumps(body).encode(), machine, request, signatures, last=case.last)
        message = json.loads(machine.message())
        seen: dict[str, str] = {}
        test.assertEqual(message, matched(message, case.answer, seen), way)
        check_kept(test, case, signatures, seen)


def check_fault(test: FaultTests, case: Case) -> None:
    for way, reads in answer_reads(case):
        test.assertEqual(classify(fault_of(case, reads)).kind.value, case.error, way)


def fault_of(case: Case, reads: Sequence[bytes]) -> Evidence:
    """What an executor would have to judge."""
    try:
        batches, reader = read_stream(case, reads, remembering(case))
    except ModelFault:
        return Evidence("google", Phase.STREAM, 200, failure="model_fault")
    except (Damaged, BlockError):
        return Evidence("google", Phase.STREAM, 200, failure="malformed")
    if batches[-1].error is not None:
        return Evidence("google", Phase.STREAM, 200, body=batches[-1].error)
    assert not batches[-1].ended, "the answer is whole"
    return Evidence("google", Phase.STREAM, 200, failure="cut", message_committed=reader.content)


_FOLDER = "gemini"
add_tests(RequestTests, _FOLDER, lambda case: case.upstream_request is not None or case.empty, check_request)
add_tests(RefusalTests, _FOLDER, lambda case: case.unsupported is not None, check_refusal)
add_tests(StreamTests, _FOLDER, lambda case: case.answer is not None, check_stream)
add_tests(WholeTests, _FOLDER, lambda case: case.answer is not None and case.upstream_answer is not None, check_whole)
add_tests(FaultTests, _FOLDER, lambda case: case.error is not None, check_fault)
