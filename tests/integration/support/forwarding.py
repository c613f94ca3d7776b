"""A server before other servers: it hands requests on, and answers back as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

_SENT = ("x-api-key", "x-goog-api-key", "authorization", "content-type")

Where = Callable[[Any], str]
"""The URL that a request is really for."""


class _Forward(Resource):
    isLeaf = True

    def __init__(self, where: Where) -> None:
        super().__init__()
        self._where = where

    def render(self, request: Any) -> int:
        Deferred.fromCoroutine(self._hand_on(request)).addErrback(self._failed, request)
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Any) -> None:
        failure.printTraceback()
        request.loseConnection()

    async def _hand_on(self, request: Any) -> None:
        headers = {name: value for name in _SENT if (value := request.getHeader(name)) is not None}
        body = request.content.read()
        method, url = request.method.decode(), self._where(request)
        answer = await treq.request(method, url, headers=headers, data=body, unbuffered=True, persistent=False)
        request.setResponseCode(answer.code)
        for name, values in answer.headers.getAllRawHeaders():
            request.responseHeaders.setRawHeaders(name, values)
        await answer.collect(request.write)
        request.finish()


def listen_before(where: Where) -> Any:
    """Serve at a free port of loopback; stop with ``stopListening``."""
    return reactor.listenTCP(0, Site(_Forward(where)), interface="127.0.0.1")  # type: ignore[attr-defined]


def listen_by_key(ports: Mapping[str, int]) -> Any:
    """A way to several upstreams, one for each API key: for those that cannot tell keys apart themselves."""
    return listen_before(
        lambda request: f"http://127.0.0.1:{ports[request.getHeader('x-api-key')]}{request.uri.decode()}"
    )
