"""``chat.completion.chunk`` and ``chat.completion``, as far as they are read, and as servers write them.

Members may be null or missing alike.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from claudeproxyd.messages.usage import TokenCount


class FunctionPiece(msgspec.Struct, gc=False):
    """A piece of a call."""

    name: str | None = None
    arguments: str | None = None


class CallPiece(msgspec.Struct, gc=False):
    """A piece of a call, or all of it, and which call it belongs to."""

    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None


class ContentPart(msgspec.Struct, gc=False):
    """A piece of content where that is a list: Mistral's thoughts are told so."""

    type: str | None = None
    text: str | None = None
    thinking: list[ContentPart] | str | None = None


class ReasoningDetail(msgspec.Struct, gc=False):
    """One of ``reasoning_details``: text, a summary, or what only its maker can read."""

    text: str | None = None
    summary: str | None = None


class Delta(msgspec.Struct, gc=False):
    """What a chunk adds, or the whole message."""

    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[Raw] | None = None
    tool_calls: list[CallPiece] | None = None
    refusal: str | None = None
    images: list[Raw] | None = None
    """Of models that draw, at OpenRouter."""


class PromptDetails(msgspec.Struct, gc=False):
    """Of the prompt's tokens."""

    cached_tokens: TokenCount | None = None
    cache_write_tokens: TokenCount | None = None


class CompletionDetails(msgspec.Struct, gc=False):
    """Of the answer's tokens."""

    reasoning_tokens: TokenCount | None = None


class TokenCounts(msgspec.Struct, gc=False):
    """Tokens: those of the cache within the prompt's, those of reasoning, as a rule, within the answer's."""

    prompt_tokens: TokenCount | None = None
    completion_tokens: TokenCount | None = None
    total_tokens: TokenCount | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: TokenCount | None = None
    """DeepSeek's word."""
    cached_tokens: TokenCount | None = None
    """Moonshot's."""


class ChunkChoice(msgspec.Struct, gc=False):
    """One answer; only the first is one."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    """vLLM's: the stop sequence that was met, or a token's number."""
    usage: TokenCounts | None = None
    error: Raw = Raw()


class Chunk(msgspec.Struct, gc=False):
    """A chunk, a whole answer, or what comes in the place of one."""

    id: str | None = None
    object: str | None = None
    choices: list[ChunkChoice] | None = None
    usage: TokenCounts | None = None
    error: Raw = Raw()
    base_resp: Raw = Raw()
    """MiniMax's: how it went."""


DECODER = msgspec.json.Decoder(Chunk)
decode_detail = msgspec.json.Decoder(ReasoningDetail).decode


class _BaseResponse(msgspec.Struct):
    status_code: int = 0


decode_base = msgspec.json.Decoder(_BaseResponse).decode


def is_there(raw: Raw) -> bool:
    """Whether a member was sent, and says something."""
    return bool(raw) and bytes(raw) not in (b"null", b"{}", b'""', b"false")
