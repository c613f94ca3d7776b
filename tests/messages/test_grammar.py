"""The strict grammar of streams that this daemon writes itself."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.messages.grammar import Grammar, GrammarError

START = {"type": "message_start", "message": {}}
END = [{"type": "message_delta", "delta": {}, "usage": {}}, {"type": "message_stop"}]
PING = {"type": "ping"}


def begin(index: int, kind: str = "text") -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind}}


def delta(index: int, kind: str = "text_delta") -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind}}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def judge(*events: dict[str, Any]) -> Grammar:
    grammar = Grammar()
    for event in events:
        grammar.event(event)
    return grammar


def judge_whole(*events: dict[str, Any]) -> str:
    grammar = judge(*events)
    grammar.end()
    return grammar.state


class GrammarTests(SynchronousTestCase):
    """Which streams are legal."""

    def test_legal(self) -> None:
        """Whole messages pass: without a block, with several, with pings anywhere and things that nobody knows."""
        judge_whole(START, *END)
        judge_whole(
            PING,
            START,
            begin(0),
            PING,
            delta(0),
            stop(0),
            begin(1, "tool_use"),
            delta(1, "input_json_delta"),
            stop(1),
            *END,
        )
        judge_whole(
            START,
            begin(0, "hologram"),
            delta(0, "text_delta"),
            delta(0, "hologram_delta"),
            stop(0),
            {"type": "aside"},
            *END,
        )
        judge_whole(START, begin(0, "web_search_tool_result"), stop(0), *END)

    def test_error_ends_it_anywhere(self) -> None:
        """An error event may be the last of a stream at any point, and nothing follows it."""
        error = {"type": "error", "error": {}}
        for before in ([], [START], [START, begin(0)], [START, begin(0), delta(0)], [START, END[0]]):
            self.assertEqual(judge_whole(*before, error), "error")
        with self.assertRaises(GrammarError):
            judge_whole(START, error, PING)

    def test_illegal(self) -> None:
        """Every other order is refused."""
        for events in (
            [begin(0)],
            [START, START, *END],
            [START, delta(0), *END],
            [START, stop(0), *END],
            [START, begin(0), *END],
            [*END],
            [START, begin(0), begin(1)],
            [START, begin(0), stop(0), delta(0)],
            [START, END[1]],
            [START, END[0], begin(0)],
            [START, *END, PING],
            [START, *END, *END],
        ):
            with self.assertRaises(GrammarError, msg=repr(events)):
                judge(*events)

    def test_too_early(self) -> None:
        """A stream that ends before message_stop is not whole."""
        for events in ([], [START], [START, begin(0)], [START, begin(0), stop(0)], [START, END[0]]):
            with self.assertRaises(GrammarError, msg=repr(events)):
                judge_whole(*events)

    def test_indices(self) -> None:
        """Indices count from 0 without gaps, and deltas belong to the open block."""
        for events in (
            [begin(1)],
            [begin(0), stop(0), begin(2)],
            [begin(0), delta(1)],
            [begin(0), stop(1)],
            [begin(0), stop(0), begin(0)],
        ):
            with self.assertRaises(GrammarError, msg=repr(events)):
                judge(START, *events)

    def test_deltas_fit_their_block(self) -> None:
        """No thinking in a text block, no input in a thought."""
        for block, kind in (
            ("text", "thinking_delta"),
            ("thinking", "input_json_delta"),
            ("tool_use", "text_delta"),
            ("text", "signature_delta"),
        ):
            with self.assertRaises(GrammarError, msg=block):
                judge(START, begin(0, block), delta(0, kind))


class FrameTests(SynchronousTestCase):
    """The form on the wire."""

    def test_events_of_frames(self) -> None:
        """Frames that are joined come apart into their events."""
        frames = b'event: ping\ndata: {"type":"ping"}\n\n' * 2
        self.assertEqual(Grammar().frames(frames), [PING, PING])
        self.assertEqual(Grammar().frames(b""), [])

    def test_bad_frames(self) -> None:
        """A frame without its event line, with another name in it, with two data lines, damaged or cut is refused."""
        for frame in (
            b'data: {"type":"ping"}\n\n',
            b'event: ping\ndata: {"type":"pong"}\n\n',
            b'event: ping\ndata: {"type":\ndata: "ping"}\n\n',
            b'event: ping\ndata: {"type":"ping"\n\n',
            b'event: ping\ndata: {"type":"ping"}\n',
            b"event: ping\ndata: []\n\n",
        ):
            with self.assertRaises(GrammarError, msg=repr(frame)):
                Grammar().frames(frame)
