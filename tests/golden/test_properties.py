"""Requests that nobody wrote for these tests: made up from the SDK's own types, and sent by real clients."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.gemini.requests import GeminiRequest, Terms, translate
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures
from tests.golden import facts
from tests.golden.cases import minted
from tests.golden.families import FAMILIES
from tests.golden.families.family import ordered
from tests.integration.support.captures import captured
from tests.translate.test_reading_any import REQUESTS

Json = dict[str, Any]

FAMILY = FAMILIES["gemini"]

PNG = "iVBORw0KGgo="

PATIENT = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
KINDS = st.sampled_from(["gemini", "vertex"])
MODELS = st.sampled_from(
    [
        "gemini-3-pro-preview",
        "gemini-3-flash-preview",
        "gemini-3.8-flash",
        "gemini-flash-latest",
        "gemini-2.5-pro",
        "gemini-2.0-flash",
        "gemma-3-27b-it",
    ]
)


def sent(request: Json, model: str, kind: str, remembered: Iterable[str] = ()) -> GeminiRequest:
    """What comes of a request, where the signatures of these calls are remembered. Raises Unsupported."""
    signatures = Signatures(lambda: 1.0)
    for tool_use_id in remembered:
        signatures.keep(tool_use_id, "c2ln")
    conversation = read_conversation(json.dumps(request).encode(), family="google", policy=POLICY, version="2023-06-01")
    return translate(conversation, Terms(model, None, kind == "vertex"), signatures)


def with_data(value: Any) -> Any:
    """*value*, with base64 where it belongs: the SDK's types know strings alone, and the daemon leaves it to Google."""
    if isinstance(value, list):
        return [with_data(member) for member in value]
    if not isinstance(value, dict):
        return value
    made = {name: with_data(member) for name, member in value.items()}
    return {**made, "data": PNG} if made.get("type") == "base64" else made


# What every model can be told, so that nothing of it may be missing.

WORDS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["a", "a", "</system-reminder>", "\0", " "]
)
NAMES = st.text("aB_1 .é-", min_size=1, max_size=80)
INPUTS = st.dictionaries(
    WORDS, st.integers() | st.booleans() | WORDS | st.none() | st.lists(WORDS, max_size=2), max_size=3
)


def text(words: str) -> Json:
    return {"type": "text", "text": words}


SAID = st.one_of(
    WORDS.map(text),
    st.just({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}),
    st.just(
        {
            "type": "document",
            "title": "Leaf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PNG},
        }
    ),
    st.builds(
        lambda title, words: {
            "type": "document",
            "title": title,
            "source": {"type": "text", "media_type": "text/plain", "data": words},
        },
        st.none() | st.just("Book"),
        WORDS.filter(bool),
    ),
)
THOUGHTS = st.builds(
    lambda words, signature: {"type": "thinking", "thinking": words, "signature": signature},
    WORDS.filter(bool),
    st.sampled_from([minted("c2ln", FAMILY.mark), minted("", FAMILY.mark), "EqQBCkYIBxgC", "cpxd1.openai.c2ln"]),
)


