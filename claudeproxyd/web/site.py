"""A listener's factory: its connections, how many there may be, how long they may idle, and how they are seen out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import Site

from claudeproxyd.sockets import Outbox
from claudeproxyd.web.channel import GatewayChannel
from claudeproxyd.web.record import record
from claudeproxyd.web.request import GatewayRequest

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

    from claudeproxyd.web.gateway import Gateway

SPARE = 64
"""Connections above the limit that are told so; those above these are closed unheard."""
SWEEP = 1.0
"""Seconds between two looks at the deadlines."""


class GatewaySite(Site):
    """Serves one listener, or several that are to be the same. Made by tap."""

    protocol = GatewayChannel  # type: ignore[assignment]  # Twisted's wraps it, to speak HTTP/2 as well

    def __init__(self, root: Resource, gateway: Gateway, clock: IReactorTime) -> None:
        super().__init__(root, GatewayRequest, timeout=None, reactor=clock, parsePOSTFormSubmission=False)
        self.gateway = gateway
        """What requests from now on are served with."""
        self.clock = clock
        self.outbox = Outbox(clock)
        """Sends what its connections write."""
        self.draining = False
        self.channels: set[GatewayChannel] = set()
        """Every connection that is open."""
        self._sweeping: IDelayedCall | None = None
        self._drained: list[Deferred[None]] = []

    # -- Site

    def startFactory(self) -> None:
        """Twisted's own would open its access log, and a timer for that log's dates."""

    def stopFactory(self) -> None:
        """And close them here."""

    def acceptableProtocols(self) -> list[bytes]:
        """What is offered in TLS: our channel speaks nothing else."""
        return [b"http/1.1"]

    def log(self, request: Request) -> None:
        """A request is answered, or its client gone. Those of dispatch are told of when dispatch is done with them."""
        if isinstance(request, GatewayRequest) and not request.dispatched:
            record(request)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A channel; None, which closes the connection, where there are far too many."""
        open_now = len(self.channels)
        limit = self.gateway.limits.max_connections
        if limit and open_now >= limit + SPARE:
            return None
        channel: Any = super().buildProtocol(addr)
        channel.surplus = bool(limit) and open_now >= limit
        return channel

    # -- connections, as they tell of themselves

    def opened(self, channel: GatewayChannel) -> None:
        """A connection has been made."""
        self.channels.add(channel)
        if self._sweeping is None:
            self._sweeping = self.clock.callLater(SWEEP, self._sweep)

    def closed(self, channel: GatewayChannel) -> None:
        """A connection is lost."""
        self.channels.discard(channel)
        if self.channels:
            return
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        waiting, self._drained = self._drained, []
        for drained in waiting:
            drained.callback(None)

    def _sweep(self) -> None:
        self._sweeping = self.clock.callLater(SWEEP, self._sweep)
        now = self.clock.seconds()
        for channel in [each for each in self.channels if each.deadline <= now]:
            channel.expired()

    # -- the end

    def drain(self) -> Deferred[None]:
        """See the connections out: idle ones at once, others after their answer. Fires when the last is gone."""
        self.draining = True
        for channel in list(self.channels):
            if channel.idle:
                channel.loseConnection()
        return self._gone()

    def abort_all(self) -> Deferred[None]:
        """The time for that is over: end what still runs with a word to its client. Fires as :meth:`drain` does."""
        self.draining = True
        for channel in list(self.channels):
            channel.dismiss()
        return self._gone()

    def _gone(self) -> Deferred[None]:
        if not self.channels:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._drained.append(gone)
        return gone
