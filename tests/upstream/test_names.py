"""Looking up names: one that hangs keeps no other waiting, and what was found stays found."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.upstream import names
from claudeproxyd.upstream.names import LOOKUP_TIMEOUT, MAX_KNOWN_NAMES, Names

verifyClass(IHostnameResolver, Names)

ONE = [(IPv4Address, "192.0.2.1")]
TWO = [(IPv4Address, "192.0.2.2"), (IPv6Address, "2001:db8::2")]


@implementer(IResolutionReceiver)
class Receiver:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.began: Any = None
        self.found: list[Any] = []
        self.complete = 0

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        self.began = resolutionInProgress

    def addressResolved(self, address: Any) -> None:
        assert not self.complete
        self.found.append(address)

    def resolutionComplete(self) -> None:
        self.complete += 1


verifyClass(IResolutionReceiver, Receiver)


class NamesTests(SynchronousTestCase):
    """With threads that end when a test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[str, Deferred[Any]]] = []
        self.names = Names(self.clock, self.in_thread)  # type: ignore[arg-type]  # a clock in all but its declaration

    def in_thread(self, function: Any, name: str) -> Deferred[Any]:
        """Begin work."""
        work: Deferred[Any] = Deferred()
        self.asked.append((name, work))
        return work

    def ask(self, name: str = "api.example", **more: Any) -> Receiver:
        """Somebody wants to connect."""
        receiver = Receiver()
        self.names.resolveHostName(receiver, name, 443, **more)
        return receiver

    def hosts(self, receiver: Receiver) -> list[str] | None:
        """What somebody was told, if anything."""
        self.assertLessEqual(receiver.complete, 1)
        return [address.host for address in receiver.found] if receiver.complete else None

    def test_found(self) -> None:
        """Every address with its port, in order; of the wanted types alone."""
        receiver, four = self.ask(), self.ask(addressTypes=[IPv4Address])
        verifyObject(IHostResolution, receiver.began)
        self.assertEqual(receiver.began.name, "api.example")
        self.asked[0][1].callback(TWO)
        self.assertEqual(receiver.found, [IPv4Address("TCP", "192.0.2.2", 443), IPv6Address("TCP", "2001:db8::2", 443)])
        self.assertEqual(self.hosts(four), ["192.0.2.2"])

    def test_one_question_a_name(self) -> None:
        """However many wait for a name that hangs, others are looked up beside it."""
        waiting = [self.ask("hangs.example") for _ in range(100)]
        other = self.ask("fine.example")
        self.assertEqual([name for name, _ in self.asked], ["hangs.example", "fine.example"])
        self.asked[1][1].callback(ONE)
        self.assertEqual(self.hosts(other), ["192.0.2.1"])
        self.asked[0][1].callback(TWO)
        self.assertEqual({tuple(self.hosts(each) or ()) for each in waiting}, {("192.0.2.2", "2001:db8::2")})

    def test_not_found(self) -> None:
        """A name without an address, and a question that fails, are told by no address at all."""
        for result in ([], socket.gaierror(-2, "unknown"), OSError(24, "too many")):
            receiver = self.ask()
            work = self.asked[-1][1]
            work.errback(result) if isinstance(result, Exception) else work.callback(result)
            self.assertEqual(self.hosts(receiver), [])

    def test_last_good_answer(self) -> None:
        """A name that was found is still found when the next question fails, hangs, or is answered by nothing."""
        self.ask()
        self.asked[-1][1].callback(ONE)
        for result in ([], socket.gaierror(-3, "try again")):
            receiver = self.ask()
            work = self.asked[-1][1]
            work.errback(result) if isinstance(result, Exception) else work.callback(result)
            self.assertEqual(self.hosts(receiver), ["192.0.2.1"])
        first, second = self.ask(), self.ask()
        self.clock.advance(LOOKUP_TIMEOUT - 0.1)
        self.assertIsNone(self.hosts(first))
        self.clock.advance(0.1)
        late = self.ask()
        self.assertEqual([self.hosts(each) for each in (first, second, late)], [["192.0.2.1"]] * 3)
        self.assertEqual(len(self.asked), 4)
        self.asked[-1][1].callback(TWO)
        receiver = self.ask()
        self.asked[-1][1].errback(socket.gaierror())
        self.assertEqual(self.hosts(receiver), ["192.0.2.2", "2001:db8::2"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_fresh_answer(self) -> None:
        """What is known does not keep a new address from being taken: each connection asks."""
        for found in (ONE, TWO, ONE):
            receiver = self.ask()
            self.asked[-1][1].callback(found)
            self.assertEqual(self.hosts(receiver), [address for _, address in found])

    def test_addresses(self) -> None:
        """An address is itself, at once and without a thread."""
        self.assertEqual(self.ask("127.0.0.1").found, [IPv4Address("TCP", "127.0.0.1", 443)])
        self.assertEqual(self.ask("::1").found, [IPv6Address("TCP", "::1", 443)])
        self.assertEqual(self.asked, [])

    def test_cancelled(self) -> None:
        """Who has given up is told nothing."""
        receiver = self.ask()
        receiver.began.cancel()
        self.asked[0][1].callback(ONE)
        self.assertIsNone(self.hosts(receiver))

    def test_bounded(self) -> None:
        """So many names are remembered, those that were asked for last."""
        for number in range(MAX_KNOWN_NAMES + 1):
            self.ask(f"n{number}")
            self.asked[-1][1].callback(ONE)
        for number, hosts in ((0, []), (1, ["192.0.2.1"])):
            receiver = self.ask(f"n{number}")
            self.asked[-1][1].callback([])
            self.assertEqual(self.hosts(receiver), hosts)

    def test_metrics(self) -> None:
        """How many are being looked up, and how often an old answer had to do."""
        metrics = Metrics()
        self.names.register(metrics)
        self.ask()
        self.assertIn(b"claudeproxyd_name_lookups{} 1.0", metrics.render())
        self.asked[-1][1].callback(ONE)
        self.ask()
        self.asked[-1][1].callback([])
        self.assertIn(b"claudeproxyd_stale_addresses_total{} 1.0", metrics.render())
        self.assertIn(b"claudeproxyd_names_known{} 1.0", metrics.render())

    def test_getaddrinfo(self) -> None:
        """Both families, each address once; link-local ones with their interface."""
        given = [
            (socket.AF_INET, 1, 6, "", ("192.0.2.1", 0)),
            (socket.AF_INET, 1, 6, "", ("192.0.2.1", 0)),
            (socket.AF_INET6, 1, 6, "", ("2001:db8::1", 0, 0, 0)),
            (socket.AF_INET6, 1, 6, "", ("fe80::1", 0, 0, 2)),
            (socket.AF_UNIX, 1, 6, "", ("/x",)),
        ]
        self.patch(names.socket, "getaddrinfo", lambda *args, **more: given)
        self.assertEqual(
            names._look_up("x"),
            [(IPv4Address, "192.0.2.1"), (IPv6Address, "2001:db8::1"), (IPv6Address, "fe80::1%2")],
        )
