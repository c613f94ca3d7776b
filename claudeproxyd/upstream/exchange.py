"""A request between its caller and the socket that will carry it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from claudeproxyd.upstream.errors import UpstreamError
    from claudeproxyd.upstream.response import Response


class Exchange:
    """One request on its way, until the head of its answer is in."""

    __slots__ = ("bodiless", "body", "deferred", "first_byte", "head", "idle", "stale", "undo")

    def __init__(
        self, head: bytes, body: bytes, bodiless: bool, first_byte: float, idle: float, stale: Callable[[], object]
    ) -> None:
        self.head = head
        self.body = body
        self.bodiless = bodiless
        """The answer has no body whatever its head says: HEAD."""
        self.first_byte = first_byte or inf
        self.idle = idle or inf
        self.stale = stale
        self.undo: Callable[[], object]
        """Takes it back from whatever it is waiting for at present."""
        self.deferred: Deferred[Response] | None = Deferred(self._cancel)

    def _cancel(self, _: Deferred[Response]) -> None:
        self._end()
        self.undo()

    def succeed(self, response: Response) -> None:
        deferred = self._end()
        if deferred is not None:
            deferred.callback(response)

    def fail(self, error: UpstreamError) -> None:
        deferred = self._end()
        if deferred is not None:
            deferred.errback(error)

    def _end(self) -> Deferred[Response] | None:
        """Who is to be told, if nobody was. The body goes: a connection or a traceback may outlive its use."""
        deferred, self.deferred = self.deferred, None
        self.body = b""
        return deferred
