"""Answers of chat completions as Claude messages, streamed and whole."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Raw
from zope.interface import implementer

from claudeproxyd.framing.elements import ElementSplitter
from claudeproxyd.framing.sse import FrameSplitter
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.block import BlockError
from claudeproxyd.messages.frame import read_frame
from claudeproxyd.messages.reader import ErrorAnswer, MalformedAnswer, ModelFault
from claudeproxyd.outcomes.types import Family
from claudeproxyd.translate.openai.words import MAX_REFUSAL_CHARS, refusal
from claudeproxyd.translate.openai_chat.calls import Calls
from claudeproxyd.translate.openai_chat.chunks import (
    ContentPart,
    count_in,
    decode,
    decode_base,
    is_there,
)
from claudeproxyd.translate.openai_chat.finish import FAILURES, REFUSALS, STOPS
from claudeproxyd.translate.openai_chat.loose import read_loosely
from claudeproxyd.translate.openai_chat.reasoning import Reasoning

if TYPE_CHECKING:
    from claudeproxyd.messages.batch import Batch
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.translate.openai_chat.chunks import Chunk, ChunkChoice, Delta, TokenCounts
    from claudeproxyd.translate.openai_chat.requests import ChatRequest
    from claudeproxyd.translate.signatures import Signatures

FAMILY = Family.OPENAI

_DONE = b"[DONE]"
_IMAGE = "[Here the model gave an image, which an answer of this API cannot hold]"


class NoChunk(MalformedAnswer):
    """Bytes that are no chunk."""


@implementer(IStreamReader)
class ChatReader:
    """Reads one answer: server-sent events, or one object where a server does not stream; the first byte tells.

    A ``finish_reason`` says how the answer ends; that it has ended, ``[DONE]`` does, or the chunk of usage that comes
    behind the reason, or the body's end: connections may stay open after the one, and the others may not come. Without
    a reason it is cut.
    """

    def __init__(
        self,
        machine: BlockMachine,
        request: ChatRequest,
        memory: Signatures,
        max_event_bytes: int,
        *,
        last: bool = False,
    ) -> None:
        """*machine*, of the family :data:`FAMILY`, makes the message. *memory* keeps reasoning by the calls behind it.

        *last*: the request will not be repeated, so that an answer without content is better than none.
        """
        self.anomaly = ""
        self.request_id = ""
        self._machine = machine
        self._calls = Calls(machine, request.names, request.calls)
        self._stops = request.stop_sequences
        self._limit = max_event_bytes
        self._last = last
        self.content = False
        """The client may have some of the answer."""
        self._splitter: FrameSplitter | ElementSplitter | None = None
        self._reasoning = Reasoning(machine, FAMILY, request, memory)
        self._answered = False
        """There is text or a call: more than thoughts."""
        self._refusal = ""
        self._reason = ""
        """``finish_reason``, once there is one."""
        self._over = False
        """The message is finished; nothing more is read."""

    @property
    def usage(self) -> Usage:
        """As upstream counted; estimated where the answer was cut before it did."""
        if self._machine.stop_reason is None:
            self._machine.estimate_usage()
        return self._machine.usage

    @property
    def stop_reason(self) -> str | None:
        """Claude's, at the end."""
        return self._machine.stop_reason

    @property
    def unfinished(self) -> int:
        """Bytes of a frame whose end has not come."""
        return self._splitter.unfinished if self._splitter is not None else 0

    def feed(self, data: bytes) -> Batch:
        """See :meth:`~claudeproxyd.interfaces.IStreamReader.feed`."""
        splitter = self._splitter
        if splitter is None:
            data = data.lstrip()
            if not data:
                return self._batch(None)
            if data.startswith(b"<"):
                raise MalformedAnswer("a page in the place of an answer")
            of_json = data.startswith((b"{", b"["))
            splitter = self._splitter = (ElementSplitter if of_json else FrameSplitter)(self._limit)
        return self._batch(self.read(splitter.feed(data)))

    def end(self) -> Batch:
        """See :meth:`~claudeproxyd.interfaces.IStreamReader.end`."""
        error = None
        if isinstance(self._splitter, FrameSplitter):
            try:
                error = self.read(self._splitter.feed(b"\n\n"))  # its last empty line may be missing
            except NoChunk:
                return self._batch(None)  # half of its last frame is: it was cut
        elif self.unfinished:
            return self._batch(None)
        if error is None and self._reason and not self._over:
            self._finish()
        return self._batch(error)

    def read(self, frames: Sequence[bytes]) -> bytes | None:
        """Read frames. Return the error that is among them, behind which nothing is read; or None.

        Raises :class:`~claudeproxyd.messages.reader.MalformedAnswer` and
        :class:`~claudeproxyd.messages.reader.ModelFault`.
        """
        for frame in frames:
            if self._over:
                break
            name = b""
            if frame.startswith(b"data: ") and b"\n" not in frame:
                data = frame[6:]
            elif frame.startswith(b"{"):  # an element, or an error that was put between the events
                data = frame
            else:
                name, data = read_frame(frame)
            try:
                chunk = decode(data)
            except UNREADABLE:
                data = data.strip()
                if not data:
                    continue
                if data == _DONE:
                    self._done()
                    continue
                chunk = self._read_loosely(data)
            if (error := self._chunk(chunk, data)) is not None:
                return error
            if name == b"error":
                return data
        return None

    def _batch(self, error: bytes | None) -> Batch:
        batch = self._machine.flush()
        batch.error = error
        self.content = self.content or batch.content
        return batch

    def _note(self, anomaly: str) -> None:
        self.anomaly = self.anomaly or anomaly

    # -- one chunk

    def _read_loosely(self, data: bytes) -> Chunk:
        try:
            chunk, anomaly = read_loosely(data)
        except UNREADABLE as e:
            raise NoChunk(f"no chat completion: {e}") from None
        self._note(anomaly)
        return chunk

    def _chunk(self, chunk: Chunk, data: bytes) -> bytes | None:
        """Read one chunk. Return the error that has come in its place, or None."""
        if chunk.object == "error" or _failed(chunk.base_resp):
            return data
        if is_there(chunk.error):
            return b'{"error":%b}' % bytes(chunk.error)
        if chunk.id:
            self.request_id = chunk.id
        if chunk.usage is not None:
            self._count(chunk.usage)
        if not chunk.choices:
            if chunk.usage is not None and self._reason:
                self._finish()
            return None
        try:
            for choice in chunk.choices:
                if choice.index and choice.index > 0:
                    self._note("more than one choice")
                    continue
                if is_there(choice.error):
                    return b'{"error":%b}' % bytes(choice.error)
                self._choice(choice)
        except (BlockError, *UNREADABLE) as e:
            raise MalformedAnswer(str(e)) from None
        if self._stops and self._machine.stopped:
            self._finish()
        return None

    def _choice(self, choice: ChunkChoice) -> None:
        delta = choice.delta if choice.delta is not None else choice.message
        if delta is not None:
            self._delta(delta)
        if choice.usage is not None:
            self._count(choice.usage)
        if choice.finish_reason:
            if choice.finish_reason in FAILURES:
                raise MalformedAnswer(f"the answer ended with finish_reason {choice.finish_reason}")
            self._reason = choice.finish_reason
            if isinstance(choice.stop_reason, str) and choice.stop_reason in self._stops:
                self._machine.text(choice.stop_reason)  # it is cut off there: the watch is to meet it all the same

    def _delta(self, delta: Delta) -> None:
        content = delta.content
        text = delta.reasoning_content or delta.reasoning
        if text or delta.reasoning_details:
            form = "reasoning_content" if delta.reasoning_content else "reasoning"
            self._reasoning.add(text or "", form, delta.reasoning_details or ())
        if isinstance(content, str):
            if content:
                self._say(content)
        elif content is not None:
            for part in content:
                self._part(part)
        if delta.refusal and len(self._refusal) < MAX_REFUSAL_CHARS:
            self._refusal += delta.refusal[:MAX_REFUSAL_CHARS]
        if delta.images:
            for _ in delta.images:
                self._say(_IMAGE)
        if delta.tool_calls:
            self._reasoning.end()
            for piece in delta.tool_calls:
                self._calls.add(piece)
            if self._calls:
                self._answered = True
                self._remember()

    def _part(self, part: ContentPart) -> None:
        if part.thinking is not None:
            self._reasoning.add(_text(part.thinking), "content")
        elif part.text is not None:
            self._say(part.text)
        elif part.type == "image_url":
            self._say(_IMAGE)
        else:
            self._note("a part of no known kind was left out")

    def _say(self, text: str) -> None:
        if self._reasoning.is_open:
            self._reasoning.end()
        self._machine.text(text)
        self._answered = True

    def _remember(self) -> None:
        if first := self._calls.first:
            self._reasoning.remember(first)

    # -- the end

    def _count(self, counts: TokenCounts) -> None:
        """Take over what is counted; figures are of all so far, and what one leaves out is as it was."""
        usage = self._machine.usage
        prompt, completion, total = map(count_in, (counts.prompt_tokens, counts.completion_tokens, counts.total_tokens))
        if not prompt and not completion:
            return  # nobody has counted
        details = counts.prompt_tokens_details
        cached = count_in(details.cached_tokens) if details is not None else None
        for other in (counts.prompt_cache_hit_tokens, counts.cached_tokens):
            cached = count_in(other) if cached is None else cached
        if cached is not None:
            usage.cache_read = cached
        written = count_in(details.cache_write_tokens) if details is not None else None
        if written is not None:
            usage.cache_write = written
        if prompt is not None:
            usage.input = max(0, prompt - (usage.cache_read or 0) - (usage.cache_write or 0))
        answer = counts.completion_tokens_details
        reasoning = count_in(answer.reasoning_tokens) if answer is not None else None
        if reasoning is not None:
            usage.thinking = reasoning
        if completion is not None:
            beside = reasoning and total is not None and total == (prompt or 0) + completion + reasoning  # xAI
            usage.output = completion + reasoning if beside and reasoning else completion
            usage.estimated = False

    def _done(self) -> None:
        if not self._reason:
            raise MalformedAnswer("[DONE] without a finish_reason")
        self._finish()

    def _finish(self) -> None:
        self._over = True
        try:
            self._reasoning.end()
            self._calls.end()
            self._remember()
            if self._machine.stopped:
                self._machine.finish("stop_sequence")
            elif self._reason in REFUSALS or self._refusal:
                self._machine.finish("refusal", refusal(self._refusal))
            else:
                self._machine.finish(self._stop_reason())
        except (BlockError, *UNREADABLE) as e:
            raise MalformedAnswer(str(e)) from None

    def _stop_reason(self) -> str:
        known = STOPS.get(self._reason)
        if known is None:
            self._note(f"unknown finish_reason {self._reason:.50}")
        if known not in ("max_tokens", "model_context_window_exceeded") and not (
            self._answered or self.content or self._last
        ):
            raise ModelFault(f"{self._reason:.50} without any content")
        return known or "end_turn"


