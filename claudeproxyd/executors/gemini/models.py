"""Google's list of models as entries of the Claude list."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from claudeproxyd.executors.capabilities import capabilities
from claudeproxyd.translate.gemini.models import capabilities_of


class ListedModel(msgspec.Struct, rename="camel"):
    """One model, as ``models.list`` has it."""

    name: str
    display_name: str = ""
    input_token_limit: int | None = None
    output_token_limit: int | None = None
    supported_generation_methods: Sequence[str] = ()


class _ModelPage(msgspec.Struct, rename="camel"):
    models: list[ListedModel] = []
    publisher_models: list[ListedModel] = []
    """The same on Vertex AI."""
    next_page_token: str = ""


_decode_page = msgspec.json.Decoder(_ModelPage).decode


def read_page(body: bytes) -> tuple[list[ListedModel], str]:
    """The models on one page of ``models.list`` or ``publishers.models.list``, and what asks for the next."""
    page = _decode_page(body)
    return page.models or page.publisher_models, page.next_page_token


def entry(model: ListedModel) -> dict[str, object]:
    """That model in the Claude list."""
    name = model.name.removeprefix("models/")
    made: dict[str, object] = {"id": name, "display_name": model.display_name or name}
    if model.input_token_limit:
        made["max_input_tokens"] = model.input_token_limit
    if model.output_token_limit:
        made["max_tokens"] = model.output_token_limit
    known = capabilities_of(name)
    if known.max_output_tokens is not None:  # of others too little is known
        made["capabilities"] = capabilities(thinks=known.thinking is not None, searches=True)
    return made
