"""Limits that several daemons share, by the script as a real Redis runs it."""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from importlib.util import find_spec
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.accounts.limits import Amounts, Asked, Limit, OverLimit, Reservation, UsageLimits
from claudeproxyd.config.state import InRedis
from claudeproxyd.interfaces import ILimitStore
from tests.accounts.support import NOON

if shutil.which("redis-server") is None and os.environ.get("CI_REQUIRE_CLIENTS") != "1":
    skip = "redis-server is not installed"
elif find_spec("hiredis") is None:
    skip = "hiredis is not installed"
else:
    from claudeproxyd.store.limit_script import BODY
    from claudeproxyd.store.redis_limits import ASK_INTERVAL, LEASE, RedisLimits
    from tests.store.real_redis import RealRedis, Way

    SCRIPT = "local now = tonumber(redis.call('GET', 'now'))" + BODY

ANN = Asked("ann", {"team": "ads"}, "m", ("p",))
DAY = 86_400.0


def limit(**fields: Any) -> Limit:
    """A limit of ten requests a day."""
    return Limit(**{"name": "l", "amount": 10, "measure": "requests", "per": "day", **fields})


def tokens(amount: int) -> Amounts:
    """So many, of one request."""
    return Amounts(0, amount, 0, 1)


class Host:
    """One daemon's limits."""

    def __init__(self, test: SharedTestCase, limits: tuple[Limit, ...], ledger: str = "l") -> None:
        self.ahead = 0.0
        """Of its clock."""
        self.limits = UsageLimits(limits)
        self.way = Way(test.redis, test.clock)
        self.test = test
        self.store = RedisLimits(test.clock, self.way, InRedis("r"), self.limits, self.now, ledger, SCRIPT)
        self.begun = self.store.start()

    def now(self) -> float:
        return NOON + self.test.clock.seconds() + self.ahead

    def ask(self, asked: Asked = ANN, amounts: Amounts | None = None) -> Deferred[Reservation] | Reservation:
        """What comes of it, perhaps later."""
        reserved: Any = self.store.reserve(asked, amounts or tokens(1), self.now())
        return reserved

    def reserve(self, asked: Asked = ANN, amounts: Amounts | None = None) -> Reservation | None:
        """None: refused."""
        try:
            reserved = self.ask(asked, amounts)
        except OverLimit:
            return None
        if isinstance(reserved, Reservation):
            return reserved
        self.test.turn(self.way.delay)
        return self.test.outcome(reserved)

    def settle(self, reservation: Reservation, amounts: Amounts | None = None, asked: Asked = ANN) -> list[str]:
        """What one came to; which limits warn."""
        warned = self.store.settle(asked, amounts or tokens(1), self.now())
        reservation.release()
        self.test.turn()
        return [counter.limit.name for counter in warned]

    def use(self, requests: int = 1) -> int:
        """Requests from begin to end; how many were served."""
        return sum(self._use() for _ in range(requests))

    def _use(self) -> bool:
        reservation = self.reserve()
        if reservation is None:
            return False
        self.settle(reservation)
        return True

    def figures(self) -> list[tuple[float, int]]:
        """Used and reserved, of each counter."""
        told = self.store.snapshot(self.now())
        self.test.turn()
        counters = self.test.successResultOf(told)
        return [(round(counter.used(self.now()), 3), counter.held) for counter in counters]

    def go(self) -> None:
        """Be without Redis."""
        self.way.break_off()
        self.test.turn()

    def come(self) -> None:
        """Be back."""
        self.way.there = True
        self.test.wait(11)

    def crash(self) -> None:
        """Say nothing more."""
        self.way.is_cut = True
        self.test.hosts.remove(self)


