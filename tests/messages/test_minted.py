"""What this daemon minted leaves a body for an Anthropic upstream, and nothing else of it changes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from time import thread_time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.ids import Ids, mint_signature
from claudeproxyd.messages.minted import MAX_MINTED, without_minted
from tests.speed import slowness

CAPTURES = Path(__file__).parent.parent / "data" / "captures" / "requests.jsonl.gz"

MINTED = mint_signature("google", b"payload")
SEARCH_ID = Ids().server_tool_use("google")
HI = {"role": "user", "content": "hi"}
THINKING = {"type": "thinking", "thinking": "hm", "signature": MINTED}
REDACTED = {"type": "redacted_thinking", "data": MINTED}
THEIRS = {"type": "thinking", "thinking": "hm", "signature": "EqQB"}
TEXT = {"type": "text", "text": "hello"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "ls", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "a.txt"}]}
SEARCH = {
    "type": "server_tool_use",
    "id": SEARCH_ID,
    "name": "web_search",
    "input": {"query": "twisted", "encrypted_content": mint_signature("google", b"[]")},
}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": SEARCH_ID,
    "content": [
        {"type": "web_search_result", "title": "Twisted", "url": "https://twisted.org", "encrypted_content": MINTED},
        {"type": "web_search_result", "title": "Docs", "url": "https://docs.twisted.org", "page_age": "May 1"},
    ],
}
ENABLED = {"type": "enabled", "budget_tokens": 1024}


def assistant(*blocks: Any) -> dict[str, Any]:
    """One message of the model's."""
    return {"role": "assistant", "content": list(blocks)}


def spliced(*messages: Any, **members: Any) -> Any:
    """What goes up of such a request."""
    return json.loads(without_minted(json.dumps({"messages": messages, **members}).encode()))


class Untouched(SynchronousTestCase):
    """Bodies that hold nothing of ours."""

    def test_the_very_same_bytes(self) -> None:
        """Odd blanks, unknown members, another family's signatures, and a text that speaks of the mark all stay."""
        for body in (
            b'{ "messages" : [ {"role":"user","content":"hi" , "x":1.0} ] }',
            json.dumps({"messages": [HI, assistant(THEIRS, TEXT)]}).encode(),
            json.dumps({"messages": [{"role": "user", "content": f"what is {MINTED}?"}]}).encode(),
            json.dumps({"messages": [HI, assistant({"type": "text", "text": MINTED})]}).encode(),
            json.dumps(
                {"messages": [HI, assistant({"type": "thinking", "thinking": MINTED, "signature": ""})]}
            ).encode(),
            json.dumps({"messages": [HI, assistant({**CALL, "id": "gemini-call_7", "input": {"x": MINTED}})]}).encode(),
            json.dumps({"system": MINTED, "metadata": {"signature": MINTED}, "messages": [HI]}).encode(),
        ):
            self.assertEqual(without_minted(body), body)

    def test_refused_by_the_api_anyway(self) -> None:
        """What cannot be read is left to the upstream, which says so in its own words; nothing here raises."""
        mark = MINTED.encode()
        for body in (
            b'{"messages":"%b"}' % mark,
            b'{"messages":[7,"%b",null,{"content":{"signature":"%b"}},{"content":["%b",[],null]}]}'
            % (mark, mark, mark),
            b'{"messages":[{"content":[{"type":"thinking","signature":["%b"]}]}]}' % mark,
            b'{"messages":[{"content":[{"type":7,"signature":"%b"}]}]}' % mark,
            b'{"x":"%b"}' % mark,
            b'[{"messages":"%b' % mark,
            b'{"messages":[{"content":[{"type":"text","citations":["%b"]}]}]}' % mark,
            b'{"messages":[{"content":%b"%b"%b}]}' % (b"[" * 5000, mark, b"]" * 5000),
        ):
            self.assertEqual(without_minted(body), body)

    def test_costs_nothing(self) -> None:
        """200 KB without the mark are searched once, and not copied."""
        body = json.dumps({"messages": [{"role": "user", "content": "All work and no play. " * 9_000}]}).encode()
        took = []
        for _ in range(3):  # the least is the work, and the rest is the machine's
            started = thread_time()
            self.assertIs(without_minted(body), body)
            took.append(thread_time() - started)
        self.assertLess(min(took), 0.005 * slowness())


