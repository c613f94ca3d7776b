"""Answers of the Responses API as Claude messages, streamed and whole."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard, TypeVar

import msgspec
from zope.interface import implementer

from claudeproxyd.errors import shown
from claudeproxyd.framing.sse import FrameSplitter
from claudeproxyd.framing.whole import WholeBody
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.reader import MalformedAnswer
from claudeproxyd.translate.answer_reader import EventReader, NoEvent
from claudeproxyd.translate.openai_responses.ending import count, ending_of, error_body, error_in, is_known, refused
from claudeproxyd.translate.openai_responses.events import (
    DECODER,
    Item,
    OutputPart,
    ResponseEvent,
    ResponseObject,
    is_there,
    read,
)
from claudeproxyd.translate.openai_responses.item_queue import MAX_KEPT, AnswerItems, ItemQueue, OutputItem
from claudeproxyd.translate.openai_responses.output_items import CallItem, MessageItem, ReasoningItem, new_item
from claudeproxyd.translate.openai_responses.sources import WebSources

if TYPE_CHECKING:
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.translate.openai_responses.requests import ResponsesRequest

#: Data of frames that need not be read.
_NOTHING = (b"", b"[DONE]")
#: Of items; what has more is nobody's answer.
MAX_IDS = 100_000


Kind = TypeVar("Kind", MessageItem, ReasoningItem, CallItem)


@implementer(IStreamReader)
class ResponsesReader(EventReader[ResponseEvent]):
    """Reads one answer: server-sent events, or the whole answer of a server that does not stream.

    What belongs to one item is known by ``output_index``, for ``item_id`` may change from event to event; where a
    server has no index by the id, and else by the kind of the item that came last. Whatever comes in pieces may come
    once more, or only then, with the event that ends the part, with the one that ends the item, and with the answer.
    """

    _decoder = DECODER

    def __init__(self, machine: BlockMachine, request: ResponsesRequest, max_event_bytes: int) -> None:
        """*machine*, of the family :data:`~.records.SIGNATURES`, makes the message."""
        super().__init__(machine, request, max_event_bytes)
        self._sources = WebSources(request.searches)
        self._answer = AnswerItems(machine, request, self._sources, self._note)
        self._items = ItemQueue()
        self._by_index: dict[int | None, OutputItem] = {}
        self._by_id: dict[str, OutputItem] = {}

    def _framing(self, data: bytes) -> FrameSplitter | WholeBody:
        is_object = data.removeprefix(BOM_UTF8).lstrip().startswith(b"{")
        return (WholeBody if is_object else FrameSplitter)(self._limit)

    def _read(self, frames: Sequence[bytes]) -> bytes | None:
        error = super()._read(frames)
        if self._answer.kept > MAX_KEPT:
            raise MalformedAnswer(f"an answer of more than {MAX_KEPT} characters")
        return error

    def _take_odd(self, name: bytes, data: bytes) -> bytes | None:
        if data in _NOTHING:
            return None
        try:
            event, odd = read(data, ResponseEvent)
        except UNREADABLE as e:
            raise NoEvent(f"no event of the Responses API: {e}") from None
        self._note(odd)
        return self._take(event, name, data)

    def _take(self, event: ResponseEvent, name: bytes, data: bytes) -> bytes | None:
        self._progress = True
        handler = _HANDLERS.get(event.type or name.decode("latin-1"))
        if handler is None:
            if not event.type and (is_there(event.error) or event.message):
                return error_body(event.error, event.code, event.message)
            return None if event.type else error_in(data)  # there are new ones every month
        error = handler(self, event)
        if self._may_stop and self._machine.stopped and not self._over:
            self._finish()
        return error

    def _read_object(self, body: bytes) -> bytes | None:
        try:
            response, odd = read(body.removeprefix(BOM_UTF8), ResponseObject)
        except UNREADABLE as e:
            raise MalformedAnswer(f"no answer of the Responses API: {e}") from None
        self._note(odd)
        if response.status is None and response.output is None:
            if is_there(response.error):
                return error_body(response.error, None, None)
            if (error := error_in(body)) is not None:
                return error
            raise MalformedAnswer("no answer of the Responses API")
        if response.status in ("queued", "in_progress"):
            raise MalformedAnswer("an answer that is not finished")
        return self._respond(response, response.status or "completed")

    # -- one event

    def _began(self, event: ResponseEvent) -> None:
        """``response.created`` and what else tells of the answer before it has content."""
        if not self.request_id and is_there(event.response):
            response, odd = self._response(event)
            self._note(odd)
            self.request_id = response.id or ""

    def _part_added(self, event: ResponseEvent) -> None:
        if event.content_index is None:
            self._item(event, MessageItem).next_part()

    def _summary_added(self, event: ResponseEvent) -> None:
        if event.summary_index is None:
            self._item(event, ReasoningItem).next_part()

    def _text(self, event: ResponseEvent) -> None:
        if event.delta:
            self._item(event, MessageItem).add(event.content_index, event.delta)

    def _text_done(self, event: ResponseEvent) -> None:
        if event.text:
            self._item(event, MessageItem).add_whole(event.content_index, event.text)

    def _refusal(self, event: ResponseEvent) -> None:
        if event.delta:
            self._item(event, MessageItem).refuse(event.content_index, event.delta)

    def _refusal_done(self, event: ResponseEvent) -> None:
        if event.refusal:
            part = OutputPart("refusal", refusal=event.refusal)
            self._item(event, MessageItem).add_part(event.content_index, part)

    def _part_done(self, event: ResponseEvent) -> None:
        (part,) = self._answer.parts([event.part])
        if part.type == "reasoning_text":
            self._item(event, ReasoningItem).add_whole("content", event.content_index, part.text or "")
        elif part.type:
            self._item(event, MessageItem).add_part(event.content_index, part)

    def _cited(self, event: ResponseEvent) -> None:
        if is_there(event.annotation):
            self._item(event, MessageItem).cite(event.content_index, event.annotation)

    def _summary(self, event: ResponseEvent) -> None:
        if event.delta:
            self._item(event, ReasoningItem).add("summary", event.summary_index, event.delta)

    def _summary_done(self, event: ResponseEvent) -> None:
        if event.text:
            self._item(event, ReasoningItem).add_whole("summary", event.summary_index, event.text)

    def _reasoned(self, event: ResponseEvent) -> None:
        if event.delta:
            self._item(event, ReasoningItem).add("content", event.content_index, event.delta)

    def _reasoned_done(self, event: ResponseEvent) -> None:
        if event.text:
            self._item(event, ReasoningItem).add_whole("content", event.content_index, event.text)

    def _arguments(self, event: ResponseEvent) -> None:
        if event.delta:
            self._item(event, CallItem).add(event.delta)

    def _arguments_done(self, event: ResponseEvent) -> None:
        call = self._item(event, CallItem)
        call.know(None, event.name)
        if event.arguments:
            call.add_whole(event.arguments)

    def _added(self, event: ResponseEvent) -> None:
        """An item begins. Its sealed content may not be whole yet, nor its name known."""
        item, _ = self._read_item(event.item)
        if item is None:
            return
        known = self._find(event, item.type, item)
        made = known if self._fits(known, item) else self._new(item.type, event.output_index)
        self._remember(made, item)
        if isinstance(made, CallItem):
            made.know(item.call_id, item.name)

    def _done(self, event: ResponseEvent) -> None:
        item, raw = self._read_item(event.item)
        if item is None:
            return
        known = self._find(event, item.type, item)
        if known is not None and known.whole and self._is_known(known, item):
            return
        made = known if self._fits(known, item) else self._new(item.type, event.output_index)
        self._remember(made, item)
        made.complete(item, raw)
        if not made.hollow:
            self._items.ended(made)

    def _completed(self, event: ResponseEvent) -> bytes | None:
        return self._ended(event, "completed")

    def _incomplete(self, event: ResponseEvent) -> bytes | None:
        return self._ended(event, "incomplete")

    def _failed(self, event: ResponseEvent) -> bytes | None:
        return self._ended(event, "failed")

    def _error(self, event: ResponseEvent) -> bytes:
        return error_body(event.error, event.code, event.message)

    def _ended(self, event: ResponseEvent, status: str) -> bytes | None:
        response, odd = self._response(event) if is_there(event.response) else (ResponseObject(), "")
        self._note(odd)
        return self._respond(response, status)

    def _response(self, event: ResponseEvent) -> tuple[ResponseObject, str]:
        try:
            return read(event.response, ResponseObject)
        except UNREADABLE:
            return ResponseObject(), "a response that is no object"

    # -- items

    def _read_item(self, raw: msgspec.Raw) -> tuple[Item | None, msgspec.Raw]:
        try:
            item, odd = read(raw, Item)
        except UNREADABLE:
            item, odd = None, "an item that is no object"
        self._note(odd)
        return item, raw

    def _new(self, kind: str, index: int | None) -> OutputItem:
        item = new_item(kind, self._answer)
        if index is not None:
            self._by_index[index] = item
        self._items.append(item)
        return item

    def _remember(self, made: OutputItem, item: Item) -> None:
        for id in (item.id, item.call_id):
            if id and len(self._by_id) < MAX_IDS:
                self._by_id[id] = made

    def _find(self, event: ResponseEvent, kind: str, item: Item | None = None) -> OutputItem | None:
        """Return the item that *event* belongs to, which is of that *kind*. *item*: as the event tells it."""
        found = self._by_index.get(event.output_index) if event.output_index is not None else None
        if found is None and event.item_id is not None:
            found = self._by_id.get(event.item_id)
        if found is None and item is not None:
            found = self._find_by_ids(item)
        if found is None and event.output_index is None:
            found = next((each for each in reversed(self._items.all) if each.kind == kind and not each.whole), None)
        return found if found is not None and found.kind == kind else None

    def _find_by_ids(self, item: Item) -> OutputItem | None:
        return next((self._by_id[id] for id in (item.id, item.call_id) if id in self._by_id), None)

    def _is_known(self, known: OutputItem, item: Item) -> bool:
        """Whether an item bears an id of the *known* one, or none at all."""
        ids = [id for id in (item.id, item.call_id) if id]
        return not ids or any(self._by_id.get(id) is known for id in ids)

    def _may_be(self, known: OutputItem, item: Item) -> bool:
        """Whether *item* can be the *known* one: calls are known by their ids."""
        if known.kind != item.type:
            return False
        return not (isinstance(known, CallItem) and known.call_id and item.call_id and known.call_id != item.call_id)

    def _fits(self, known: OutputItem | None, item: Item) -> TypeGuard[OutputItem]:
        """Whether *item* may be the *known* one, of which more may come."""
        return known is not None and not known.whole and self._may_be(known, item)

    def _item(self, event: ResponseEvent, kind: type[Kind]) -> Kind:
        """Return the item that a piece belongs to; a new one where nothing told of it."""
        found = self._by_index.get(event.output_index)  # nearly always
        if not isinstance(found, kind):
            found = self._find(event, kind.kind) or self._new(kind.kind, event.output_index)
            assert isinstance(found, kind)
        return found

    # -- the end

    def _respond(self, response: ResponseObject, status: str) -> bytes | None:
        """Read the whole answer, of which some, all or nothing has come in pieces. Return the error that it is."""
        self.request_id = response.id or self.request_id
        if response.usage is not None:
            count(self._machine.usage, response.usage)
        status = response.status or status
        if status in ("failed", "cancelled"):
            return error_body(response.error, None, f"The response {status}")
        self._complete(response.output or ())
        reason = None
        if status == "incomplete":
            reason = (response.incomplete_details and response.incomplete_details.reason) or "max_output_tokens"
            if not is_known(reason):
                self._note(f"unknown reason for an incomplete answer {shown(reason)}")
        self._finish(reason)
        return None

    def _complete(self, output: Sequence[msgspec.Raw]) -> None:
        """Add whatever of the items has not come in pieces.

        Items are known by their ids; where these are others, the next of a kind is the next that came.
        """
        items = [(item, raw) for item, raw in map(self._read_item, output) if item is not None]
        known = [self._find_by_ids(item) for item, _ in items]
        left = [each for each in self._items.all if each not in known]
        for (item, raw), made in zip(items, known, strict=True):
            if made is None:
                made = next((each for each in left if self._may_be(each, item)), None)
                if made is None:
                    made = self._new(item.type, None)
                else:
                    left.remove(made)
            if not made.whole:
                made.complete(item, raw)
                self._items.ended(made)

    def _finish(self, reason: str | None = None) -> None:
        self._over = True
        machine = self._machine
        self._items.end_all()
        if machine.stopped:
            machine.finish("stop_sequence")
            return
        self._sources.tell_rest(machine)
        words = self._answer.refused
        machine.finish(*(refused(words) if words else ending_of(reason)))


_HANDLERS: Mapping[str, Callable[[ResponsesReader, ResponseEvent], bytes | None]] = {
    "response.created": ResponsesReader._began,
    "response.queued": ResponsesReader._began,
    "response.in_progress": ResponsesReader._began,
    "response.output_item.added": ResponsesReader._added,
    "response.output_item.done": ResponsesReader._done,
    "response.content_part.added": ResponsesReader._part_added,
    "response.content_part.done": ResponsesReader._part_done,
    "response.reasoning_summary_part.added": ResponsesReader._summary_added,
    "response.output_text.delta": ResponsesReader._text,
    "response.output_text.done": ResponsesReader._text_done,
    "response.output_text.annotation.added": ResponsesReader._cited,
    "response.refusal.delta": ResponsesReader._refusal,
    "response.refusal.done": ResponsesReader._refusal_done,
    "response.reasoning_summary_text.delta": ResponsesReader._summary,
    "response.reasoning_summary_text.done": ResponsesReader._summary_done,
    "response.reasoning_text.delta": ResponsesReader._reasoned,
    "response.reasoning_text.done": ResponsesReader._reasoned_done,
    "response.function_call_arguments.delta": ResponsesReader._arguments,
    "response.function_call_arguments.done": ResponsesReader._arguments_done,
    "response.completed": ResponsesReader._completed,
    "response.incomplete": ResponsesReader._incomplete,
    "response.failed": ResponsesReader._failed,
    "response.cancelled": ResponsesReader._failed,
    "error": ResponsesReader._error,
}