class SharedTestCase(SynchronousTestCase):
    """A Redis, and time that the test moves for it and for all daemons."""

    def setUp(self) -> None:
        """A fresh one."""
        self.redis = RealRedis()
        self.addCleanup(self.redis.stop)
        self.begin()

    def begin(self) -> None:
        """From nothing."""
        self.redis.ask("FLUSHALL")
        self.clock = Clock()
        self.hosts: list[Host] = []
        self.skew = 0.0
        self.turn()

    def host(self, *limits: Limit, **more: Any) -> Host:
        """One more daemon."""
        host = Host(self, limits, **more)
        self.hosts.append(host)
        self.turn()
        return host

    def turn(self, seconds: float = 0.0) -> None:
        """Let everything that is due happen."""
        self.redis.ask("SET", "now", int((NOON + self.clock.seconds() + seconds + self.skew) * 1e6))
        self.clock.advance(seconds)
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def wait(self, seconds: float) -> None:
        """Second by second."""
        for _ in range(int(seconds)):
            self.turn(1.0)
        self.turn(seconds % 1)

    def outcome(self, reserved: Deferred[Reservation]) -> Reservation | None:
        """None: refused."""
        found: list[Any] = []
        reserved.addCallbacks(found.append, lambda failure: found.append(failure.trap(OverLimit) and None))
        self.assertEqual(len(found), 1, "no answer")
        answer: Reservation | None = found[0]
        return answer


