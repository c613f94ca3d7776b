"""The one way by which translators and the sandbox put a Claude answer together.

A translator says what the upstream's answer *is* (some text, a thought, a call of a tool); :class:`BlockMachine` makes
events of it. It alone opens and closes blocks, so that no order of calls, and so no upstream, can bring about an
illegal stream. The same calls make the body of an answer that is not streamed.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.messages.block import Block, BlockError
from claudeproxyd.messages.block_sequence import BlockSequence
from claudeproxyd.messages.estimate import BYTES_PER_TOKEN
from claudeproxyd.messages.ids import Ids, fits_client
from claudeproxyd.messages.message_head import MessageHead
from claudeproxyd.messages.outputs import FrameWriter, MessageCollector
from claudeproxyd.messages.usage import usage_members

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from claudeproxyd.messages.batch import Batch
    from claudeproxyd.messages.outputs import MessageOutput

#: What upstreams say of a call that has no input: none of them begins an object.
NO_INPUT = ("", "null", "[]", '""')

_encode = msgspec.json.Encoder().encode


class BlockMachine:
    """Makes one Claude message. Made by an executor for each attempt, driven by its translator.

    The calls of one upstream read add to the output, and :meth:`flush` hands on what a client is to see of it.
    ``message_start`` comes by itself ahead of the first block. Another kind of content closes the open block and opens
    the next one. A tool call whose input is not whole yet stays open: what comes meanwhile (upstreams may mix the
    deltas of parallel calls) waits behind it.

    All of it raises :class:`BlockError` after :meth:`finish`, and when too much would have to wait.
    """

    def __init__(
        self,
        model: str,
        *,
        family: str,
        stop_sequences: Sequence[str] = (),
        whole: bool = False,
        output: MessageOutput | None = None,
        ids: Ids | None = None,
        estimate: Callable[[], int] | None = None,
        max_buffered: int = 8_388_608,
    ) -> None:
        """
        :param model: the name that the client asked for.
        :param family: whose signatures are minted here: a thinking block that the upstream left unsigned gets an empty
            one, as strict clients refuse a block without.
        :param whole: make no stream but a whole message, for :meth:`message`.
        :param output: takes the events, in place of what *whole* says.
        :param estimate: tokens of the input, asked for where they must be told before the upstream has counted them.
        :param max_buffered: characters of tool input and of waiting blocks that a stream may need.
        """
        self._ids = ids or Ids()
        self._output: MessageOutput = output or (MessageCollector() if whole else FrameWriter())
        self._head = MessageHead(self._output, self._ids.message(), model, estimate)
        self.usage = self._head.usage
        """What is known so far. The translator fills it in as the upstream tells: ``message_start`` carries what is
        known by then, ``message_delta`` the true numbers."""
        self.stop_reason: str | None = None
        """Set by :meth:`finish`."""
        self._family = family
        self._blocks = BlockSequence(
            self._output,
            self._head,
            family=family,
            stop_sequences=stop_sequences,
            max_buffered=sys.maxsize if whole else max_buffered,
            max_space=max_buffered,
        )
        self._calls: dict[str, Block] = {}

    # -- what the answer is

    @property
    def stopped(self) -> bool:
        """A stop sequence was met: whatever else comes is left out, so that the upstream need not go on."""
        return self._blocks.stopped

    def text(self, delta: str) -> None:
        """Add some text."""
        if not delta:
            return
        if self._blocks.direct == "text":  # nearly always, and nothing else waits
            self._output.delta("text", delta)
        else:
            self._blocks.add(self._current("text"), "text", delta)

    def thinking(self, delta: str) -> None:
        """Add some thinking."""
        if not delta:
            return
        if self._blocks.direct == "thinking":
            self._output.delta("thinking", delta)
        else:
            self._blocks.add(self._current("thinking"), "thinking", delta)

    def signature(self, signature: str) -> None:
        """End a thinking block with its signature: the open one, or else one whose thinking is not shown."""
        block = self._current("thinking")
        block.signed = True
        self._blocks.add(block, "signature", signature)
        self._blocks.complete(block)

    def citation(self, citation: Mapping[str, object]) -> None:
        """Add a source to the text block that is open, or else to the one that now begins; a block needs some text."""
        self._blocks.add(self._current("text"), "citations", citation)

    def close(self) -> None:
        """End the open text or thinking: what comes next is a block of its own, even if of the same kind."""
        last = self._blocks.last
        if last is not None and last.kind != "tool_use":
            self._blocks.complete(last)

    def tool_use(self, name: str, id: str | None = None) -> str:
        """Begin a call of a tool; its input follows.

        :param id: the upstream's own: kept if clients can take it and this message does not have it yet.
        :return: the id that the client sees; :meth:`tool_input` and :meth:`tool_end` know the call by it.
        """
        if id is None or not fits_client(id) or id in self._calls:
            id = self._ids.tool_use()
        block = self._calls[id] = Block({"type": "tool_use", "id": id, "name": name, "input": {}})
        self._append(block)
        return id

    def tool_input(self, id: str, partial_json: str) -> None:
        """Add to a call's input, which has none where its first piece is one of :data:`NO_INPUT`.

        Raises :class:`BlockError` where that input was whole already.
        """
        block = self._calls[id]
        if block.complete and partial_json.strip() and not self.stopped:
            raise BlockError(f"more input for {id}, a tool call that is over")
        if partial_json and (block.input or partial_json.strip() not in NO_INPUT):
            self._blocks.add_input(block, partial_json)

    def tool_end(self, id: str) -> None:
        """End a call's input. Where an upstream does not say so, the next block or :meth:`finish` finds out."""
        self._blocks.complete(self._calls[id])

    def tool_call(self, name: str, input_json: str, id: str | None = None) -> str:
        """Add a whole call. Return the id that the client sees."""
        id = self.tool_use(name, id)
        self.tool_input(id, input_json)
        self.tool_end(id)
        return id

    def block(self, block: Mapping[str, object]) -> None:
        """Add a block that comes whole: redacted_thinking, server_tool_use, web_search_tool_result …

        Raises ValueError for text, thinking and tool_use, which have methods of their own.
        """
        if block["type"] in ("text", "thinking", "tool_use"):
            raise ValueError(f"a {block['type']} block has methods of its own")
        if "input" not in block:
            self._append(Block(block, complete=True))
            return
        call = Block({**block, "input": {}}, complete=True)  # clients read the input of every call from its deltas
        call.input.append(_encode(block["input"]).decode())
        self._append(call)

    def web_search(self, query: str, encrypted_content: str = "") -> str:
        """Add a search that the upstream has run. Return the id by which :meth:`web_results` knows it.

        :param encrypted_content: a minted signature of what the upstream wants back of it.
        """
        id = self._ids.server_tool_use(self._family)
        input = {"query": query}
        if encrypted_content:
            input["encrypted_content"] = encrypted_content
        self.block({"type": "server_tool_use", "id": id, "name": "web_search", "input": input})
        return id

    def web_results(self, id: str, results: Sequence[Mapping[str, object]]) -> None:
        """Add what a search has found."""
        self.block({"type": "web_search_tool_result", "tool_use_id": id, "content": results})

    def ping(self) -> None:
        """Give a sign of life; none ahead of the first content event, none after the end."""
        self._output.ping()

    def finish(self, stop_reason: str, stop_details: Mapping[str, object] | None = None) -> None:
        """End the answer; a stop sequence that was met goes before the upstream's own *stop_reason*.

        ``end_turn`` becomes ``tool_use`` where tools were called, and the reverse: by it clients run the calls.
        An output figure that ``usage`` lacks is estimated. Raises :class:`BlockError` when a call is to be run whose
        input is no JSON object.
        """
        self._refuse_after_end()
        blocks = self._blocks
        blocks.complete_all()
        if self.stopped:
            stop_reason = "stop_sequence"
        elif stop_reason in ("end_turn", "tool_use"):
            stop_reason = "tool_use" if self._calls else "end_turn"
            if blocks.malformed_call:
                raise BlockError(f"the input of the tool call {blocks.malformed_call} is no JSON object")
        self._head.start()
        self.estimate_usage()
        self.stop_reason = stop_reason
        delta: dict[str, object] = {"stop_reason": stop_reason, "stop_sequence": blocks.watch and blocks.watch.met}
        if stop_details is not None:
            delta["stop_details"] = stop_details
        self._output.finish(delta, usage_members(self.usage, blocks.searches))

    def estimate_usage(self) -> None:
        """Estimate what the upstream has not counted; for the end of an answer, whole or not."""
        self._head.estimate_input()
        if self.usage.output is None:
            self.usage.output = math.ceil(self._output.written / BYTES_PER_TOKEN)
            self.usage.estimated = True

    # -- what is made of it

    def flush(self) -> Batch:
        """Return the frames since the last call, for one write; none where a whole message is made."""
        return self._output.flush()

    def message(self) -> bytes:
        """Return the whole message as JSON, after :meth:`finish`. Raises RuntimeError before that, and of a stream."""
        return self._output.message()

    def _current(self, kind: str) -> Block:
        self._refuse_after_end()
        return self._blocks.current(kind)

    def _append(self, block: Block) -> None:
        self._refuse_after_end()
        self._blocks.append(block)

    def _refuse_after_end(self) -> None:
        if self.stop_reason is not None:
            raise BlockError("more content after the end of the message")
