"""Any request whatever: it is read, or refused in words."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from anthropic.types.beta import message_create_params
from anthropic.types.beta.beta_message_param import BetaMessageParam
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.conversation import Conversation, Text, Thought, ToolResult, ToolUse
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.reading import read_conversation
from tests.translate.asking import assistant, call, result, text, tool, user
from tests.translate.sdk_strategies import TEXTS, VALUES, sent_as, shaped

PATIENT = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
LEFT_OUT = {"container", "mcp_servers", "compaction", "thread", "betas", "user_profile_id", "workspace_id"}
"""Refused whatever their value, or sent as headers."""


@st.composite
def talks(draw: st.DrawFn) -> list[Any]:
    """Messages that hold what a client may send, most of them with their calls answered."""
    messages = [user("hi"), *draw(st.lists(sent_as(BetaMessageParam), max_size=3))]
    for turn in range(draw(st.integers(0, 3))):
        ids = [f"toolu_{turn}_{number}" for number in range(draw(st.integers(0, 3)))]
        words = draw(st.lists(TEXTS.map(text), max_size=2))
        extra = draw(st.lists(sent_as(BetaMessageParam), max_size=1))
        messages += [user(*words), assistant(*draw(st.permutations([*words, *(call(i) for i in ids)])))]
        messages += [user(*draw(st.permutations([*words, *(result(i, draw(st.none() | TEXTS)) for i in ids)]))), *extra]
    return messages


REQUESTS = shaped(
    message_create_params.MessageCreateParamsStreaming,
    messages=talks(),
    tools=st.lists(TEXTS.map(lambda name: tool(name, defer_loading=name > "b")), max_size=3, unique_by=str),
    stop_sequences=st.lists(st.sampled_from(["END", "\n\nHuman:"])),
    **{name: st.none() for name in LEFT_OUT},
)


def read(request: Any, version: str = "2023-06-01") -> Conversation | None:
    try:
        return read_conversation(json.dumps(request).encode(), family="google", policy=POLICY, version=version)
    except Unsupported:
        event("refused")
        return None


class AnyRequestTests(SynchronousTestCase):
    """What a translator may rely on, whatever came in."""

    def hold(self, said: Conversation) -> None:
        roles = [turn.role for turn in said.turns]
        self.assertEqual(roles, [("user", "assistant")[place % 2] for place in range(len(roles))])
        self.assertTrue(roles)
        asked: list[ToolUse] = []
        for turn in said.turns:
            self.assertTrue(turn.parts)
            results = [part for part in turn.parts if isinstance(part, ToolResult)]
            self.assertEqual(turn.parts[: len(results)], results)
            self.assertEqual([(found.id, found.name) for found in results], [(made.id, made.name) for made in asked])
            asked = [part for part in turn.parts if isinstance(part, ToolUse)]
            for part in (*turn.parts, *(held for found in results for held in found.content)):
                if isinstance(part, Text):
                    self.assertTrue(part.text)
            if turn.role == "user":
                self.assertFalse([part for part in turn.parts if isinstance(part, ToolUse | Thought)])
            for made in asked:
                self.assertIsInstance(msgspec.json.decode(made.input), dict)
        self.assertEqual(asked, [])
        self.assertTrue(all(said.system))
        names = [offered.name for offered in said.tools]
        self.assertEqual(len(set(names)), len(names))
        self.assertEqual(len(set(said.warnings)), len(said.warnings))
        if said.tool_choice.kind == "tool":
            self.assertIn(said.tool_choice.name, names)

    @PATIENT
    @given(REQUESTS, st.sampled_from(["2023-06-01", "2026-10-21"]))
    def test_what_the_sdk_allows(self, request: Any, version: str) -> None:
        """Whatever the SDK's types let a client send is a sound conversation or a refusal."""
        said = read(request, version)
        if said is not None:
            event("read")
            self.hold(said)

    @PATIENT
    @given(REQUESTS, st.data())
    def test_spoilt(self, request: Any, data: st.DataObject) -> None:
        """A request with some value of it swapped for any other is so as well."""
        held: Any = request
        while True:
            key = data.draw(st.sampled_from(sorted(held) if isinstance(held, dict) else range(len(held))))
            if not isinstance(held[key], dict | list) or not held[key] or data.draw(st.integers(0, 7)) == 0:
                break
            held = held[key]
        held[key] = data.draw(VALUES)
        said = read(request)
        if said is not None:
            self.hold(said)

    @PATIENT
    @given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
    def test_garbage(self, sent: bytes) -> None:
        """Bytes that are no request are refused."""
        with self.assertRaises(Unsupported):
            read_conversation(sent, family="google", policy=POLICY)
