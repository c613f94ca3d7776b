"""The types of OpenAI's and Anthropic's SDKs, as judges that refuse whatever they do not know."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter

_LAZY = ("Iterable", "SequenceNotStr")


def strict_adapter(kind: Any) -> TypeAdapter[Any]:
    """A validator of requests: what is not in its SDK's types is refused, at whatever depth.

    An SDK takes any iterable for a list, which pydantic would look into only when somebody asks: so they are lists
    here.
    """
    package = kind.__module__.partition(".")[0]
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(f"{package}.types")]
    were = [(module, name, vars(module)[name]) for module in modules for name in _LAZY if name in vars(module)]
    try:
        for module, name, _ in were:
            setattr(module, name, list)
        return TypeAdapter(list[kind], config=ConfigDict(extra="forbid"))  # a TypedDict alone would take no config
    finally:
        for module, name, value in were:
            setattr(module, name, value)


def extra(value: Any, path: str) -> Iterator[str]:
    """The members of an answer that its SDK's types do not have."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}.{name}"
        for name in value.model_fields_set:
            yield from extra(getattr(value, name, None), f"{path}.{name}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from extra(member, f"{path}[{index}]")
