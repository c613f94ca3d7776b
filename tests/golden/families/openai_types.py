"""The types of OpenAI's SDK, as judges that refuse whatever they do not know."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from openai import types as _types
from openai._types import SequenceNotStr
from pydantic import BaseModel, ConfigDict, TypeAdapter


def strict_adapter(kind: Any) -> TypeAdapter[Any]:
    """A validator of requests: what is not in the SDK's types is refused, at whatever depth.

    The SDK takes any iterable for a list, which pydantic would look into only when somebody asks: so they are lists
    here.
    """
    lazily = {"Iterable": Iterable, "SequenceNotStr": SequenceNotStr}
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(_types.__name__)]
    were = [(module, name, vars(module)[name]) for module in modules for name in lazily if name in vars(module)]
    try:
        for module, name, _ in were:
            setattr(module, name, list)
        return TypeAdapter(list[kind], config=ConfigDict(extra="forbid"))  # a TypedDict alone would take no config
    finally:
        for module, name, value in were:
            setattr(module, name, value)


def extra(value: Any, path: str) -> Iterator[str]:
    """The members of an answer that the SDK's types do not have."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}.{name}"
        for name in value.model_fields_set:
            yield from extra(getattr(value, name, None), f"{path}.{name}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from extra(member, f"{path}[{index}]")
