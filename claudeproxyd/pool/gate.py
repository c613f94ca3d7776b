"""Learn how much a place that fails now and then may be given, which is never nothing. Pure: times are passed in.

A failure that passes by itself says nothing about the next request, so it must not stop it. A gate counts such failures
as evidence, and holds back only where less load makes the place fail less. How it takes the evidence depends on its
*phase*; :mod:`~claudeproxyd.pool.phases` has the five of them, and docs/pool.md tells it as a story.

Failures are counted against grants and not against results, for a failure is back in milliseconds and a success in
seconds. Leases are numbered, so that what comes of an older one can be told from news.
"""

from __future__ import annotations

from math import inf
from typing import Generic, TypeVar

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.phases import EXCUSED, Condition, Phase
from claudeproxyd.pool.phases.down import Down
from claudeproxyd.pool.phases.free import TOLERANCE, Free
from claudeproxyd.pool.phases.limited import Limited
from claudeproxyd.pool.phases.paced import Paced
from claudeproxyd.pool.phases.testing import Testing

P = TypeVar("P")

#: Shares are means over some so many grants, and over those under way.
MEMORY = 32
#: A gate that is new begins as if so many more had been granted and none had failed, and so many answers been seen.
PRIOR = 8
#: How much longer a streak of bad luck may be, for each attempt in one that is excused.
STREAK = 12
#: Failures are slow where they take so many times as long as answers.
SLOW = 1.25
#: Failures in a row from which a place is down where failures take longer than answers; more where many are under way;
#: and where never so many are.
RUN = 4
RUN_OF_FEW = 3
#: Seconds that an answer takes as long as none was seen, and over how many of them that is a mean.
ANSWER = 0.3
ANSWERS = 128
#: Seconds that something must have lasted before it counts as passed, at least.
LOOK = 0.05


