"""A conversation without its thinking."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.rectify import without_thinking

THINKING = {"type": "thinking", "thinking": "hm", "signature": "s"}
REDACTED = {"type": "redacted_thinking", "data": "d"}
TEXT = {"type": "text", "text": "hello"}


def rectified(**request: Any) -> Any:
    """What goes up the second time."""
    return json.loads(without_thinking(json.dumps(request).encode()))


class WithoutThinking(SynchronousTestCase):
    """What the upstream gets after it refused a signature."""

    def test_thinking_goes(self) -> None:
        """Thinking leaves the history and is off; all else stays."""
        request = rectified(
            model="m",
            thinking={"type": "enabled", "budget_tokens": 1024},
            system=[TEXT],
            messages=[
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": [THINKING, REDACTED, TEXT], "extra": 1},
            ],
        )
        self.assertEqual(
            request,
            {
                "model": "m",
                "system": [TEXT],
                "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": [TEXT], "extra": 1},
                ],
            },
        )

    def test_edits_that_need_thinking_go(self) -> None:
        """Claude Code asks for an edit of old thinking in each request; without thinking the API refuses that."""
        edits = [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "clear_tool_uses_20250919"}]
        request = rectified(messages=[], thinking={"type": "adaptive"}, context_management={"edits": edits, "x": 1})
        self.assertEqual(request, {"messages": [], "context_management": {"edits": edits[1:], "x": 1}})

    def test_other_bytes_stay(self) -> None:
        """The body is cut, not written anew."""
        body = b'{ "a": 1.50, "messages": [{"content":[{"type":"redacted_thinking"} , {"type":"\\u0074ext"}]}]}'
        self.assertEqual(without_thinking(body), body.replace(b'{"type":"redacted_thinking"} , ', b""))

    def test_empty_turns_go(self) -> None:
        """A turn of nothing but thinking goes too: the API takes no empty ones."""
        turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [THINKING]}]
        self.assertEqual(rectified(messages=turns)["messages"], turns[:1])

    def test_odd_turns(self) -> None:
        """What is no turn as we know them is the upstream's to judge."""
        turns = [7, "x", {"role": "user"}, {"content": {"type": "thinking"}}, {"content": ["thinking", None]}]
        self.assertEqual(rectified(messages=turns)["messages"], turns)
