"""A server's list of models as entries of the Claude list."""

from __future__ import annotations

import msgspec


class _Provider(msgspec.Struct):
    max_completion_tokens: int | None = None


class ChatModel(msgspec.Struct):
    """One model, as ``/models`` has it. Beyond its id each server has words of its own for the rest."""

    id: str
    name: str | None = None
    context_length: int | None = None
    """OpenRouter's."""
    context_window: int | None = None
    """Groq's."""
    max_context_length: int | None = None
    """Mistral's."""
    max_model_len: int | None = None
    """vLLM's."""
    top_provider: _Provider | None = None
    """OpenRouter's, with what an answer may have."""
    max_completion_tokens: int | None = None
    """Groq's."""


class _Page(msgspec.Struct):
    data: list[ChatModel]


_decode_page = msgspec.json.Decoder(_Page | list[ChatModel], strict=False).decode


def read_page(body: bytes) -> tuple[list[ChatModel], str]:
    """The models on the only page that there is; a few servers send the bare list."""
    page = _decode_page(body)
    return (page.data if isinstance(page, _Page) else page), ""


def entry(model: ChatModel) -> dict[str, object]:
    """That model in the Claude list."""
    made: dict[str, object] = {"id": model.id, "display_name": model.name or model.id}
    window = model.context_length or model.context_window or model.max_context_length or model.max_model_len
    if window:
        made["max_input_tokens"] = window
    most = model.max_completion_tokens or (model.top_provider.max_completion_tokens if model.top_provider else None)
    if most:
        made["max_tokens"] = most
    return made