class Gate(Generic[P]):
    """See the module. ``scope`` is the caller's own: what it is about.

    The caller tells of every lease there: :meth:`granted`, then one of :meth:`passed`, :meth:`failed` and :meth:`left`;
    and calls :meth:`tick` when :attr:`due` has come.
    """

    __slots__ = (
        "_answers",
        "_begun",
        "_failures",
        "_grants",
        "_newest_passed",
        "_passed_sent",
        "_run",
        "answer",
        "armed",
        "cost",
        "credit",
        "crowd",
        "due",
        "in_flight",
        "kind",
        "known",
        "last_failure",
        "last_pass",
        "limit",
        "newest",
        "newest_failed",
        "not_before",
        "over",
        "peak",
        "phase",
        "reason",
        "scope",
        "shared",
        "since",
        "tolerance",
        "unpaced_until",
    )

    def __init__(self, scope: P, in_flight: int, newest: int, now: float, *, crowd: bool = False) -> None:
        """*in_flight*: attempts under way there; *newest*: the newest lease's number. *crowd*: it stands for many
        credentials, each with a gate of its own, and is only ever free or down."""
        self.scope = scope
        self.crowd = crowd
        self.in_flight = in_flight
        self.newest = newest
        """The newest lease there, or at least none that is newer."""
        self.limit: float = inf
        """Attempts at once."""
        self.due = inf
        """When :meth:`tick` is to be called."""
        self.armed = inf
        """The caller's: the :attr:`due` that is in its deadline heap."""
        self.kind = Kind.TRANSIENT
        """The last failure's, like ``reason``; the caller sets both."""
        self.reason = ""
        self.shared = False
        """Another daemon is known that uses the place, too; the caller says so."""
        self.unpaced_until = 0.0
        """It has been seen that it does not count by time."""
        self.last_failure = now
        self.last_pass = now
        self.not_before = 0.0
        """No probe goes before: the upstream said so."""
        self.cost = 0.0
        """Seconds that failures take."""
        self.answer = ANSWER
        """Seconds until an answer begins, on average."""
        self._answers = PRIOR
        self._begun: set[int] = set()
        """Leases under way whose answer has."""
        self.newest_failed = self._newest_passed = 0
        self._passed_sent = now
        """When the newest that passed was granted."""
        self._run = 0
        """Failures of leases that are newer than any that passed."""
        self.over = 0
        """Up to that lease it is history what becomes of them: an outage was over when it was sent."""
        self.peak = float(in_flight)
        """Attempts that were under way lately, at most."""
        self.known = float(in_flight)
        """Attempts at once that were carried before less was let through."""
        self.tolerance = 0.0
        """The share of the grants that may fail without a test."""
        self.credit = 0.0
        """How many may fail beyond that."""
        self.since = now
        """When the present phase began."""
        self._grants = float(in_flight + PRIOR)
        self._failures = 0.0
        self.phase: Phase
        self.be_free(now)

    @property
    def open(self) -> bool:
        """Return whether one more attempt may be under way. The pace is asked for by :meth:`wait`."""
        return self.in_flight < self.limit

    @property
    def condition(self) -> Condition:
        """In a word."""
        return self.phase.condition

    @property
    def share(self) -> float:
        """Return the share of the attempts granted lately that failed."""
        return min(1.0, self._failures / self._grants)

    @property
    def odds(self) -> float:
        """Return how likely a failure here says nothing about the request: 1 where that is being found out."""
        return 1.0 if self.condition in (Condition.TESTING, Condition.DOWN) else self.share

    @property
    def look(self) -> float:
        """Return the seconds after which what has not failed has passed."""
        return max(2 * self.cost, LOOK)

    @property
    def slow(self) -> bool:
        """Return whether answers are back before failures."""
        return self.cost > SLOW * self.answer

    def wait(self, size: int, now: float) -> float:
        """Return the seconds until an attempt of that size, in bytes, is in pace; 0 where there is none."""
        return self.phase.wait(size, now)

    # -- what happens

    def granted(self, serial: int, size: int, now: float) -> None:
        """An attempt begins."""
        self.in_flight += 1
        self.newest = serial
        keep = 1 - 1 / (MEMORY + self.in_flight)
        self._grants = self._grants * keep + 1
        self._failures *= keep
        above = self.in_flight - self.peak
        self.peak += above if above > 0 else above / (MEMORY + self.in_flight)
        self.credit = min(self.credit + self.tolerance, self.most_credit())
        self.phase.granted(self, serial, size, now)

    def left(self, serial: int) -> None:
        """An attempt is over, and says nothing of this place."""
        self.in_flight -= 1
        self._begun.discard(serial)
        self.phase.left(self, serial)

    def began(self, serial: int, took: float, now: float) -> None:
        """An attempt's answer has begun, which is as good as a pass; it is still under way, and may break off."""
        self._pass(serial, took, now)
        self._begun.add(serial)
        self.phase.passed(self, serial, now)

    def passed(self, serial: int, took: float, now: float) -> None:
        """An attempt got an answer, good or not."""
        self.in_flight -= 1
        if serial in self._begun:
            self._begun.remove(serial)
            self.last_pass = now
        else:
            self._pass(serial, took, now)
        self.phase.passed(self, serial, now)

    def _pass(self, serial: int, took: float, now: float) -> None:
        self.last_pass = now
        self._answers = min(self._answers + 1, ANSWERS)
        self.answer += (took - self.answer) / self._answers
        if serial > self._newest_passed:
            sent = now - took
            if self._run and self.slow and sent - self._passed_sent >= self.answer:
                # For so long nothing passed: what was sent then and hangs yet is of an outage that is over.
                self.over = max(self.over, serial)
            self._newest_passed, self._passed_sent = serial, sent
            self._run = 0

    def failed(self, serial: int, size: int, took: float, now: float, wait: float = 0.0) -> None:
        """An attempt failed in a way that passes, after *took* seconds; the upstream asked for *wait* more."""
        if serial <= self.over:
            self.left(serial)
            return
        self.in_flight -= 1
        self._begun.discard(serial)
        self.last_failure = now
        self._failures += 1
        self.cost = max(took, 0.9 * self.cost)
        self.not_before = max(self.not_before, now + wait)
        self.newest_failed = max(self.newest_failed, serial)
        self._run += serial > self._newest_passed
        if wait and self.kind is Kind.QUOTA and not (self.in_flight or self.crowd or self.condition is Condition.DOWN):
            # It says when, and nothing is under way that could show it to be otherwise.
            self.known = max(self.peak, 1.0)
            self.go_down(now, held=False)
        elif self._nothing_passes() and self.condition in (Condition.FREE, Condition.LIMITED, Condition.TESTING):
            if self.condition is not Condition.TESTING:
                self.known = max(1.0, min(self.peak, self.limit))
            self.go_down(now, held=self.phase.held, tolerance=self.tolerance)
        else:
            self.phase.failed(self, serial, size, now)

    def _nothing_passes(self) -> bool:
        """Return whether so many failed in a row that it is no chance."""
        return self.slow and self._run >= max(RUN_OF_FEW, min(self.peak, RUN), self.peak / 4)

    def tick(self, now: float) -> bool:
        """:attr:`due` has come. False when the gate is of no more use."""
        self.due = inf
        return self.phase.tick(self, now)

    # -- for the phases

    def be_free(self, now: float, tolerance: float = 0.0) -> None:
        """Hold nothing back from now on; a test has excused that *tolerance*."""
        self._enter(Free(tolerance), now)

    def excuse(self, now: float) -> None:
        """Take what fails for chance: hold nothing back, and tolerate as much and a little more."""
        self.be_free(now, min(EXCUSED, 1.25 * self.share + 0.1))

    def test(self, known: float, now: float) -> None:
        """Find out whether less load helps; *known* were carried up to now."""
        self._enter(Testing(self, known), now)

    def hold(self, now: float) -> None:
        """Keep to the present limit, or to what is under way."""
        self._enter(Limited(), now)

    def pace(self, rate: float, now: float) -> None:
        """Let that many go in a second."""
        self._enter(Paced(rate, now), now)

    def go_down(self, now: float, *, held: bool, tolerance: float = 0.0) -> None:
        """Only probe from now on. Afterwards the limit holds again that was known (*held*), or that *tolerance*."""
        self._enter(Down(held=held, tolerance=tolerance), now)

    def _enter(self, phase: Phase, now: float) -> None:
        self.phase = phase
        self.since = now
        self.due = inf
        phase.begin(self, now)

    def forgive(self, tolerance: float) -> None:
        """Begin to count what is beyond that share anew."""
        self.tolerance = tolerance
        self.credit = self.most_credit()

    def charge(self) -> bool:
        """A failure costs credit. True when that is used up."""
        self.credit -= 1
        return self.credit < 0

    def most_credit(self) -> float:
        """A burst of failures among those under way, or a streak of bad luck, is to be taken for what it is."""
        return 2 + self.peak / 3 + STREAK * max(0.0, self.tolerance - TOLERANCE)
