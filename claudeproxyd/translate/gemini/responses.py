"""``GenerateContentResponse``, as far as it is read (https://ai.google.dev/api/generate-
content#GenerateContentResponse).

Members may be null or missing alike, as the proxies before some of these APIs have it.
"""

from __future__ import annotations

import msgspec

from claudeproxyd.errors import shown
from claudeproxyd.messages.usage import TokenCount


class FunctionCall(msgspec.Struct, rename="camel", gc=False):
    """A call, or a piece of one."""

    name: str | None = None
    id: str | None = None
    args: msgspec.Raw = msgspec.Raw()
    partial_args: msgspec.Raw = msgspec.Raw()
    will_continue: bool | None = None


class Code(msgspec.Struct):
    """Code that Google ran."""

    code: str | None = None
    language: str | None = None


class CodeResult(msgspec.Struct):
    """The output of such code."""

    output: str | None = None


class File(msgspec.Struct, rename="camel"):
    """A picture, a sound or a film; its bytes are not read."""

    mime_type: str | None = None

    @property
    def description(self) -> str:
        """The words that a client reads in its place."""
        what = shown(self.mime_type or "a file", 100)
        return f"[Here the model gave {what}, which an answer of this API cannot hold]"


class AnswerPart(msgspec.Struct, rename="camel", gc=False):
    """Text, a thought, a call, or what was not asked for."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    executable_code: Code | None = None
    code_execution_result: CodeResult | None = None
    inline_data: File | None = None
    file_data: File | None = None
    tool_call: msgspec.Raw = msgspec.Raw()
    tool_response: msgspec.Raw = msgspec.Raw()


class Content(msgspec.Struct, gc=False):
    """One side's turn."""

    parts: list[AnswerPart] | None = None


class AnswerCandidate(msgspec.Struct, rename="camel", gc=False):
    """An answer; only the first is one."""

    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int | None = None
    grounding_metadata: msgspec.Raw = msgspec.Raw()
    citation_metadata: msgspec.Raw = msgspec.Raw()


class Counts(msgspec.Struct, rename="camel", gc=False):
    """Tokens: those of the cache within the prompt's, those of tools and, as a rule, of thoughts beside the others."""

    prompt_token_count: TokenCount | None = None
    cached_content_token_count: TokenCount | None = None
    tool_use_prompt_token_count: TokenCount | None = None
    candidates_token_count: TokenCount | None = None
    thoughts_token_count: TokenCount | None = None
    total_token_count: TokenCount | None = None


class Feedback(msgspec.Struct, rename="camel"):
    """Why a prompt has no answer."""

    block_reason: str | None = None
    block_reason_message: str | None = None


class GenerateContentResponse(msgspec.Struct, rename="camel", gc=False):
    """A GenerateContentResponse, or what comes in the place of one."""

    candidates: list[AnswerCandidate] | None = None
    usage_metadata: Counts | None = None
    prompt_feedback: Feedback | None = None
    response_id: str | None = None
    error: msgspec.Raw = msgspec.Raw()


DECODER = msgspec.json.Decoder(GenerateContentResponse)
decode_all = msgspec.json.Decoder(list[GenerateContentResponse]).decode


def is_there(raw: msgspec.Raw) -> bool:
    """Whether a member was sent, and not as null."""
    return bool(raw) and bytes(raw) != b"null"
