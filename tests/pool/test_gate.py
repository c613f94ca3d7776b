"""A gate by itself: what it makes of grants, passes and failures, phase by phase."""

from __future__ import annotations

from math import inf
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.gate import Gate
from claudeproxyd.pool.pace import Pace
from claudeproxyd.pool.phases import Condition
from claudeproxyd.pool.phases.down import Down


class GateTestCase(SynchronousTestCase):
    """One gate, and the leases that are out at its place, oldest first."""

    def setUp(self) -> None:
        self.now = 100.0
        self.serial = 0
        self.out: list[tuple[int, float]] = []
        self.gate: Gate[str] = Gate("here", 0, 0, self.now)

    def pass_time(self, seconds: float) -> None:
        """Time passes, and the gate is told when its time has come."""
        end = self.now + seconds
        while self.gate.due <= end:
            self.now = max(self.now, self.gate.due)
            if not self.gate.tick(self.now):
                return
        self.now = end

    def grant(self, number: int = 1) -> int:
        """As many as may go, up to *number*; how many did."""
        went = 0
        while went < number and self.gate.open and not self.gate.wait(1, self.now):
            self.serial += 1
            self.out.append((self.serial, self.now))
            self.gate.granted(self.serial, 1, self.now)
            went += 1
        return went

    def fails(self, number: int = 1, kind: Kind = Kind.TRANSIENT, wait: float = 0.0) -> None:
        """The newest of those that are out fail."""
        for _ in range(number):
            serial, granted = self.out.pop()
            self.gate.kind = kind
            self.gate.failed(serial, 1, self.now - granted, self.now, wait)

    def passes(self, number: int = 1) -> None:
        """The oldest that are out pass."""
        for _ in range(number):
            serial, granted = self.out.pop(0)
            self.gate.passed(serial, self.now - granted, self.now)

    def put_down(self, number: int = 10, took: float = 0.02) -> None:
        """Everything fails, after that time, for as long as anything may go."""
        self.grant(number)
        while self.out:
            self.pass_time(took)
            self.fails(len(self.out))
            if self.gate.condition is not Condition.DOWN:
                self.grant(number)
        self.assertIs(self.gate.condition, Condition.DOWN)


class FreeTests(GateTestCase):
    """What fails by chance."""

    def test_share_below_a_quarter(self) -> None:
        """A fifth may fail for ever and nobody is held back."""
        for _ in range(400):
            self.grant(5)
            self.pass_time(0.02)
            self.fails()
            self.passes(4)
            self.assertIs(self.gate.condition, Condition.FREE)
        self.assertTrue(0.17 < self.gate.share < 0.23)

    def test_failures_count_against_grants(self) -> None:
        """Quick failures do not outweigh the successes that are still to come."""
        self.grant(40)
        for _ in range(20):
            self.grant(1)
            self.pass_time(0.02)
            self.fails()
            self.grant(4)
        self.assertIs(self.gate.condition, Condition.FREE)

    def test_chance_is_excused(self) -> None:
        """Half may fail, too: the test finds that less load does not help."""
        dice = Random(1)
        went = 0
        for _ in range(3000):
            went += self.grant(8 - len(self.out))
            self.pass_time(0.02)
            bad = sum(dice.random() < 0.5 for _ in self.out)
            self.fails(bad)
            self.passes(len(self.out))
        self.assertGreater(went, 0.9 * 8 * 3000)

    def test_dropped(self) -> None:
        """After a minute without a failure it is of no more use, and not before."""
        self.grant()
        self.fails()
        self.assertTrue(self.gate.tick(self.now + 30.0))
        self.assertFalse(self.gate.tick(self.now + 61.0))


