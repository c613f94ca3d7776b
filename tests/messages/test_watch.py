"""A stream is watched without changing a byte of it, and nothing that is well-formed breaks it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.watch import MalformedEvent, StreamWatch

START = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
STOP = {"type": "message_stop"}


def frame(event: dict[str, Any]) -> bytes:
    """As the API writes it."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}".encode()


def start(id: str) -> dict[str, Any]:
    """The beginning of that message."""
    return {"type": "message_start", "message": {"id": id, "usage": {"input_tokens": 5, "output_tokens": 1}}}


def delta(text: str = "hello", index: int = 0) -> dict[str, Any]:
    """A piece of text."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def block_stop(index: int = 0) -> dict[str, Any]:
    """The end of a block."""
    return {"type": "content_block_stop", "index": index}


def message_delta(reason: Any = "end_turn", **usage: Any) -> dict[str, Any]:
    """The figures at the end."""
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


PING = {"type": "ping"}
WHOLE = [START, BLOCK, delta(), block_stop(), message_delta(output_tokens=9), STOP]


class Watching(SynchronousTestCase):
    """What the watch knows after a read."""

    def setUp(self) -> None:
        """A stream that has just begun."""
        self.watch = StreamWatch()

    def see(self, *events: dict[str, Any]) -> Batch:
        """One read with these events."""
        return self.watch.batch(map(frame, events))

    def test_whole(self) -> None:
        """A whole stream passes as it came, and its figures are known."""
        batch = self.see(*WHOLE)
        self.assertEqual(batch.frames, b"".join(frame(event) + b"\n\n" for event in WHOLE))
        self.assertEqual((batch.count, batch.content, batch.error, batch.ended), (6, True, None, True))
        self.watch.close()
        usage = self.watch.usage
        self.assertEqual((usage.input, usage.output, usage.estimated), (5, 9, False))
        self.assertEqual((self.watch.stop_reason, self.watch.anomaly), ("end_turn", ""))

    def test_content(self) -> None:
        """A delta, a block's stop or a message_delta commits; a block's start alone does not, nor does a ping."""
        self.assertFalse(self.see(START, BLOCK, PING).content)
        for event in (delta(), block_stop(), message_delta()):
            self.assertTrue(StreamWatch().batch([frame(START), frame(event)]).content)

    def test_pings(self) -> None:
        """Upstream pings are dropped before the first content event, and pass after it."""
        self.assertEqual(self.see(PING, START, PING).count, 1)
        self.assertEqual(self.see(delta(), PING).count, 2)
        self.assertEqual(self.see(PING).frames, frame(PING) + b"\n\n")

    def test_error(self) -> None:
        """An error event is taken out; what stands before it in the read is there, what comes after is nobody's."""
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}
        batch = self.see(START, error, delta())
        self.assertEqual(batch.frames, frame(START) + b"\n\n")
        self.assertEqual(json.loads(batch.error or b""), error)
        self.assertFalse(batch.content)

    def test_nameless_error(self) -> None:
        """An error whose data has no type is known by its ``event:`` line."""
        batch = self.watch.batch([b'event: error\ndata: {"message":"boom"}'])
        self.assertEqual(batch.error, b'{"message":"boom"}')

    def test_after_the_end(self) -> None:
        """Nothing passes after message_stop."""
        batch = self.see(*WHOLE, delta(), PING)
        self.assertEqual((batch.count, batch.ended), (6, True))

    def test_unknown_passes(self) -> None:
        """What the API adds next month passes untouched, also where it has no shape that we know."""
        for data in (
            b'{"type":"new_event","x":[1]}',
            b"[1,2]",
            b'"text"',
            b"{}",
            b"7",
            b'{"type":7}',
            b'{"index":"a"}',
        ):
            raw = b"event: news\ndata: " + data
            self.assertEqual(StreamWatch().batch([raw]).frames, raw + b"\n\n")

    def test_odd_order_passes(self) -> None:
        """Order and index are never refused on this route, but noted once."""
        batch = self.see(delta(index=3), START, START, block_stop(7), STOP)
        self.assertEqual(batch.count, 5)
        self.assertIn("block 3", self.watch.anomaly)

    def test_half_a_character(self) -> None:
        """Half of a surrogate pair, as escapes, is JSON: upstreams that cut text into pieces send it."""
        raw = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"text":"\\ud83d"}}'
        batch = self.watch.batch([raw])
        self.assertEqual((batch.frames, batch.content), (raw + b"\n\n", True))

    def test_damaged(self) -> None:
        """What is no JSON breaks the stream, whatever its name."""
        for data in (b"{", b"", b"nonsense", b'{"type":"ping"', b'{"type":"ping"}}', b'{"type":"\xff"}'):
            for raw in (b"event: ping\ndata: " + data, b"data: " + data):
                if data:
                    self.assertRaises(MalformedEvent, StreamWatch().batch, [raw])
        self.assertRaises(MalformedEvent, StreamWatch().batch, [b'data: {"no":"type"}'])

    def test_another_message(self) -> None:
        """A second message within the first is damage: clients would join the halves, and keep what is of neither."""
        for before in ([], [BLOCK], [BLOCK, delta()], [BLOCK, delta(), block_stop()], WHOLE[1:-1]):
            for another in (start("msg_2"), START):
                watch = StreamWatch()
                watch.batch(map(frame, [start("msg_1"), *before]))
                self.assertRaises(MalformedEvent, watch.batch, [frame(another)])

    def test_the_same_message(self) -> None:
        """A message_start that comes twice does no harm, and neither does a whole message behind the first."""
        again = start("msg_1")
        batch = self.see(again, again, BLOCK, again, *WHOLE[2:], start("msg_2"), *WHOLE[1:])
        self.assertEqual((batch.count, batch.ended), (8, True))
        self.assertIn("second", self.watch.anomaly)

    def test_errors_of_other_dialects(self) -> None:
        """An object with an error is one, whether or not it says so: its words are the upstream's."""
        for data in (
            b'{"error":{"type":"overloaded_error","message":"no"}}',
            b'{"error":{"message":"no","code":502}}',
            b'{"error":"no"}',
            b'{"type":null,"error":{"message":"no"}}',
        ):
            for name in (b"", b"event: message\n", b"event: error\n"):
                batch = StreamWatch().batch([frame(START), frame(delta()), name + b"data: " + data])
                self.assertEqual((batch.error, batch.count), (data, 2))

    def test_comments(self) -> None:
        """Comments of an upstream that wants to keep its own connection alive are not events."""
        batch = self.watch.batch([b": OPENROUTER PROCESSING", b"event: ping", b"id: 7"])
        self.assertEqual((batch.frames, batch.count), (b"", 0))

    def test_names_are_added(self) -> None:
        """Every event that a client gets has its ``event:`` line, and one ``data:`` line."""
        batch = self.watch.batch([b'data: {"type":"message_start",\ndata: "message":{}}'])
        self.assertEqual(batch.frames, b'event: message_start\ndata: {"type":"message_start", "message":{}}\n\n')
        self.assertRaises(MalformedEvent, self.watch.batch, [b'data: {"type":"a\\n\\nevent: b"}'])

    def test_figures_of_unknown_shape(self) -> None:
        """Figures that cannot be read are noted; the event passes all the same."""
        for usage in ('{"output_tokens":"many"}', '{"output_tokens":1e400}', "7", '{"output_tokens":-1.5}'):
            watch = StreamWatch()
            raw = b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":%b}' % usage.encode()
            self.assertEqual(watch.batch([raw]).frames, raw + b"\n\n")
            self.assertIsNone(watch.usage.output)
            self.assertIn("figures", watch.anomaly)

    def test_stop_reason(self) -> None:
        """A reason that is not there yet is nothing odd; one of another shape is noted, and taken for none."""
        for delta, odd in (({}, False), ({"stop_reason": None}, False), ({"stop_reason": 7}, True)):
            watch = StreamWatch()
            watch.batch([frame({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 1}})])
            self.assertEqual((watch.stop_reason, "stop_reason" in watch.anomaly), (None, odd))

    def test_figures_that_are_no_text(self) -> None:
        """Bytes that are not UTF-8 where a figure should be break nothing but the figures."""
        raw = b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"\xff"}}'
        self.assertEqual(self.watch.batch([raw]).frames, raw + b"\n\n")
        self.assertIsNone(self.watch.stop_reason)