def _failed(base_resp: Raw) -> bool:
    if not base_resp:
        return False
    try:
        return decode_base(base_resp).status_code != 0
    except UNREADABLE:
        return False


def _text(thinking: list[ContentPart] | str) -> str:
    return thinking if isinstance(thinking, str) else "".join(part.text or "" for part in thinking)


def read_whole(
    body: bytes, machine: BlockMachine, request: ChatRequest, memory: Signatures, *, last: bool = False
) -> ChatReader:
    """Read an answer that was not streamed, or was though nobody asked; then *machine* has the message.

    Raises :class:`~claudeproxyd.messages.reader.MalformedAnswer`, of an error
    :class:`~claudeproxyd.messages.reader.ErrorAnswer`, and :class:`~claudeproxyd.messages.reader.ModelFault`.
    """
    reader = ChatReader(machine, request, memory, len(body) + 2, last=last)
    body = body.removeprefix(BOM_UTF8).strip()
    batch = reader.feed(body) if body.startswith((b"data", b"event", b":", b"id:", b"retry", b"<")) else None
    error = batch.error if batch is not None else reader.read([body])
    if error is None and not (batch is not None and batch.ended):
        batch = reader.end()
        error = batch.error
    if error is not None:
        raise ErrorAnswer(error)
    if batch is None or not batch.ended:
        raise MalformedAnswer("an answer without an end")
    return reader
