"""Requests that nobody wrote for these tests, to servers of chat completions: made up, and sent by real clients."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.openai_chat.dialects import SERVERS, Overrides
from claudeproxyd.translate.openai_chat.policy import POLICY
from claudeproxyd.translate.openai_chat.requests import ChatRequest, ChatTerms, translate
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures
from tests.golden import facts
from tests.golden.families import FAMILIES
from tests.golden.test_properties import PATIENT, conversations, with_data
from tests.integration.support.captures import captured
from tests.translate.test_reading_any import REQUESTS

Json = dict[str, Any]

FAMILY = FAMILIES["openai_chat"]
#: A server and one of its models, of each kind that there is.
PLACES = (
    ("", "some-model"),
    ("", "gpt-5.1"),
    ("", "deepseek-v3.2"),
    ("openai", "gpt-4.1"),
    ("openai", "gpt-5.4"),
    ("openai", "o3"),
    ("openai", "o1-mini"),
    ("azure", "gpt-4o"),
    ("openrouter", "z-ai/glm-4.6"),
    ("deepseek", "deepseek-v4"),
    ("deepseek", "deepseek-reasoner"),
    ("glm", "glm-4.6"),
    ("glm", "glm-4.5v"),
    ("kimi", "kimi-k2.6"),
    ("minimax", "MiniMax-M3"),
    ("qwen", "qwen3-vl-plus"),
    ("mistral", "mistral-large-latest"),
    ("groq", "openai/gpt-oss-120b"),
    ("groq", "qwen/qwen3-32b"),
    ("xai", "grok-4"),
    ("vllm", "some-model"),
    ("llamacpp", "some-model"),
)
ANY_PLACE = st.sampled_from(PLACES)
#: Servers that see pictures and read PDFs, the last by an operator's word.
OPEN = st.sampled_from(
    [("openai", "gpt-4.1"), ("openrouter", "some/model"), ("mistral", "mistral-large-latest"), ("", "m")]
)
PDF = Overrides(takes=("pdf", "top_k"))
#: What the daemon says where a server wants something said.
OWN = ("(no text)", "Done.")


def sent(request: Json, server: str, model: str, overrides: Overrides = Overrides()) -> ChatRequest:  # noqa: B008
    """What comes of a request. Raises Unsupported."""
    conversation = read_conversation(json.dumps(request).encode(), family="openai", policy=POLICY)
    return translate(conversation, ChatTerms(server, model, overrides=overrides), Signatures(lambda: 1.0))


class PropertyTests(SynchronousTestCase):
    """From a client's body to a server's."""

    def test_places(self) -> None:
        """No well-known server is left out, but Google's, which is like one that nobody knows."""
        self.assertEqual({server for server, _ in PLACES} | {"google", "ollama"}, {"", *SERVERS})

    @PATIENT
    @given(REQUESTS.map(with_data), ANY_PLACE)
    def test_what_the_sdk_allows(self, request: Json, place: tuple[str, str]) -> None:
        """Whatever the SDK's types let a client send, the server takes what comes of it, or the refusal says why."""
        try:
            made = sent(request, *place)
        except Unsupported as refusal:
            self.assertTrue(str(refusal).strip())
            return
        event("sent")
        if request.get("max_tokens"):
            FAMILY.check_request(json.loads(made.body), place[0])

    @PATIENT
    @given(conversations(), OPEN)
    def test_nothing_is_lost(self, request: Json, place: tuple[str, str]) -> None:
        """Every text, call, result, image, tool and wish arrives, in its place, and nothing else does."""
        body = json.loads(sent(request, *place, PDF).body)
        server, _ = place
        if server:
            FAMILY.check_request({name: value for name, value in body.items() if name != "top_k"}, server)
        facts.compare_requests(FAMILY, request, body, own_words=OWN, lost=["thought"])

    @PATIENT
    @given(conversations(), OPEN)
    def test_goes_on_as_it_began(self, request: Json, place: tuple[str, str]) -> None:
        """What was said stays as it was when a conversation goes on, or what servers have cached of it is lost."""
        whole = json.loads(sent(request, *place, PDF).body)
        messages = request["messages"]
        for at, message in enumerate(messages):
            if message["role"] == "assistant" and messages[at - 1]["role"] != "assistant":
                before = json.loads(sent({**request, "messages": messages[:at]}, *place, PDF).body)
                self.assertEqual(whole["messages"][: len(before["messages"])], before["messages"])
                self.assertEqual(whole.get("tools"), before.get("tools"))


class RealClientTests(SynchronousTestCase):
    """What the SDKs and Claude Code were seen to send."""

    def test_captured(self) -> None:
        """Each request that a client was seen to send goes up whole, wherever it can be carried."""
        carried = 0
        for each in captured():
            request = each.body
            if "messages" not in request or "safeguards" in request:
                continue
            for server, model in PLACES:
                try:
                    body = json.loads(sent(request, server, model).body)
                except Unsupported:
                    continue
                carried += 1
                if request.get("max_tokens"):
                    FAMILY.check_request(body, server)
                lost = ["thought", "temperature", "top_p", "top_k", "choice", "stop"]
                facts.compare_requests(FAMILY, request, body, own_words=OWN, lost=lost)
        self.assertGreater(carried, 200)
