"""``/v1/models``: the catalog as the API lists it, and no more of it than the client may use."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec

from claudeproxyd.errors import ClaudeError
from claudeproxyd.observe.usage import foreign
from claudeproxyd.web.gateway import PublicGateway
from claudeproxyd.web.root import Endpoint, NotFound, Walk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from claudeproxyd.web.request import GatewayRequest

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 1000

_encode = msgspec.json.Encoder().encode


class ModelList(Endpoint):
    """A page of the list; its children are the models."""

    def getChild(self, path: bytes, walk: Walk) -> Endpoint:
        """The model of that id, which may hold slashes."""
        model = b"/".join([path, *walk.postpath]).decode("utf-8", "replace")
        return OneModel(model) if model else NotFound()

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer with the page that the query asks for."""
        query = parse_qs(request.query.decode("latin-1"))
        limit = _limit(query.get("limit", [str(_DEFAULT_LIMIT)])[-1])
        after, before = query.get("after_id", [""])[-1], query.get("before_id", [""])[-1]
        if after and before:
            raise ClaudeError(400, "after_id: cannot be given together with before_id")
        entries = visible(request)
        if before:
            end = _index(entries, before, "before_id")
            page = entries[max(0, end - limit) : end]
            has_more = end > limit
        else:
            start = _index(entries, after, "after_id") + 1 if after else 0
            page = entries[start : start + limit]
            has_more = len(entries) > start + limit
        request.answer_json(
            _encode(
                {
                    "data": page,
                    "has_more": has_more,
                    "first_id": page[0]["id"] if page else None,
                    "last_id": page[-1]["id"] if page else None,
                }
            )
        )


class OneModel(Endpoint):
    """``/v1/models/{id}``."""

    isLeaf = True

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer with one entry."""
        for entry in visible(request):
            if entry["id"] == self._model:
                request.answer_json(_encode(entry))
                return
        raise ClaudeError(404, f"model: {foreign(self._model)}")


def visible(request: GatewayRequest) -> Sequence[Mapping[str, object]]:
    """Return the catalog's entries that the client may use."""
    gateway, principal = request.gateway, request.principal
    assert isinstance(gateway, PublicGateway)
    assert principal is not None
    return [entry for entry in gateway.catalog.entries() if principal.may_use(entry["id"])]


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= _MAX_LIMIT):
        raise ClaudeError(400, f"limit: must be an integer from 1 to {_MAX_LIMIT}")
    return int(text)


def _index(entries: Sequence[Mapping[str, object]], model: str, name: str) -> int:
    for index, entry in enumerate(entries):
        if entry["id"] == model:
            return index
    raise ClaudeError(400, f"{name}: there is no model {foreign(model)}")
