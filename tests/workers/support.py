"""Both ends of a channel in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from claudeproxyd.config.loading import Loaded
from claudeproxyd.workers.channel import ControlChannel, Handler
from claudeproxyd.workers.state import Changes
from claudeproxyd.workers.worker import Greeting


class Pair:
    """A parent's end and a worker's; what is sent arrives when :meth:`pump` is called."""

    def __init__(
        self, clock: Clock, parent: Mapping[str, Handler] | None = None, worker: Mapping[str, Handler] | None = None
    ) -> None:
        self.lost: list[ControlChannel] = []
        self.parent = ControlChannel(clock, {} if parent is None else parent, self.lost.append)
        self.worker = ControlChannel(clock, {} if worker is None else worker, self.lost.append)
        self.transports = (StringTransport(), StringTransport())
        for end, transport in zip((self.parent, self.worker), self.transports, strict=True):
            end.makeConnection(transport)

    def pump(self) -> bool:
        """Deliver what was sent until now, in both directions. Return whether there was anything."""
        to_worker, to_parent = (transport.value() for transport in self.transports)
        for transport in self.transports:
            transport.clear()
        if to_worker:
            self.worker.dataReceived(to_worker)
        if to_parent:
            self.parent.dataReceived(to_parent)
        return bool(to_worker or to_parent)

    def settle(self) -> None:
        """Deliver until nobody has anything to say."""
        while self.pump():
            pass

    def cut(self) -> None:
        """The connection is gone."""
        self.parent.connectionLost()
        self.worker.connectionLost()


def greeting(loaded: Loaded, slot: int, state: Changes) -> Greeting:
    """What one of two workers is begun with."""
    return Greeting(
        slot=slot,
        count=2,
        config=loaded.config,
        files=loaded.files,
        sockets=[],
        own_hop=b"hop",
        state=state,
        held={},
    )


def refuse(*_: Any) -> None:
    """A handler with a fault."""
    raise ValueError("a fault")
