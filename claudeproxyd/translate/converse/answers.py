"""Answers of the Converse API as Claude messages, streamed and whole."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from zope.interface import implementer

from claudeproxyd.errors import shown
from claudeproxyd.framing.event_stream import EventStreamSplitter
from claudeproxyd.framing.whole import WholeBody
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.messages.aws_errors import error_in
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.messages.reader import MalformedAnswer, ModelFault
from claudeproxyd.messages.usage import tokens_in
from claudeproxyd.outcomes.types import Family
from claudeproxyd.translate.answer_reader import AnswerReader
from claudeproxyd.translate.converse.finish import ending_of, is_known
from claudeproxyd.translate.converse.reasoning import ReasoningContent, ReasoningText, seal
from claudeproxyd.translate.converse.responses import (
    ReasoningDelta,
    decode_delta,
    decode_message_stop,
    decode_metadata,
    decode_response,
    decode_start,
    decode_stop,
)

if TYPE_CHECKING:
    from claudeproxyd.framing.event_stream import EventMessage
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.translate.converse.requests import ConverseRequest
    from claudeproxyd.translate.converse.responses import ConverseBlock, TokenUsage

FAMILY = Family.BEDROCK

#: Characters of a block of reasoning that are kept for its way back; no model's are as long.
MAX_REASONING_CHARS = 1024 * 1024

_encode = msgspec.json.Encoder().encode


class _Reasoning:
    """A block of reasoning that has not ended."""

    __slots__ = ("index", "redacted", "room", "shown", "signature", "text")

    def __init__(self, index: int) -> None:
        self.index = index
        self.shown = False
        self.text: list[str] = []
        """Kept where the client is not shown it."""
        self.signature: list[str] = []
        self.redacted: list[str] = []
        self.room = MAX_REASONING_CHARS

    def keep(self, kept: list[str], piece: str) -> None:
        """Add a piece to one of the three, while there is room."""
        self.room -= len(piece)
        if self.room >= 0:
            kept.append(piece)


@implementer(IStreamReader)
class ConverseReader(AnswerReader["EventMessage"]):
    """Reads one answer: an event stream, or, of a model that does not stream, a whole one; told apart by the first
    byte.

    ``messageStop`` says how the answer ends, and ``metadata`` behind it what it took; a stream without the first is
    cut, one that ends without the second is not.
    """

    def __init__(
        self, machine: BlockMachine, request: ConverseRequest, max_event_bytes: int, *, last: bool = False
    ) -> None:
        """*machine*, of the family :data:`FAMILY`, makes the message.

        *last*: the request will not be repeated, so that an answer without content is better than none.
        """
        super().__init__(machine, request, max_event_bytes)
        self._names = request.names
        self._earlier_calls = request.calls
        self._capabilities = request.capabilities
        self._last = last
        self._text_index = -1
        """Of the text that is open."""
        self._reasoning: _Reasoning | None = None
        self._calls: dict[int, str] = {}
        """By a block's index, the id of the call as the client has it; '' where the call is not the client's."""

    def _framing(self, data: bytes) -> EventStreamSplitter | WholeBody:
        # A message of an event stream that began so would be longer than all limits.
        return WholeBody(self._limit) if data.startswith(b"{") else EventStreamSplitter(self._limit)

    # -- a stream

    def _read(self, frames: Sequence[EventMessage]) -> bytes | None:
        for message in frames:
            if self._over:
                break
            headers, payload = message
            kind = headers.get(":event-type")
            if kind == "contentBlockDelta":
                self._delta(payload)
            elif kind is None:
                if (error := error_in(message)) is not None:
                    return _encode(error)
                self._note("an event without a type")
            elif kind == "contentBlockStart":
                self._start(payload)
            elif kind == "contentBlockStop":
                self._stop(decode_stop(payload).content_block_index)
            elif kind == "messageStop":
                self._reason = decode_message_stop(payload).stop_reason or ""
            elif kind == "metadata":
                self._count(decode_metadata(payload).usage)
                if self._reason is not None:
                    self._finish()
            elif kind not in ("messageStart", "initial-response"):
                self._note(f"unknown event {shown(kind)}")
        return None

    def _delta(self, payload: bytes) -> None:
        event = decode_delta(payload)
        delta = event.delta
        if delta is None:
            return
        if delta.text is not None:
            self._text(event.content_block_index, delta.text)
        elif delta.tool_use is not None:
            self._input(event.content_block_index, delta.tool_use.input or "")
        elif delta.reasoning_content is not None:
            self._think(event.content_block_index, delta.reasoning_content)
        # Sources are of no request of ours, pictures have been told at their beginning.

    def _start(self, payload: bytes) -> None:
        event = decode_start(payload)
        start = event.start
        if start is None:
            return
        if start.tool_use is not None:
            call = start.tool_use
            self._call(event.content_block_index, call.name, call.tool_use_id, call.type)
        elif start.image is not None:
            self._text(event.content_block_index, start.image.description)

    def _stop(self, index: int) -> None:
        if self._reasoning is not None and self._reasoning.index == index:
            self._end_reasoning()
        if id := self._calls.pop(index, ""):
            self._machine.tool_end(id)

    # -- a whole answer

    def _read_object(self, body: bytes) -> bytes | None:
        response = decode_response(body)
        message = response.output.message if response.output is not None else None
        if message is None or response.stop_reason is None:
            raise MalformedAnswer("no answer of the Converse API: it has no message, or no stopReason")
        self._count(response.usage)
        self._reason = response.stop_reason
        for index, block in enumerate(message.content or ()):
            if not self._over:
                self._block(index, block)
                self._stop(index)
        if not self._over:
            self._finish()
        return None

    def _block(self, index: int, block: ConverseBlock) -> None:
        if block.text is not None:
            self._text(index, block.text)
        elif (call := block.tool_use) is not None:
            self._call(index, call.name, call.tool_use_id, call.type)
            self._input(index, bytes(call.input).decode())
        elif (reasoning := block.reasoning_content) is not None:
            if (text := reasoning.reasoning_text) is not None:
                self._think(index, ReasoningDelta(text.text, text.signature))
            if reasoning.redacted_content is not None:
                self._think(index, ReasoningDelta(redacted_content=reasoning.redacted_content))
        elif block.citations_content is not None:
            for cited in block.citations_content.content or ():
                self._text(index, cited.text or "")
        elif block.image is not None:
            self._text(index, block.image.description)
        else:
            self._note("a block of no known kind was left out")

    # -- what both come to

    def _text(self, index: int, text: str) -> None:
        if self._reasoning is not None:
            self._end_reasoning()
        if index != self._text_index:
            self._machine.close()  # blocks stay apart
            self._text_index = index
        if text:
            self._machine.text(text)
            self._answered = True
            if self._may_stop and self._machine.stopped:
                self._finish()

    def _call(self, index: int, name: str | None, id: str | None, kind: str | None) -> None:
        if kind is not None:
            self._calls[index] = ""
            self._note(f"a call of the upstream's own was left out: {shown(kind)}")
            return
        if not name:
            raise MalformedAnswer("a tool call without a name")
        if self._reasoning is not None:
            self._end_reasoning()
        if id in self._earlier_calls:
            id = None  # some models count their calls anew in every answer
        self._calls[index] = self._machine.tool_use(self._names.client(name), id)
        self._answered = True

    def _input(self, index: int, partial_json: str) -> None:
        id = self._calls.get(index)
        if id is None:
            raise MalformedAnswer("input of a tool call that has not begun")
        if id:
            self._machine.tool_input(id, partial_json)

    def _think(self, index: int, delta: ReasoningDelta) -> None:
        self._progress = True
        if not self._thinks:
            return
        reasoning = self._reasoning
        if reasoning is None or reasoning.index != index:
            if reasoning is not None:
                self._end_reasoning()
            self._machine.close()
            reasoning = self._reasoning = _Reasoning(index)
        if delta.text:
            if self._shows:
                self._machine.thinking(delta.text)
                reasoning.shown = True
            else:
                reasoning.keep(reasoning.text, delta.text)
        if delta.signature:
            reasoning.keep(reasoning.signature, delta.signature)
        if delta.redacted_content:
            reasoning.keep(reasoning.redacted, delta.redacted_content)

    def _end_reasoning(self) -> None:
        """Let thinking blocks carry it: that which shows it, or else empty ones."""
        reasoning, self._reasoning = self._reasoning, None
        if reasoning is None:
            return
        if reasoning.room < 0:
            self._note("reasoning that is too long to go back")
            return
        if reasoning.shown or reasoning.text or reasoning.signature:
            text = None if self._shows else "".join(reasoning.text)
            said = ReasoningText(text, "".join(reasoning.signature) or None)
            payload = seal(ReasoningContent(reasoning_text=said), self._capabilities)
            if payload or reasoning.shown:
                self._machine.signature(mint_signature(FAMILY, payload))
        if reasoning.redacted:
            redacted = ReasoningContent(redacted_content=_joined(reasoning.redacted))
            if payload := seal(redacted, self._capabilities):
                self._machine.signature(mint_signature(FAMILY, payload))

    def _count(self, counts: TokenUsage | None) -> None:
        """Take over what is counted; what is left out, or cannot mean anything, stays unknown."""
        if counts is None:
            return
        usage = self._machine.usage
        usage.input, usage.guessed_input = tokens_in(counts.input_tokens), None
        usage.cache_read = tokens_in(counts.cache_read_input_tokens)
        usage.cache_write = tokens_in(counts.cache_write_input_tokens)
        usage.output = tokens_in(counts.output_tokens)

    def _finish(self) -> None:
        self._over = True
        machine, reason = self._machine, self._reason or ""
        if self._reasoning is not None:
            self._end_reasoning()
        if machine.stopped:
            machine.finish("stop_sequence")
            return
        if reason in ("end_turn", "tool_use") and not (self._answered or self.content or self._last):
            raise ModelFault(f"{reason} without any content")
        if not is_known(reason):
            self._note(f"unknown stopReason {shown(reason)}")
        machine.finish(*ending_of(reason, self._answered))


def _joined(pieces: list[str]) -> str:
    """Return several pieces of base64 as one."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join(map(base64.b64decode, pieces))).decode()
    except binascii.Error:
        raise MalformedAnswer("redacted reasoning that is not base64") from None
