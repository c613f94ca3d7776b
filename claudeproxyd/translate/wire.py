"""The request's own shapes, for decoding: tolerant, flat, and no wider than what is read of them.

Members that may be ``null`` in the SDKs' types may be here. Whether one that is absent had to be there is known where
its block is read. Schemas and tool inputs stay the client's bytes.
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypeGuard

import msgspec
from msgspec import UNSET, Raw, UnsetType

from claudeproxyd.errors import Unsupported


class Citation(msgspec.Struct, gc=False):
    """One source of a text, of whichever type."""

    title: str | None = None
    document_title: str | None = None
    url: str | None = None
    source: str | None = None


class CitationsConfig(msgspec.Struct, gc=False):
    """``citations`` of a document."""

    enabled: bool | None = None


class MediaSource(msgspec.Struct, gc=False):
    """``source`` of an image or a document."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: str | list[ContentBlock] | None = None


class Found(msgspec.Struct, gc=False):
    """``content`` of a server tool's result, where it is an object."""

    tool_references: list[ContentBlock] | None = None


class EncryptedInput(msgspec.Struct, gc=False):
    """``input`` of a server tool's call, where a provider wants back what only it can read."""

    encrypted_content: str = ""


class ToolEntry(msgspec.Struct, gc=False):
    """One of ``tools``, of whichever type."""

    type: str | None = None
    name: str | None = None
    description: str | None = None
    input_schema: Raw | UnsetType = UNSET
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None
    strict: bool | None = None
    input_examples: list[Raw] | None = None
    eager_input_streaming: bool | None = None
    max_characters: int | None = None
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None
    max_uses: int | None = None
    user_location: dict[str, Raw] | None = None
    response_inclusion: str | None = None


class ToolChange(msgspec.Struct, gc=False):
    """``tool`` of a tool_addition or tool_removal."""

    type: str
    name: str | None = None
    definition: ToolEntry | None = None


class ContentBlock(msgspec.Struct, gc=False):
    """A content block, of whichever type."""

    type: str
    text: str | None = None
    citations: list[Citation] | CitationsConfig | None = None
    source: MediaSource | str | None = None
    title: str | None = None
    context: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw | UnsetType = UNSET
    tool_use_id: str | None = None
    content: str | list[ContentBlock] | Found | None = None
    is_error: bool | None = None
    tool_name: str | None = None
    tool: ToolChange | None = None
    tool_changes: list[ContentBlock] | None = None
    cache_control: Raw | UnsetType = UNSET


class Format(msgspec.Struct, gc=False):
    """``output_config.format``."""

    type: Literal["json_schema"]
    schema: Raw | UnsetType = UNSET


class OutputConfig(msgspec.Struct, gc=False):
    """``output_config``, of a request or of a system message."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None
    task_budget: dict[str, Raw] | None = None


class Message(msgspec.Struct, gc=False):
    """One of ``messages``."""

    role: Literal["user", "assistant", "system"]
    content: str | list[ContentBlock] | UnsetType = UNSET
    output_config: OutputConfig | None = None
    clear_at: str | None = None


class ThinkingConfig(msgspec.Struct, gc=False):
    """``thinking``."""

    type: Literal["enabled", "adaptive", "between_tools", "disabled"]
    budget_tokens: int | None = None
    display: str | None = None


class Choice(msgspec.Struct, gc=False):
    """``tool_choice``."""

    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Metadata(msgspec.Struct, gc=False):
    """``metadata``."""

    user_id: str | None = None


class ThreadConfig(msgspec.Struct, gc=False):
    """``thread``."""

    type: Literal["create", "continue"]


class Request(msgspec.Struct, gc=False):
    """The members of a request that are read; what becomes of the others is the field policy's to say."""

    messages: list[Message]
    system: str | list[ContentBlock] | None = None
    tools: list[ToolEntry] | None = None
    tool_choice: Choice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None
    max_tokens: int | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata | None = None
    cache_control: Raw | UnsetType = UNSET
    thread: ThreadConfig | None = None


class _RawMessage(msgspec.Struct, gc=False):
    content: list[Raw] | str = ""


class _RawRequest(msgspec.Struct, gc=False):
    messages: list[_RawMessage]


decode_request = msgspec.json.Decoder(Request).decode
decode_encrypted_input = msgspec.json.Decoder(EncryptedInput).decode
decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
#: In a block that is told as it is, all that look like one.
_MAX_VALUES = 500_000
_MAX_NESTED = 20_000

_decode_raw_request = msgspec.json.Decoder(_RawRequest).decode


class RawBlocks:
    """The blocks of a body as they came, for those few that are told as they are: read at the first question."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._messages: list[_RawMessage] | None = None
        self._last: tuple[int, int] | None = None
        self._value: dict[str, object] = {}

    def __call__(self, message: int, block: int) -> dict[str, Any]:
        """Return the value of a block. The last one is kept: a result may be asked for block by block."""
        if self._messages is None:
            self._messages = _decode_raw_request(self._body).messages
        if self._last != (message, block):
            raw = bytes(self._messages[message].content[block])  # type: ignore[arg-type]  # msgspec.Raw is a buffer
            if sum(map(raw.count, (b"[", b"{"))) > _MAX_NESTED or raw.count(b",") > _MAX_VALUES:
                raise Unsupported(f"messages.{message}.content.{block}: has too many values")
            self._value = msgspec.json.decode(raw)
            self._last = message, block
        return self._value


#: How an object begins.
_OBJECT = ord("{")

_NAMES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "array": "list",
    "object": "dictionary",
}


def misfit(error: msgspec.ValidationError) -> Unsupported:
    """Return the refusal of what msgspec did not like, in the API's manner.

    Such as ``messages.0.content.1.text: Input should be a valid string``.
    """
    what, _, path = str(error).partition(" - at `$")
    place = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path.rstrip("`")).lstrip(".")
    if missing := re.search(r"missing required field `(\w+)`", what):
        place = f"{place}.{missing[1]}".lstrip(".")
        what = "Field required"
    elif expected := re.match(r"Expected `([^`]+)`", what):
        names = [_NAMES.get(name, name) for name in expected[1].split(" | ") if name != "null"]
        what = "Input should be a valid " + " or ".join(names)
    elif invalid := re.match("Invalid enum value (.*)", what):
        what = f"Input {invalid[1]} is none of the expected values"
    return Unsupported(f"{place or 'The request body'}: {what}")


def is_marked(place: ContentBlock | Request) -> bool:
    """Whether ``cache_control`` stands there, and not as null."""
    return is_object(place.cache_control)


def is_object(value: Raw | UnsetType) -> TypeGuard[Raw]:
    """Whether *value* is there, and is a JSON object."""
    return value is not UNSET and memoryview(value)[0] == _OBJECT


def require(value: str | None, place: str) -> str:
    """Return *value*, which has to be there and not to be empty. Raises :class:`Unsupported` that names *place*."""
    if value is None:
        raise Unsupported(f"{place}: Field required")
    if not value:
        raise Unsupported(f"{place}: String should have at least 1 character")
    return value


def require_object(value: Raw | UnsetType, place: str) -> Raw:
    """Return *value*, which has to be a JSON object. Raises :class:`Unsupported` that names *place*."""
    if value is UNSET:
        raise Unsupported(f"{place}: Field required")
    if not is_object(value):
        raise Unsupported(f"{place}: Input should be a valid dictionary")
    return value
