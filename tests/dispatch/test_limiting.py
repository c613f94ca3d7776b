"""Limits as dispatch meets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.accounts.limits import Amounts, Asked, Limit, Reservation, UsageLimits
from claudeproxyd.accounts.local_limits import LocalLimits
from claudeproxyd.accounts.prices import OwnPrice, Price, Prices
from claudeproxyd.dispatch.admission import ConcurrencyAdmission, limits_told
from claudeproxyd.dispatch.limiting import MAX_TOKENS_SAID, LimitAdmission
from claudeproxyd.dispatch.request import ApiRequest
from claudeproxyd.errors import ClaudeError, Refusal
from claudeproxyd.happenings import Happening
from claudeproxyd.interfaces import IAdmission, ILimitedPermit, IUsageSink
from claudeproxyd.leases import Route
from claudeproxyd.messages.envelope import read_envelope
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.observe.transitions import Transition, Transitions
from claudeproxyd.observe.usage import COUNT_TOKENS
from claudeproxyd.principals import Principal
from tests.accounts.support import NOON, record

BODY = b'{"model":"claude-a","max_tokens":%d,"messages":[],"x":"%b"}'


def request(max_tokens: int = 1000, size: int = 0, name: str = "laptop", count_tokens: bool = False) -> ApiRequest:
    """Of somebody in the team that sells ads."""
    body = BODY % (max_tokens, b"x" * size)
    return ApiRequest(
        request_id="req_1",
        principal=Principal(name, {"team": "ads"}, max_concurrency=3),
        envelope=read_envelope(body),
        headers=[],
        query=b"",
        count_tokens=count_tokens,
        started=0.0,
    )


class LimitAdmissionTests(SynchronousTestCase):
    """On a clock of its own."""

    def setUp(self) -> None:
        """No limits yet."""
        self.now = NOON
        self.concurrency = ConcurrencyAdmission()
        transitions = Transitions(lambda: self.now)
        self.told: list[Transition] = []
        transitions.subscribe(self.told.append)
        self.admission = LimitAdmission(UsageLimits(), lambda: self.now, self.concurrency.admit, transitions)
        self.admission.routes = lambda model: (Route("cheap", "m"), Route("dear", "m"))
        self.seen = EventLoggingObserver()
        globalLogPublisher.addObserver(self.seen)
        self.addCleanup(globalLogPublisher.removeObserver, self.seen)

    def limit(self, **fields: Any) -> None:
        """Have one."""
        self.admission.limits.reload([Limit(**{"name": "ads, a day", "per": "day", **fields})])

    def refusal(self, **fields: Any) -> ClaudeError:
        """What the client is told."""
        with self.assertRaises(ClaudeError) as caught:
            self.admission.admit(request(**fields))
        return caught.exception

    def reserved(self) -> list[int]:
        """By each counter."""
        return [counter.reserved for counter in self.admission.limits]

    def test_interfaces(self) -> None:
        """It is asked as one, and told as the other."""
        verifyObject(IAdmission, self.admission)
        verifyObject(IUsageSink, self.admission)

    def test_no_model_answers_with_so_much(self) -> None:
        """What a client says that it may come to is bounded: a limit is shared, and numbers have to be exact."""
        self.limit(measure="tokens", amount=5_000_000)
        for _ in range(2):
            self.admission.admit(request(max_tokens=10**30))
        self.assertLess(self.reserved()[0], 2 * MAX_TOKENS_SAID + 100)
        self.admission.admit(request())

    def test_no_limits(self) -> None:
        """The other admission's permit is all there is."""
        permit = self.admission.admit(request())
        self.assertEqual(self.concurrency.running, {"laptop": 1})
        permit.done(None, "ok")  # type: ignore[union-attr]
        self.assertEqual(self.concurrency.running, {})

    def test_reserved_until_it_is_over(self) -> None:
        """Input by its bytes, output by max_tokens; a place besides."""
        self.limit(measure="tokens", amount=100_000)
        asked = request(max_tokens=1000, size=4000)
        permit = self.admission.admit(asked)
        self.assertEqual(self.reserved(), [1000 + len(asked.envelope.body) // 4])
        self.assertEqual(self.concurrency.running, {"laptop": 1})
        permit.done(None, "ok")  # type: ignore[union-attr]
        self.assertEqual((self.reserved(), self.concurrency.running), ([0], {}))

    def test_money(self) -> None:
        """By the dearest of the routes, as it may go there; what nobody priced costs nothing."""
        self.limit(measure="usd", amount=10**12)
        self.admission.admit(request())
        self.assertEqual(self.reserved(), [0])
        self.admission.prices = Prices(
            [
                OwnPrice(model="*", provider="cheap", price=Price.per_million(1, 1)),
                OwnPrice(model="*", provider="dear", price=Price.per_million(0, 30)),
            ]
        )
        self.admission.admit(request(max_tokens=1000))
        self.assertEqual(self.reserved(), [30_000_000])

    def test_money_of_long_contexts(self) -> None:
        """What may have more input than the price is for reserves by the price beyond."""
        self.limit(measure="usd", amount=10**12)
        beyond = Price.per_million(0, 60)
        price = Price.per_million(0, 30, above=200_000, beyond=beyond)
        self.admission.prices = Prices([OwnPrice(model="*", price=price)])
        self.admission.admit(request(max_tokens=1000, size=1_000_000))
        self.assertEqual(self.reserved(), [60_000_000])

    def test_counting_is_free(self) -> None:
        """A count_tokens is neither refused nor counted."""
        self.limit(measure="requests", amount=1)
        self.admission.record(record(operation=COUNT_TOKENS))
        self.admission.record(record())
        self.refusal()
        self.admission.admit(request(count_tokens=True))

    def test_words_of_a_budget(self) -> None:
        """Which limit, how much, until when; no client is to try again by itself."""
        self.limit(measure="usd", amount=5 * 10**11, each="label.team", per="month")
        self.admission.record(record(nano_usd=500_120_000_000))
        error = self.refusal()
        self.assertEqual(
            (error.status, error.message),
            (
                429,
                'The limit "ads, a day" for ads is used up: $500.12 of $500.00.'
                " It begins anew on 2027-01-01 at 00:00 UTC.",
            ),
        )
        self.assertEqual((error.type, error.refusal), ("rate_limit_error", Refusal.BUDGET))
        self.assertEqual(dict(error.headers), {b"retry-after": b"2635200", b"x-should-retry": b"false"})
        self.assertEqual(self.concurrency.running, {}, "its place is free")

    def test_words_of_a_rate(self) -> None:
        """Clients may try again, and are told when."""
        self.limit(measure="requests", amount=1, per="minute")
        self.admission.record(record())
        error = self.refusal()
        self.assertIn("1 requests a minute. There is room again in 60 s", error.message)
        self.assertEqual(
            list(error.headers),
            [
                (b"retry-after", b"60"),
                (b"anthropic-ratelimit-requests-limit", b"1"),
                (b"anthropic-ratelimit-requests-remaining", b"0"),
                (b"anthropic-ratelimit-requests-reset", b"2026-12-01T12:01:00Z"),
            ],
        )

    def test_told(self) -> None:
        """A client sees its limits, of each measure the one that leaves least, with its own request in it; no money."""
        self.admission.limits.reload(
            [
                Limit(name="a", measure="requests", amount=60, per="minute", each="client"),
                Limit(name="b", measure="input_tokens", amount=1_000_000, per="day"),
                Limit(name="c", measure="input_tokens", amount=100_000, per="hour"),
                Limit(name="d", measure="usd", amount=10**12, per="month"),
                Limit(name="e", measure="requests", amount=1, per="day", match={"client": "desk"}),
            ]
        )
        self.admission.record(record(input_tokens=9_930))
        asked = request(size=4000)
        permit = self.admission.admit(asked)
        self.assertTrue(verifyObject(ILimitedPermit, permit))
        left = 100_000 - 10_000 - len(asked.envelope.body) // 4
        self.assertEqual(
            list(limits_told(permit)),  # type: ignore[arg-type]
            [
                (b"anthropic-ratelimit-requests-limit", b"60"),
                (b"anthropic-ratelimit-requests-remaining", b"58"),
                (b"anthropic-ratelimit-requests-reset", b"2026-12-01T12:00:02Z"),
                (b"anthropic-ratelimit-input-tokens-limit", b"100000"),
                (b"anthropic-ratelimit-input-tokens-remaining", b"%d" % left),
                (b"anthropic-ratelimit-input-tokens-reset", b"2026-12-01T12:06:37Z"),
            ],
        )
        permit.done(None, "ok")  # type: ignore[union-attr]

    def test_nothing_to_tell(self) -> None:
        """Of money there are no headers, nor without limits."""
        self.assertEqual(list(limits_told(self.admission.admit(request()))), [])  # type: ignore[arg-type]
        self.limit(measure="usd", amount=10**12)
        self.assertEqual(list(limits_told(self.admission.admit(request()))), [])  # type: ignore[arg-type]

    def test_warning(self) -> None:
        """The log says so before it is used up, once."""
        self.limit(measure="tokens", amount=200, each="client")
        for number in range(2):
            self.admission.record(record(number))
        warnings = [formatEvent(event) for event in self.seen if "is {share} % used" in event.get("log_format", "")]
        self.assertEqual(warnings, ["the limit ads, a day for laptop is 100 % used: 200 of 200 tokens"])
        (told,) = self.told
        self.assertEqual((told.what, told.message), (Happening.LIMIT_WARNED, f"The{warnings[0][3:]}."))
        self.assertEqual(told.subject, {"limit": "ads, a day", "client": "laptop"})

    def test_warning_of_before(self) -> None:
        """What had come to its share before the daemon started was told then; what does so now is told."""
        self.limit(measure="tokens", amount=200, each="client")
        limit = Limit(name="ads, a day", per="day", measure="tokens", amount=200, each="client")
        before = UsageLimits([limit])
        for client, tokens in (("laptop", 170), ("desktop", 150)):
            before.settle(Asked(client, {}, "m", ("cheap",)), Amounts(0, tokens, 0, 1), NOON)
        self.admission.wait_for(self.admission.recall(lambda _: succeed(before), told=True))
        for client in ("laptop", "desktop"):
            self.admission.record(record(client=client))
        self.assertEqual([told.subject["client"] for told in self.told], ["desktop"])

    def test_warning_of_what_is_new(self) -> None:
        """A limit that a reload brings, and that is at its share already, is told with the next that counts by it."""
        self.limit(measure="tokens", amount=200)
        before = UsageLimits([Limit(name="ads, a day", per="day", measure="tokens", amount=200)])
        before.settle(Asked("x", {}, "m", ("cheap",)), Amounts(0, 170, 0, 1), NOON)
        self.admission.recall(lambda _: succeed(before))
        self.admission.record(record())
        self.assertEqual(len(self.told), 1)

    def test_warning_of_a_rate(self) -> None:
        """It may be at its share by the minute: the log says so, and nobody is called."""
        self.limit(measure="tokens", amount=200, per="minute")
        self.admission.record(record())
        self.admission.record(record(1))
        self.assertTrue([event for event in self.seen if "is {share} % used" in event.get("log_format", "")])
        self.assertEqual(self.told, [])

    def test_nobody_before_the_past_is_known(self) -> None:
        """What was used before is counted first; who leaves meanwhile holds nothing."""
        self.limit(measure="requests", amount=2)
        counted: Deferred[UsageLimits] = Deferred()
        self.admission.wait_for(self.admission.recall(lambda _: counted))
        first, second, third = (ensureDeferred(self.admission.admit(request(name=name))) for name in "abc")  # type: ignore[arg-type]
        self.assertNoResult(first)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertNotIn("a", self.concurrency.running)
        before = UsageLimits([Limit(name="ads, a day", per="day", measure="requests", amount=2)])
        before.settle(Asked("x", {}, "m", ("cheap",)), Amounts(0, 0, 0, 1), NOON)
        counted.callback(before)
        self.successResultOf(second)
        self.failureResultOf(third, ClaudeError)

    def test_past_that_is_not_known(self) -> None:
        """Is told, and holds nobody up: limits begin with what waits in files, and are put right when all is known."""
        limit = Limit(name="ads, a day", per="day", measure="requests", amount=9)
        metrics = Metrics()
        self.admission.register(metrics)
        self.admission.limits.reload([limit])
        asked: list[Callable[[UsageLimits, str], None]] = []
        counted: Deferred[UsageLimits] = Deferred()

        def count(meanwhile: Callable[[UsageLimits, str], None]) -> Deferred[UsageLimits]:
            asked.append(meanwhile)
            return counted

        def used(requests: int) -> UsageLimits:
            known = UsageLimits([limit])
            for _ in range(requests):
                known.settle(Asked("x", {}, "m", ("cheap",)), Amounts(0, 0, 0, 1), NOON)
            return known

        self.admission.wait_for(self.admission.recall(count))
        admitted = ensureDeferred(self.admission.admit(request()))  # type: ignore[arg-type]
        self.assertNoResult(admitted)
        asked[0](used(3), "no disk")
        self.successResultOf(admitted)
        self.assertIn(b"claudeproxyd_limits_incomplete{} 1", metrics.render())
        self.admission.record(record())
        (counter,) = self.admission.limits
        self.assertEqual(counter.used(NOON), 4)
        counted.callback(used(5))
        self.assertEqual(counter.used(NOON), 6)
        self.assertIn(b"claudeproxyd_limits_incomplete{} 0", metrics.render())
        self.assertEqual(
            [
                words in formatEvent(event)
                for event in self.seen
                for words in ["no disk"]
                if "limits" in formatEvent(event)
            ],
            [True, False],
        )


class SharesOfClients:
    """Half of each limit, and more when somebody says so."""

    def __init__(self) -> None:
        self.more = 0
        self.asked: list[Deferred[bool]] = []

    def allowed(self, client: str, whole: int) -> int:
        return whole // 2 + self.more

    def borrow(self, client: str, whole: int) -> Deferred[bool]:
        self.asked.append(Deferred())
        return self.asked[-1]


class SharedConcurrencyTests(SynchronousTestCase):
    """Clients' limits of which a part is this process's."""

    def setUp(self) -> None:
        self.shares = SharesOfClients()
        self.admission = ConcurrencyAdmission(self.shares)

    def admit(self) -> Deferred[Any]:
        return ensureDeferred(self.admission.admit(request()))  # type: ignore[arg-type]

    def test_borrowed(self) -> None:
        """Within the share nobody is asked; beyond it a place is borrowed, or the client told of the whole limit."""
        self.assertNotIsInstance(self.admission.admit(request()), Deferred)
        waiting, refused = self.admit(), self.admit()
        self.shares.more = 1
        for asked, answer in zip(self.shares.asked[:2], (True, False), strict=True):
            asked.callback(answer)
        permit = self.successResultOf(waiting)
        self.assertEqual(self.admission.running, {"laptop": 2})
        error: Any = self.failureResultOf(refused, ClaudeError).value
        self.assertIn("3 requests running", error.message)
        permit.done(None, "ok")
        self.assertEqual(self.admission.running, {"laptop": 1})

    def test_place_that_is_gone(self) -> None:
        """One that another request took first is asked for again."""
        self.admission.admit(request())
        waiting = self.admit()
        self.shares.asked.pop().callback(True)
        self.assertNoResult(waiting)
        self.shares.asked.pop().callback(False)
        self.failureResultOf(waiting, ClaudeError)

    def test_under_limits(self) -> None:
        """What waits for a place holds nothing of a limit, and is counted by it then."""
        limits = UsageLimits([Limit(name="ads, a day", amount=5, measure="requests", per="day")])
        admission = LimitAdmission(limits, lambda: NOON, self.admission.admit)
        self.admission.admit(request())
        waiting: Any = ensureDeferred(admission.admit(request()))  # type: ignore[arg-type]
        self.assertEqual([counter.reserved for counter in limits], [])
        self.shares.more = 1
        self.shares.asked.pop().callback(True)
        self.successResultOf(waiting)
        self.assertEqual([counter.reserved for counter in limits], [1])


class LaterStore(LocalLimits):
    """One that is asked elsewhere: answers when the test says so."""

    def __init__(self, limits: UsageLimits) -> None:
        super().__init__(limits)
        self.begun: Deferred[None] = Deferred()
        self.asked: list[Deferred[None]] = []
        self._reserve_now = self.reserve
        self.reserve = self._reserve_later  # type: ignore[assignment,method-assign]

    def start(self) -> Deferred[None]:
        """When it is there."""
        return self.begun

    async def _reserve_later(self, asked: Asked, amounts: Amounts, now: float) -> Reservation:
        answered: Deferred[None] = Deferred()
        self.asked.append(answered)
        await answered
        return self._reserve_now(asked, amounts, now)


class SharedLimitTests(SynchronousTestCase):
    """Limits that are counted elsewhere."""

    def setUp(self) -> None:
        """Two requests a day."""
        self.limits = UsageLimits([Limit(name="two", per="day", measure="requests", amount=2)])
        self.store = LaterStore(self.limits)
        self.concurrency = ConcurrencyAdmission()
        self.admission = LimitAdmission(self.limits, lambda: NOON, self.concurrency.admit, store=self.store)

    def admit(self, name: str) -> Deferred[Any]:
        """Ask."""
        return ensureDeferred(self.admission.admit(request(name=name)))  # type: ignore[arg-type]

    def test_waits_for_the_answer(self) -> None:
        """Who is let in has a permit then, who is not is told, and the place of who leaves meanwhile is free."""
        admitted = [self.admit(name) for name in "abcd"]
        self.assertEqual(len(self.store.asked), 4)
        admitted[0].cancel()
        self.failureResultOf(admitted[0], CancelledError)
        for answer in self.store.asked[1:]:
            answer.callback(None)
        permits = [self.successResultOf(each) for each in admitted[1:3]]
        self.assertEqual(self.failureResultOf(admitted[3], ClaudeError).value.status, 429)
        self.assertEqual(self.concurrency.running, {"b": 1, "c": 1})
        for permit in permits:
            permit.done(None, "ok")
        self.assertEqual(([each.held for each in self.limits], self.concurrency.running), ([0], {}))

    def test_waits_for_the_store(self) -> None:
        """Nobody is let in before it is there, and what was used is known."""
        counted: Deferred[UsageLimits] = Deferred()
        self.admission.wait_for(self.admission.recall(lambda _: counted))
        self.admission.begin()
        admitted = self.admit("a")
        counted.callback(UsageLimits())
        self.assertEqual(self.store.asked, [])
        self.store.begun.callback(None)
        (answer,) = self.store.asked
        answer.callback(None)
        self.successResultOf(admitted)

    def test_nothing_to_ask(self) -> None:
        """Of a count_tokens, or where there are no limits, nobody is asked."""
        self.admission.admit(request(count_tokens=True))
        self.limits.reload([])
        self.admission.admit(request())
        self.assertEqual(self.store.asked, [])