class Thinking(SynchronousTestCase):
    """Thinking that another family signed."""

    def test_goes(self) -> None:
        """Ours leaves, an Anthropic upstream's own stays, each where it was."""
        self.assertEqual(
            spliced(HI, assistant(THINKING, TEXT, REDACTED), HI, assistant(THEIRS, TEXT), HI),
            {"messages": [HI, assistant(TEXT), HI, assistant(THEIRS, TEXT), HI]},
        )

    def test_other_bytes_stay(self) -> None:
        """The cut takes one comma with it; blanks, numbers and escapes around it are as the client wrote them."""
        thinking = json.dumps(THINKING).encode()
        for before, after in (
            (b'[ %b , {"type":"text"} ]', b'[ {"type":"text"} ]'),
            (b'[{"type":"text"} ,\n %b ]', b'[{"type":"text"} ]'),
            (b'[{"a":1.50} , %b , {"b":"\\u00e4"}]', b'[{"a":1.50} , {"b":"\\u00e4"}]'),
            (b'[%b,{"a":1}, %b]', b'[{"a":1}]'),
        ):
            around = b'{"x": 1e2,"messages":[{"content":%b,"role":"assistant"} ], "y":[]}'
            body = around % before.replace(b"%b", thinking)
            self.assertEqual(without_minted(body), around % after)

    def test_escaped(self) -> None:
        """In a block of ours the value counts, and not how the client's JSON writes it."""
        escaped = json.dumps(assistant({**THINKING, "x": "cpxd1."}, TEXT)).replace('"cpxd1.g', '"\\u0063pxd1.g')
        body = b'{"messages":[%b]}' % escaped.encode()
        self.assertEqual(without_minted(body), b'{"messages":[%b]}' % json.dumps(assistant(TEXT)).encode())

    def test_empty_messages_go(self) -> None:
        """The API takes no message without content; it joins the users' turns on both sides itself."""
        self.assertEqual(spliced(HI, assistant(THINKING), HI, assistant(REDACTED)), {"messages": [HI, HI]})


class ToolLoop(SynchronousTestCase):
    """With a budget for thinking, the API wants the turn that called tools to begin with thinking."""

    def test_thinking_is_off(self) -> None:
        """The turn's own is gone: this one request goes without, and without the edit that needs thinking."""
        edits = [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "clear_tool_uses_20250919"}]
        self.assertEqual(
            spliced(HI, assistant(THINKING, CALL), RESULT, thinking=ENABLED, context_management={"edits": edits}),
            {"messages": [HI, assistant(CALL), RESULT], "context_management": {"edits": edits[1:]}},
        )

    def test_begun_by_a_model_that_shows_no_thinking(self) -> None:
        """Nothing of ours is in what such a model has said; the loop lacks its thinking all the same."""
        foreign = {**CALL, "id": "call_1"}
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "a.txt"}]}
        made = spliced(HI, assistant(TEXT, foreign), result, thinking=ENABLED)
        self.assertEqual(made, {"messages": [HI, assistant(TEXT, foreign), result]})

    def test_adaptive_stays(self) -> None:
        """Adaptive thinking demands nothing of earlier turns."""
        made = spliced(HI, assistant(THINKING, CALL), RESULT, thinking={"type": "adaptive"})
        self.assertEqual(made["thinking"], {"type": "adaptive"})

    def test_stays_where_it_is_allowed(self) -> None:
        """The loop is over, the last turn has an Anthropic upstream's thinking, or nobody called a tool."""
        for messages in (
            (HI, assistant(THINKING, CALL), RESULT, assistant(TEXT), HI),
            (HI, assistant(THINKING, CALL), RESULT, assistant(THEIRS, CALL), RESULT),
            (HI, assistant(THINKING, TEXT), HI),
            (HI, assistant(THINKING, TEXT), HI, {"role": "system", "content": "be brief"}),
        ):
            self.assertEqual(spliced(*messages, thinking=ENABLED)["thinking"], ENABLED)

    def test_system_words_and_split_turns(self) -> None:
        """What the system says in between ends no loop, and two messages of the assistant's are one turn."""
        reminder = {"role": "system", "content": "be brief"}
        self.assertNotIn("thinking", spliced(HI, assistant(THINKING, CALL), RESULT, reminder, thinking=ENABLED))
        whole = spliced(HI, assistant(THEIRS), assistant(THINKING, CALL), RESULT, thinking=ENABLED)
        self.assertIn("thinking", whole)


