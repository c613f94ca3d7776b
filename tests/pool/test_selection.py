"""Strategies, by property."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from claudeproxyd.interfaces import ISelector
from claudeproxyd.pool.selection import FillFirst, LeastBusy, Loads, RoundRobin, Weighted, lowest

for strategy in (RoundRobin, Weighted, FillFirst, LeastBusy):
    verifyClass(ISelector, strategy)

ready_sets = st.integers(1, (1 << 200) - 1)


def members(bits: int) -> list[int]:
    """The indices in a set."""
    return [index for index in range(bits.bit_length()) if bits >> index & 1]


class SelectionTests(SynchronousTestCase):
    """What each strategy promises."""

    @given(ready_sets)
    def test_lowest(self, bits: int) -> None:
        """The lowest bit is found within a machine word and beyond."""
        self.assertEqual(lowest(bits), members(bits)[0])

    @given(ready_sets, st.integers(1, 600))
    def test_round_robin_is_fair(self, ready: int, number: int) -> None:
        """However many turns, nobody has had two more than another."""
        selector = RoundRobin()
        turns = Counter(selector.choose(ready) for _ in range(number))
        counts = [turns[index] for index in members(ready)]
        self.assertEqual(sum(counts), number)
        self.assertLessEqual(max(counts) - min(counts), 1)

    @given(st.lists(ready_sets, min_size=1, max_size=50))
    def test_round_robin_always_finds(self, sets: list[int]) -> None:
        """Whatever comes and goes in between, it chooses one that is ready."""
        selector = RoundRobin()
        for ready in sets:
            self.assertTrue(ready >> selector.choose(ready) & 1)

    @given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 300))
    def test_weighted_is_fair(self, weights: list[int], number: int) -> None:
        """After any number of turns each has had its share, within one; after whole rounds exactly."""
        classes = [
            (weight, sum(1 << index for index, other in enumerate(weights) if other == weight))
            for weight in sorted(set(weights))
        ]
        selector = Weighted(classes)
        everyone = (1 << len(weights)) - 1
        total = sum(weights)
        turns: Counter[int] = Counter()
        for turn in range(1, number + 1):
            turns[selector.choose(everyone)] += 1
            for index, weight in enumerate(weights):
                off = abs(turns[index] - turn * weight / total)
                self.assertLess(off, 1.0)
                if turn % total == 0:
                    self.assertEqual(off, 0.0)

    def test_weighted_has_no_runs(self) -> None:
        """The heavy one does not serve its whole share in one go."""
        selector = Weighted([(5, 0b001), (1, 0b110)])
        turns = "".join("abc"[selector.choose(0b111)] for _ in range(21))
        self.assertEqual((turns.count("a"), turns.count("b"), turns.count("c")), (15, 3, 3))
        self.assertNotIn("aaaa", turns)

    def test_weighted_of_what_is_ready(self) -> None:
        """Shares are among those who are ready."""
        selector = Weighted([(5, 0b001), (3, 0b010), (1, 0b100)])
        self.assertEqual(Counter(selector.choose(0b110) for _ in range(8)), {1: 6, 2: 2})

    @given(ready_sets)
    def test_fill_first(self, ready: int) -> None:
        """Always the first."""
        self.assertEqual(FillFirst().choose(ready), members(ready)[0])

    @given(st.data())
    def test_least_busy(self, data: st.DataObject) -> None:
        """Whoever begins and ends attempts, one of the idlest of those who are ready is chosen."""
        loads = Loads()
        busy = [0] * 6
        for index in range(6):
            loads.add(index, 0)
        selector = LeastBusy(loads)
        for _ in range(40):
            ready = data.draw(st.integers(1, 63))
            chosen = selector.choose(ready)
            self.assertTrue(ready >> chosen & 1)
            self.assertEqual(busy[chosen], min(busy[index] for index in members(ready)))
            loads.move(chosen, busy[chosen], busy[chosen] + 1)
            busy[chosen] += 1
            other = data.draw(st.integers(0, 5))
            if busy[other]:
                loads.move(other, busy[other], busy[other] - 1)
                busy[other] -= 1
