"""The machine that makes Claude messages, streamed and whole."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.block import BlockError
from claudeproxyd.messages.blocks import NO_INPUT, BlockMachine
from claudeproxyd.messages.ids import Ids
from tests.messages.accumulate import accumulate
from tests.messages.grammar import Grammar
from tests.messages.outputs import Both


def machine(**options: Any) -> BlockMachine:
    """One that streams and keeps the whole message, if not told otherwise."""
    if "whole" not in options:
        options |= {"whole": True, "output": Both()}
    numbers = itertools.count(1)
    return BlockMachine("claude-x", family="google", ids=Ids(lambda n: next(numbers).to_bytes(n)), **options)


def result(machine: BlockMachine) -> dict[str, Any]:
    """The finished message, from its stream; checked to be the same as the whole body."""
    streamed = accumulate(machine.flush().frames)
    whole = json.loads(machine.message())
    assert streamed == whole, (streamed, whole)
    return streamed


def content(machine: BlockMachine, stop_reason: str = "end_turn") -> list[dict[str, Any]]:
    machine.finish(stop_reason)
    blocks: list[dict[str, Any]] = result(machine)["content"]
    return blocks


class ContentTests(SynchronousTestCase):
    """Blocks open and close by themselves."""

    def test_frames_on_the_wire(self) -> None:
        """Every event has its event line, one data line and a blank one; the first carries the id and the model."""
        m = machine(whole=False)
        m.usage.input = 7
        m.text("Hi\n")
        self.assertEqual(
            m.flush().frames.decode(),
            'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_000000000000000000000001",'
            '"type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,'
            '"usage":{"input_tokens":7,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}\n\n'
            'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
            '"content_block":{"type":"text","text":""}}\n\n'
            'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            '"delta":{"type":"text_delta","text":"Hi\\n"}}\n\n',
        )

    def test_kinds_take_turns(self) -> None:
        """Thinking, text and a call come out as three blocks, in order."""
        m = machine()
        m.thinking("h")
        m.thinking("m")
        m.signature("cpxd1.google.AA")
        m.text("a")
        m.text("b")
        id = m.tool_use("Bash", "call_1")
        m.tool_input(id, '{"command":')
        m.tool_input(id, '"ls"}')
        self.assertEqual(
            content(m),
            [
                {"type": "thinking", "thinking": "hm", "signature": "cpxd1.google.AA"},
                {"type": "text", "text": "ab"},
                {"type": "tool_use", "id": "call_1", "name": "Bash", "input": {"command": "ls"}},
            ],
        )

    def test_unsigned_thinking(self) -> None:
        """Thinking that the upstream left unsigned gets one that names the family, since strict clients want one."""
        m = machine()
        m.thinking("hm")
        m.text("a")
        self.assertEqual(content(m)[0], {"type": "thinking", "thinking": "hm", "signature": "cpxd1.google."})

    def test_signature_alone(self) -> None:
        """Thinking that is not shown is an empty block with its signature."""
        m = machine()
        m.text("a")
        m.signature("cpxd1.google.AA")
        self.assertEqual(content(m)[1], {"type": "thinking", "thinking": "", "signature": "cpxd1.google.AA"})

    def test_close_parts_blocks_of_one_kind(self) -> None:
        """Two texts that the upstream keeps apart stay apart, each with its own citations."""
        m = machine()
        m.text("a")
        m.citation({"type": "web_search_result_location", "url": "u"})
        m.close()
        m.text("b")
        m.close()
        m.close()
        m.citation({"type": "of nothing"})
        self.assertEqual(
            content(m),
            [
                {"type": "text", "text": "a", "citations": [{"type": "web_search_result_location", "url": "u"}]},
                {"type": "text", "text": "b"},
            ],
        )

    def test_whole_blocks(self) -> None:
        """A web search passes with its call, its results and its count in the usage."""
        m = machine()
        m.web_results(m.web_search("q"), [{"type": "web_search_result", "url": "u"}])
        m.text("found")
        m.finish("end_turn")
        message = result(m)
        self.assertEqual(
            [block["type"] for block in message["content"]], ["server_tool_use", "web_search_tool_result", "text"]
        )
        search, results, _ = message["content"]
        self.assertEqual((search["name"], search["input"]), ("web_search", {"query": "q"}))
        self.assertEqual(results["content"], [{"type": "web_search_result", "url": "u"}])
        self.assertEqual(results["tool_use_id"], search["id"])
        self.assertTrue(search["id"].startswith("cpxd1.google."))
        self.assertEqual(message["usage"]["server_tool_use"], {"web_search_requests": 1, "web_fetch_requests": 0})
        self.assertEqual(message["stop_reason"], "end_turn")

    def test_whole_blocks_have_no_way_round(self) -> None:
        """Text cannot be slipped past the stop sequences as a whole block."""
        with self.assertRaises(ValueError):
            machine().block({"type": "text", "text": "x"})

    def test_empty_deltas(self) -> None:
        """Empty deltas, which some upstreams send in numbers, open nothing and send nothing."""
        m = machine()
        m.text("")
        m.thinking("")
        self.assertEqual(m.flush().frames, b"")
        self.assertEqual(content(m), [])

    def test_space_alone(self) -> None:
        """A text that is nothing but space does not come: the API would refuse the conversation with it. Space at the
        beginning of a text comes with the first word."""
        m = machine()
        m.text("\n")
        m.text(" \n")
        self.assertEqual(m.flush().frames, b"")
        m.thinking("t")
        m.text("\n")
        m.text("\n a ")
        m.text("\n")
        m.tool_call("Bash", "{}", "call_1")
        m.text("\n")
        m.finish("end_turn")
        self.assertEqual(
            [block.get("text", block["type"]) for block in result(m)["content"]], ["thinking", "\n\n a \n", "tool_use"]
        )
        m = machine(max_buffered=10)
        m.text(" " * 10)
        self.assertRaises(BlockError, m.text, " ")

    def test_nothing_after_the_end(self) -> None:
        """An upstream that goes on after its end is found out."""
        m = machine()
        m.finish("end_turn")
        for call in (
            lambda: m.text("a"),
            lambda: m.tool_use("T"),
            lambda: m.finish("end_turn"),
            lambda: m.signature("s"),
        ):
            with self.assertRaises(BlockError):
                call()
        result(m)


class ToolTests(SynchronousTestCase):
    """Tool calls, one after another and mixed."""

    def test_ids(self) -> None:
        """The upstream's id is kept where clients can take it; else, or when it came before, they get one of ours."""
        m = BlockMachine("m", family="google")
        self.assertEqual(m.tool_use("T", "call_1"), "call_1")
        for id in ("call_1", "no good", "x" * 41, None, ""):
            self.assertRegex(m.tool_use("T", id), r"^toolu_[0-9a-f]{24}$")

    def test_mixed_calls(self) -> None:
        """Calls whose deltas the upstream mixes come out one after the other, each with its own input."""
        m = machine()
        a = m.tool_use("A", "a")
        m.tool_input(a, '{"x":')
        b = m.tool_use("B", "b")
        m.tool_input(b, '{"y"')
        m.tool_input(a, "1")
        m.text("between")
        m.tool_input(b, ":2}")
        m.tool_input(a, "}")
        self.assertEqual(
            content(m),
            [
                {"type": "tool_use", "id": "a", "name": "A", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "B", "input": {"y": 2}},
                {"type": "text", "text": "between"},
            ],
        )

    def test_waiting_call_goes_live(self) -> None:
        """A waiting call streams as soon as the one before it is whole, whether the upstream says so or not."""
        for end in (True, False):
            m = machine()
            a, b = m.tool_use("A", "a"), m.tool_use("B", "b")
            m.tool_input(b, '{"y":')
            self.assertNotIn(b'"B"', m.flush().frames)
            if end:
                m.tool_end(a)
            else:
                m.tool_input(a, "{}")
            self.assertIn(b'"partial_json":"{\\"y\\":"', m.flush().frames)

    def test_next_block_ends_a_whole_call(self) -> None:
        """Where the upstream never says that a call is over, text after it is not held back."""
        m = machine()
        m.tool_input(m.tool_use("A", "a"), '{"x": {}} ')
        m.flush()
        m.text("t")
        self.assertIn(b'"text":"t"', m.flush().frames)

    def test_input_after_the_end(self) -> None:
        """More input for a call that is over is the upstream's fault and not lost silently; blanks are nothing."""
        m = machine()
        a = m.tool_call("A", "{}")
        m.tool_input(a, " \n")
        with self.assertRaises(BlockError):
            m.tool_input(a, "{}")

    def test_no_input(self) -> None:
        """A call without arguments has an empty input, whatever an upstream has in the place of one."""
        for nothing in NO_INPUT:
            m = machine()
            m.tool_call("A", f" {nothing}\n", "a")
            m.finish("tool_use")
            self.assertEqual(result(m)["content"][0]["input"], {})
        m = machine()
        m.tool_use("A", "a")
        self.assertEqual(content(m)[0]["input"], {})

    def test_damaged_input(self) -> None:
        """A call whose input is not a JSON object is never given to a client to run."""
        for damaged in ('{"x":', "[1]", '"x"', "true", "{}{}", "rm -rf", "NaN"):
            m = machine()
            m.tool_call("A", damaged)
            with self.assertRaises(BlockError, msg=damaged):
                m.finish("tool_use")

    def test_cut_input(self) -> None:
        """A call that max_tokens cut short ends the message as max_tokens."""
        m = machine()
        m.tool_input(m.tool_use("A", "a"), '{"x":')
        m.finish("max_tokens")
        message = result(m)
        self.assertEqual((message["stop_reason"], message["content"][0]["input"]), ("max_tokens", {}))

    def test_big_numbers(self) -> None:
        """Numbers beyond 64 bits and exact decimals reach the tool as the model wrote them."""
        m = machine()
        m.tool_call("A", '{"n":12345678901234567890123,"d":0.10}')
        m.finish("tool_use")
        self.assertIn(b'"input":{"n":12345678901234567890123,"d":0.10}', m.message())

    def test_what_waits_has_a_bound(self) -> None:
        """An upstream that never ends its first call cannot fill the memory."""
        m = machine(whole=False, max_buffered=1000)
        m.tool_use("A")
        with self.assertRaises(BlockError):
            for _ in range(100):
                m.text("x" * 20)
        m = machine(whole=False, max_buffered=1000)
        a = m.tool_use("A")
        with self.assertRaises(BlockError):
            for _ in range(100):
                m.tool_input(a, "x" * 20)

    def test_calls_that_are_over_are_let_go(self) -> None:
        """The bound is on what is kept, not on how many calls a message has, and a call that waited counts once."""
        m = machine(whole=False, max_buffered=1000)
        a, b = m.tool_use("A"), m.tool_use("B")
        m.tool_input(b, '{"x":"%s"}' % ("y" * 600))
        m.tool_end(a)
        for _ in range(100):
            m.tool_call("A", '{"x":"%s"}' % ("y" * 100))
            m.text("x" * 100)
        m.finish("end_turn")


