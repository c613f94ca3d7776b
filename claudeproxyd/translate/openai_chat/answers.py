"""Answers of chat completions as Claude messages, streamed and whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw
from zope.interface import implementer

from claudeproxyd.errors import shown
from claudeproxyd.framing.elements import ElementSplitter
from claudeproxyd.framing.sse import FrameSplitter
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.reader import MalformedAnswer, ModelFault
from claudeproxyd.outcomes.bodies import is_unnamed_error
from claudeproxyd.outcomes.types import Family
from claudeproxyd.translate.answer_reader import EventReader, NoEvent
from claudeproxyd.translate.openai.words import MAX_REFUSAL_CHARS, refusal
from claudeproxyd.translate.openai_chat.calls import Calls
from claudeproxyd.translate.openai_chat.chunks import (
    DECODER,
    Chunk,
    ContentPart,
    decode_base,
    is_there,
)
from claudeproxyd.translate.openai_chat.finish import FAILURES, REFUSALS, STOPS
from claudeproxyd.translate.openai_chat.loose import read_loosely
from claudeproxyd.translate.openai_chat.reasoning import Reasoning

if TYPE_CHECKING:
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.translate.openai_chat.chunks import ChunkChoice, Delta, TokenCounts
    from claudeproxyd.translate.openai_chat.requests import ChatRequest
    from claudeproxyd.translate.signatures import Signatures

FAMILY = Family.OPENAI

_DONE = b"[DONE]"
_IMAGE = "[Here the model gave an image, which an answer of this API cannot hold]"


@implementer(IStreamReader)
class ChatReader(EventReader[Chunk]):
    """Reads one answer: server-sent events, or one object where a server does not stream; the first byte tells.

    A ``finish_reason`` says how the answer ends; that it has ended, ``[DONE]`` does, or the chunk of usage that comes
    behind the reason, or the body's end: connections may stay open after the one, and the others may not come. Without
    a reason it is cut.
    """

    _decoder = DECODER

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
        super().__init__(machine, request, max_event_bytes)
        self._calls = Calls(machine, request.names, request.calls)
        self._stops = request.stop_sequences
        self._last = last
        self._reasoning = Reasoning(machine, FAMILY, request, memory)
        self._refusal = ""

    def _framing(self, data: bytes) -> FrameSplitter | ElementSplitter:
        if data.startswith(b"<"):
            raise MalformedAnswer("a page in the place of an answer")
        return (ElementSplitter if data.startswith((b"{", b"[")) else FrameSplitter)(self._limit)

    # -- one chunk

    def _take_odd(self, name: bytes, data: bytes) -> bytes | None:
        data = data.strip()
        if not data:
            return None
        if data == _DONE:
            self._done()
            return None
        try:
            chunk, anomaly = read_loosely(data)
        except UNREADABLE as e:
            raise NoEvent(f"no chat completion: {e}") from None
        self._note(anomaly)
        return self._take(chunk, name, data)

    def _take(self, event: Chunk, name: bytes, data: bytes) -> bytes | None:
        if event.object == "error" or (event.base_resp and _failed(event.base_resp)):
            return data
        if event.error and is_there(event.error):
            return b'{"error":%b}' % bytes(event.error)
        if name == b"error":
            return data
        if event.id:
            self.request_id = event.id
        if event.usage is not None:
            self._count(event.usage)
        if not event.choices:
            return self._take_rest(event, data)
        for choice in event.choices:
            if choice.index and choice.index > 0:
                self._note("more than one choice")
                continue
            if choice.error and is_there(choice.error):
                return b'{"error":%b}' % bytes(choice.error)
            self._choice(choice)
        if self._may_stop and self._machine.stopped:
            self._finish()
        return None

    def _take_rest(self, event: Chunk, data: bytes) -> bytes | None:
        """Read a chunk without choices: figures, nothing, or an error that does not call itself one."""
        if self._reason:
            if event.usage is not None:
                self._finish()
        elif event.choices is None and event.usage is None and is_unnamed_error(data, FAMILY):
            return data
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
            self._progress = True
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
            if self._reasoning.is_open:
                self._reasoning.end()
            for piece in delta.tool_calls:
                self._calls.add(piece)
            if self._reasoning.unremembered:
                self._remember()
            self._answered = self._answered or bool(self._calls)

    def _part(self, part: ContentPart) -> None:
        if part.thinking is not None:
            self._reasoning.add(_text(part.thinking), "content")
            self._progress = True
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
        prompt, completion, total = counts.prompt_tokens, counts.completion_tokens, counts.total_tokens
        if not prompt and not completion:
            return  # nobody has counted
        details = counts.prompt_tokens_details
        cached = details.cached_tokens if details is not None else None
        for other in (counts.prompt_cache_hit_tokens, counts.cached_tokens):
            cached = other if cached is None else cached
        if cached is not None:
            usage.cache_read = cached
        written = details.cache_write_tokens if details is not None else None
        if written is not None:
            usage.cache_write = written
        if prompt is not None:
            usage.input = max(0, prompt - (usage.cache_read or 0) - (usage.cache_write or 0))
            usage.guessed_input = None
        answer = counts.completion_tokens_details
        reasoning = answer.reasoning_tokens if answer is not None else None
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
        self._reasoning.end()
        self._calls.end()
        self._remember()
        if self._machine.stopped:
            self._machine.finish("stop_sequence")
        elif self._reason in REFUSALS or self._refusal:
            self._machine.finish("refusal", refusal(self._refusal))
        else:
            self._machine.finish(self._stop_reason(self._reason or ""))

    def _stop_reason(self, reason: str) -> str:
        known = STOPS.get(reason)
        if known is None:
            self._note(f"unknown finish_reason {shown(reason)}")
        if known not in ("max_tokens", "model_context_window_exceeded") and not (
            self._answered or self.content or self._last
        ):
            raise ModelFault(f"{shown(reason)} without any content")
        return known or "end_turn"


def _failed(base_resp: Raw) -> bool:
    try:
        return decode_base(base_resp).status_code != 0
    except UNREADABLE:
        return False


def _text(thinking: list[ContentPart] | str) -> str:
    return thinking if isinstance(thinking, str) else "".join(part.text or "" for part in thinking)
