"""Events, items and answers of the Responses API, as far as they are read.

Every member may be missing or null, and what is not of its type is left out: servers that call themselves compatible
differ, and an answer is paid for.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.loose import without_halves

Shape = TypeVar("Shape", bound=msgspec.Struct)

NOTHING = msgspec.Raw()


class ResponseEvent(msgspec.Struct, gc=False):
    """One event of a stream, of whichever type."""

    type: str = ""
    output_index: int | None = None
    item_id: str | None = None
    content_index: int | None = None
    summary_index: int | None = None
    delta: str | None = None
    text: str | None = None
    arguments: str | None = None
    refusal: str | None = None
    name: str | None = None
    item: msgspec.Raw = NOTHING
    part: msgspec.Raw = NOTHING
    annotation: msgspec.Raw = NOTHING
    response: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING
    code: str | None = None
    message: str | None = None


class SourceAnnotation(msgspec.Struct, gc=False):
    """A source of a text."""

    type: str = ""
    url: str = ""
    title: str | None = None
    start_index: int | None = None
    """Characters, like the end."""
    end_index: int | None = None


class OutputPart(msgspec.Struct, gc=False):
    """A part of a message, or of what was reasoned."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[msgspec.Raw] | None = None


class FoundPage(msgspec.Struct, gc=False):
    """A page that a search has found."""

    url: str | None = None
    title: str | None = None


class SearchAction(msgspec.Struct, gc=False):
    """What a search did."""

    type: str = ""
    query: str | None = None
    queries: list[str] | None = None
    sources: list[FoundPage] | None = None
    url: str | None = None
    pattern: str | None = None


class Item(msgspec.Struct, gc=False):
    """One item of an output, of whichever type."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: msgspec.Raw = NOTHING
    """A string, from most servers."""
    content: list[msgspec.Raw] | None = None
    summary: list[msgspec.Raw] | None = None
    encrypted_content: str | None = None
    action: msgspec.Raw = NOTHING


class IncompleteDetails(msgspec.Struct, gc=False):
    """Why an answer is not complete."""

    reason: str | None = None


class ResponseObject(msgspec.Struct, gc=False):
    """A whole answer, or what is known of one."""

    id: str | None = None
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    error: msgspec.Raw = NOTHING
    incomplete_details: IncompleteDetails | None = None
    usage: dict[str, object] | None = None


_DECODERS: dict[type[msgspec.Struct], msgspec.json.Decoder[msgspec.Struct]] = {
    shape: msgspec.json.Decoder(shape)
    for shape in (ResponseEvent, SourceAnnotation, OutputPart, SearchAction, Item, ResponseObject)
}
_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

DECODER = msgspec.json.Decoder(ResponseEvent)


def read(data: msgspec.Raw | bytes, shape: type[Shape]) -> tuple[Shape, str]:
    """Return what *data* is, and what is odd about it, for a log.

    Members that are not of their type are left out. Raises one of :data:`~claudeproxyd.json_guards.UNREADABLE` where it
    is no JSON object.
    """
    try:
        found = _DECODERS[shape].decode(data)
    except UNREADABLE:
        return _read_loosely(bytes(data), shape)
    assert isinstance(found, shape)
    return found, ""


def _read_loosely(data: bytes, shape: type[Shape]) -> tuple[Shape, str]:
    mended = without_halves(data)
    members = _split(mended)
    odd = "" if mended == data else "half a surrogate pair"
    fitting: dict[str, object] = {}
    for field in msgspec.structs.fields(shape):
        if field.name not in members:
            continue
        try:
            fitting[field.name] = msgspec.json.decode(members[field.name], type=field.type, strict=False)
        except UNREADABLE:
            odd = odd or f"{shape.__name__.lower()}: {field.name} of an unknown shape"
    return shape(**fitting), odd


def is_there(raw: msgspec.Raw) -> bool:
    """Whether a member was sent, and not as null."""
    return bool(raw) and bytes(raw) != b"null"


def arguments_of(item: Item) -> str:
    """Return a call's arguments as JSON; '' where it has none. Some servers send the object itself."""
    raw = bytes(item.arguments)
    if not raw or raw == b"null":
        return ""
    if raw.startswith(b'"'):
        return str(msgspec.json.decode(raw))
    return msgspec.json.format(raw, indent=-1).decode()