class SharingTests(SharedTestCase):
    """Redis is there."""

    def test_interface(self) -> None:
        """It is one."""
        verifyObject(ILimitStore, self.host().store)

    def test_budget(self) -> None:
        """Ten are served, whoever asks."""
        one, two = self.host(limit()), self.host(limit())
        self.assertEqual((one.use(4), two.use(9), one.use(3)), (4, 6, 0))
        self.assertEqual(one.figures(), [(10, 0)])

    def test_names(self) -> None:
        """Nobody is counted by another's counter, whatever he is called: the key of a long name is none of a short."""
        host = self.host(limit(each="client"))
        long = "a" * 300
        names = [long, "a" * 100, sha256(long.encode()).hexdigest(), "a:held", "a:used", "a"]
        for number, name in enumerate(names):
            for _ in range(number + 1):
                reservation = host.reserve(Asked(name, {}, "m", ("p",)))
                assert reservation is not None
                host.settle(reservation, asked=Asked(name, {}, "m", ("p",)))
        keys = [key.decode() for key in self.redis.ask("KEYS", "*:used")]
        self.assertEqual(len(keys), len(names))
        self.assertEqual(sorted(used for used, _ in host.figures()), [1, 2, 3, 4, 5, 6])

    def test_at_once(self) -> None:
        """Of two hundred that ask before anybody has an answer ten are let in."""
        hosts = [self.host(limit()) for _ in range(2)]
        asked: list[Any] = [host.ask() for _ in range(100) for host in hosts]
        self.turn()
        outcomes = [self.outcome(each) for each in asked]
        self.assertEqual(sum(each is not None for each in outcomes), 10)
        self.assertEqual([host.figures() for host in hosts], [[(0, 10)], [(0, 10)]])
        for each in outcomes:
            if each is not None:
                each.release()
        self.turn()
        self.assertEqual([host.figures() for host in hosts], [[(0, 0)], [(0, 0)]])

    def test_one_round_trip(self) -> None:
        """However many limits a request meets; and none where it meets none."""
        host = self.host(limit(name="a"), limit(name="b", per="minute"), limit(name="c", match={"client": "ann"}))
        host.use()
        before = host.way.commands
        reservation = host.reserve()
        assert reservation is not None
        self.assertEqual((host.way.commands - before, len(reservation.amounts)), (1, 3))
        host.settle(reservation)
        self.assertEqual(host.way.commands - before, 2)
        host.limits.reload([limit(match={"client": "bob"})])
        before = host.way.commands
        free = host.ask()
        assert isinstance(free, Reservation)
        free.release()
        self.turn()
        self.assertEqual(host.way.commands, before)

    def test_all_or_none(self) -> None:
        """Where one of the limits is full none of the others has anything reserved."""
        host = self.host(limit(name="a"), limit(name="b", amount=1))
        self.assertEqual(host.use(2), 1)
        self.assertEqual(host.figures(), [(1, 0), (1, 0)])
        with self.assertRaises(OverLimit) as caught:
            answer: Any = host.ask()
            self.turn()
            answer.addErrback(lambda failure: failure.raiseException())
            self.failureResultOf(answer).raiseException()
        self.assertEqual(caught.exception.counter.limit.name, "b")
        self.assertEqual(caught.exception.retry_after, DAY / 2)

    def test_rate(self) -> None:
        """Refills by Redis's clock, whatever those of the daemons say."""
        one, two = self.host(limit(per="minute")), self.host(limit(per="minute"))
        two.ahead = 30.0
        self.assertEqual((one.use(5), two.use(9)), (5, 5))
        self.wait(6)
        self.assertEqual((two.use(2), one.use(2)), (1, 0))
        self.skew = -3600  # set back: it refills nothing twice
        self.wait(3)
        self.assertEqual(one.use(), 0)
        self.wait(60)
        self.assertEqual((one.use(20), two.use(20)), (10, 0))

    def test_window(self) -> None:
        """The next day begins at nothing, but for what is under way."""
        one, two = self.host(limit()), self.host(limit())
        self.assertEqual(one.use(9), 9)
        under_way = two.reserve()
        assert under_way is not None
        for host in (one, two):
            host.ahead = DAY
        self.assertEqual(one.use(20), 9)
        two.settle(under_way)
        self.assertEqual((two.use(), one.use()), (0, 0))
        self.assertEqual(two.figures(), [(10, 0)])

    def test_settled_as_less(self) -> None:
        """Room that was reserved and not used is there for the other."""
        one, two = self.host(limit(measure="tokens", amount=100)), self.host(limit(measure="tokens", amount=100))
        first = one.reserve(amounts=tokens(100))
        assert first is not None
        self.assertIsNone(two.reserve())
        one.settle(first, tokens(40))
        second = two.reserve(amounts=tokens(60))
        assert second is not None
        self.assertEqual(one.figures(), [(40, 60)])
        two.settle(second, tokens(60))
        self.assertIsNone(one.reserve())

    def test_cancelled(self) -> None:
        """Who leaves before the answer holds nothing."""
        one, two = self.host(limit()), self.host(limit())
        answer: Any = one.ask()
        answer.addErrback(lambda _: None).cancel()
        self.turn()
        self.assertEqual(two.figures(), [(0, 0)])

    def test_daemon_that_died(self) -> None:
        """Its reservations are free when its lease is over; what it used stays."""
        one, two = self.host(limit(amount=3)), self.host(limit(amount=3))
        self.assertEqual(one.use(), 1)
        self.assertIsNotNone(one.reserve())
        self.assertIsNotNone(one.reserve())
        one.crash()
        self.assertEqual(two.use(), 0)
        self.wait(LEASE + 1)
        self.assertEqual(two.use(5), 2)

    def test_daemon_that_was_taken_for_dead(self) -> None:
        """It says anew what it holds."""
        one, two = self.host(limit(amount=1)), self.host(limit(amount=1))
        held = one.reserve()
        assert held is not None
        self.redis.ask(
            "ZREM", "claudeproxyd:limit:members", *self.redis.ask("ZRANGE", "claudeproxyd:limit:members", 0, -1)
        )
        self.wait(3)
        self.assertEqual(two.use(), 0)
        held.release()
        self.turn()
        self.assertEqual(two.use(), 1)

    def test_warning(self) -> None:
        """Is each daemon's own, by what all have used."""
        one, two = self.host(limit()), self.host(limit())
        self.assertEqual(one.use(7), 7)
        reservation = two.reserve()
        assert reservation is not None
        self.assertEqual(two.settle(reservation), ["l"])

    def test_reload(self) -> None:
        """Another amount goes on from what was used; what counts something else begins anew."""
        one, two = self.host(limit()), self.host(limit())
        self.assertEqual(one.use(9), 9)
        for amount, served in ((12, 3), (11, 0)):
            two.limits.reload([limit(amount=amount)])
            self.assertEqual(two.use(5), served)
        two.limits.reload([limit(per="week")])
        self.assertEqual(two.use(20), 10)
        two.limits.reload([limit(amount=13)])
        self.assertEqual(two.use(20), 1)

    def test_end(self) -> None:
        """A daemon that ends is no member any more."""
        one, two = self.host(limit()), self.host(limit())
        self.assertEqual(one.use(), 1)
        one.store.stop()
        self.turn()
        self.assertEqual(two.figures(), [(1, 0)])
        self.assertEqual(self.redis.ask("ZCARD", "claudeproxyd:limit:members"), 1)

    def test_ledger(self) -> None:
        """What the ledger knows of the time before counts once, and the oldest knowledge of each ledger holds."""
        for ledgers, expected in (("aa", 4), ("ab", 8)):
            self.begin()
            for name in ledgers:
                host = self.host(limit(), ledger=name)
                known = UsageLimits([limit()])
                for _ in range(4):
                    known.settle(ANN, tokens(1), NOON)
                host.store.recall(known, host.now())
                self.wait(1)
            self.assertEqual(host.figures(), [(expected, 0)])


