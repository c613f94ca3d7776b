"""Reads the query of a request's target."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

import msgspec

from claudeproxyd.errors import ClaudeError

if TYPE_CHECKING:
    from claudeproxyd.web.request import GatewayRequest

Query = TypeVar("Query")


def read_query(request: GatewayRequest, kind: type[Query]) -> Query:
    """Return the query as that Struct. Raises ClaudeError, 400: what is wrong with it."""
    try:
        return msgspec.convert(dict(parse_qsl(request.query.decode("latin-1"))), kind, strict=False)
    except msgspec.ValidationError as error:
        raise ClaudeError(400, str(error)) from None
