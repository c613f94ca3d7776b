"""Small HTTP servers on loopback."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site


class LoopbackServer(Resource):
    """Answers all paths itself, as a subclass has it, at a free port."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self._port: Any = None

    def start(self) -> None:
        """Listen."""
        self._port = reactor.listenTCP(0, Site(self), interface="127.0.0.1")  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """Listen no more."""
        await self._port.stopListening()

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"http://127.0.0.1:{self._port.getHost().port}"
