"""Requests and answers that nobody wrote for these tests: made up, and sent by real clients."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.translate.openai_responses.answers import ResponsesReader
from claudeproxyd.translate.openai_responses.policy import POLICY
from claudeproxyd.translate.openai_responses.records import SIGNATURES
from claudeproxyd.translate.openai_responses.requests import ResponsesRequest, ResponsesTerms, translate
from claudeproxyd.translate.reading import read_conversation
from tests.golden import facts, strict
from tests.golden.cases import HELLO, minted
from tests.golden.families import FAMILIES
from tests.golden.families.family import ordered
from tests.golden.families.openai_responses.arrivals import arrivals, as_events
from tests.golden.test_properties import PATIENT, conversations, with_data
from tests.integration.support import responses as openai
from tests.integration.support.captures import captured
from tests.messages.accumulate import accumulate
from tests.translate.test_reading_any import REQUESTS

Json = dict[str, Any]

FAMILY = FAMILIES["openai_responses"]
KIND = "openai-responses"
MODELS = st.sampled_from(["gpt-5", "gpt-5.1", "gpt-5.4", "o3", "o3-mini", "gpt-4.1", "gpt-oss-120b", "unheard-of"])
WITHOUT_SEALS = ("gpt-4.1", "gpt-oss-120b", "unheard-of")


def sent(request: Json, model: str) -> ResponsesRequest:
    """What comes of a request. Raises Unsupported."""
    conversation = read_conversation(json.dumps(request).encode(), family=SIGNATURES, policy=POLICY)
    return translate(conversation, ResponsesTerms(model))


def _sealed(number: int) -> str:
    sealed = json.dumps({"id": f"rs_{number}", "encrypted_content": f"gAAA{number}"}, separators=(",", ":"))
    return minted(base64.b64encode(sealed.encode()).decode(), FAMILY.mark)


def with_own_signatures(request: Json) -> Json:
    """Thinking that Gemini signed, as if OpenAI had sealed it; a text follows, lest it led to nothing."""
    number = 0
    for message in request["messages"]:
        if message["role"] != "assistant":
            continue
        for block in message["content"]:
            if block["type"] == "thinking" and block["signature"] == minted("c2ln", FAMILIES["gemini"].mark):
                block["signature"], number = _sealed(number), number + 1
        message["content"] = [*message["content"], {"type": "text", "text": "So."}]
    return request


class RequestTests(SynchronousTestCase):
    """From a client's body to OpenAI's."""

    @PATIENT
    @given(REQUESTS.map(with_data), MODELS)
    def test_what_the_sdk_allows(self, request: Json, model: str) -> None:
        """Whatever the SDK's types let a client send, OpenAI takes what comes of it, or the refusal says why."""
        try:
            made = sent(request, model)
        except Unsupported as refusal:
            self.assertTrue(str(refusal).strip())
            return
        event("sent")
        FAMILY.check_request(json.loads(made.body), KIND)

    @PATIENT
    @given(conversations().map(with_own_signatures), MODELS)
    def test_nothing_is_lost(self, request: Json, model: str) -> None:
        """Every text, call, result, image, tool and wish arrives, in its place, and nothing else does."""
        body = json.loads(sent(request, model).body)
        FAMILY.check_request(body, KIND)
        lost = ["thought"] if model in WITHOUT_SEALS else []
        lost += [] if model in ("gpt-4.1", "unheard-of", "gpt-oss-120b") else ["temperature"]
        facts.compare_requests(FAMILY, request, body, lost=lost)

    @PATIENT
    @given(conversations().map(with_own_signatures), MODELS)
    def test_goes_on_as_it_began(self, request: Json, model: str) -> None:
        """What was said stays as it was when a conversation goes on, or what OpenAI has cached of it is lost."""
        whole = json.loads(sent(request, model).body)
        messages = request["messages"]
        for at, message in enumerate(messages):
            if message["role"] == "assistant" and messages[at - 1]["role"] != "assistant":
                before = json.loads(sent({**request, "messages": messages[:at]}, model).body)
                self.assertEqual(whole["input"][: len(before["input"])], before["input"])
                self.assertEqual(whole.get("instructions"), before.get("instructions"))
                self.assertEqual(ordered(whole["tools"]), ordered(before["tools"]))

    def test_captured(self) -> None:
        """Each request that a client was seen to send goes up whole, to models of three kinds, or its refusal tells."""
        carried = [each.body for each in captured() if "messages" in each.body and "safeguards" not in each.body]
        self.assertGreater(len(carried), 9)
        for request in carried:
            for model in ("gpt-5.4", "gpt-4.1", "unheard-of"):
                body = json.loads(sent(request, model).body)
                FAMILY.check_request(body, KIND)
                lost = ["temperature", "top_p", "top_k"] if model == "gpt-5.4" else ["top_k"]
                facts.compare_requests(FAMILY, request, body, lost=lost)


