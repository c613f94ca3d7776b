"""Whatever Gemini sends, the client gets a legal stream, or the executor one of the failures that it knows."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.framing.sse import FrameTooLarge
from claudeproxyd.messages.reader import MalformedAnswer, ModelFault
from claudeproxyd.translate.gemini import finish
from tests.messages.accumulate import accumulate
from tests.messages.grammar import Grammar
from tests.translate.gemini.answering import COUNTS, Answer, Json, chunk, sse, whole

words = st.text(st.sampled_from('aé𝄞 "\\\n{}STOP'), max_size=8)
junk: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=4,
)
signatures = st.sampled_from(["AAAA", "+/8=", "-_8", "no base64"])
args = st.dictionaries(words, junk, max_size=3)
names = st.sampled_from(["Bash", "bash", "Read", "x" * 200])
ids = st.none() | st.sampled_from(["fc-1", "fc-2", "a b", ""])
paths = st.sampled_from(["$.a", "$.b", "$.c[0].d", "$.c[1]['d e']", "$"])
indices = st.integers(-1, 9)
pages = st.fixed_dictionaries({}, optional={"uri": words, "title": words, "domain": words})


def optionally(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=members)


calls = st.fixed_dictionaries({"name": names}, optional={"args": args, "id": ids})
pieces = st.lists(
    st.fixed_dictionaries({"jsonPath": paths}, optional={"stringValue": words, "boolValue": st.booleans()})
)
partial_calls = optionally(name=names, partialArgs=pieces, willContinue=st.booleans())
searches = optionally(id=names, args=optionally(queries=st.lists(words, max_size=2)))
parts = st.one_of(
    st.fixed_dictionaries({"text": words}, optional={"thought": st.booleans(), "thoughtSignature": signatures}),
    st.fixed_dictionaries({"functionCall": calls}, optional={"thoughtSignature": signatures}),
    st.fixed_dictionaries({"functionCall": partial_calls}),
    optionally(executableCode=optionally(code=words), inlineData=junk, thoughtSignature=signatures),
    optionally(toolCall=searches | junk, toolResponse=junk, thoughtSignature=signatures),
)
grounding = optionally(
    webSearchQueries=st.lists(words, max_size=2),
    groundingChunks=st.lists(optionally(web=pages), max_size=3),
    groundingSupports=st.lists(
        optionally(
            segment=optionally(startIndex=indices, endIndex=indices, text=words),
            groundingChunkIndices=st.lists(indices, max_size=3),
        ),
        max_size=3,
    ),
)
quotations = optionally(citations=st.lists(optionally(startIndex=indices, endIndex=indices, uri=words), max_size=2))
reasons = st.sampled_from([*finish.STOPS, *finish.FAULTS, *finish.REFUSALS, *finish.UNCLEAR, *finish.UNFINISHED, "NEW"])
sources = optionally(groundingMetadata=grounding | junk, citationMetadata=quotations | junk)
usual = st.builds(lambda said, more: chunk(*said, **more), st.lists(parts, min_size=1, max_size=4), sources)
unusual = st.fixed_dictionaries(
    {
        "candidates": st.lists(
            optionally(
                content=optionally(parts=st.none() | st.lists(parts, max_size=4)),
                finishReason=reasons,
                index=st.integers(0, 1),
            ),
            max_size=2,
        )
    },
    optional={
        "usageMetadata": optionally(**dict.fromkeys(COUNTS, st.integers(0, 99))),
        "promptFeedback": optionally(blockReason=reasons, blockReasonMessage=words),
    },
)
chunks = usual | usual | usual | unusual
odd_chunks = chunks | chunks | st.just({"error": {"code": 500}}) | junk
options = st.fixed_dictionaries(
    {
        "thinks": st.booleans(),
        "shows": st.booleans(),
        "stop_sequences": st.sampled_from([(), ("STOP",), ("a", "é𝄞")]),
        "tools": st.just(["Bash", "x" * 200]),
    }
)


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
        usage = answer.reader.usage
        self.assertGreaterEqual(usage.output or 0, 0)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(odd_chunks, max_size=5), options, st.booleans(), st.lists(st.integers(0, 3000), max_size=5))
    def test_legal_whatever_comes(self, sent: list[Any], how: Json, events: bool, cuts: list[int]) -> None:
        """Well-formed or not, what the client has of it is legal, and nothing is raised that executors do not know."""
        data = sse(*sent) if events else json.dumps(sent, indent=1).encode()
        answer = Answer(**how)
        self.judge(answer, read(answer, cut(data, cuts)))

    @settings(max_examples=150, deadline=None)
    @given(st.lists(chunks, max_size=3), st.binary(max_size=12), st.integers(0, 2000), st.lists(st.integers(0, 2000)))
    def test_legal_whatever_is_damaged(self, sent: list[Json], noise: bytes, at: int, cuts: list[int]) -> None:
        """Bytes that were changed on the way bring about nothing worse."""
        data = sse(*sent)
        answer = Answer()
        self.judge(answer, read(answer, cut(data[:at] + noise + data[at + len(noise) :], cuts)))

    @settings(max_examples=150, deadline=None)
    @given(st.lists(chunks, max_size=4), options, st.lists(st.integers(0, 3000), max_size=8))
    def test_the_same_in_any_pieces(self, sent: list[Json], how: Json, cuts: list[int]) -> None:
        """The frames do not depend on where the network cuts, nor on the framing."""
        one, other, array = Answer(**how), Answer(**how), Answer(**how)
        ending = read(one, [sse(each) for each in sent])
        self.assertEqual(read(other, cut(sse(*sent, end="\n\n"), cuts)), ending)
        self.assertEqual(read(array, cut(json.dumps(sent).encode(), cuts)), ending)
        if ending in ("ended", "cut"):
            self.assertEqual((other.frames, array.frames), (one.frames, one.frames))
        else:  # what came in the same read as a failure is of no use
            self.assertTrue(one.frames.startswith(other.frames) or other.frames.startswith(one.frames))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(chunks, max_size=4), options)
    def test_whole_and_streamed(self, sent: list[Json], how: Json) -> None:
        """A stream adds up to the body that the same answer has when it is not streamed."""
        sent = [*sent, chunk(finish="STOP")]
        answer = Answer(**how)
        ending = read(answer, [sse(each) for each in sent])
        if ending != "ended":
            self.assertRaises((MalformedAnswer, ModelFault), whole, *sent, **how)
            return
        self.assertEqual(accumulate(answer.frames), whole(*sent, **how))
