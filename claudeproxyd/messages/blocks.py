"""The one way by which translators and the sandbox put a Claude answer together.

A translator says what the upstream's answer *is* (some text, a thought, a call of a tool); :class:`BlockMachine` makes
events of it. It alone hands out indices and opens and closes blocks, so that no order of calls, and so no upstream,
can bring about an illegal stream. The same calls make the body of an answer that is not streamed.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.block import Block, is_object
from claudeproxyd.messages.estimate import BYTES_A_TOKEN
from claudeproxyd.messages.ids import Ids, fits_client, mint_signature
from claudeproxyd.messages.stops import StopWatch
from claudeproxyd.messages.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_encode = msgspec.json.Encoder().encode

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b_delta","%b":'

#: The kinds of delta, and the member that each carries.
_MEMBERS = {
    "text": b"text",
    "thinking": b"thinking",
    "signature": b"signature",
    "input_json": b"partial_json",
    "citations": b"citation",
}

#: Of these, what the model has not written.
_UNWRITTEN = ("signature", "citations")

#: The blocks that grow by deltas of their own, as they begin.
_STARTS: Mapping[str, Mapping[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


class BlockError(Exception):
    """The upstream sent what no Claude message can hold; for executors a malformed answer."""


class BlockMachine:
    """Makes one Claude message. Made by an executor for each attempt, driven by its translator.

    The calls of one upstream read append frames, and :meth:`take` hands them out as one batch. ``message_start`` comes
    by itself ahead of the first block. Another kind of content closes the open block and opens the next one. A tool
    call whose input is not whole yet stays open: what comes meanwhile (upstreams may mix the deltas of parallel calls)
    waits behind it.

    All of it raises :class:`BlockError` after :meth:`finish`, and when too much would have to wait.
    """

    def __init__(
        self,
        model: str,
        *,
        family: str,
        stop_sequences: Sequence[str] = (),
        whole: bool = False,
        ids: Ids | None = None,
        estimate: Callable[[], int] | None = None,
        max_held: int = 8_388_608,
    ) -> None:
        """
        :param model: the name that the client asked for.
        :param family: whose signatures are minted here: a thinking block that the upstream left unsigned gets an empty
            one, as strict clients refuse a block without.
        :param whole: keep the content, for :meth:`message`. A stream does without, and so needs no memory.
        :param estimate: tokens of the input, asked for where they must be told before the upstream has counted them.
        :param max_held: bytes of tool input and of waiting blocks that are kept.
        """
        self.usage = Usage()
        """What is known so far. The translator fills it in as the upstream tells: ``message_start`` carries what is
        known by then, ``message_delta`` the true numbers."""
        self.stop_reason: str | None = None
        """Set by :meth:`finish`."""
        self._family = family
        self._watch = StopWatch(stop_sequences) if stop_sequences else None
        self._whole = whole
        self._ids = ids or Ids()
        self._estimate = estimate
        self._max_held = max_held
        self._message: dict[str, Any] = {
            "id": self._ids.message(),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        self._frames: list[bytes] = []
        self._started = False
        self._has_content = False
        """A content event is among the frames; ``_had_content``: one was, ever."""
        self._had_content = False
        self._blocks: deque[Block] = deque()
        """The live block and those that wait behind it."""
        self._live: Block | None = None
        self._opened = False
        """content_block_start of the live block is out."""
        self._early_citations: list[Any] = []
        """Of the live block, for when it is opened."""
        self._blank = ""
        """Space that the live text block would begin with, if more came."""
        self._index = -1
        self._prefixes: dict[str, bytes] = {}
        """Of the live block: the bytes of a delta up to its value."""
        self._calls: dict[str, Block] = {}
        self._damaged = ""
        self._held = 0
        self._written = 0
        self._searches = 0

    # What the answer is.

    @property
    def whole(self) -> bool:
        """The content is kept, and shown to nobody before the end."""
        return self._whole

    @property
    def stopped(self) -> bool:
        """A stop sequence was met: whatever else comes is left out, so that the upstream need not go on."""
        return self._watch is not None and self._watch.met is not None

    def text(self, delta: str) -> None:
        """Some more text."""
        live = self._live
        if not delta:
            return
        if live is not None and live.kind == "text" and self._watch is None:  # nearly always, and nothing else waits
            self._write(live, "text", delta)
        else:
            self._add(self._current("text"), "text", delta)

    def thinking(self, delta: str) -> None:
        """Some more thinking."""
        if delta:
            self._add(self._current("thinking"), "thinking", delta)

    def signature(self, signature: str) -> None:
        """The signature that ends a thinking block: the open one, or else one whose thinking is not shown."""
        block = self._current("thinking")
        block.signed = True
        self._add(block, "signature", signature)
        self._end(block)

    def citation(self, citation: Mapping[str, Any]) -> None:
        """A source of the text block that is open, or else of the one that now begins; of no text there is none."""
        self._add(self._current("text"), "citations", citation)

    def close(self) -> None:
        """The open text or thinking ends here: what comes next is a block of its own, even if of the same kind."""
        if self._blocks and self._blocks[-1].kind != "tool_use":
            self._end(self._blocks[-1])

    def tool_use(self, name: str, id: str | None = None) -> str:
        """A call of a tool begins; its input follows.

        :param id: the upstream's own: kept if clients can take it and this message does not have it yet.
        :return: the id that the client sees; :meth:`tool_input` and :meth:`tool_end` know the call by it.
        """
        if id is None or not fits_client(id) or id in self._calls:
            id = self._ids.tool_use()
        block = self._calls[id] = Block({"type": "tool_use", "id": id, "name": name, "input": {}})
        self._begin(block)
        return id

    def tool_input(self, id: str, partial_json: str) -> None:
        """Some more of a call's input. Raises :class:`BlockError` where that input was whole already."""
        block = self._calls[id]
        if block.over and partial_json.strip() and not self.stopped:
            raise BlockError(f"more input for {id}, a tool call that is over")
        if partial_json:
            self._add(block, "input_json", partial_json)
            if len(self._blocks) > 1:
                self._drain()

    def tool_end(self, id: str) -> None:
        """A call's input is whole. Where an upstream does not say so, the next block or :meth:`finish` finds out."""
        self._end(self._calls[id])

    def tool_call(self, name: str, input_json: str, id: str | None = None) -> str:
        """A whole call at once; gives the id that the client sees."""
        id = self.tool_use(name, id)
        self.tool_input(id, input_json)
        self.tool_end(id)
        return id

    def block(self, block: Mapping[str, Any]) -> None:
        """A block that comes whole: redacted_thinking, server_tool_use, web_search_tool_result …

        Raises ValueError for text, thinking and tool_use, which have methods of their own.
        """
        if block["type"] in ("text", "thinking", "tool_use"):
            raise ValueError(f"a {block['type']} block has methods of its own")
        if "input" not in block:
            self._begin(Block(block, over=True))
            return
        call = Block({**block, "input": {}}, over=True)  # clients read the input of every call from its deltas
        call.deltas.append(("input_json", _encode(block["input"]).decode()))
        self._begin(call)

    def web_search(self, query: str, encrypted_content: str = "") -> str:
        """A search that the upstream has run; gives the id by which :meth:`web_results` knows it.

        :param encrypted_content: a minted signature of what the upstream wants back of it.
        """
        id = self._ids.server_tool_use(self._family)
        input = {"query": query}
        if encrypted_content:
            input["encrypted_content"] = encrypted_content
        self.block({"type": "server_tool_use", "id": id, "name": "web_search", "input": input})
        return id

    def web_results(self, id: str, results: Sequence[Mapping[str, Any]]) -> None:
        """What a search has found."""
        self.block({"type": "web_search_tool_result", "tool_use_id": id, "content": results})

    def ping(self) -> None:
        """A sign of life; none ahead of the first content event, none after the end."""
        if self._had_content and self.stop_reason is None:
            self._frames.append(_PING)

    def finish(self, stop_reason: str, stop_details: Mapping[str, Any] | None = None) -> None:
        """The answer is whole; a stop sequence that was met goes before the upstream's own *stop_reason*.

        ``end_turn`` becomes ``tool_use`` where tools were called, and the reverse: by it clients run the calls.
        An output figure that ``usage`` lacks is estimated. Raises :class:`BlockError` when a call is to be run whose
        input is no JSON object.
        """
        self._refuse_if_over()
        for block in self._blocks:
            block.over = True
        self._drain()
        if self.stopped:
            stop_reason = "stop_sequence"
        elif stop_reason in ("end_turn", "tool_use"):
            stop_reason = "tool_use" if self._calls else "end_turn"
            if self._damaged:
                raise BlockError(f"the input of the tool call {self._damaged} is no JSON object")
        self._start()
        self.cut()
        self.stop_reason = stop_reason
        delta: dict[str, Any] = {"stop_reason": stop_reason, "stop_sequence": self._watch and self._watch.met}
        if stop_details is not None:
            delta["stop_details"] = stop_details
        self._message.update(delta)
        self._frame(b"message_delta", {"delta": delta, "usage": self._usage_members()})
        self._frame(b"message_stop", {})
        self._has_content = True

    def cut(self) -> None:
        """The answer ends here, whole or not: an output figure that is unknown is estimated by what was sent."""
        self._estimate_input()
        if self.usage.output is None:
            self.usage.output = math.ceil(self._written / BYTES_A_TOKEN)
            self.usage.estimated = True

    # What is made of it.

    def take(self) -> Batch:
        """The frames since the last time, for one write."""
        frames, self._frames = self._frames, []
        batch = Batch(
            b"".join(frames), len(frames), self._has_content, ended=self.stop_reason is not None and bool(frames)
        )
        self._has_content = False
        return batch

    def message(self) -> bytes:
        """The whole answer as a JSON body, after :meth:`finish`. Only where ``whole`` was asked for."""
        if not self._whole or self.stop_reason is None:
            raise RuntimeError("no whole message was kept, or it is not finished")
        return _encode({**self._message, "usage": self._usage_members()})

    # One block after another.

    def _current(self, kind: str) -> Block:
        """The open block of that kind, where it is the last one; else a new one."""
        if self._blocks:
            last = self._blocks[-1]
            if last.kind == kind and not last.over:
                return last
        block = Block(_STARTS[kind])
        self._begin(block)
        return block

    def _begin(self, block: Block) -> None:
        """Queue a block: the one before it is over, if it can be."""
        self._refuse_if_over()
        if self.stopped:
            block.over = True
            return
        if self._blocks:
            last = self._blocks[-1]
            last.over = last.is_whole()
        self._blocks.append(block)
        self._drain()

    def _end(self, block: Block) -> None:
        block.over = True
        self._drain()

    def _drain(self) -> None:
        """Close what is over, and let the next block go live, until one is not over."""
        while self._blocks:
            block = self._blocks[0]
            if block is not self._live:
                if self.stopped:
                    self._blocks.clear()
                    return
                self._go_live(block)
            if not block.over and (len(self._blocks) == 1 or not block.is_whole()):
                return
            self._close()
            self._blocks.popleft()

    def _go_live(self, block: Block) -> None:
        self._live = block
        self._opened = False
        self._early_citations = []
        self._blank = ""
        if block.kind != "text":  # a text block opens with its first word: a stop sequence may swallow all of it
            self._open(block)
        waited, block.deltas = block.deltas, []
        self._release(block)
        for kind, value in waited:
            self._emit(block, kind, value)

    def _add(self, block: Block, kind: str, value: Any) -> None:
        if self.stopped:
            return
        if block is self._live:
            self._emit(block, kind, value)
        elif not block.over:
            self._keep(block, kind, value, len(_encode(value)))

    def _keep(self, block: Block, kind: str, value: Any, size: int) -> None:
        block.deltas.append((kind, value))
        block.held += size
        self._held += size
        if self._held > self._max_held and not self._whole:
            raise BlockError(f"more than {self._max_held} bytes of tool input and of what waits behind it")

    def _release(self, block: Block) -> None:
        self._held -= block.held
        block.held = 0

    # Frames.

    def _emit(self, block: Block, kind: str, value: Any) -> None:
        """One delta of the live block."""
        if self._watch is not None and kind == "text":
            value = self._watch.feed(value)
            if not value:
                return
        if kind == "citations" and not self._opened:  # all text so far is held back, and may be swallowed
            self._early_citations.append(value)
        else:
            self._write(block, kind, value)

    def _write(self, block: Block, kind: str, value: Any) -> None:
        if not self._opened:
            if kind == "text":
                value = self._blank + value
                if value.isspace():  # Claude's API refuses a conversation in which a text is nothing else
                    self._wait_with(value)
                    return
            self._open(block)
        prefix = self._prefixes.get(kind)
        if prefix is None:
            prefix = self._prefixes[kind] = _DELTA % (self._index, kind.encode(), _MEMBERS[kind])
        data = _encode(value)
        self._frames.append(b"%b%b}}\n\n" % (prefix, data))
        self._has_content = self._had_content = True
        if kind == "text" and not self._whole:
            self._written += len(data) - 2
            return
        if kind not in _UNWRITTEN:
            self._written += len(data) - 2
        if kind == "input_json":  # a string here, with the quotes that are the model's escaped
            self._written -= value.count('"') + value.count("\\")
        if self._whole or kind == "input_json":
            self._keep(block, kind, value, len(data))

    def _wait_with(self, blank: str) -> None:
        if len(blank) > self._max_held:
            raise BlockError(f"a text that begins with more than {self._max_held} characters of space")
        self._blank = blank

    def _open(self, block: Block) -> None:
        self._start()
        self._index += 1
        self._opened = True
        self._prefixes.clear()
        self._searches += block.kind == "server_tool_use" and block.start.get("name") == "web_search"
        self._frame(b"content_block_start", {"index": self._index, "content_block": block.start})
        for citation in self._early_citations:
            self._write(block, "citations", citation)

    def _close(self) -> None:
        """The live block is over."""
        block = self._live
        assert block is not None
        if block.kind == "thinking" and not block.signed:
            self._write(block, "signature", mint_signature(self._family, b""))
        elif block.kind == "text" and self._watch is not None and (held := self._watch.flush()):
            self._write(block, "text", held)
        self._live = None
        if not self._opened:
            return
        self._frame(b"content_block_stop", {"index": self._index})
        self._has_content = self._had_content = True
        if block.kind == "tool_use" and block.deltas and not is_object(block.joined("input_json")):
            self._damaged = block.start["id"]
        if self._whole:
            self._message["content"].append(block.content())
        block.deltas = []
        self._release(block)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._estimate_input()
            self._frame(b"message_start", {"message": {**self._message, "content": [], "usage": self._usage_members()}})

    def _estimate_input(self) -> None:
        if self.usage.input is None and self._estimate is not None:
            self.usage.input = self._estimate()

    def _frame(self, name: bytes, members: dict[str, Any]) -> None:
        data = _encode({"type": name.decode(), **members})
        self._frames.append(b"event: %b\ndata: %b\n\n" % (name, data))

    def _refuse_if_over(self) -> None:
        if self.stop_reason is not None:
            raise BlockError("more content after the end of the message")

    def _usage_members(self) -> dict[str, Any]:
        """The usage in the API's shape."""
        usage = self.usage
        members: dict[str, Any] = {
            "input_tokens": usage.input or 0,
            "cache_creation_input_tokens": usage.cache_write or 0,
            "cache_read_input_tokens": usage.cache_read or 0,
            "output_tokens": usage.output or 0,
        }
        if usage.thinking is not None:
            members["output_tokens_details"] = {"thinking_tokens": usage.thinking}
        if self._searches:
            members["server_tool_use"] = {"web_search_requests": self._searches, "web_fetch_requests": 0}
        return members
