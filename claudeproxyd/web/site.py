"""A listener's factory: opens, limits, times out and drains its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from twisted.web.resource import Resource
from zope.interface import implementer

from claudeproxyd.remembered import Remembered
from claudeproxyd.slices import Slice
from claudeproxyd.sockets import NEXT_TURN, Hub
from claudeproxyd.turnstile import Turnstile
from claudeproxyd.web.channel import KEEP_ALIVE_TIMEOUT, GatewayChannel
from claudeproxyd.web.ingress import authorize
from claudeproxyd.web.record import record
from claudeproxyd.web.root import Endpoint, endpoint_at

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

    from claudeproxyd.web.gateway import Gateway
    from claudeproxyd.web.request import GatewayRequest

#: Connections above the limit that are answered with 503; beyond these, they are closed when accepted.
MAX_REFUSED_CONNECTIONS = 64
#: Seconds for which a connection may stay idle in a drain: a request may be on its way, and most clients repeat none.
DRAIN_GRACE = 2.0
#: Seconds between two checks of the deadlines.
SWEEP_INTERVAL = 1.0


@implementer(IProtocolNegotiationFactory)
class GatewaySite(Factory):
    """Serves one listener, or several that are to be the same. Made by the daemon."""

    def __init__(self, root: Resource, gateway: Gateway, clock: IReactorTime, hub: Hub | None = None) -> None:
        self.gateway = gateway
        """What new requests are served with."""
        self.clock = clock
        self.hub = hub or Hub(clock)
        """Reads and sends for the connections: the process's, or one of its own."""
        self.turnstile = Turnstile(clock)
        """Lets their requests in."""
        self.heavy = Turnstile(clock)
        """Lets in what takes long: pieces of compressed bodies, and large bodies that are all there."""
        self.draining = False
        """Not ready, and each answer is the last on its connection."""
        self.keep_alive = KEEP_ALIVE_TIMEOUT
        self._endpoints = Remembered[bytes, Endpoint](lambda path: endpoint_at(root, path))
        """By their paths, as clients write them."""
        self.channels: set[GatewayChannel] = set()
        """All open connections."""
        self._sweeping: IDelayedCall | None = None
        self._late: list[GatewayChannel] = []
        """What the last look has found, and was not dealt with."""
        self._slice = Slice(clock.seconds)
        self._drained: list[Deferred[None]] = []

    # -- Factory

    def getResourceFor(self, request: GatewayRequest) -> Endpoint:
        """Return the endpoint that answers a request whose head is in. Raises ClaudeError, see :func:`authorize`."""
        return authorize(request, self._endpoints[request.path])

    def acceptableProtocols(self) -> list[bytes]:
        """Return the protocols that TLS offers: the channel speaks HTTP/1.1 alone."""
        return [b"http/1.1"]

    def log(self, request: GatewayRequest) -> None:
        """Record a request that is over, unless dispatch has it: that is recorded when its runner is done."""
        if not request.dispatched:
            record(request)

    def buildProtocol(self, addr: IAddress | None) -> GatewayChannel | None:
        """Return a channel; or None, which closes the connection, where there are far too many."""
        open_now = len(self.channels)
        limit = self.gateway.limits.max_connections
        if limit and open_now >= limit + MAX_REFUSED_CONNECTIONS:
            return None
        channel = GatewayChannel(self)
        channel.factory = self
        channel.over_limit = bool(limit) and open_now >= limit
        return channel

    # -- called by the channels

    def opened(self, channel: GatewayChannel) -> None:
        """Note that a connection was made."""
        self.channels.add(channel)
        if self._sweeping is None:
            self._sweeping = self.clock.callLater(SWEEP_INTERVAL, self._sweep)

    def closed(self, channel: GatewayChannel) -> None:
        """Note that a connection was lost."""
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
        """Have those act whose deadlines have passed, in slices: thousands may have come at once, and said nothing."""
        self._sweeping = self.clock.callLater(SWEEP_INTERVAL, self._sweep)
        now = self.clock.seconds()
        if not self._late:
            self._late = [each for each in self.channels if each.deadline <= now]
        self._slice.renew()
        while self._late and not self._slice.over:
            channel = self._late.pop()
            if channel in self.channels and channel.deadline <= now:
                self._slice.run(channel.expired)
        if self._late and self._sweeping is not None:
            self._sweeping.reset(NEXT_TURN)

    # -- the end

    def leave(self) -> None:
        """Be ready no more, and have each answer that begins from now on be the last on its connection.

        Whoever is there, or comes, is served on.
        """
        self.draining = True
        for channel in self.channels:
            channel.leave()

    def drain(self) -> Deferred[None]:
        """Let all connections end: with an answer, or idle for :data:`DRAIN_GRACE`. Fires when the last is gone.

        Who was promised that the connection stays may send a request in the moment that it closes, and nobody can tell
        then whether it was served: so none is closed at once.
        """
        self.leave()
        self.keep_alive = DRAIN_GRACE
        for channel in self.channels:
            channel.hasten(DRAIN_GRACE)
        return self._gone()

    def abort_all(self) -> Deferred[None]:
        """End what still runs with an error to its client, and close all connections. Fires as :meth:`drain` does."""
        self.draining = True
        for channel in list(self.channels):
            channel.shut_down()
        return self._gone()

    def _gone(self) -> Deferred[None]:
        if not self.channels:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._drained.append(gone)
        return gone
