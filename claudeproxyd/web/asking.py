"""Reads what operators ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

import msgspec

from claudeproxyd.errors import ClaudeError
from claudeproxyd.json_guards import UNREADABLE

if TYPE_CHECKING:
    from claudeproxyd.web.request import GatewayRequest

T = TypeVar("T")


def read_body(request: GatewayRequest, kind: type[T]) -> T:
    """Return the body as a *kind*. Raises ClaudeError 400."""
    try:
        return msgspec.json.decode(request.take_body().data or b"{}", type=kind)
    except UNREADABLE as error:
        raise ClaudeError(400, str(error)) from None


def read_query(request: GatewayRequest, kind: type[T]) -> T:
    """Return the query as a *kind*. Raises ClaudeError 400."""
    try:
        return msgspec.convert(dict(parse_qsl(request.query.decode("latin-1"))), kind, strict=False)
    except msgspec.ValidationError as error:
        raise ClaudeError(400, str(error)) from None
