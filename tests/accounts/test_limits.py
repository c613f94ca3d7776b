"""Who may use how much."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.accounts import limits as module
from claudeproxyd.accounts.limits import Amounts, Asked, Limit, OverLimit, UsageLimits, amounts_of, in_words
from claudeproxyd.accounts.prices import DAY as SECONDS
from tests.accounts.support import NOON, record

ANN = Asked("ann", {"team": "ads"}, "claude-a", ("p",))
BOB = Asked("bob", {"team": "ads"}, "claude-b", ("p",))


def limit(**fields: Any) -> Limit:
    """A limit of ten requests a day."""
    return Limit(**{"name": "l", "amount": 10, "measure": "requests", "per": "day", **fields})


def amounts(requests: int = 1, **fields: int) -> Amounts:
    """What something takes."""
    return Amounts(**{"nano_usd": 0, "input_tokens": 0, "output_tokens": 0, "requests": requests, **fields})


class LimitsTestCase(SynchronousTestCase):
    """Has short words for what is asked of limits."""

    def make(self, *limits: Limit) -> None:
        """Ask these."""
        self.limits = UsageLimits(limits)

    def use(self, asked: Asked = ANN, requests: int = 1, now: float = NOON, **fields: int) -> list[str]:
        """Settle; which limits are worth a warning."""
        return [each.limit.name for each in self.limits.settle(asked, amounts(requests, **fields), now)]

    def has_room(self, asked: Asked = ANN, now: float = NOON) -> bool:
        """Whether a request would be let in."""
        try:
            self.limits.reserve(asked, amounts(), now).release()
        except OverLimit:
            return False
        return True

    def refused_for(self, asked: Asked = ANN, now: float = NOON) -> int:
        """Seconds."""
        with self.assertRaises(OverLimit) as caught:
            self.limits.reserve(asked, amounts(), now)
        return caught.exception.retry_after


class BudgetTests(LimitsTestCase):
    """Windows."""

    def test_used_up_until_the_window_ends(self) -> None:
        """And not a moment longer."""
        self.make(limit())
        self.use(requests=9)
        self.assertTrue(self.has_room())
        self.use()
        self.assertEqual(self.refused_for(), SECONDS // 2)
        self.assertEqual(self.refused_for(now=NOON + SECONDS / 2 - 0.5), 1)
        self.assertTrue(self.has_room(now=NOON + SECONDS / 2))

    def test_labels_of_one_value(self) -> None:
        """Whose labels change their names and not their values is counted by the new ones."""
        self.make(limit(match={"label.team": "x"}))
        for labels, found in (({"project": "x"}, 0), ({"team": "x"}, 1), ({"project": "x"}, 0)):
            self.assertEqual(len(self.limits.counters(Asked("ann", labels, "m", ("p",)))), found, labels)

    def test_clock_that_is_set(self) -> None:
        """A clock that jumps and is set back finds what was used, and what it does meanwhile frees nothing."""
        self.make(limit())
        self.use(requests=10)
        for days in (365, -365):
            self.assertTrue(self.has_room(now=NOON + days * SECONDS))
            self.use(now=NOON + days * SECONDS)
        self.assertFalse(self.has_room())
        self.assertTrue(self.has_room(now=NOON + 365 * SECONDS))

    def test_many_at_once(self) -> None:
        """Two hundred on a budget for ten: ten are let in."""
        self.make(limit())
        let_in = []
        for _ in range(200):
            try:
                let_in.append(self.limits.reserve(ANN, amounts(), NOON))
            except OverLimit:
                continue
        self.assertEqual(len(let_in), 10)
        for each in let_in[:3]:
            each.release()
            each.release()  # a second time is nothing
        self.use(requests=2)
        self.assertTrue(self.has_room())
        self.use()
        self.assertFalse(self.has_room())


class RateTests(LimitsTestCase):
    """What refills steadily."""

    def test_refills(self) -> None:
        """A sixth of ten a minute is back after ten seconds."""
        self.make(limit(per="minute"))
        self.use(requests=10)
        self.assertEqual(self.refused_for(), 6)
        self.assertFalse(self.has_room())
        self.assertTrue(self.has_room(now=NOON + 6))
        self.use(now=NOON + 6)
        self.assertFalse(self.has_room(now=NOON + 6.1))

    def test_all_of_it(self) -> None:
        """Is told for when all that was used is refilled; at once where nothing was, and whatever there is room for."""
        self.make(limit(per="minute"))
        (counter,) = self.limits.counters(ANN)
        for used, seconds in ((0, 0), (3, 18), (9, 72)):
            self.use(requests=used)
            self.assertEqual(counter.resets_at(NOON), NOON + seconds)
        self.assertEqual(counter.resets_at(NOON + 72), NOON + 72)

    def test_overdrawn(self) -> None:
        """What was used beyond it is waited for."""
        self.make(limit(per="hour", measure="tokens", amount=3600))
        self.use(input_tokens=7200)
        self.assertEqual(self.refused_for(), 3601)
        self.assertTrue(self.has_room(now=NOON + 3601))

    def test_full_of_reservations(self) -> None:
        """Nobody can say when they end: soon."""
        self.make(limit(per="minute", amount=1))
        self.limits.reserve(ANN, amounts(), NOON)
        self.assertEqual(self.refused_for(), 1)

    def test_clock_set_back(self) -> None:
        """Refills nothing twice, and does not stop the refilling."""
        self.make(limit(per="minute"))
        self.use(requests=10)
        self.assertFalse(self.has_room(now=NOON - 3600))
        self.assertTrue(self.has_room(now=NOON - 3600 + 6))


class MatchTests(LimitsTestCase):
    """Whose limit it is."""

    def test_counters(self) -> None:
        """One for all, or one for each."""
        for fields, shared in (
            ({}, True),
            ({"each": "client"}, False),
            ({"each": "model"}, False),
            ({"each": "label.team"}, True),
            ({"each": "label.none"}, True),
            ({"match": {"client": "ann"}}, False),
            ({"match": {"label.team": "a*", "model": "claude-*"}}, True),
            ({"match": {"label.team": "a*", "model": "claude-a"}}, False),
        ):
            self.make(limit(**fields))
            self.use(requests=10)
            self.assertFalse(self.has_room(ANN))
            self.assertEqual(self.has_room(BOB), not shared, fields)

    def test_provider(self) -> None:
        """A request that may go to it is counted in advance, an attempt that went there in fact."""
        self.make(limit(match={"provider": "gold"}, amount=1))
        both = Asked("ann", {}, "m", ("tin", "gold"))
        self.use(Asked("ann", {}, "m", ("tin",)))
        self.assertTrue(self.has_room(both))
        self.use(Asked("ann", {}, "m", ("gold",)))
        self.assertFalse(self.has_room(both))
        self.assertTrue(self.has_room(Asked("ann", {}, "m", ("tin",))))

    def test_measures(self) -> None:
        """Each counts its own."""
        used = {"nano_usd": 1, "input_tokens": 2, "output_tokens": 4, "requests": 8}
        for measure, expected in (
            ("usd", 1),
            ("input_tokens", 2),
            ("output_tokens", 4),
            ("tokens", 6),
            ("requests", 8),
        ):
            self.make(limit(measure=measure, amount=100))
            self.use(**used)
            (counter,) = self.limits
            self.assertEqual(counter.used(NOON), expected, measure)

    def test_longest_is_told(self) -> None:
        """Of several that are used up."""
        self.make(limit(name="a", per="minute", amount=1), limit(name="b", per="month", amount=1))
        self.use()
        with self.assertRaises(OverLimit) as caught:
            self.limits.reserve(ANN, amounts(), NOON)
        self.assertEqual(caught.exception.counter.limit.name, "b")

    def test_of_a_record(self) -> None:
        """Caches are input; what has no price costs nothing; a request is its first attempt."""
        self.assertEqual(amounts_of(record()), Amounts(1_000, 80, 20, 1))
        self.assertEqual(amounts_of(record(nano_usd=None, attempt=2, output_tokens=None)), Amounts(0, 80, 0, 0))

    def test_words(self) -> None:
        """As people write them."""
        self.assertEqual(in_words(1_234_500_000_000, "usd"), "$1,234.50")
        self.assertEqual(in_words(12_345, "output_tokens"), "12,345 output tokens")


class WarningTests(LimitsTestCase):
    """Before it is used up."""

    def test_once_a_window(self) -> None:
        """At its share, once, and again in the next window."""
        self.make(limit())
        self.assertEqual([self.use() for _ in range(9)], [[]] * 7 + [["l"], []])
        self.assertEqual(self.use(requests=9, now=NOON + SECONDS), ["l"])

    def test_never(self) -> None:
        """If the operator wants none."""
        self.make(limit(warn=0.0))
        self.assertEqual(self.use(requests=100), [])


class ReloadTests(LimitsTestCase):
    """Another configuration."""

    def test_goes_on(self) -> None:
        """A limit that counts the same keeps what it has counted, whatever its amount is now."""
        self.make(limit(), limit(name="gone"))
        self.use(requests=10)
        new = limit(name="new")
        self.assertEqual(self.limits.reload([new, limit(amount=11)]), [new])
        self.assertTrue(self.has_room())
        self.use()
        self.assertFalse(self.has_room())
        self.assertEqual([each.limit.name for each in self.limits], ["new", "l"])

    def test_counts_otherwise(self) -> None:
        """What counts something else begins at nothing."""
        for fields in ({"per": "week"}, {"measure": "tokens"}, {"each": "client"}, {"match": {"model": "*"}}):
            self.make(limit())
            self.use(requests=10)
            self.assertEqual(len(self.limits.reload([limit(**fields)])), 1)
            self.assertTrue(self.has_room(), fields)

    def test_reserved_before(self) -> None:
        """A reservation of a limit that is gone is given back without a word."""
        self.make(limit())
        reservation = self.limits.reserve(ANN, amounts(), NOON)
        self.limits.reload([])
        reservation.release()

    def test_counted_elsewhere(self) -> None:
        """What another has counted is added; what it has of other limits is not."""
        self.make(limit(), limit(name="rate", per="minute"))
        other = UsageLimits([limit(), limit(name="rate", per="minute"), limit(name="gone")])
        other.settle(ANN, amounts(4), NOON)
        self.use(requests=5)
        self.limits.add(other, NOON)
        self.assertEqual([each.used(NOON) for each in self.limits], [9, 9])


class ManyTests(LimitsTestCase):
    """Bounds."""

    def test_five_thousand(self) -> None:
        """A request meets those that match, which are found once."""
        self.make(*(limit(name=f"l{n}", match={"client": f"c{n}"}) for n in range(5000)))
        asked = Asked("c7", {}, "m", ("p",))
        first = self.limits.counters(asked)
        self.assertEqual(len(first), 1)
        self.assertIs(self.limits.counters(asked), first)

    def test_idle(self) -> None:
        """What a budget used is not forgotten in the first minute of the next window: the clock may be set back."""
        self.make(limit(amount=100, measure="tokens"))
        self.use(ANN, input_tokens=5)
        for later, counters in ((SECONDS, 1), (4 * SECONDS, 0)):
            self.limits.forget_idle(NOON + later)
            self.assertEqual(len(list(self.limits)), counters)

    def test_few_are_looked_at(self) -> None:
        """Of thousands that name one client, team or model each; in the order of the limits, whatever they name."""
        others = [limit(name=f"o{n}", match={("client", "label.team", "model")[n % 3]: f"x{n}"}) for n in range(5000)]
        mine = [
            limit(name="a", match={"model": "m"}),
            limit(name="b"),
            limit(name="c", match={"client": "a*", "label.team": "ads"}),
            limit(name="d", match={"provider": "tin"}),
            limit(name="e", match={"client": "ann", "model": "*"}),
        ]
        looked: list[Limit] = []
        real = module._matches
        self.patch(module, "_matches", lambda limit, asked: looked.append(limit) or real(limit, asked))
        self.make(*mine[:2], *others, *mine[2:])
        found = self.limits.counters(Asked("ann", {"team": "ads"}, "m", ("tin",)))
        self.assertEqual([counter.limit.name for counter in found], list("abcde"))
        self.assertEqual(looked, mine)

    def test_memory(self) -> None:
        """Names that clients make up are remembered in part, and forgotten."""
        self.patch(module, "MAX_REMEMBERED", 10)
        self.make(limit(each="model"))
        for number in range(100):
            self.limits.reserve(Asked("ann", {}, f"m{number}", ()), amounts(), NOON).release()
            self.assertLessEqual(len(self.limits._found), 10)
        self.use(Asked("ann", {}, "m1", ()))
        self.limits.forget_idle(NOON)
        self.assertEqual([each.value for each in self.limits], ["m1"])


class ModelTests(LimitsTestCase):
    """Whatever happens: never beyond by more than was under way, and nobody is refused while there is room."""

    @settings(max_examples=200)
    @given(
        st.integers(1, 50),
        st.lists(
            st.tuples(st.sampled_from(["begin", "end", "abort", "wait"]), st.integers(0, 20), st.integers(0, 30)),
            max_size=60,
        ),
    )
    def test_against_a_model(self, amount: int, steps: list[tuple[str, int, int]]) -> None:
        """A model that knows each request: what it reserved, and what it came to."""
        self.make(limit(amount=amount, measure="tokens"))
        now, used, under_way = NOON - SECONDS / 2, 0, []
        day = now
        worst_under_way = 0
        for step, reserve, size in steps:
            if step == "wait":
                now += size * 3600
                if now >= day + SECONDS:
                    day += (now - day) // SECONDS * SECONDS
                    used = worst_under_way = 0
            elif step == "begin":
                room = used + sum(each.amounts[0][1] for each in under_way) < amount
                try:
                    under_way.append(self.limits.reserve(ANN, amounts(input_tokens=reserve), now))
                except OverLimit:
                    self.assertFalse(room)
                else:
                    self.assertTrue(room)
            elif under_way:
                each = under_way.pop(0)
                reserved = each.amounts[0][1]
                took = min(size, reserved) if step == "end" else 0
                self.limits.settle(ANN, amounts(input_tokens=took), now)
                used += took
                each.release()
                worst_under_way = max(worst_under_way, reserved)
                # The last one to be let in found room, and took what it had reserved at the most.
                self.assertLess(used, amount + max(1, worst_under_way))
        for each in under_way:
            each.release()
        self.assertEqual([counter.reserved for counter in self.limits], [0] * len(list(self.limits)))
