"""The client's own types, as judges that refuse whatever they do not know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anthropic.types import Message
from pydantic import BaseModel, TypeAdapter

_MESSAGE = TypeAdapter(Message)


def check_message(message: dict[str, Any]) -> None:
    """Raise unless it is a Message whose blocks, and all their members, the client's SDK knows."""
    unknown = [*_extra(_MESSAGE.validate_python(message), "message")]
    assert not unknown, f"unknown to the SDK: {unknown}"


def _extra(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}.{name}"
        for name in value.model_fields_set:
            yield from _extra(getattr(value, name, None), f"{path}.{name}")
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _extra(member, f"{path}[{index}]")