class EndTests(SynchronousTestCase):
    """Stop reasons, stop sequences and usage."""

    def test_stop_reason_follows_the_calls(self) -> None:
        """Clients run calls by the stop reason: it is tool_use exactly where there are calls."""
        for said in ("end_turn", "tool_use"):
            m = machine()
            m.tool_call("A", "{}")
            m.finish(said)
            self.assertEqual(result(m)["stop_reason"], "tool_use")
            m = machine()
            m.text("a")
            m.finish(said)
            self.assertEqual(result(m)["stop_reason"], "end_turn")

    def test_other_stop_reasons_stay(self) -> None:
        """max_tokens wins over tool_use, and a refusal carries its details."""
        m = machine()
        m.tool_call("A", "{}")
        m.finish("max_tokens")
        self.assertEqual(result(m)["stop_reason"], "max_tokens")
        m = machine()
        m.finish("refusal", {"type": "refusal", "category": None, "explanation": "no"})
        self.assertEqual(result(m)["stop_details"]["explanation"], "no")

    def test_stop_sequence(self) -> None:
        """The text ends at a stop sequence, the client is told which, and nothing that comes later is shown."""
        m = machine(stop_sequences=["END", "STOP"])
        m.text("a ST")
        self.assertFalse(m.stopped)
        m.text("OP b")
        self.assertTrue(m.stopped)
        m.text("c")
        m.citation({})
        m.thinking("d")
        m.signature("s")
        m.tool_call("A", "{")
        m.block({"type": "redacted_thinking", "data": "x"})
        m.close()
        m.finish("end_turn")
        message = result(m)
        self.assertEqual(message["content"], [{"type": "text", "text": "a "}])
        self.assertEqual((message["stop_reason"], message["stop_sequence"]), ("stop_sequence", "STOP"))

    def test_stop_sequence_at_once(self) -> None:
        """A text that begins with a stop sequence leaves no empty block, which the API refuses in the next turn."""
        m = machine(stop_sequences=["END"])
        m.text("END")
        self.assertEqual(content(m), [])

    def test_text_held_back_comes_out(self) -> None:
        """What was held back in case it began a stop sequence is not lost when a call or the end follows."""
        m = machine(stop_sequences=["<stop>"])
        m.text("a<st")
        m.tool_call("A", "{}")
        m.text("b<s")
        blocks = content(m)
        self.assertEqual((blocks[0]["text"], blocks[2]["text"]), ("a<st", "b<s"))

    def test_stop_sequence_behind_a_call(self) -> None:
        """A stop sequence in text that waited behind a call is seen too, and what waited behind it is dropped."""
        m = machine(stop_sequences=["END"])
        a = m.tool_use("A", "a")
        m.text("x END y")
        m.thinking("z")
        m.tool_end(a)
        self.assertEqual([block["type"] for block in content(m)], ["tool_use", "text"])

    def test_tool_input_is_not_watched(self) -> None:
        """Stop sequences are looked for in text alone."""
        m = machine(stop_sequences=["END"])
        m.thinking("END")
        m.tool_call("A", '{"x":"END"}')
        m.finish("tool_use")
        self.assertEqual(result(m)["stop_reason"], "tool_use")

    def test_true_usage(self) -> None:
        """message_delta has the upstream's figures, though message_start had only an estimate."""
        m = machine()
        m.usage.input = 100
        m.text("a")
        self.assertIn(b'"input_tokens":100', m.flush().frames)
        usage = m.usage
        usage.input, usage.output, usage.cache_read, usage.cache_write, usage.thinking = 90, 5, 8, 2, 1
        m.finish("end_turn")
        expected = {
            "input_tokens": 90,
            "cache_creation_input_tokens": 2,
            "cache_read_input_tokens": 8,
            "output_tokens": 5,
            "output_tokens_details": {"thinking_tokens": 1},
        }
        self.assertEqual(json.loads(m.message())["usage"], expected)
        self.assertIn(json.dumps(expected, separators=(",", ":")).encode(), m.flush().frames)
        self.assertFalse(usage.estimated)

    def test_estimated_input(self) -> None:
        """What the input comes to is guessed where it must be told and the upstream has not counted it, else never."""
        m = machine(estimate=lambda: 12)
        m.text("a")
        self.assertIn(b'"input_tokens":12', m.flush().frames)
        m = machine(estimate=lambda: 12)
        m.estimate_usage()
        self.assertEqual(m.usage.input, 12)
        m = machine(estimate=self.fail)
        m.usage.input = 90
        m.text("a")
        m.finish("end_turn")
        self.assertEqual(result(m)["usage"]["input_tokens"], 90)

    def test_estimated_usage(self) -> None:
        """Where the upstream counts nothing, or the answer is cut, the output is estimated and marked so."""
        m = machine()
        m.text("a" * 35)
        m.estimate_usage()
        self.assertEqual((m.usage.output, m.usage.estimated), (10, True))

    def test_what_the_model_wrote(self) -> None:
        """The estimate is of that: no signatures, no sources, and a call's input as it is rather than as a string."""
        for whole in (True, False):
            for stop_sequences in ((), ("END",)):
                m = machine(whole=whole, stop_sequences=stop_sequences)
                m.thinking("a" * 35)
                m.signature("x" * 2000)
                m.text("a" * 35)
                m.citation({"type": "web_search_result_location", "cited_text": "x" * 2000})
                m.tool_use("f", "toolu_1")
                m.tool_input("toolu_1", json.dumps({"a": '"' * 10, "b": "\\" * 5}, separators=(",", ":")).ljust(70))
                m.estimate_usage()
                self.assertEqual((m.usage.output, m.usage.estimated), (40, True))


