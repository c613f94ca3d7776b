"""Looks up the names of hosts, so that one that hangs keeps no other waiting, and an outage of DNS is survived.

Twisted calls ``getaddrinfo`` in the reactor's ten threads, once for each connection: ten connections to a host whose
name server is silent, and no other host is found any more. Here there is one lookup a name, however many connections
wait for it, in threads of their own. A name that has been found once stays found: where the lookup fails, or takes
long, the last good addresses are taken.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IResolutionReceiver

    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.threads import InThread

#: Lookups at once, each of them of another name.
MAX_THREADS = 16
#: Seconds for a lookup, where the name's last addresses are known.
LOOKUP_TIMEOUT = 2.0
#: Names whose last addresses are kept; they come from the configuration, so there are few.
MAX_KNOWN_NAMES = 256

_TYPES = {socket.AF_INET: IPv4Address, socket.AF_INET6: IPv6Address}
Found = Sequence[tuple[type[IPv4Address] | type[IPv6Address], str]]


@implementer(IHostResolution)
class _Resolution:
    """One connection's wait for a name's addresses."""

    def __init__(self, name: str, tell: Callable[[Found], None]) -> None:
        self.name = name
        self._tell: Callable[[Found], None] | None = tell

    def cancel(self) -> None:
        """See the interface."""
        self._tell = None

    def end(self, found: Found) -> None:
        """Report the addresses, unless they were reported or the wait was cancelled."""
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(found)


class _Lookup:
    """A call of ``getaddrinfo`` that is under way."""

    def __init__(self) -> None:
        self.waiting: list[_Resolution] = []
        self.timer: IDelayedCall | None = None
        self.late = False
        """It has timed out: connections take the last good addresses instead."""


@implementer(IHostnameResolver)
class Names:
    """A name resolver for a reactor."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, in_thread: InThread) -> None:
        self._clock = clock
        self._in_thread = in_thread
        self._lookups: dict[str, _Lookup] = {}
        self._known: OrderedDict[str, Found] = OrderedDict()
        self._served_stale = 0

    def register(self, metrics: Registry) -> None:
        """Add the metrics of name lookups."""
        metrics.gauge("claudeproxyd_name_lookups", "Names being looked up.", lambda: len(self._lookups))
        metrics.gauge("claudeproxyd_names_known", "Names whose last address is kept.", lambda: len(self._known))
        metrics.counter(
            "claudeproxyd_stale_addresses_total",
            "Connections that took a name's last good address, since it could not be looked up in time.",
            lambda: self._served_stale,
        )

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        """See the interface."""

        semantics: Literal["TCP", "UDP"] = "UDP" if transportSemantics == "UDP" else "TCP"

        def tell(found: Found) -> None:
            for kind, address in found:
                if addressTypes is None or kind in addressTypes:
                    resolutionReceiver.addressResolved(kind(semantics, address, portNumber))
            resolutionReceiver.resolutionComplete()

        resolution = _Resolution(hostName, tell)
        resolutionReceiver.resolutionBegan(resolution)
        if isIPAddress(hostName):
            resolution.end([(IPv4Address, hostName)])
        elif isIPv6Address(hostName):
            resolution.end([(IPv6Address, hostName)])
        else:
            self._wait(hostName, resolution)
        return resolution

    def _wait(self, name: str, resolution: _Resolution) -> None:
        lookup = self._lookups.get(name)
        if lookup is None:
            lookup = self._lookups[name] = _Lookup()
            if name in self._known:
                lookup.timer = self._clock.callLater(LOOKUP_TIMEOUT, self._late, name, lookup)
            lookup.waiting.append(resolution)
            self._in_thread(_look_up, name).addBoth(self._answered, name, lookup)
        elif lookup.late:
            self._fall_back(name, [resolution])
        else:
            lookup.waiting.append(resolution)

    def _late(self, name: str, lookup: _Lookup) -> None:
        lookup.timer = None
        lookup.late = True
        waiting, lookup.waiting = lookup.waiting, []
        self._fall_back(name, waiting)

    def _answered(self, result: Found | Failure, name: str, lookup: _Lookup) -> None:
        del self._lookups[name]
        if lookup.timer is not None:
            lookup.timer.cancel()
        waiting, lookup.waiting = lookup.waiting, []
        if isinstance(result, Failure) or not result:
            self._fall_back(name, waiting)
            return
        self._known[name] = result
        self._known.move_to_end(name)
        if len(self._known) > MAX_KNOWN_NAMES:
            self._known.popitem(last=False)
        for resolution in waiting:
            resolution.end(result)

    def _fall_back(self, name: str, waiting: Sequence[_Resolution]) -> None:
        known = self._known.get(name, ())
        if known:
            self._served_stale += len(waiting)
        for resolution in waiting:
            resolution.end(known)


def _look_up(name: str) -> Found:
    """Return a name's addresses. Blocks, so it is called in a thread; raises OSError."""
    found: dict[tuple[Any, str], None] = {}
    for family, _, _, _, address in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM):
        if family in _TYPES:
            found[_TYPES[family], _scoped(address)] = None
    return list(found)


def _scoped(address: tuple[object, ...]) -> str:
    """Return the address as the reactor takes it: a link-local one needs its interface as well."""
    host, scope = str(address[0]), address[3] if len(address) == 4 else 0
    return f"{host}%{scope}" if scope and "%" not in host else host