@st.composite
def conversations(draw: st.DrawFn, thoughts: st.SearchStrategy[Json] = THOUGHTS) -> Json:
    """Messages in any order that the API takes, their calls answered in any order."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    messages: list[Json] = [{"role": "user", "content": [text("Begin."), *draw(st.lists(SAID, max_size=2))]}]
    for step in range(draw(st.integers(0, 3))):
        calls = [
            {"type": "tool_use", "id": f"toolu_{step}_{n}", "name": draw(st.sampled_from(names)), "input": draw(INPUTS)}
            for n in range(draw(st.integers(0, 3)))
        ]
        said = [text("Step."), *draw(st.lists(thoughts | WORDS.map(text), max_size=2)), *calls]
        messages += [{"role": "assistant", "content": said[:1]}, {"role": "assistant", "content": said[1:]}]
        results = [
            {
                "type": "tool_result",
                "tool_use_id": call["id"],
                "content": draw(st.lists(SAID, max_size=2)),
                "is_error": draw(st.booleans()),
            }
            for call in draw(st.permutations(calls))
        ]
        said = draw(st.permutations([*results, text("Go on."), *draw(st.lists(SAID, max_size=2))]))
        messages.append({"role": "user", "content": said})
        if draw(st.booleans()):
            messages.append({"role": "system", "content": draw(WORDS)})
    return {
        "model": "claude-opus-5-5",
        "max_tokens": draw(st.integers(1, 1000)),
        "system": draw(st.lists(WORDS.map(text), max_size=2)),
        "messages": messages,
        "tools": [{"name": name, "description": name, "input_schema": {"type": "object"}} for name in names],
        "tool_choice": draw(
            st.sampled_from([{"type": "auto"}, {"type": "any"}, {"type": "none"}, {"type": "tool", "name": names[0]}])
        ),
        "stop_sequences": draw(st.lists(st.sampled_from("abcdefg"), max_size=7)),
        "temperature": draw(st.floats(0, 1)),
    }


class PropertyTests(SynchronousTestCase):
    """From a client's body to Google's."""

    @PATIENT
    @given(REQUESTS.map(with_data), MODELS, KINDS)
    def test_what_the_sdk_allows(self, request: Json, model: str, kind: str) -> None:
        """Whatever the SDK's types let a client send, Google's types take what comes of it, or the refusal says why."""
        try:
            made = sent(request, model, kind)
        except Unsupported as refusal:
            self.assertTrue(str(refusal).strip())
            return
        event("sent")
        FAMILY.check_request(json.loads(made.body), kind)

    @PATIENT
    @given(conversations(), MODELS, KINDS)
    def test_nothing_is_lost(self, request: Json, model: str, kind: str) -> None:
        """Every text, call, result, image, tool and wish arrives, in its place, and nothing else does.

        Whatever may stand beside a result, it is never in the content that has results.
        """
        body = json.loads(sent(request, model, kind).body)
        FAMILY.check_request(body, kind)
        lost = ["thought"] if model in ("gemini-2.0-flash", "gemma-3-27b-it") else []
        facts.compare_requests(FAMILY, request, body, signatures=FAMILY.own_signatures, lost=lost)

    @PATIENT
    @given(conversations(), MODELS, KINDS)
    def test_goes_on_as_it_began(self, request: Json, model: str, kind: str) -> None:
        """What was said stays as it was when a conversation goes on, or what upstreams have cached of it is lost."""
        calls = [f"toolu_{step}_{number}" for step in range(3) for number in range(2)]
        whole = json.loads(sent(request, model, kind, calls).body)
        messages = request["messages"]
        for at, message in enumerate(messages):
            if message["role"] == "assistant" and messages[at - 1]["role"] != "assistant":
                before = json.loads(sent({**request, "messages": messages[:at]}, model, kind, calls).body)
                self.assertEqual(whole["contents"][: len(before["contents"])], before["contents"])
                self.assertEqual(whole.get("systemInstruction"), before.get("systemInstruction"))
                self.assertEqual(ordered(whole["tools"]), ordered(before["tools"]))


class RealClientTests(SynchronousTestCase):
    """What the SDKs and Claude Code were seen to send."""

    def test_captured(self) -> None:
        """Each request that a client was seen to send goes up whole, to models of three kinds."""
        # On Vertex, as some of them have documents by URL.
        carried = [each.body for each in captured() if "messages" in each.body and "safeguards" not in each.body]
        self.assertGreater(len(carried), 9)
        for request in carried:
            for model in ("gemini-3-pro-preview", "gemini-2.5-flash", "gemini-2.0-flash"):
                body = json.loads(sent(request, model, "vertex").body)
                FAMILY.check_request(body, "vertex")
                facts.compare_requests(FAMILY, request, body, signatures=FAMILY.own_signatures)

    def test_safeguards(self) -> None:
        """What interactive Claude Code asks to be guarded is refused by name."""
        guarded = [each.body for each in captured() if "safeguards" in each.body]
        self.assertTrue(guarded)
        for request in guarded:
            self.assertIn("safeguards", str(self.assertRaises(Unsupported, sent, request, "gemini-3-pro", "gemini")))