class Searches(SynchronousTestCase):
    """Server tools that another family's model used."""

    def test_become_text(self) -> None:
        """The model that goes on reads what was searched, and what was found and where."""
        [_, said] = spliced(HI, assistant(SEARCH, FOUND, TEXT))["messages"]
        self.assertEqual(
            said,
            assistant(
                {"type": "text", "text": "[Searched the web for: twisted]"},
                {
                    "type": "text",
                    "text": "[Found:\n- Twisted https://twisted.org\n- Docs https://docs.twisted.org May 1\n]",
                },
                TEXT,
            ),
        )

    def test_failed_and_odd(self) -> None:
        """An error, no results, and a call that is none of a search's are told too."""
        for block, text in (
            ({**FOUND, "content": {"error_code": "max_uses_exceeded"}}, "[The search failed: max_uses_exceeded]"),
            ({**FOUND, "content": []}, "[No results of its own]"),
            ({**FOUND, "content": None}, "[No results of its own]"),
            ({**SEARCH, "input": {"query": ""}}, "[Searched the web]"),
            ({**SEARCH, "name": "web_fetch", "input": {"url": "u"}}, '[Called web_fetch: {"url":"u"}]'),
        ):
            self.assertEqual(spliced(assistant(block))["messages"], [assistant({"type": "text", "text": text})])

    def test_cache_marks_stay(self) -> None:
        """A prompt that is cached up to such a block is cached up to its text."""
        mark = {"type": "ephemeral", "ttl": "1h"}
        [said] = spliced(assistant({**FOUND, "cache_control": mark}))["messages"]
        self.assertEqual(said["content"][0]["cache_control"], mark)

    def test_citations_go(self) -> None:
        """An index that only we can read leaves the text that it was for."""
        ours = {"type": "web_search_result_location", "url": "u", "encrypted_index": MINTED}
        theirs = {**ours, "encrypted_index": "Eo8B"}
        self.assertEqual(
            spliced(assistant({**TEXT, "citations": [ours, theirs, ours]})),
            {"messages": [assistant({**TEXT, "citations": [theirs]})]},
        )

    def test_anthropics_own_stay(self) -> None:
        """A search of an Anthropic upstream's is not touched by one of ours in the same conversation."""
        own = [{**SEARCH, "id": "srvtoolu_1"}, {**FOUND, "tool_use_id": "srvtoolu_1", "content": []}]
        self.assertEqual(spliced(assistant(*own, THINKING)), {"messages": [assistant(*own)]})


def plainly(request: Any) -> Any:
    """The same by decoding the whole, for thinking alone."""
    messages = []
    for message in request["messages"]:
        content = message["content"]
        if isinstance(content, list):
            content = [block for block in content if block not in (THINKING, REDACTED)]
            if not content and message["content"]:
                continue
        messages.append({**message, "content": content})
    return {**request, "messages": messages}


class AnyBody(SynchronousTestCase):
    """Splicing against decoding and encoding."""

    def test_any_conversation(self) -> None:
        """Whatever stands around what is cut: the meaning is that of a filter, the bytes left are the client's."""
        blanks = st.text(" \t\r\n", max_size=2)
        texts = st.builds(
            lambda text: {"type": "text", "text": text}, st.text(st.characters(codec="utf-8"), max_size=8)
        )
        blocks = st.sampled_from([THINKING, REDACTED, THEIRS, CALL, TEXT]) | texts
        messages = st.lists(st.sampled_from([HI, RESULT]) | st.lists(blocks, max_size=4).map(lambda b: assistant(*b)))

        @settings(deadline=None, max_examples=200)
        @given(st.data())
        def hold(data: st.DataObject) -> None:
            request = {"max_tokens": 1, "messages": data.draw(messages), "é": data.draw(texts)}
            comma = data.draw(blanks) + "," + data.draw(blanks)
            ascii = data.draw(st.booleans())
            body = json.dumps(request, ensure_ascii=ascii, separators=(comma, ":" + data.draw(blanks))).encode()
            left = without_minted(body)
            self.assertEqual(json.loads(left), plainly(request))
            sent = iter(body)
            self.assertTrue(all(byte in sent for byte in left))

        hold()

    def test_real_requests(self) -> None:
        """Real clients' requests pass as they are; where they hold our signature in place of theirs, its block goes."""
        seen = 0
        with gzip.open(CAPTURES, "rt", encoding="utf-8") as lines:
            bodies = [json.loads(line)["body"] for line in lines]
        for request in bodies:
            body = json.dumps(request).encode()
            self.assertIs(without_minted(body), body)
            for message in request["messages"]:
                if not isinstance(message["content"], list):
                    continue
                for index, block in enumerate(message["content"]):
                    if block["type"] == "thinking":
                        message["content"][index] = THINKING
                        seen += 1
            left = json.loads(without_minted(json.dumps(request).encode()))
            self.assertEqual(left["messages"], plainly(request)["messages"])
        self.assertGreater(seen, 0)

    def test_far_too_many(self) -> None:
        """A body of far more than a session can hold is not worked on: upstream it is refused."""
        blocks = json.dumps({"messages": [{"role": "assistant", "content": [THINKING] * (MAX_MINTED + 1)}]}).encode()
        self.assertIs(without_minted(blocks), blocks)