# Answers.

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
ITEMS = st.lists(
    st.one_of(
        WORDS,
        st.builds(openai.thought, WORDS | st.just(""), st.sampled_from(["gAAA1", "gAAA2"])),
        st.builds(openai.call, st.sampled_from(["look", "find"]), st.dictionaries(WORDS, WORDS | st.integers())),
        # What travels of a search is its bytes, which a server may escape as it likes.
        st.builds(openai.search, st.text("ab ", min_size=1), st.just("https://a.example/")),
    ),
    max_size=5,
)


def answer(items: list[Any]) -> list[Json]:
    """The events of a whole answer."""
    given = [item if isinstance(item, str) else dict(item) for item in items]
    for number, item in enumerate(given):
        if isinstance(item, dict) and "call_id" in item:
            item["call_id"] = f"call_{number}"
    made = openai.numbered(given)
    last = {"type": "response.completed", "response": openai.response("completed", made)}
    return [{**each, "sequence_number": at} for at, each in enumerate([*openai.events(made), last])]


class AnswerTests(SynchronousTestCase):
    """From OpenAI's answer to the client's."""

    request = sent({**HELLO, "thinking": {"type": "adaptive"}, "tools": [
        {"type": "web_search_20250305", "name": "web_search"}]}, "gpt-5.4")  # fmt: skip

    def machine(self, *, whole: bool) -> BlockMachine:
        return BlockMachine("claude-opus-5-5", family=SIGNATURES, whole=whole)

    def streamed(self, reads: list[bytes]) -> Json:
        reader = ResponsesReader(self.machine(whole=False), self.request, 1 << 20)
        frames = b"".join(reader.feed(read).frames for read in reads)
        return accumulate(frames + (b"" if reader.stop_reason else reader.end().frames))

    def whole(self, body: bytes) -> Json:
        machine = self.machine(whole=True)
        ResponsesReader(machine, self.request, 1 << 20).read_whole(body)
        message: Json = json.loads(machine.message())
        return message

    def same(self, message: Json) -> Json:
        """Without what is made up for each message."""
        text = json.dumps({**message, "id": ""})
        for block in message["content"]:
            if block["type"] == "server_tool_use":
                text = text.replace(block["id"], "search")
        made: Json = json.loads(text)
        return made

    @PATIENT
    @given(ITEMS)
    def test_nothing_is_lost(self, items: list[Any]) -> None:
        """Whatever the items are, and however they arrive, they are one message, which says the same."""
        events = answer(items)
        expected = self.whole(json.dumps(events[-1]["response"]).encode())
        strict.check_message(expected)
        facts.compare_answers(FAMILY, events, expected, {**HELLO, "thinking": {"type": "adaptive"}})
        for way, reads in arrivals(events):
            self.assertEqual(self.same(self.streamed(reads)), self.same(expected), way)

    @PATIENT
    @given(ITEMS, st.data())
    def test_mixed(self, items: list[Any], data: st.DataObject) -> None:
        """Events of several items may mix in any order that each of them keeps: the message is the same."""
        events = answer(items)
        first, last = events[0], events[-1]
        queues: dict[int, list[Json]] = {}
        for each in events[1:-1]:
            queues.setdefault(each["output_index"], []).append(each)
        begun = [queue.pop(0) for _, queue in sorted(queues.items())]  # items begin in their order
        mixed: list[Json] = []
        while waiting := [queue for queue in queues.values() if queue]:
            mixed.append(data.draw(st.sampled_from(waiting)).pop(0))
        stream = as_events([first, *begun, *mixed, last])
        self.assertEqual(self.same(self.streamed([stream])), self.same(self.streamed([as_events(events)])))

    @PATIENT
    @given(ITEMS, st.data())
    def test_cut(self, items: list[Any], data: st.DataObject) -> None:
        """A stream that is cut anywhere before its last event never ends as if it were whole."""
        stream = as_events(answer(items)[:-1])
        at = data.draw(st.integers(0, len(stream)))
        reader = ResponsesReader(self.machine(whole=False), self.request, 1 << 20)
        batches = [reader.feed(stream[:at]), reader.end()]
        self.assertFalse(any(batch.ended for batch in batches))
        self.assertNotIn(b"event: message_stop", b"".join(batch.frames for batch in batches))
