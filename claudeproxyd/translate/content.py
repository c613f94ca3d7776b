"""Blocks that hold something to read or to look at, wherever they stand: in messages, in results, in documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.conversation import Media, Text
from claudeproxyd.translate.field_policy import Action, dropped, not_carried
from claudeproxyd.translate.wire import CitationsConfig, MediaSource, is_marked, require

if TYPE_CHECKING:
    from claudeproxyd.translate.field_policy import FieldPolicy
    from claudeproxyd.translate.wire import Citation, ContentBlock

#: What is for machines alone in blocks that become text.
_MACHINE_FIELDS = frozenset(
    {
        "type",
        "id",
        "tool_use_id",
        "cache_control",
        "caller",
        "signature",
        "encrypted_content",
        "encrypted_index",
        "encrypted_stdout",
    }
)

#: How a refusal names a source that is not carried.
_SOURCES = {"url": "a url", "file": "file_id (a file of the Files API)"}


def read_content(block: ContentBlock, place: str, policy: FieldPolicy, warnings: list[str]) -> list[Text | Media]:
    """Return the parts of a text, image, document or search_result block.

    Raises :class:`Unsupported` that names *place*.
    """
    if isinstance(block.citations, CitationsConfig) and block.citations.enabled:
        warnings.append(dropped(f"citations of {block.type} blocks"))
    parts = _parts_of(block, place, policy, warnings)
    if parts and isinstance(parts[-1], Text):
        parts[-1].cached = is_marked(block)
    return parts


def _parts_of(block: ContentBlock, place: str, policy: FieldPolicy, warnings: list[str]) -> list[Text | Media]:
    match block.type:
        case "text":
            return _text(block, place)
        case "image":
            return [_media("image", _source(block, place, policy), place)]
        case "search_result":
            return _search_result(block, place, policy, warnings)
        case _:
            return _document(block, place, policy, warnings)


def system_text(block: ContentBlock, place: str) -> str:
    """Return the words of a block of system text. Raises :class:`Unsupported` if it is another one."""
    if block.type != "text":
        raise unexpected(place, block.type, "'text'")
    return _words(block, place)


def read_parts(
    content: str | list[ContentBlock], place: str, policy: FieldPolicy, warnings: list[str]
) -> list[Text | Media]:
    """Return ``content`` of a document's source or a search result: text, or text and images."""
    if isinstance(content, str):
        return [Text(content)] if content else []
    parts: list[Text | Media] = []
    for index, block in enumerate(content):
        inner = f"{place}.{index}"
        if block.type not in ("text", "image"):
            raise unexpected(inner, block.type, "'text', 'image'")
        parts += read_content(block, inner, policy, warnings)
    return parts


def as_text(value: dict[str, object], warnings: list[str]) -> Text:
    """Return as text a block that no other protocol has: its type and its members, without what only machines read."""
    return Text(f"[{value['type']}] {msgspec.json.encode(_plain(value, warnings)).decode()}")


def unexpected(place: str, tag: str, expected: str) -> Unsupported:
    """Return the refusal of a ``type`` that cannot stand there, in the API's words."""
    return Unsupported(
        f"{place}: Input tag '{tag}' found using 'type' does not match any of the expected tags: {expected}"
    )


def _plain(value: object, warnings: list[str]) -> object:
    if isinstance(value, list):
        return [_plain(member, warnings) for member in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "base64":
        warnings.append(dropped("data of documents that a server tool has fetched"))
        return {"media_type": value.get("media_type")}
    return {key: _plain(member, warnings) for key, member in value.items() if key not in _MACHINE_FIELDS}


def _words(block: ContentBlock, place: str) -> str:
    if block.text is None:
        raise Unsupported(f"{place}.text.text: Field required")
    return block.text


def _text(block: ContentBlock, place: str) -> list[Text | Media]:
    """Return a text, with what it cites behind it; nothing if it is empty."""
    text = _words(block, place)
    if isinstance(block.citations, list):
        text += "".join(dict.fromkeys(_cited(citation) for citation in block.citations))
    return [Text(text)] if text else []


def _cited(citation: Citation) -> str:
    names = [name for name in (citation.title or citation.document_title, citation.url or citation.source) if name]
    return f" [Source: {', '.join(names)}]" if names else ""


def _search_result(block: ContentBlock, place: str, policy: FieldPolicy, warnings: list[str]) -> list[Text | Media]:
    source = block.source if isinstance(block.source, str) else ""
    content = block.content if isinstance(block.content, str | list) else []
    parts = read_parts(content, f"{place}.search_result.content", policy, warnings)
    return _headed({"Title": block.title, "Source": source}, parts)


def _document(block: ContentBlock, place: str, policy: FieldPolicy, warnings: list[str]) -> list[Text | Media]:
    source = _source(block, place, policy)
    inner = f"{place}.document.source"
    if source.type == "text":
        parts: list[Text | Media] = [Text(source.data)] if source.data else []
    elif source.type == "content":
        parts = read_parts(source.content or [], f"{inner}.content", policy, warnings)
    else:
        media = _media("document", source, place)
        media.title = block.title or ""
        return _headed({"Context": block.context}, [media])
    return _headed({"Title": block.title, "Context": block.context}, parts)


def _headed(head: dict[str, str | None], parts: list[Text | Media]) -> list[Text | Media]:
    """Return *parts*, with what is known of them in front."""
    lines = "\n".join(f"{name}: {value}" for name, value in head.items() if value)
    if not lines or not parts:
        return parts
    first = parts[0]
    if isinstance(first, Text):
        return [Text(f"{lines}\n\n{first.text}"), *parts[1:]]
    return [Text(lines), *parts]


def _source(block: ContentBlock, place: str, policy: FieldPolicy) -> MediaSource:
    """Return the source of an image or a document, if *policy* does not reject its kind."""
    source = block.source
    if not isinstance(source, MediaSource):
        raise Unsupported(f"{place}.{block.type}.source: Field required")
    action = policy.sources.get(f"{block.type}.{source.type}")
    if action is None:
        raise unexpected(f"{place}.{block.type}.source", source.type, "'base64', 'url', 'file'")
    if action is Action.REJECT:
        raise Unsupported(not_carried(f"{place}.{block.type}.source", _SOURCES.get(source.type, source.type)))
    return source


def _media(kind: Literal["image", "document"], source: MediaSource, place: str) -> Media:
    inner = f"{place}.{kind}.source"
    if source.type == "url":
        return Media(kind, "", url=require(source.url, f"{inner}.url.url"))
    return Media(
        kind,
        require(source.media_type, f"{inner}.base64.media_type"),
        data=require(source.data, f"{inner}.base64.data"),
    )