class AwayTests(SharedTestCase):
    """Redis is not."""

    def test_never_there(self) -> None:
        """The start is not held up for long, and each counts by itself."""
        host = Host(self, (limit(),))
        host.go()
        self.assertNoResult(host.store.start())
        self.wait(2)
        self.successResultOf(host.store.start())
        self.assertEqual(host.use(20), 10)

    def test_shares(self) -> None:
        """Each may use its part of what is left, and together not more than that."""
        hosts = [self.host(limit(amount=32)) for _ in range(3)]
        self.assertEqual(hosts[0].use(2), 2)
        self.wait(2 * ASK_INTERVAL)
        for host in hosts:
            host.use()
        self.wait(2 * ASK_INTERVAL)
        for host in hosts:
            host.go()
        self.assertEqual([host.use(20) for host in hosts], [9, 9, 9])
        for host in hosts:
            host.come()
        self.assertEqual(hosts[0].figures(), [(32, 0)])

    def test_shares_of_a_rate(self) -> None:
        """Refill by so much less."""
        hosts = [self.host(limit(per="minute", amount=12)) for _ in range(2)]
        for host in hosts:
            self.assertEqual(host.use(2), 2)
        self.wait(120)
        for host in hosts:
            host.go()
        self.assertEqual([host.use(20) for host in hosts], [6, 6])
        self.wait(30)
        self.assertEqual([host.use(20) for host in hosts], [3, 3])

    def test_forgetful(self) -> None:
        """A Redis that has lost everything hears it from each daemon."""
        one, two = self.host(limit()), self.host(limit())
        self.assertEqual((one.use(3), two.use(4)), (3, 4))
        held = one.reserve()
        assert held is not None
        for host in (one, two):
            host.go()
        self.redis.ask("FLUSHALL")
        self.redis.ask("SCRIPT", "FLUSH")
        self.turn()
        for host in (one, two):
            host.come()
        self.assertEqual(two.figures(), [(7, 1)])
        one.settle(held)
        self.assertEqual(two.use(5), 2)

    def test_answer_lost(self) -> None:
        """What was done without the daemon's hearing of it counts once."""
        host = self.host(limit())
        host.way.is_deaf = True
        answer: Any = host.ask()
        host.store.settle(ANN, tokens(1), host.now())
        self.turn()
        self.assertNoResult(answer)
        host.go()
        host.way.is_deaf = False
        held = self.outcome(answer)
        assert held is not None
        held.release()
        host.come()
        self.assertEqual(host.figures(), [(1, 0)])

    def test_dead_link(self) -> None:
        """A link without an answer is given up within two questions, and nobody waits for longer."""
        host = self.host(limit())
        host.way.is_cut = True
        answer: Any = host.ask()
        self.turn()
        self.assertNoResult(answer)
        host.way.there = False
        self.wait(2 * ASK_INTERVAL)
        self.assertIsNotNone(self.outcome(answer))

    def test_of_no_use(self) -> None:
        """A script that is gone is loaded anew; the request is let in by what is known."""
        host = self.host(limit())
        self.redis.ask("SCRIPT", "FLUSH")
        self.assertEqual(host.use(), 1)
        self.wait(2)
        self.assertEqual(host.figures(), [(1, 0)])