class LimitedTests(GateTestCase):
    """A place that carries so many at once."""

    def setUp(self) -> None:
        """Ten of forty are taken, the others refused, until the limit is known."""
        super().setUp()
        self.grant(40)
        for _ in range(30):
            self.pass_time(0.02)
            self.fails(len(self.out) - 10)
            self.passes(3)
            self.grant(40)
            if self.gate.condition is Condition.LIMITED:
                break

    def test_exact(self) -> None:
        """The limit is what was carried."""
        self.assertEqual((self.gate.condition, self.gate.limit), (Condition.LIMITED, 10))

    def test_tries(self) -> None:
        """Now and then one more goes; refused, the limit stays, and tries become rare."""
        tries = 0
        for _ in range(1200):
            self.grant(40)
            self.pass_time(0.02)
            tries += len(self.out) > 10
            self.fails(max(0, len(self.out) - 10))
            self.grant(40)
            self.pass_time(0.03)
            self.fails(max(0, len(self.out) - 10))
            self.passes(3)
        self.assertEqual(self.gate.limit, 10)
        self.assertTrue(15 <= tries <= 80, tries)

    def test_more_is_carried(self) -> None:
        """Where nothing is refused the limit grows, faster and faster."""
        for _ in range(60):
            self.pass_time(0.1)
            self.grant(100)
            self.passes(3)
        self.assertGreater(self.gate.limit, 40)

    def test_less_is_carried(self) -> None:
        """A limit that is too high now is found anew."""
        for _ in range(40):
            self.grant(40)
            self.pass_time(0.02)
            self.fails(max(0, len(self.out) - 4))
            self.pass_time(0.1)
            self.passes(1)
        self.assertLessEqual(self.gate.limit, 5)


class PacedTests(GateTestCase):
    """A place that counts by time."""

    def test_bucket(self) -> None:
        """Of a bucket that refills at twenty a second nearly all is had, and little refused."""
        level, at = 20.0, self.now
        taken = refused = 0
        for turn in range(6000):
            self.pass_time(0.005)
            went = self.grant(40 - len(self.out))
            level, at = min(20.0, level + (self.now - at) * 20), self.now
            accepted = min(went, int(level))
            level -= accepted
            taken += accepted if turn > 1000 else 0
            refused += went - accepted if turn > 1000 else 0
            self.fails(went - accepted, Kind.QUOTA)
            if turn % 60 == 0:
                self.passes(len(self.out))
        self.assertGreater(taken, 0.95 * 20 * 25)
        self.assertLess(refused, 0.15 * taken)
        self.assertIs(self.gate.condition, Condition.PACED)

    def test_rate(self) -> None:
        """What was taken between two refusals is the rate, whatever the first guess was."""
        pace = Pace(3.0, 0.0)
        now = 0.0
        while now < 20.0:
            now += 1 / 50
            if not pace.wait(1, now):
                pace.take(1, now)
                if pace.at(now) > 11:
                    pace.refused(1, now)
        self.assertTrue(7 < pace.rate < 11, pace.rate)

    def test_hardly_anything_is_taken(self) -> None:
        """When nothing is taken any more, that is no matter of pace."""
        pace = Pace(10.0, 0.0)
        answers = []
        for turn in range(1, 4):
            pace.take(1, float(turn))
            answers.append(pace.refused(1, float(turn)))
        self.assertIn(False, answers)

    def test_chance(self) -> None:
        """Where it refuses too much at a pace, too, it is chance: there is no test of what was shown already."""
        self.gate.pace(5.0, self.now)
        for turn in range(200):
            self.pass_time(0.1)
            if self.grant():
                self.fails(kind=Kind.QUOTA) if turn % 3 else self.passes()
            if self.gate.condition is not Condition.PACED:
                break
        self.assertIs(self.gate.condition, Condition.FREE)
        self.assertGreater(self.gate.tolerance, self.gate.share)

    def test_given_up(self) -> None:
        """A pace that nobody needs is forgotten."""
        self.gate.pace(5.0, self.now)
        self.pass_time(16.0)
        self.assertIs(self.gate.condition, Condition.FREE)


