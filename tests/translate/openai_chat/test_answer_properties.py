"""Whatever a server sends, the client gets a legal stream, or the executor one of the failures that it knows."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.framing.sse import FrameTooLarge
from claudeproxyd.messages.reader import MalformedAnswer, ModelFault
from claudeproxyd.translate.openai_chat import finish
from tests.messages.accumulate import accumulate
from tests.messages.grammar import Grammar
from tests.translate.openai_chat.answering import USAGE, Answer, Json, chunk, sse, whole

words = st.text(st.sampled_from('aé𝄞 "\\\n{}STOP'), max_size=8)
junk: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=4,
)
arguments = st.sampled_from(["", "{", "}", "{}", '{"a":', "1}", '"x"', "null", "[]"])
names = st.sampled_from(["Bash", "bash", "Read", "x" * 80, "", None])
ids = st.sampled_from(["call_1", "call_2", "functions.Bash:0", "", " ", None])


def optionally(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=members)


functions = optionally(name=names, arguments=arguments | st.none())
pieces = optionally(index=st.integers(0, 2) | st.none(), id=ids, function=functions | st.none())
details = st.lists(
    optionally(
        type=st.sampled_from(["reasoning.text", "reasoning.encrypted"]),
        text=words,
        summary=words,
        data=words,
        index=st.integers(0, 1),
    ),
    max_size=2,
)
contents = st.lists(
    optionally(type=st.sampled_from(["text", "thinking", "new"]), text=words, thinking=words | st.just([])), max_size=2
)
deltas = optionally(
    role=st.sampled_from(["assistant", "", None]),
    content=words | contents | st.none(),
    reasoning_content=words | st.none(),
    reasoning=words | st.none(),
    reasoning_details=details | st.none(),
    refusal=words | st.none(),
    tool_calls=st.lists(pieces, max_size=2) | st.none(),
)
reasons = st.sampled_from([*finish.STOPS, *finish.REFUSALS, *finish.FAILURES, "", None, "NEW"])
choices = st.fixed_dictionaries(
    {"delta": deltas | st.none()},
    optional={
        "index": st.integers(0, 1),
        "finish_reason": st.none() | st.none() | reasons,
        "stop_reason": st.sampled_from(["STOP", 7, None]),
    },
)
counts = optionally(
    **dict.fromkeys(USAGE, st.integers(-1, 99) | st.none()),
    prompt_tokens_details=optionally(cached_tokens=st.integers(0, 99)) | st.none(),
)
chunks = st.fixed_dictionaries(
    {"choices": st.lists(choices, max_size=2) | st.none()}, optional={"usage": counts | st.none()}
)
odd_chunks = chunks | chunks | chunks | st.just({"error": {"code": 500, "message": "no"}}) | junk
options = st.fixed_dictionaries(
    {
        "thinks": st.booleans(),
        "shows": st.booleans(),
        "stop_sequences": st.sampled_from([(), ("STOP",), ("a", "é𝄞")]),
        "tools": st.just(["Bash", "x" * 80]),
        "server": st.sampled_from(["", "deepseek", "openrouter", "mistral"]),
    }
)
pleasing = st.lists(
    st.one_of(
        words.map(lambda text: chunk(reasoning_content=text)),
        words.map(lambda text: chunk(content=text)),
    ),
    max_size=4,
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
        self.assertGreaterEqual(answer.reader.usage.output or 0, 0)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(odd_chunks, max_size=6), options, st.lists(st.integers(0, 3000), max_size=5))
    def test_legal_whatever_comes(self, sent: list[Any], how: Json, cuts: list[int]) -> None:
        """Well-formed or not, what the client has of it is legal, and nothing is raised that executors do not know."""
        answer = Answer(**how)
        self.judge(answer, read(answer, cut(sse(*sent), cuts)))

    @settings(max_examples=150, deadline=None)
    @given(st.lists(chunks, max_size=3), st.binary(max_size=12), st.integers(0, 2000), st.lists(st.integers(0, 2000)))
    def test_legal_whatever_is_damaged(self, sent: list[Json], noise: bytes, at: int, cuts: list[int]) -> None:
        """Bytes that were changed on the way bring about nothing worse."""
        data = sse(*sent)
        answer = Answer()
        self.judge(answer, read(answer, cut(data[:at] + noise + data[at + len(noise) :], cuts)))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(chunks, max_size=5), options, st.lists(st.integers(0, 3000), max_size=8))
    def test_the_same_in_any_pieces(self, sent: list[Json], how: Json, cuts: list[int]) -> None:
        """The frames do not depend on where the network cuts."""
        one, other = Answer(**how), Answer(**how)
        ending = read(one, [*(sse(each, done=False) for each in sent), sse()])
        self.assertEqual(read(other, cut(sse(*sent), cuts)), ending)
        if ending in ("ended", "cut"):
            self.assertEqual(other.frames, one.frames)
        else:  # what came in the same read as a failure is of no use
            self.assertTrue(one.frames.startswith(other.frames) or other.frames.startswith(one.frames))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(chunks, max_size=5), options)
    def test_whole_and_streamed(self, sent: list[Json], how: Json) -> None:
        """A stream adds up to the body that the same answer has when nobody asked for a stream."""
        answer = Answer(**how)
        data = sse(*sent, chunk("stop", content="."))
        ending = read(answer, [data])
        if ending != "ended":
            self.assertRaises((MalformedAnswer, ModelFault), whole, data, **how)
            return
        self.assertEqual(accumulate(answer.frames), whole(data, **how))

    @settings(max_examples=100, deadline=None)
    @given(pleasing, options)
    def test_one_object(self, sent: list[Json], how: Json) -> None:
        """Nor does it matter whether it comes in chunks: texts and thoughts are the same in one object."""
        deltas = [each["choices"][0]["delta"] for each in sent]
        said, thought = ("".join(d.get(name, "") for d in deltas) for name in ("content", "reasoning_content"))
        message = {"role": "assistant", "content": said + ".", "reasoning_content": thought}
        body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE})
        how = {**how, "stop_sequences": ()}  # of a stream that is stopped the figures are not waited for
        streamed = Answer(**how)
        self.assertEqual(read(streamed, [sse(*sorted(sent, key=_is_text), chunk("stop", content="."))]), "ended")
        self.assertEqual(accumulate(streamed.frames), whole(body.encode(), **how))


def _is_text(sent: Json) -> bool:
    return "content" in sent["choices"][0]["delta"]
