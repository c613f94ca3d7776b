"""``ConverseResponse`` and the events of ``ConverseStream``, as far as they are read.

The shapes are those of the API's reference; every member may be missing or null alike.
"""

from __future__ import annotations

import msgspec

from claudeproxyd.errors import shown
from claudeproxyd.translate.converse.reasoning import ReasoningContent


class ToolUseStart(msgspec.Struct, rename="camel", gc=False):
    """The beginning of a call."""

    name: str | None = None
    tool_use_id: str | None = None
    type: str | None = None


class ToolUseInput(msgspec.Struct, gc=False):
    """A piece of a call's input."""

    input: str | None = None


class ConverseImage(msgspec.Struct, gc=False):
    """A picture; its bytes are not read."""

    format: str | None = None

    @property
    def description(self) -> str:
        """The words that a client reads in its place."""
        what = shown(f"image/{self.format}") if self.format else "an image"
        return f"[Here the model gave {what}, which an answer of this API cannot hold]"


class ConverseStart(msgspec.Struct, rename="camel", gc=False):
    """``start`` of a block."""

    tool_use: ToolUseStart | None = None
    image: ConverseImage | None = None


class ReasoningDelta(msgspec.Struct, rename="camel", gc=False):
    """A piece of reasoning."""

    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class ConverseDelta(msgspec.Struct, rename="camel", gc=False):
    """``delta`` of a block."""

    text: str | None = None
    tool_use: ToolUseInput | None = None
    reasoning_content: ReasoningDelta | None = None


class BlockStart(msgspec.Struct, rename="camel", gc=False):
    """``contentBlockStart``."""

    start: ConverseStart | None = None
    content_block_index: int = 0


class BlockDelta(msgspec.Struct, rename="camel", gc=False):
    """``contentBlockDelta``."""

    delta: ConverseDelta | None = None
    content_block_index: int = 0


class BlockStop(msgspec.Struct, rename="camel", gc=False):
    """``contentBlockStop``."""

    content_block_index: int = 0


class MessageStop(msgspec.Struct, rename="camel", gc=False):
    """``messageStop``."""

    stop_reason: str | None = None


class TokenUsage(msgspec.Struct, rename="camel", gc=False):
    """Tokens; what a cache was read for and written with is not among ``input_tokens``."""

    input_tokens: object = None
    output_tokens: object = None
    cache_read_input_tokens: object = None
    cache_write_input_tokens: object = None


class ConverseMetadata(msgspec.Struct, gc=False):
    """``metadata``."""

    usage: TokenUsage | None = None


class ConverseToolUse(msgspec.Struct, rename="camel", gc=False):
    """A whole call."""

    name: str | None = None
    tool_use_id: str | None = None
    type: str | None = None
    input: msgspec.Raw = msgspec.Raw()


class Cited(msgspec.Struct, gc=False):
    """A piece of text with sources."""

    text: str | None = None


class CitationsContent(msgspec.Struct, gc=False):
    """Text with sources."""

    content: list[Cited] | None = None


class ConverseBlock(msgspec.Struct, rename="camel", gc=False):
    """A content block of a whole answer."""

    text: str | None = None
    tool_use: ConverseToolUse | None = None
    reasoning_content: ReasoningContent | None = None
    citations_content: CitationsContent | None = None
    image: ConverseImage | None = None


class ConverseMessage(msgspec.Struct, gc=False):
    """The message of a whole answer."""

    content: list[ConverseBlock] | None = None


class ConverseOutput(msgspec.Struct, gc=False):
    """``output``."""

    message: ConverseMessage | None = None


class ConverseResponse(msgspec.Struct, rename="camel", gc=False):
    """A whole answer."""

    output: ConverseOutput | None = None
    stop_reason: str | None = None
    usage: TokenUsage | None = None


decode_start = msgspec.json.Decoder(BlockStart).decode
decode_delta = msgspec.json.Decoder(BlockDelta).decode
decode_stop = msgspec.json.Decoder(BlockStop).decode
decode_message_stop = msgspec.json.Decoder(MessageStop).decode
decode_metadata = msgspec.json.Decoder(ConverseMetadata).decode
decode_response = msgspec.json.Decoder(ConverseResponse).decode
