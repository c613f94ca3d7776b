"""Requests that nobody wrote for these tests, to the Converse API: made up, and sent by real clients."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.converse.answers import FAMILY as MINTED
from claudeproxyd.translate.converse.policy import POLICY
from claudeproxyd.translate.converse.requests import ConverseTerms, translate
from claudeproxyd.translate.reading import read_conversation
from tests.golden import facts
from tests.golden.cases import filled
from tests.golden.families import FAMILIES
from tests.golden.test_properties import conversations, with_data
from tests.integration.support.captures import captured
from tests.translate.test_reading_any import REQUESTS

Json = dict[str, Any]

FAMILY = FAMILIES["converse"]

PATIENT = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
#: Those that can see, of families that differ in everything else.
SEEING = [
    "us.amazon.nova-pro-v1:0",
    "us.amazon.nova-2-lite-v1:0",
    "us.meta.llama4-scout-17b-instruct-v1:0",
    "us.mistral.pixtral-large-2502-v1:0",
    "moonshotai.kimi-k2.5",
    "us.openai.gpt-5.6-sol",
    "us.writer.palmyra-x5-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6",
]
BLIND = ["us.meta.llama3-3-70b-instruct-v1:0", "qwen.qwen3-32b-v1:0", "us.deepseek.r1-v1:0", "openai.gpt-oss-20b-1:0"]
MODELS = st.sampled_from([*SEEING, *BLIND])
OWN_WORDS = (
    "See the document.",
    "(no output)",
    "(what was returned follows)",
    "The call failed:",
    "I have the results.",
    "Go ahead.",
    "No tool can be called now. Answer in words.",
)
THOUGHTS = st.builds(
    lambda words, signature: {"type": "thinking", "thinking": words, "signature": filled(signature, FAMILY.mark)},
    st.sampled_from(["Hm.", "é𝄞"]),
    st.sampled_from(
        [
            {"<minted>": ["gpt", {"redactedContent": "U2VjcmV0"}]},
            {"<minted>": ["kimi", {"reasoningText": {}}]},
            {"<minted>": ["a1b2c3d4e5f6", {"reasoningText": {"signature": "c2ln"}}]},
            "EqQBCkYIBxgC",
            "cpxd1.google.c2ln",
            "cpxd1.bedrock.",
            "cpxd1.bedrock.bm8ganNvbg",
        ]
    ),
)


def sent(request: Json, model: str) -> Json:
    """What comes of a request. Raises Unsupported."""
    conversation = read_conversation(json.dumps(request).encode(), family=MINTED, policy=POLICY)
    body: Json = json.loads(translate(conversation, ConverseTerms(model)).body)
    return body


class PropertyTests(SynchronousTestCase):
    """From a client's body to Bedrock's."""

    @PATIENT
    @given(REQUESTS.map(with_data), MODELS)
    def test_what_the_sdk_allows(self, request: Json, model: str) -> None:
        """Whatever the SDK's types let a client send, the model takes what comes of it, or the refusal says why."""
        try:
            body = sent(request, model)
        except Unsupported as refusal:
            self.assertTrue(str(refusal).strip())
            return
        event("sent")
        FAMILY.check_request(body, model)

    @PATIENT
    @given(conversations(THOUGHTS), st.sampled_from(SEEING))
    def test_nothing_is_lost(self, request: Json, model: str) -> None:
        """Every text, call, result, image, tool and wish arrives, in its place, and nothing else does."""
        for tool in request["tools"]:
            tool["description"] = f"About {tool['name']}"  # a blank one goes
        try:
            body = sent(request, model)
        except Unsupported as refusal:
            self.assertIn("tool_choice", str(refusal))
            event("cannot be made to call")
            return
        FAMILY.check_request(body, model)
        lost = {"blank", "thought", "data"}
        if "gpt" in model:
            lost.add("temperature")
        if request["tool_choice"]["type"] == "none":
            lost |= {"tool", "choice"}
        if request["tool_choice"]["type"] == "tool" and "kimi" in model:
            lost.add("choice")
        facts.compare_requests(FAMILY, request, body, own_words=OWN_WORDS, lost=lost)
        # Results may hold images and no documents: which then follow those of later results.
        self.assertEqual(Counter(facts.claude_media(request)), Counter(FAMILY.media(body)))

    @PATIENT
    @given(conversations(THOUGHTS), st.sampled_from(SEEING))
    def test_goes_on_as_it_began(self, request: Json, model: str) -> None:
        """What was said stays as it was when a conversation goes on, or what upstreams have cached of it is lost."""
        request["tool_choice"] = {"type": "auto"}
        whole = sent(request, model)
        messages = request["messages"]
        for at, message in enumerate(messages):
            if message["role"] == "assistant" and messages[at - 1]["role"] != "assistant":
                before = sent({**request, "messages": messages[:at]}, model)
                self.assertEqual(whole["messages"][: len(before["messages"])], before["messages"])
                self.assertEqual(whole.get("system"), before.get("system"))
                self.assertEqual(whole["toolConfig"], before["toolConfig"])


class RealClientTests(SynchronousTestCase):
    """What the SDKs and Claude Code were seen to send."""

    def test_captured(self) -> None:
        """Each request that a client was seen to send goes up whole, or is refused for what Bedrock does not have."""
        carried = Counter[str]()
        for each in captured():
            if "messages" not in each.body:
                continue
            for model in ("us.amazon.nova-pro-v1:0", "us.meta.llama4-scout-17b-instruct-v1:0", SEEING[-1]):
                try:
                    body = sent(each.body, model)
                except Unsupported as refusal:
                    self.assertRegex(str(refusal), "is not supported")
                    continue
                FAMILY.check_request(body, model)
                lost = ["blank", "top_k", "tool", "choice"]
                facts.compare_requests(FAMILY, each.body, body, own_words=OWN_WORDS, lost=lost)
                carried[model] += 1
        self.assertGreater(min(carried.values()), 9)
