"""What becomes of a message's blocks: frames, or the whole message."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.outputs import FrameWriter, MessageCollector, MessageOutput

MESSAGE = {"id": "msg_1", "content": [], "stop_reason": None}


def played(output: MessageOutput) -> list[int]:
    """A message of one text and one call; gives how much was written after each delta."""
    written = []

    def add(kind: str, value: object) -> None:
        output.delta(kind, value)
        written.append(output.written)

    output.start(MESSAGE, {"input_tokens": 1})
    output.open({"type": "text", "text": ""})
    add("text", "a\n")
    add("text", "é")
    add("citations", {"url": "u"})
    output.close()
    output.ping()
    output.open({"type": "tool_use", "id": "i", "name": "n", "input": {}})
    add("input_json", '{"a":')
    add("input_json", "1}")
    output.close()
    return written


class OutputTests(SynchronousTestCase):
    """Two outputs, one order of calls."""

    def test_frames(self) -> None:
        """A stream is written event by event, each read's events once, and the last batch says that it ended."""
        writer = FrameWriter()
        self.assertEqual(played(writer), [3, 5, 5, 10, 12])
        batch = writer.flush()
        names = [frame.split(b"\n")[0][7:].decode() for frame in batch.frames.split(b"\n\n")[:-1]]
        block = ["content_block_start", "content_block_delta", "content_block_stop"]
        self.assertEqual(
            names, ["message_start", block[0], *[block[1]] * 3, block[2], "ping", block[0], *[block[1]] * 2, block[2]]
        )
        self.assertEqual((batch.count, batch.content, batch.ended), (len(names), True, False))
        writer.finish({"stop_reason": "tool_use"}, {"output_tokens": 2})
        batch = writer.flush()
        self.assertEqual((batch.count, batch.content, batch.ended), (2, True, True))
        self.assertEqual((writer.flush().count, writer.flush().ended), (0, False))
        with self.assertRaises(RuntimeError):
            writer.message()

    def test_whole(self) -> None:
        """A whole message has the same content, the usage of its end, and is there at the end alone."""
        collector = MessageCollector()
        self.assertEqual(played(collector), played(FrameWriter()))
        batch = collector.flush()
        self.assertEqual((batch.frames, batch.count, batch.content, batch.ended), (b"", 0, False, False))
        with self.assertRaises(RuntimeError):
            collector.message()
        collector.finish({"stop_reason": "tool_use"}, {"output_tokens": 2})
        self.assertTrue(collector.flush().ended)
        self.assertEqual(
            json.loads(collector.message()),
            {
                "id": "msg_1",
                "content": [
                    {"type": "text", "text": "a\né", "citations": [{"url": "u"}]},
                    {"type": "tool_use", "id": "i", "name": "n", "input": {"a": 1}},
                ],
                "stop_reason": "tool_use",
                "usage": {"output_tokens": 2},
            },
        )
