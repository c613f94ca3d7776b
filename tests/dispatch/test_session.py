"""Which session a request belongs to."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.dispatch.session import in_tool_loop, session_of
from claudeproxyd.principals import Principal
from tests.dispatch.fakes import House

TURNS = [{"role": "user", "content": "hello"}]


def session(headers: Any = (), client: str = "c", **members: Any) -> str:
    """The session of a request with these members."""
    request = {"model": "m", "max_tokens": 1, "messages": TURNS} | members
    return session_of(House().request(body=json.dumps(request).encode(), headers=headers, principal=Principal(client)))


class Sessions(SynchronousTestCase):
    """What affinity goes by."""

    def test_header_first(self) -> None:
        """Claude Code says it in a header."""
        self.assertEqual(session([(b"x-claude-code-session-id", b"s-1")], metadata={"user_id": "u"}), "s-1")

    def test_user_id(self) -> None:
        """Else in metadata.user_id: as JSON with a session_id, or as a plain word."""
        self.assertEqual(session(metadata={"user_id": '{"device_id":"d","session_id":"s-2"}'}), "s-2")
        for plain in ("user_1_session_2", '{"session_id":7}', "{broken", "{}"):
            self.assertEqual(session(metadata={"user_id": plain}), plain)

    def test_large(self) -> None:
        """A conversation that grows beyond a megabyte stays the session that it was, and not all of it is read."""
        more = [{"role": "assistant", "content": "é" * 600_000}, {"role": "user", "content": "x"}]
        self.assertEqual(session(messages=TURNS + more), session())
        self.assertNotEqual(session(messages=[{"role": "user", "content": "hi"}, *more]), session())
        huge = [{"role": "user", "content": "x" * 2_000_000}]
        self.assertEqual(session(messages=huge + more), session(messages=huge))

    def test_grows(self) -> None:
        """Whatever the length of the first message, and what little stands before it."""
        more = {"role": "assistant", "content": "x" * 1_100_000}
        for size in (10, 65_000, 66_000, 140_000, 900_000):
            for before in ([], [{"role": "assistant", "content": "é" * 10_000}]):
                turns = [*before, {"role": "user", "content": "é" * (size // 2)}]
                self.assertEqual(session(messages=[*turns, more]), session(messages=turns), f"{size} {len(before)}")

    def test_long(self) -> None:
        """A name of any length is told from others, and takes no more memory than a short one."""
        long = "s" * 60_000
        named = session([(b"x-claude-code-session-id", long.encode())])
        self.assertLess(len(named), 100)
        self.assertEqual(session(metadata={"user_id": long}), named)
        self.assertNotEqual(session(metadata={"user_id": long + "t"}), named)

    def test_keys(self) -> None:
        """A key that a client uses for a name is kept, and stored, as its digest alone; two of them stay two."""
        keys = [f"sk-ant-api03-AbCdEf_0123456-{n}" for n in range(2)]
        names = [session(metadata={"user_id": key}) for key in keys]
        self.assertEqual(len(set(names)), 2)
        for name in (*names, session([(b"x-claude-code-session-id", keys[0].encode())])):
            self.assertNotIn("AbCdEf", name)

    def test_conversation(self) -> None:
        """Else the beginning of the conversation: the client, its system prompt and its first message."""
        first = session(system="s")
        self.assertEqual(session(system="s", messages=[*TURNS, {"role": "assistant", "content": "hi"}]), first)
        self.assertEqual(session(system="s", metadata={}), first)
        self.assertEqual(session(system="s", metadata=7), first)
        self.assertNotEqual(session(system="t"), first)
        self.assertNotEqual(session(system="s", client="d"), first)
        self.assertNotEqual(session(system="s", messages=[{"role": "user", "content": "bye"}]), first)

    def test_hostile(self) -> None:
        """Nothing that a client writes there is a fault of ours."""
        deep = '{"a":' + "[" * 100_000
        self.assertTrue(session(metadata={"user_id": deep}))
        for turns in ([7], [[]], [{"role": 7}], [{}], [None]):
            self.assertTrue(session(messages=turns))


class ToolLoop(SynchronousTestCase):
    """A client that is in the middle of something stays where it is."""

    def test_last_turn(self) -> None:
        """A tool_result in the last turn, and there alone."""
        result = {"role": "user", "content": [{"type": "text"}, {"type": "tool_result"}]}
        self.assertTrue(in_tool_loop(json.dumps([*TURNS, result]).encode()))
        self.assertFalse(in_tool_loop(json.dumps([result, *TURNS]).encode()))
        self.assertFalse(in_tool_loop(json.dumps([{"role": "user", "content": '"tool_result"'}]).encode()))
        self.assertFalse(in_tool_loop(b'[{"role":"user","content":"tool_result"}]'))

    def test_hostile(self) -> None:
        """Odd turns are in no loop."""
        for messages in (b"[]", b'["tool_result"]', b'[{"content":["tool_result"]}]', b'[{"content":7},"tool_result"]'):
            self.assertFalse(in_tool_loop(messages))
