"""System messages in mid-conversation, for models that refuse them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.system_turns import takes_system_messages, without_system_messages

Json = dict[str, Any]

USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "Hello."}


def reminder(text: str, **more: Any) -> Json:
    block = {"type": "text", "text": f"<system-reminder>\n{text}\n</system-reminder>", **more}
    return {"role": "user", "content": [block]}


def system(*texts: str | Json, **more: Any) -> Json:
    blocks = [{"type": "text", "text": text} if isinstance(text, str) else text for text in texts]
    return {"role": "system", "content": blocks, **more}


def sent(*messages: Json, **members: Any) -> Json:
    """What goes up instead."""
    body = json.dumps({"model": "m", "messages": messages, **members}).encode()
    made: Json = json.loads(without_system_messages(body))
    return made


class TableTests(SynchronousTestCase):
    """Which models take them."""

    def test_models(self) -> None:
        """Opus from 4.8 on, and all that came after, by whichever provider's name."""
        for model in (
            "claude-opus-4-8", "claude-opus-4-8@20260528", "us.anthropic.claude-opus-4-8-20260528-v1:0",
            "anthropic/claude-opus-4.8", "claude-opus-5", "claude-opus-5-5", "claude-sonnet-5", "claude-sonnet-5-5",
            "claude-haiku-5-5", "claude-fable-5-1", "claude-mythos-5",
        ):  # fmt: skip
            self.assertTrue(takes_system_messages(model), model)
        for model in (
            "claude-opus-4-7", "claude-opus-4-6@20260205", "claude-opus-4-20250514", "claude-sonnet-4-5@20250929",
            "claude-haiku-4-5-20251001", "claude-3-7-sonnet-20250219", "claude-mythos-preview", "claude-2.1",
            "glm-5", "",
        ):  # fmt: skip
            self.assertFalse(takes_system_messages(model), model)


class WithoutSystemTests(SynchronousTestCase):
    """What such a model gets."""

    def test_in_its_place(self) -> None:
        """A user's turn says it where it stood, in the tags by which models know such words."""
        self.assertEqual(
            sent(USER, {"role": "system", "content": "Be quick."}, ASSISTANT, USER, system("a", "", "b"))["messages"],
            [USER, reminder("Be quick."), ASSISTANT, USER, reminder("a\n\nb")],
        )

    def test_cache_mark(self) -> None:
        """The prompt is cached up to where it was."""
        marked = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
        self.assertEqual(
            sent(USER, system(marked))["messages"][1], reminder("a", cache_control={"type": "ephemeral", "ttl": "1h"})
        )

    def test_effort(self) -> None:
        """The last effort takes the place of the request's, where there is one; a message of nothing else goes."""
        wishes = (
            system("a", output_config={"effort": "low"}),
            {"role": "system", "content": [], "output_config": {"effort": "max"}},
        )
        asked = {"effort": "high", "format": {"type": "json_schema", "schema": {}}}
        made = sent(USER, *wishes, output_config=asked)
        self.assertEqual(made["messages"], [USER, reminder("a")])
        self.assertEqual(made["output_config"], {**asked, "effort": "max"})
        self.assertNotIn("output_config", sent(USER, *wishes))
        self.assertEqual(sent(USER, *wishes, output_config={})["output_config"], {})

    def test_cleared(self) -> None:
        """What held until the user's next message is gone after it."""
        for_now = system("a", clear_at="next_user_message")
        self.assertEqual(sent(USER, for_now, ASSISTANT, USER)["messages"], [USER, ASSISTANT, USER])
        self.assertEqual(sent(USER, ASSISTANT, USER, for_now)["messages"], [USER, ASSISTANT, USER, reminder("a")])

    def test_what_cannot_be_said(self) -> None:
        """A change of the tools is left to the API to refuse: it must not be lost silently."""
        change = system("a", {"type": "tool_removal", "tool": {"name": "Bash"}})
        self.assertEqual(sent(USER, change, USER, system("b"))["messages"], [USER, change, USER, reminder("b")])

    def test_other_bytes(self) -> None:
        """Everything else is as the client wrote it, and a body without such messages is the very same."""
        body = b'{"a":1.0 , "messages":[ {"role": "user","content":"\\u00e9"} ,{"role" : "system","content":"x"} ]}'
        instead = json.dumps(reminder("x"), separators=(",", ":")).encode()
        self.assertEqual(without_system_messages(body), body.replace(b'{"role" : "system","content":"x"}', instead))
        for same in (
            json.dumps({"messages": [USER, {"role": "user", "content": '"role":"system"'}]}).encode(),
            b'{"messages":"\\"role\\"","role":"system"}',
            b'{"messages":[{"role":"system","content":7}]}',
        ):
            self.assertIs(without_system_messages(same), same)

    @given(
        st.lists(
            st.sampled_from(
                [USER, ASSISTANT, system("a"), system(), system("b", clear_at="next_user_message"), system("c", "d")]
            )
        )
    )
    def test_any_order(self, messages: list[Json]) -> None:
        """None is left, and nobody else's words change or move."""
        made = sent(*messages)["messages"]
        self.assertNotIn("system", [message["role"] for message in made])
        spoken = [message for message in made if message in (USER, ASSISTANT)]
        self.assertEqual(spoken, [message for message in messages if message["role"] != "system"])
