"""How much a place that fails now and then is given: learned, and never nothing. Pure: times are passed in.

A failure that passes by itself says nothing about the next request, so it must not stop it. A gate counts such failures
as evidence, and holds back only where less load makes the place fail less. What it makes of the evidence depends on its
*phase*; :mod:`~claudeproxyd.pool.phases` has the five of them, and docs/pool.md tells it as a story.

Failures are counted against grants and not against results, for a failure is back in milliseconds and a success in
seconds. Leases are numbered, so that what comes of an older one can be told from news.
"""

from __future__ import annotations

from math import inf
from typing import Generic, TypeVar

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.phases import Condition, Phase
from claudeproxyd.pool.phases.down import Down
from claudeproxyd.pool.phases.free import TOLERANCE, Free
from claudeproxyd.pool.phases.limited import Limited
from claudeproxyd.pool.phases.paced import Paced
from claudeproxyd.pool.phases.testing import Testing

P = TypeVar("P")

#: Shares are means over some so many grants, and over those under way.
MEMORY = 32
#: A gate that is new begins as if that many more had been granted and none had failed.
PRIOR = 8
#: How much longer a streak of bad luck may be, for each attempt in one that is excused.
STREAK = 12
#: Seconds that something must have lasted before it counts as passed, at least.
LOOK = 0.05


class Gate(Generic[P]):
    """See the module. ``scope`` is the caller's own: what it is about.

    The caller tells of every lease there: :meth:`granted`, then one of :meth:`passed`, :meth:`failed` and :meth:`left`;
    and calls :meth:`tick` when :attr:`due` has come.
    """

    __slots__ = (
        "_failures",
        "_grants",
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
        "not_before",
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
        """Of the last failure, like ``reason``; the caller sets both."""
        self.reason = ""
        self.shared = False
        """Another daemon is known that uses the place, too; the caller says so."""
        self.unpaced_until = 0.0
        """It has been seen that it does not count by time."""
        self.last_failure = now
        self.last_pass = now
        self.not_before = 0.0
        """What is down is not tried before: the upstream said so."""
        self.cost = 0.0
        """Seconds that failures take."""
        self.peak = float(in_flight)
        """What was under way lately, at most."""
        self.known = float(in_flight)
        """What was carried before less was let through."""
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
        """Whether one more attempt may be under way. The pace is asked for by :meth:`wait`."""
        return self.in_flight < self.limit

    @property
    def condition(self) -> Condition:
        """In a word."""
        return self.phase.condition

    @property
    def share(self) -> float:
        """Of the attempts granted lately, how many failed."""
        return min(1.0, self._failures / self._grants)

    @property
    def odds(self) -> float:
        """How likely a failure here says nothing about the request: 1 where that is being found out."""
        return 1.0 if self.condition in (Condition.TESTING, Condition.DOWN) else self.share

    @property
    def look(self) -> float:
        """Seconds after which what has not failed has passed."""
        return max(2 * self.cost, LOOK)

    def wait(self, size: int, now: float) -> float:
        """Seconds until an attempt of that size, in bytes, is in pace; 0 where there is none."""
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
        self.phase.left(self, serial)

    def began(self, serial: int, now: float) -> None:
        """An attempt's answer has begun, which is as good as a pass; it is still under way, and may break off."""
        self.last_pass = now
        self.phase.passed(self, serial, now)

    def passed(self, serial: int, now: float) -> None:
        """An attempt got an answer, good or not."""
        self.in_flight -= 1
        self.last_pass = now
        self.phase.passed(self, serial, now)

    def failed(self, serial: int, size: int, took: float, now: float, wait: float = 0.0) -> None:
        """An attempt failed in a way that passes, after *took* seconds; the upstream asked for *wait* more."""
        self.in_flight -= 1
        self.last_failure = now
        self._failures += 1
        self.cost = max(took, 0.9 * self.cost)
        self.not_before = max(self.not_before, now + wait)
        if wait and self.kind is Kind.QUOTA and not (self.in_flight or self.crowd or self.condition is Condition.DOWN):
            # It says when, and nothing is under way that could show it to be otherwise.
            self.known = max(self.peak, 1.0)
            self.go_down(now, held=False)
        else:
            self.phase.failed(self, serial, size, now)

    def tick(self, now: float) -> bool:
        """:attr:`due` has come. False when the gate is of no more use."""
        self.due = inf
        return self.phase.tick(self, now)

    # -- for the phases

    def be_free(self, now: float, tolerance: float = 0.0) -> None:
        """Hold nothing back from now on; a test has excused that *tolerance*."""
        self._enter(Free(tolerance), now)

    def test(self, known: float, now: float) -> None:
        """Find out whether less load helps; *known* were carried up to now."""
        self._enter(Testing(self, known), now)

    def hold(self, now: float) -> None:
        """Keep to the present limit, or to what is under way."""
        self._enter(Limited(), now)

    def pace(self, rate: float, now: float) -> None:
        """Let that many go in a second."""
        self._enter(Paced(rate, now), now)

    def go_down(self, now: float, *, held: bool) -> None:
        """Only probe from now on. *held*: there was a limit before, which holds again afterwards."""
        self._enter(Down(held=held), now)

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
