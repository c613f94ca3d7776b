"""One block after another: what comes is shown in the live block, or waits until its own block goes live."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from claudeproxyd.messages.block import Block, BlockError, is_object
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.messages.stops import StopWatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from claudeproxyd.messages.message_head import MessageHead
    from claudeproxyd.messages.outputs import MessageOutput

_encode = msgspec.json.Encoder().encode

#: The blocks that grow by deltas of their own, as they begin.
_STARTS: Mapping[str, Mapping[str, object]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


class BlockSequence:
    """A queue of blocks: the live one, whose deltas go out as they come, and those that wait until it is closed.

    Part of :class:`~claudeproxyd.messages.blocks.BlockMachine`.
    """

    def __init__(
        self,
        output: MessageOutput,
        head: MessageHead,
        *,
        family: str,
        stop_sequences: Sequence[str],
        max_buffered: int,
        max_space: int,
    ) -> None:
        """*max_buffered*: characters of tool input and of waiting blocks; *max_space*: of white space that a text
        may begin with."""
        self.live: Block | None = None
        self.direct = ""
        """The kind of delta of the live block that needs no look: a text's that nobody searches for stop sequences, a
        thought's."""
        self.watch = StopWatch(stop_sequences) if stop_sequences else None
        self.searches = 0
        """Web searches that were shown."""
        self.malformed_call = ""
        """The id of a tool call whose input is no JSON object."""
        self._waiting: deque[Block] = deque()
        self._buffered = 0
        self._max_buffered = max_buffered
        self._max_space = max_space
        self._output = output
        self._head = head
        self._family = family

    @property
    def stopped(self) -> bool:
        """A stop sequence was met: whatever else comes is left out."""
        return self.watch is not None and self.watch.met is not None

    @property
    def last(self) -> Block | None:
        """The block that came last, if it is not closed."""
        return self._waiting[-1] if self._waiting else self.live

    def append(self, block: Block) -> None:
        """Let a block follow. The one before it is complete now, unless its input shows that it is not."""
        if self.stopped:
            block.complete = True
            return
        last = self.last
        if last is not None:
            last.complete = last.may_close()
        self._waiting.append(block)
        self._advance()

    def current(self, kind: str) -> Block:
        """Return the last block, if it is of that kind and not complete; else a new one."""
        last = self.last
        if last is not None and last.kind == kind and not last.complete:
            return last
        block = Block(_STARTS[kind])
        self.append(block)
        return block

    def add(self, block: Block, kind: str, value: object) -> None:
        """Add a delta to a block. Nothing is added to one that is complete."""
        if block.complete or self.stopped:
            return
        if block is not self.live:
            block.deltas.append((kind, value))
            self._buffer(block, len(value) if isinstance(value, str) else len(_encode(value)))
            return
        self._show(block, kind, value)
        if self._waiting:
            self._advance()

    def add_input(self, block: Block, partial_json: str) -> None:
        """Add to the input of a tool call. Nothing is added to one that is complete."""
        is_live = block is self.live
        if block.complete or (self.stopped and not is_live):
            return
        block.input.append(partial_json)
        self._buffer(block, len(partial_json))
        if is_live:
            self._output.delta("input_json", partial_json)
            if self._waiting:
                self._advance()

    def complete(self, block: Block) -> None:
        """Expect nothing more of a block."""
        block.complete = True
        self._advance()

    def complete_all(self) -> None:
        """Expect nothing more of any block, and close them all."""
        if self.live is not None:
            self.live.complete = True
        for block in self._waiting:
            block.complete = True
        self._advance()

    def _advance(self) -> None:
        """Close blocks, and let the next one go live, up to one of which more may come."""
        while True:
            block = self.live
            if block is None:
                if self.stopped:
                    self._waiting.clear()
                if not self._waiting:
                    return
                block = self._waiting.popleft()
                self._go_live(block)
            if not (block.complete or (self._waiting and block.may_close())):
                return
            self._close(block)

    def _go_live(self, block: Block) -> None:
        self.live = block
        if block.kind != "text":  # a text block opens with its first word: a stop sequence may swallow all of it
            self._open(block)
        for piece in block.input:
            self._output.delta("input_json", piece)
        deltas, block.deltas = block.deltas, []
        if deltas:
            self._release(block)
        for kind, value in deltas:
            self._show(block, kind, value)

    def _buffer(self, block: Block, size: int) -> None:
        block.buffered += size
        self._buffered += size
        if self._buffered > self._max_buffered:
            raise BlockError(f"more than {self._max_buffered} characters of tool input and of what waits behind it")

    def _release(self, block: Block) -> None:
        self._buffered -= block.buffered
        block.buffered = 0

    # -- the live block

    def _show(self, block: Block, kind: str, value: Any) -> None:
        """Show a delta, or as much of it as can be shown yet."""
        if self.watch is not None and kind == "text":
            value = self.watch.feed(value)
            if not value:
                return
        if kind == "citations" and not block.opened:  # all its text is kept back yet, and may be swallowed
            block.early_citations.append(value)
        else:
            self._write(block, kind, value)

    def _write(self, block: Block, kind: str, value: Any) -> None:
        if not block.opened:
            value = block.space + value
            if value.isspace():  # Claude's API refuses a conversation in which a text is nothing else
                self._keep_space(block, value)
                return
            self._open(block)
        self._output.delta(kind, value)

    def _keep_space(self, block: Block, space: str) -> None:
        if len(space) > self._max_space:
            raise BlockError(f"a text that begins with more than {self._max_space} characters of space")
        block.space = space

    def _open(self, block: Block) -> None:
        self._head.start()
        block.opened = True
        if block.kind == "thinking" or (block.kind == "text" and self.watch is None):
            self.direct = block.kind
        self.searches += block.kind == "server_tool_use" and block.start.get("name") == "web_search"
        self._output.open(block.start)
        for citation in block.early_citations:
            self._write(block, "citations", citation)

    def _close(self, block: Block) -> None:
        if block.kind == "thinking" and not block.signed:
            self._write(block, "signature", mint_signature(self._family, b""))
        elif block.kind == "text" and self.watch is not None and (text := self.watch.flush()):
            self._write(block, "text", text)
        if block.opened:
            self._output.close()
        if block.kind == "tool_use" and block.input and not is_object(block.input_json()):
            self.malformed_call = block.start["id"]
        self.live = None
        self.direct = ""
        block.input = []
        self._release(block)