class Usage(SynchronousTestCase):
    """The figures of streams that were cut."""

    def figures(self, *events: dict[str, Any]) -> tuple[int | None, int | None, bool]:
        """Input, output, and whether that is an estimate, of a stream that ended after these events."""
        watch = StreamWatch()
        watch.batch(map(frame, events))
        watch.close()
        return watch.usage.input, watch.usage.output, watch.usage.estimated

    def test_cut_in_the_middle(self) -> None:
        """Input is that of message_start, output an estimate of what was delivered, marked as one."""
        told, output, estimated = self.figures(START, BLOCK, delta("x" * 400))
        self.assertEqual((told, estimated), (5, True))
        assert output is not None
        self.assertTrue(90 <= output <= 115, output)

    def test_cut_after_the_figures(self) -> None:
        """The upstream's own count wins over an estimate."""
        self.assertEqual(self.figures(START, BLOCK, delta("x" * 400), message_delta(output_tokens=3)), (5, 3, False))

    def test_cut_before_anything(self) -> None:
        """Nothing delivered: what message_start says of the output is a beginning, and nothing that is certain."""
        self.assertEqual(self.figures(START), (5, 1, True))
        self.assertEqual(self.figures(), (None, None, False))

    def test_what_the_model_wrote(self) -> None:
        """The estimate is of what the model wrote: no signatures, no JSON around it, no escapes, however it is framed.

        A token has some four bytes, and a delta is one token at least.
        """

        def written(member: str, *texts: str) -> list[dict[str, Any]]:
            kind = {"partial_json": "input_json_delta"}.get(member, f"{member}_delta")
            deltas = [{"type": kind, member: text} for text in texts]
            return [{"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas]

        def block(kind: str, **members: Any) -> dict[str, Any]:
            return {"type": "content_block_start", "index": 0, "content_block": {"type": kind, **members}}

        text, tool, thinking = block("text", text=""), block("tool_use", input={}), block("thinking", thinking="")
        signature = written("signature", "x" * 2000)
        citation = written("citations", "x" * 2000)
        for events, expected in (
            ([text, *written("text", *["a"] * 100)], 100),
            ([text, *written("text", *["ab"] * 100)], 100),
            ([text, *written("text", *["a" * 20] * 100)], 500),
            ([text, *written("text", *['a"\n\\' * 5] * 100)], 500),
            ([text, *written("text", *["你好世界吗"] * 100)], 375),
            ([tool, *written("partial_json", *['{"a":"b","c":"defg"}'] * 100)], 500),
            ([tool, *written("partial_json", *['"\\n\\""' * 3 + "ab"] * 100)], 500),
            ([thinking, *written("thinking", *["a" * 16] * 24), *signature], 96),
            ([thinking, *signature * 20], 0),
            ([block("text", text="", citations=[]), *written("text", "a" * 40), *citation], 10),
            ([thinking, *signature, block_stop(), text, *written("text", "a" * 40)], 10),
            ([text, *written("text", *["a"] * 50), block_stop(), text, *written("text", "a" * 40)], 60),
            ([thinking, *written("thinking", 'a "signature_delta" is no signature_' * 10)], 90),
        ):
            for ascii, separators in ((True, (",", ":")), (False, (", ", ": "))):
                for size in (1, 7, 1000):
                    watch = StreamWatch()
                    frames = [
                        f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=ascii, separators=separators)}".encode()
                        for e in (START, *events)
                    ]
                    for at in range(0, len(frames), size):
                        watch.batch(frames[at : at + size])
                    watch.close()
                    assert watch.usage.output is not None
                    self.assertAlmostEqual(watch.usage.output, max(1, expected), delta=max(1, expected * 0.02))
                    self.assertTrue(watch.usage.estimated)

    def test_one_bad_figure(self) -> None:
        """One member that cannot be read loses itself alone: neither the others nor the stop reason."""
        watch = StreamWatch()
        watch.batch([frame(START), frame(message_delta(output_tokens=6, input_tokens="x", cache_read_input_tokens=[]))])
        watch.close()
        usage = watch.usage
        self.assertEqual((usage.input, usage.output, usage.cache_read, usage.estimated), (5, 6, None, False))
        self.assertEqual(watch.stop_reason, "end_turn")
        self.assertIn("input_tokens", watch.anomaly)

    def test_figures_are_not_repeated(self) -> None:
        """A message_delta without figures unsays none."""
        last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
        said = (START, BLOCK, delta("x" * 400), block_stop(), message_delta(None, output_tokens=9), last, STOP)
        self.assertEqual(self.figures(*said), (5, 9, False))

    def test_no_figure_at_the_end(self) -> None:
        """Where the output cannot be read at the end, the placeholder of the beginning is not taken for it."""
        for usage in ({}, {"output_tokens": "many"}):
            said = (START, BLOCK, delta("x" * 400), block_stop(), message_delta(**usage), STOP)
            self.assertEqual(self.figures(*said), (5, 100, True))

    def test_asked_twice(self) -> None:
        """Asking for the figures while the stream runs does not add up."""
        watch = StreamWatch()
        for _ in range(3):
            watch.batch([frame(delta("x" * 100))])
            watch.close()
            watch.close()
        assert watch.usage.output is not None
        self.assertTrue(70 <= watch.usage.output <= 90, watch.usage.output)
        watch.batch([frame(message_delta(output_tokens=2)), frame(STOP)])
        watch.close()
        self.assertEqual((watch.usage.output, watch.usage.estimated), (2, False))

    def test_later_figures_win(self) -> None:
        """Counts are cumulative; what is not named stays."""
        watch = StreamWatch()
        watch.batch([frame(START), frame(message_delta(None, output_tokens=4, cache_read_input_tokens=7))])
        watch.batch([frame(message_delta(output_tokens=6, output_tokens_details={"thinking_tokens": 2}))])
        usage = watch.usage
        self.assertEqual((usage.input, usage.output, usage.cache_read, usage.thinking), (5, 6, 7, 2))


