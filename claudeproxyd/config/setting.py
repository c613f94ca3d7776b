"""How a setting is declared, here and by plugins: a field of a dataclass, with its documentation and bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def setting(
    default: Any,
    doc: str,
    *,
    least: float | None = 0,
    choices: tuple[str, ...] = (),
    restart: bool = False,
    shown: bool = True,
) -> Any:
    """Return a dataclass field with its documentation; list and dict defaults are copied for each instance.

    *least* bounds numbers from below (None: not at all), *choices* are the words that a string may be, *restart* marks
    what a reload cannot change, and *shown* is False for what may hold a secret without being a :class:`Secret`.
    """
    metadata = {"doc": doc, "least": least, "choices": choices, "restart": restart}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata, repr=shown)
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata, repr=shown)
    return field(default=default, metadata=metadata, repr=shown)


def required(doc: str, *, least: float | None = 0, choices: tuple[str, ...] = (), digest: bool = False) -> Any:
    """Return a setting without a default. *digest*: the secret may also be given as ``sha256:<hex>``."""
    return field(metadata={"doc": doc, "least": least, "choices": choices, "restart": False, "digest": digest})


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """Settings of a provider kind that has none of its own."""