class DownTests(GateTestCase):
    """A place where nearly everything fails."""

    def probes(self, seconds: float) -> int:
        """How many go in that time, when each fails after 20 ms."""
        count = 0
        end = self.now + seconds
        while self.now < end:
            self.pass_time(0.01)
            if self.grant(100):
                count += len(self.out)
                self.pass_time(0.02)
                self.fails(len(self.out))
        return count

    def test_one_at_a_time(self) -> None:
        """While a probe is out nothing else goes."""
        self.put_down()
        self.pass_time(0.2)
        self.assertEqual(self.grant(10), 1)
        self.assertEqual(self.grant(10), 0)

    def test_fewer_and_fewer(self) -> None:
        """Some a second at first, two a second for minutes, and one in half a minute after an hour."""
        self.put_down()
        self.assertLess(self.probes(4.0), 24)
        self.assertLessEqual(self.probes(20.0), 40)
        self.assertLessEqual(self.probes(3600.0), 700)
        self.assertLessEqual(self.probes(300.0), 11)

    def test_old_answers(self) -> None:
        """Long answers that were under way go on coming, and say nothing of now: it is probed as seldom for that."""
        self.grant(30)
        old, self.out = self.out, []
        self.gate.go_down(self.now, held=False)
        counts = []
        for serial, granted in old:
            counts.append(self.probes(1.0))
            self.gate.passed(serial, self.now - granted, self.now)
        self.assertLessEqual(sum(counts[10:]), 2.1 * len(counts[10:]))

    def test_comes_back(self) -> None:
        """What has not failed for a moment has passed: then four times as many go, up to as many as before."""
        self.put_down(200)
        self.pass_time(1.0)
        sizes = [self.grant(1000)]
        while self.gate.condition is Condition.DOWN:
            self.pass_time(0.05)
            sizes.append(self.grant(1000))
        self.assertEqual(sizes[:4], [1, 4, 16, 64])
        self.assertLess(len(sizes), 8)
        self.assertIs(self.gate.condition, Condition.FREE)

    def test_comes_back_to_a_crowd(self) -> None:
        """Where far more wait than ever were under way, they go in steps too, until one lets in all who want to."""
        self.put_down(10)
        self.pass_time(1.0)
        waiting, sizes = 500, []
        while self.gate.condition is Condition.DOWN:
            sizes.append(self.grant(waiting))
            waiting -= sizes[-1]
            self.pass_time(0.05)
        self.assertEqual((sizes[:5], waiting), ([1, 4, 16, 64, 256], 0))
        self.assertIs(self.gate.condition, Condition.FREE)

    def test_cancelled_probe(self) -> None:
        """A probe that says nothing makes room for the next at once."""
        self.put_down()
        self.pass_time(0.5)
        self.grant()
        self.gate.left(self.out.pop()[0])
        self.assertEqual(self.grant(10), 1)

    def test_retry_after(self) -> None:
        """It is not probed before the time that it named."""
        self.put_down()
        self.pass_time(0.5)
        self.grant()
        self.fails(wait=60.0)
        self.assertEqual(self.probes(59.0), 0)
        self.assertGreaterEqual(self.probes(3.0), 1)

    def test_said_when(self) -> None:
        """A refusal that says when, with nothing else under way, is believed; beside others that may pass it is not."""
        self.grant(2)
        self.fails(kind=Kind.QUOTA, wait=3.0)
        self.assertIs(self.gate.condition, Condition.FREE)
        self.passes()
        self.grant()
        self.fails(kind=Kind.QUOTA, wait=3.0)
        self.assertIs(self.gate.condition, Condition.DOWN)
        self.pass_time(2.9)
        self.assertEqual(self.grant(), 0)
        self.pass_time(0.2)
        self.assertEqual(self.grant(), 1)

    def test_nobody_wants_it(self) -> None:
        """What is down and not wanted for ten minutes is forgotten."""
        self.put_down()
        self.pass_time(500.0)
        self.assertTrue(self.gate.open)
        self.assertFalse(self.gate.tick(self.gate.due))

    def test_slow_failures(self) -> None:
        """Where a failure takes ten seconds, the next probe does not wait for it."""
        self.put_down(40, took=10.0)
        self.pass_time(1.0)
        probes = self.grant(9)
        for _ in range(20):
            self.pass_time(0.25)
            probes += self.grant(9)
        self.assertTrue(5 <= probes <= 11, probes)
        self.passes()
        self.assertGreaterEqual(self.gate.limit, len(self.out) + 2)

    def test_limited_before(self) -> None:
        """A limit that was known before holds again."""
        self.gate.limit = 12
        self.gate.hold(self.now)
        self.put_down(12)
        self.pass_time(1.0)
        for _ in range(8):
            self.grant(100)
            self.pass_time(0.05)
        self.assertIs(self.gate.condition, Condition.LIMITED)
        self.assertLess(self.gate.limit, inf)