class Anything(SynchronousTestCase):
    """Whatever an upstream sends."""

    def test_nothing_else_is_raised(self) -> None:
        """Any frames at all come to a batch or to MalformedEvent; frames with a name pass unchanged."""
        kinds = st.sampled_from(["ping", "message_start", "message_delta", "content_block_delta", "message_stop", "x"])
        leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud83d")
        shapes = st.recursive(
            leaves,
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(["type", "index", "usage", "message", "delta", "stop_reason", "output_tokens"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=8,
        )
        events = st.fixed_dictionaries({"type": kinds}, optional={"delta": shapes, "usage": shapes, "message": shapes})
        text = st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b""))
        data = text | (shapes | events).map(lambda value: json.dumps(value).encode())
        frames = st.builds(lambda kind, text: b"event: %b\ndata: %b" % (kind.encode(), text), kinds, data)

        @settings(deadline=None, max_examples=400)
        @given(st.lists(frames | text, max_size=5))
        def hold(given_frames: list[bytes]) -> None:
            watch = StreamWatch()
            watch.batch([frame(delta())])
            try:
                batch = watch.batch(given_frames)
            except MalformedEvent:
                return
            rest = iter(given_frames)
            for passed in batch.frames.split(b"\n\n")[:-1]:
                self.assertIn(passed, rest)
            watch.close()

        hold()