class BatchTests(SynchronousTestCase):
    """What one upstream read comes to."""

    def test_one_batch_a_read(self) -> None:
        """All events of a read come in one batch, and only once."""
        m = machine()
        m.text("a")
        m.text("b")
        batch = m.flush()
        self.assertEqual((batch.count, batch.content, batch.ended), (4, True, False))
        self.assertEqual(len(Grammar().frames(batch.frames)), 4)
        batch = m.flush()
        self.assertEqual((batch.frames, batch.count, batch.content), (b"", 0, False))

    def test_content(self) -> None:
        """A block that has only begun commits nothing; its end does, and so does that of a message without content."""
        m = machine()
        id = m.tool_use("A")
        self.assertFalse(m.flush().content)
        m.tool_end(id)
        self.assertTrue(m.flush().content)
        m = machine()
        m.finish("max_tokens")
        self.assertTrue(m.flush().content)

    def test_pings(self) -> None:
        """Pings pass between frames once content is out, and are dropped before it."""
        m = machine()
        m.ping()
        id = m.tool_use("A")
        m.ping()
        self.assertNotIn(b"ping", m.flush().frames)
        m.tool_end(id)
        m.text("a")
        m.ping()
        m.finish("max_tokens")
        m.ping()
        self.assertEqual(m.flush().frames.count(b"event: ping"), 1)

    def test_end(self) -> None:
        """The batch with message_stop says so, and no other does."""
        m = machine()
        m.text("a")
        self.assertFalse(m.flush().ended)
        m.finish("end_turn")
        self.assertEqual([m.flush().ended, m.flush().ended], [True, False])

    def test_message_wants_the_end(self) -> None:
        """A whole body is never made of half an answer, nor of a stream that kept nothing."""
        m = machine()
        with self.assertRaises(RuntimeError):
            m.message()
        m = machine(whole=False)
        m.finish("end_turn")
        with self.assertRaises(RuntimeError):
            m.message()