class SlowFailureTests(GateTestCase):
    """Where failures take longer than answers."""

    def setUp(self) -> None:
        """Answers take a tenth of a second, of ten at once; then an outage begins in which failures take two."""
        super().setUp()
        for _ in range(20):
            self.grant(10)
            self.pass_time(0.1)
            self.passes(10)
        self.grant(10)
        self.pass_time(2.0)

    def test_down_at_once(self) -> None:
        """Nothing has passed that was sent since: a few failures are enough to see it, without any test."""
        self.fails(4)
        self.assertIs(self.gate.condition, Condition.DOWN)

    def test_few_at_once(self) -> None:
        """Where never more than three are under way, all of them are enough; two of them are not."""
        self.gate = Gate("here", 0, 0, self.now)
        self.out.clear()
        for _ in range(20):
            self.grant(3)
            self.pass_time(0.1)
            self.passes(3)
        self.grant(3)
        self.pass_time(2.0)
        self.fails(2)
        self.assertIs(self.gate.condition, Condition.FREE)
        self.fails()
        self.assertIs(self.gate.condition, Condition.DOWN)

    def test_back_at_the_first_answer(self) -> None:
        """The first answer ends it, though others hang yet; what becomes of those says nothing of now."""
        doomed, self.out = self.out[:6], self.out[6:]
        self.fails(4)
        self.pass_time(0.3)
        self.assertEqual(self.grant(), 1)
        self.pass_time(0.1)
        self.passes()
        for _ in range(4):
            self.grant(4)
            self.pass_time(0.05)
            self.passes(len(self.out))
        self.assertIs(self.gate.condition, Condition.FREE)
        share, self.out = self.gate.share, doomed
        self.fails(6)
        self.assertEqual((self.gate.condition, self.gate.in_flight), (Condition.FREE, 0))
        self.assertEqual(self.gate.share, share)

    def test_over_before_it_was_seen(self) -> None:
        """Where the outage was shorter than its failures take, the next answers show that it is over."""
        doomed, self.out = self.out[:8], self.out[8:]
        self.fails(2)
        self.grant(2)
        self.pass_time(0.1)
        self.passes(2)
        self.out = doomed
        self.fails(8)
        self.assertIs(self.gate.condition, Condition.FREE)

    def test_chance(self) -> None:
        """Half fails, late: what was sent at the same time passes, so it is no outage."""
        self.passes(len(self.out))
        dice = Random(2)
        due: list[tuple[float, int, float, bool]] = []
        for _ in range(600):
            while len(due) < 20 and self.grant():
                serial, granted = self.out.pop()
                bad = dice.random() < 0.5
                due.append((self.now + (0.4 if bad else dice.expovariate(10)), serial, granted, bad))
            self.pass_time(0.02)
            for one in sorted(each for each in due if each[0] <= self.now):
                due.remove(one)
                self.out.insert(0, one[1:3])
                if one[3]:
                    self.gate.failed(one[1], 1, self.now - one[2], self.now)
                    self.out.pop(0)
                else:
                    self.passes()
            self.assertIsNot(self.gate.condition, Condition.DOWN)


class CrowdTests(GateTestCase):
    """A gate for many credentials at once."""

    def setUp(self) -> None:
        super().setUp()
        self.gate = Gate("all", 0, 0, self.now, crowd=True)

    def test_two_in_three_fail(self) -> None:
        """It is nothing to it: each has a gate of its own for that."""
        for _ in range(300):
            self.grant(9)
            self.pass_time(0.02)
            self.fails(2 * len(self.out) // 3)
            self.passes(len(self.out))
            self.assertIsNot(self.gate.condition, Condition.DOWN)
        self.assertEqual(self.grant(100), 100)

    def test_all_fail(self) -> None:
        """It is down."""
        self.put_down(40)
        self.assertIsInstance(self.gate.phase, Down)
