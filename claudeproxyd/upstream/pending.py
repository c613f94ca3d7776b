"""A request between its caller and the socket that will carry it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from claudeproxyd.upstream.errors import UpstreamError
    from claudeproxyd.upstream.response import Response


class PendingRequest:
    """One request, until the head of its response is in."""

    __slots__ = ("body", "cancel", "deferred", "first_byte", "head", "head_request", "idle", "stale")

    def __init__(
        self, head: bytes, body: bytes, head_request: bool, first_byte: float, idle: float, stale: Callable[[], object]
    ) -> None:
        """*first_byte* and *idle* are time-outs in seconds, 0 for none; *stale* is called before it is sent again."""
        self.head = head
        self.body = body
        self.head_request = head_request
        """The method is HEAD: the response has no body, whatever its head says."""
        self.first_byte = first_byte or inf
        self.idle = idle or inf
        self.stale = stale
        self.cancel: Callable[[], object]
        """Withdraws the request from what it waits for at present. Set by whoever it waits for."""
        self.deferred: Deferred[Response] | None = Deferred(self._cancelled)

    def succeed(self, response: Response) -> None:
        """Fire the Deferred with *response*, unless it has fired or was cancelled."""
        deferred = self._settle()
        if deferred is not None:
            deferred.callback(response)

    def fail(self, error: UpstreamError) -> None:
        """Fire the Deferred with *error*, unless it has fired or was cancelled."""
        deferred = self._settle()
        if deferred is not None:
            deferred.errback(error)

    def _cancelled(self, _: Deferred[Response]) -> None:
        self._settle()
        self.cancel()

    def _settle(self) -> Deferred[Response] | None:
        """Return the Deferred if it is still to fire, and let go of the body: a traceback may outlive its use."""
        deferred, self.deferred = self.deferred, None
        self.body = b""
        return deferred
