"""A way to several upstreams, one for each API key: for those that cannot tell keys apart themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site


class ByKey(Resource):
    """Hands each request on to the port of its ``x-api-key``, and the answer back as it comes."""

    isLeaf = True

    def __init__(self, ports: Mapping[str, int]) -> None:
        super().__init__()
        self._ports = ports

    def render(self, request: Any) -> int:
        Deferred.fromCoroutine(self._hand_on(request)).addErrback(self._failed, request)
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Any) -> None:
        failure.printTraceback()
        request.loseConnection()

    async def _hand_on(self, request: Any) -> None:
        key = request.getHeader("x-api-key")
        url = f"http://127.0.0.1:{self._ports[key]}{request.uri.decode()}"
        headers = {"x-api-key": key, "content-type": "application/json"}
        method = request.method.decode()
        answer = await treq.request(
            method, url, headers=headers, data=request.content.read(), unbuffered=True, persistent=False
        )
        request.setResponseCode(answer.code)
        for name, values in answer.headers.getAllRawHeaders():
            request.responseHeaders.setRawHeaders(name, values)
        await answer.collect(request.write)
        request.finish()


def listen_by_key(ports: Mapping[str, int]) -> Any:
    """Serve at a free port of loopback; stop with ``stopListening``."""
    return reactor.listenTCP(0, Site(ByKey(ports)), interface="127.0.0.1")  # type: ignore[attr-defined]
