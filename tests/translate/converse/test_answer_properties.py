"""Whatever the Converse API sends, the client gets a legal stream, or the executor one of the failures it knows."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.framing.sse import FrameTooLarge
from claudeproxyd.messages.reader import MalformedAnswer, ModelFault
from claudeproxyd.translate.converse import finish
from tests.golden.families.converse.arrivals import event, frame
from tests.golden.families.converse.merging import is_mergeable
from tests.messages.accumulate import accumulate
from tests.messages.grammar import Grammar
from tests.translate.converse.answering import (
    METADATA,
    START,
    Answer,
    Json,
    call,
    delta,
    end,
    stop,
    stream,
    text,
    whole,
)

words = st.text(st.sampled_from('aé𝄞 "\\\n{}STOP'), max_size=8)
junk: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=4,
)
indices = st.integers(0, 3)
names = st.sampled_from(["Bash", "bash", "Read", "x" * 200])
ids = st.sampled_from(["tooluse_1", "tooluse_2", "functions.Bash:0", "a b"])
inputs = st.sampled_from(['{"a":', '"é"}', "{}", '{"a":1}', "", "]"])
secrets = st.sampled_from(["c2ln", "U2VjcmV0", "b25lIA=="])
reasons = st.sampled_from([*finish.STOPS, *finish.FAULTS, *finish.REFUSALS, "new"])

deltas = st.one_of(
    st.builds(text, indices, words),
    st.builds(lambda index, piece: delta(index, toolUse={"input": piece}), indices, inputs),
    st.builds(lambda index, said: delta(index, reasoningContent={"text": said}), indices, words),
    st.builds(lambda index, sealed: delta(index, reasoningContent={"signature": sealed}), indices, secrets),
    st.builds(lambda index, sealed: delta(index, reasoningContent={"redactedContent": sealed}), indices, secrets),
    st.builds(lambda index, held: delta(index, citation=held), indices, st.just({"title": "t"})),
)
starts = st.builds(call, indices, ids, names) | st.builds(
    lambda index, format: {"contentBlockStart": {"contentBlockIndex": index, "start": {"image": {"format": format}}}},
    indices,
    st.sampled_from(["png", "jpeg"]),
)
ends = st.builds(end, reasons)
events = st.one_of(deltas, deltas, deltas, starts, starts, st.builds(stop, indices), ends, st.just(METADATA))
exceptions = st.sampled_from([{"throttlingException": {"message": "slow"}}, {"internalServerException": {}}])
odd = st.builds(
    lambda name, members: {name: members},
    st.sampled_from(["contentBlockDelta", "contentBlockStart", "messageStop", "metadata", "somethingNew"]),
    st.dictionaries(st.sampled_from(["delta", "start", "contentBlockIndex", "usage", "stopReason"]), junk, max_size=3),
)
options = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["openai.gpt-oss-20b-1:0", "openai.gpt-6-sol", "amazon.nova-2-lite-v1:0", "x"]),
        "thinks": st.booleans(),
        "shows": st.booleans(),
        "stop_sequences": st.sampled_from([(), ("STOP",), ("a", "é𝄞")]),
        "tools": st.just(["Bash", "x" * 200]),
        "calls": st.sampled_from([[], ["tooluse_1"]]),
    }
)


@st.composite
def answers(draw: st.DrawFn) -> list[Json]:
    """Blocks one after another, each with its stop, as the API sends them."""
    made = [START]
    kinds = st.sampled_from(["text", "call", "reasoning", "redacted"])
    for index in range(draw(st.integers(0, 4))):
        match draw(kinds):
            case "text":
                made += [text(index, piece) for piece in draw(st.lists(words, max_size=3))]
            case "call":
                made.append(call(index, draw(ids), draw(names)))
                pieces = draw(st.sampled_from([["{}"], ['{"a":', "1}"], []]))
                made += [delta(index, toolUse={"input": piece}) for piece in pieces]
            case "reasoning":
                made += [delta(index, reasoningContent={"text": said}) for said in draw(st.lists(words, max_size=3))]
                made += [delta(index, reasoningContent={"signature": "c2ln"})] * draw(st.integers(0, 1))
            case "redacted":
                made += [delta(index, reasoningContent={"redactedContent": draw(secrets)}) for _ in range(2)]
        made.append(stop(index))
    return [*made, end(draw(reasons)), METADATA]


def read(answer: Answer, reads: list[bytes]) -> str:
    """How it ends: ended, cut, error, or the name of what was raised."""
    try:
        batch = answer.body(*reads)
    except (MalformedAnswer, ModelFault, FrameTooLarge) as e:
        return type(e).__name__
    if batch.error is not None:
        json.loads(batch.error)
        return "error"
    return "ended" if batch.ended else "cut"


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    points = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(points) if a < b]


class StreamProperties(SynchronousTestCase):
    """For every stream."""

    def judge(self, answer: Answer, ending: str) -> None:
        if ending == "ended":
            accumulate(answer.frames)
        else:
            Grammar().frames(answer.frames)
        self.assertGreaterEqual(answer.reader.usage.output or 0, 0)

    @settings(max_examples=400, deadline=None)
    @given(
        st.lists(events | events | exceptions | odd, max_size=10), options, st.lists(st.integers(0, 3000), max_size=5)
    )
    def test_legal_in_any_order(self, sent: list[Json], how: Json, cuts: list[int]) -> None:
        """In whatever order events come, what the client has of them is legal, and only known failures are raised."""
        answer = Answer(**how)
        self.judge(answer, read(answer, cut(stream(*sent), cuts)))

    @settings(max_examples=150, deadline=None)
    @given(junk | answers().map(lambda sent: {"output": sent}), st.lists(st.integers(0, 300), max_size=3))
    def test_legal_whatever_json_comes(self, sent: Any, cuts: list[int]) -> None:
        """So is what comes of a body that may be no answer."""
        answer = Answer()
        self.judge(answer, read(answer, cut(json.dumps(sent).encode(), cuts)))

    @settings(max_examples=150, deadline=None)
    @given(answers(), st.binary(max_size=12), st.integers(0, 2000), st.lists(st.integers(0, 2000), max_size=4))
    def test_legal_whatever_is_damaged(self, sent: list[Json], noise: bytes, at: int, cuts: list[int]) -> None:
        """Bytes that were changed on the way bring about nothing worse."""
        data = stream(*sent)
        answer = Answer()
        self.judge(answer, read(answer, cut(data[:at] + noise + data[at + len(noise) :], cuts)))

    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=40), st.sampled_from(["contentBlockDelta", "contentBlockStop", "metadata", "x"]))
    def test_legal_whatever_a_message_holds(self, payload: bytes, kind: str) -> None:
        """A whole message may hold anything."""
        for header in (":event-type", ":exception-type", "other"):
            answer = Answer()
            self.judge(answer, read(answer, [event(text(0, "a")), frame({header: kind}, payload)]))

    @settings(max_examples=150, deadline=None)
    @given(st.lists(events, max_size=8), options, st.lists(st.integers(0, 3000), max_size=8))
    def test_the_same_in_any_pieces(self, sent: list[Json], how: Json, cuts: list[int]) -> None:
        """The frames do not depend on where the network cuts."""
        one, other = Answer(**how), Answer(**how)
        ending = read(one, [event(each) for each in sent])
        self.assertEqual(read(other, cut(stream(*sent), cuts)), ending)
        if ending in ("ended", "cut"):
            self.assertEqual(other.frames, one.frames)
        else:  # what came in the same read as a failure is of no use
            self.assertTrue(one.frames.startswith(other.frames) or other.frames.startswith(one.frames))

    @settings(max_examples=250, deadline=None)
    @given(answers(), options)
    def test_whole_and_streamed(self, sent: list[Json], how: Json) -> None:
        """A stream adds up to the body that the same answer has when it is not streamed.

        Where nothing is left to be tried again: of reasoning alone a stream has shown some already, a body nothing.
        """
        assert is_mergeable(sent)
        answer = Answer(**how, last=True)
        ending = read(answer, [event(each) for each in sent])
        if ending != "ended":
            self.assertRaises((MalformedAnswer, ModelFault), whole, *sent, **how, last=True)
            return
        streamed, one = accumulate(answer.frames), whole(*sent, **how, last=True)
        if one["stop_reason"] == "stop_sequence":  # before the API has counted anything
            streamed["usage"] = one["usage"]
        self.assertEqual(streamed, one)