TEXT = st.text('ab<>\u00e9\U0001f600\n"\\', max_size=6)


class AnyOrder(RuleBasedStateMachine):
    """Calls the machine in any order: the stream is legal after every read, and amounts to the whole message."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = BlockMachine("m", family="openai", output=Both(), stop_sequences=["<b>", "a<"])
        self.grammar = Grammar()
        self.frames = b""
        self.calls: list[str] = []
        self.finished = False

    @rule(text=TEXT)
    @precondition(lambda self: not self.finished)
    def text(self, text: str) -> None:
        self.machine.text(text)

    @rule(text=TEXT)
    @precondition(lambda self: not self.finished)
    def thinking(self, text: str) -> None:
        self.machine.thinking(text)

    @rule(text=TEXT)
    @precondition(lambda self: not self.finished)
    def signature(self, text: str) -> None:
        self.machine.signature(text)

    @rule(text=TEXT)
    @precondition(lambda self: not self.finished)
    def citation(self, text: str) -> None:
        self.machine.citation({"cited_text": text})

    @rule()
    def close(self) -> None:
        self.machine.close()

    @rule()
    def ping(self) -> None:
        if not self.finished:
            self.machine.ping()

    @rule(kind=st.sampled_from(["redacted_thinking", "web_search_tool_result"]))
    @precondition(lambda self: not self.finished)
    def whole_block(self, kind: str) -> None:
        self.machine.block({"type": kind, "data": "x"})

    @rule()
    @precondition(lambda self: not self.finished)
    def server_tool(self) -> None:
        self.machine.block({"type": "server_tool_use", "id": "i", "name": "web_search", "input": {"query": "q"}})

    @rule(id=st.sampled_from(["a", "b", None, "not good"]))
    @precondition(lambda self: not self.finished)
    def tool_use(self, id: str | None) -> None:
        self.calls.append(self.machine.tool_use("T", id))

    @rule(data=st.data(), partial=st.sampled_from(["{", '"x":', "1", "}", "{}", "", " "]))
    @precondition(lambda self: self.calls and not self.finished)
    def tool_input(self, data: st.DataObject, partial: str) -> None:
        with contextlib.suppress(BlockError):
            self.machine.tool_input(data.draw(st.sampled_from(self.calls)), partial)

    @rule(data=st.data())
    @precondition(lambda self: self.calls)
    def tool_end(self, data: st.DataObject) -> None:
        self.machine.tool_end(data.draw(st.sampled_from(self.calls)))

    @rule(reason=st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal"]))
    @precondition(lambda self: not self.finished)
    def finish(self, reason: str) -> None:
        try:
            self.machine.finish(reason)
        except BlockError:
            return
        self.finished = True

    @invariant()
    def legal_so_far(self) -> None:
        frames = self.machine.flush().frames
        self.grammar.frames(frames)
        self.frames += frames

    def teardown(self) -> None:
        if not self.finished:
            self.machine.finish("max_tokens")
            self.legal_so_far()
        self.grammar.end()
        assert accumulate(self.frames) == json.loads(self.machine.message())
        assert not any(block.get("text") == "" for block in json.loads(self.machine.message())["content"])


class AnyOrderTests(SynchronousTestCase):
    """The machine under any order of calls."""

    def test_always_legal(self) -> None:
        """Whatever an upstream sends, clients get a legal stream, and streamed and whole answers are the same."""
        run_state_machine_as_test(
            AnyOrder, settings=settings(deadline=None, max_examples=150, stateful_step_count=25, database=None)
        )