class Truth:
    """What was really used of one limit, and what is under way; all of it, by whichever daemon."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.used: dict[int, float] = {}
        """By day; of a rate by 0."""
        self.since = NOON
        self.under_way: list[tuple[Host, Reservation, int]] = []
        self.largest: dict[Host, int] = {}
        """Reservations of each daemon."""

    def window(self, host: Host) -> int:
        return int(host.now() // DAY) if self.limit.is_budget else 0

    def pass_time(self, now: float) -> None:
        """Of a rate what is used is paid off."""
        if not self.limit.is_budget and self.used:
            self.used[0] = max(0.0, self.used[0] - (now - self.since) * self.limit.amount / 60)
        self.since = now

    def left(self, host: Host) -> float:
        reserved = sum(amount for _, _, amount in self.under_way)
        return self.limit.amount - self.used.get(self.window(host), 0) - reserved

    def use(self, host: Host, amount: int) -> None:
        window = self.window(host)
        self.used[window] = self.used.get(window, 0) + amount


STEPS = ("begin", "begin", "begin", "end", "end", "abort", "wait", "clock", "crash", "away", "back", "amnesia")


class ModelTests(SharedTestCase):
    """Whatever happens to two daemons and their Redis: never beyond by more than was under way, and nobody is refused
    while there is room."""

    @settings(max_examples=200, deadline=None)
    @given(
        st.sampled_from(["day", "minute"]),
        st.integers(1, 50),
        st.lists(
            st.tuples(st.sampled_from(STEPS), st.integers(0, 1), st.integers(0, 20), st.integers(0, 30)), max_size=40
        ),
    )
    def test_against_a_model(self, per: str, amount: int, steps: list[tuple[str, int, int, int]]) -> None:
        """A model that knows every request, whoever it was asked by."""
        self.begin()
        one = limit(amount=amount, measure="tokens", per=per)
        hosts = [self.host(one), self.host(one)]
        truth = Truth(one)
        away = was_away = blurred = has_crashed = False
        blur = amount / 60 * 11 / 2  # what half of a rate refills while one is back and the other is not
        for step, which, reserve, size in steps:
            host = hosts[which]
            truth.pass_time(NOON + self.clock.seconds())
            if step == "begin":
                left = truth.left(host)
                reservation = host.reserve(amounts=tokens(reserve))
                if not away and abs(left - 1) > 0.001 and not blurred:
                    self.assertEqual(reservation is not None, left >= 1, (step, left))
                if reservation is not None:
                    truth.under_way.append((host, reservation, reserve))
                    truth.largest[host] = max(truth.largest.get(host, 0), reserve)
            elif step in ("end", "abort"):
                if truth.under_way:
                    host, reservation, reserved = truth.under_way.pop(0)
                    took = min(size, reserved) if step == "end" else 0
                    host.settle(reservation, tokens(took))
                    truth.use(host, took)
            elif step == "wait":
                self.wait(size / 3)
            elif step == "clock" and (one.is_budget or not away):  # by itself a daemon has no other clock to go by
                host.ahead = (size % 3 - 1) * DAY
            elif step == "crash" and not away:
                has_crashed = True
                host.crash()
                self.wait(LEASE + 1)
                truth.under_way = [each for each in truth.under_way if each[0] is not host]
                hosts[which] = self.host(one)
            elif step == "away" and not away:
                for each in hosts:
                    each.figures()  # shares are of what each knew
                for each in hosts:
                    each.go()
                away = True
            elif away and step in ("back", "amnesia"):
                if step == "amnesia" and one.is_budget and not has_crashed:  # who would tell of its use?
                    self.redis.ask("FLUSHALL")
                for each in hosts:
                    each.way.there = True
                self.wait(11)
                away = False
            # The last to be let in, by each where they were by themselves, found room and took what it had reserved.
            was_away = was_away or away
            last = (sum if was_away else max)(truth.largest.values() or [0])
            blurred = was_away and not one.is_budget
            for used in truth.used.values():
                self.assertLess(used, amount + max(1, last) + blurred * blur)
        for host, reservation, _ in truth.under_way:
            host.settle(reservation, tokens(0))
        if not away:
            truth.pass_time(NOON + self.clock.seconds())
            for host in hosts:
                for used, held in host.figures():
                    expected = truth.used.get(truth.window(host), 0)
                    if not blurred:
                        self.assertAlmostEqual(used, expected, 2)
                    else:
                        self.assertGreaterEqual(used, expected - blur)
                    self.assertEqual(held, 0)
