"""What a gate makes of failures, phase by phase. Pure.

*Free*
    Nothing is held back, whatever share fails by chance. A failure costs credit, which grants earn back; only more
    failures than are tolerated use it up, and then there is a test.
*Testing*
    Does less load make it fail less? The slots of what fails are not filled again, so a place that takes ten at once is
    found by the refusals that are under way already, exactly. Then what fails at less load is compared with what failed
    before: as much means chance, and the gate is free again and tolerates it; less means load.
*Limited*
    As many as the place carried may be under way. Now and then a few more may, and if none of them is refused the limit
    rises.
*Paced*
    It refuses however few are under way: it counts by time. As many go in a second as it took between two refusals.
*Down*
    Nearly everything fails. One probe goes now and then; what has not failed for twice the usual time of a failure has
    passed, so that nobody waits for a long answer to learn that an outage is over. Then four times as many go, and
    so on.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.pace import Pace

if TYPE_CHECKING:
    from claudeproxyd.pool.gate import Gate

#: The share of attempts that may fail before there is a test, where nothing is held back and where something is.
TOLERANCE = 0.25
TOLERANCE_HELD = 0.1
#: No more than this is excused as chance, and from here on a place is taken for down.
EXCUSED = 2 / 3
DOWN = 0.8
#: Seconds between two looks at a test, and after which it must come to an end.
TEST = 0.5
LEAST = 0.05
TEST_MOST = 1.5
#: Seconds between two tries for more than the limit, at most; where as many were refused before, so many pass between.
DOUBT = 3.0
#: Where somebody else uses the place, too: seconds for which a tenth of a limit is given back, at each second refusal.
YIELD = 1.0
#: Seconds after which what was taken at a lower limit no longer counts.
STALE = 2.0
PASSES = 8
#: Seconds between two probes of a place that is down: at first, after some seconds, and after an hour.
PROBE_FIRST = 0.1
PROBE = 0.5
PROBE_LAST = 30.0
#: Seconds between two steps on the way up again.
STEP = 0.05
#: Seconds for which a place is not paced again that refused too much at the pace that was measured.
UNPACED = 30.0
#: Refusals from which is seen that it is not time that is counted.
REFUSALS = 8
#: Seconds after which a place that is down and that nobody wants is forgotten.
UNWANTED = 600.0
#: Seconds without a refusal after which a pace is given up.
QUIET = 15.0
#: Seconds after which a share can be compared with what was excused.
SETTLED = 10.0
#: Seconds without a failure after which a free gate is dropped.
IDLE = 60.0


class Condition(Enum):
    """The phases by the names that operators see."""

    FREE = "free"
    TESTING = "testing"
    LIMITED = "limited"
    PACED = "paced"
    DOWN = "down"


class Phase:
    """What all have in common: by itself nothing happens."""

    __slots__ = ()
    condition: Condition

    def begin(self, gate: Gate[Any], now: float) -> None:
        """It is *gate*'s from now on."""

    def granted(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        """An attempt begins, and is counted already."""

    def left(self, gate: Gate[Any], serial: int) -> None:
        """An attempt is over that says nothing of the place."""

    def passed(self, gate: Gate[Any], serial: int, now: float) -> None:
        """An attempt passed; it may still be under way."""

    def failed(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        """An attempt failed, and is no longer counted."""

    def tick(self, gate: Gate[Any], now: float) -> bool:
        """The gate's time has come. False: it may be dropped."""
        return True

    def wait(self, size: int, now: float) -> float:
        """Seconds until an attempt of that size is in pace."""
        return 0.0


class Free(Phase):
    """See the module."""

    __slots__ = ("_base",)
    condition = Condition.FREE

    def __init__(self, tolerance: float = 0.0) -> None:
        """*tolerance*: what a test has excused."""
        self._base = tolerance

    def begin(self, gate: Gate[Any], now: float) -> None:
        gate.limit = inf
        base, self._base = self._base, DOWN if gate.crowd else TOLERANCE
        gate.forgive(max(base, self._base))
        gate.due = now + IDLE

    def granted(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        if gate.tolerance > self._base and gate.share < (gate.tolerance - 0.1) / 2.5 and now - gate.since > SETTLED:
            # Less than half of what was excused, and not because failures are slower than grants.
            gate.tolerance = self._base

    def failed(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        if gate.charge():
            gate.enter(Testing(gate, gate.peak), now)

    def tick(self, gate: Gate[Any], now: float) -> bool:
        gate.due = gate.last_failure + IDLE
        return gate.due > now


class Testing(Phase):
    """See the module."""

    __slots__ = ("_bad", "_before", "_failed", "_floor", "_held", "_judged", "_lone", "_mark", "_taken", "_young")
    condition = Condition.TESTING

    def __init__(self, gate: Gate[Any], known: float) -> None:
        """*known*: what was carried up to now."""
        self._held = gate.condition is not Condition.FREE
        gate.known = max(known, 1.0)
        self._mark = gate.newest
        """What is older is not of the test."""
        self._before = gate.share
        self._floor: float = 1.0
        self._young: dict[int, float] = {}
        """Leases that are too young to be judged, and when they were granted."""
        self._failed: set[int] = set()
        """Those of them that did. What passes may be back before what fails, so that neither counts before its time."""
        self._judged = 0
        self._bad = 0
        """Of those that were judged."""
        self._taken = 0
        """What was granted, less what failed."""
        self._lone: int | None = None
        """One that went though all slots were held, to learn anything at all: -1 until it goes."""

    def begin(self, gate: Gate[Any], now: float) -> None:
        gate.limit = max(1, min(gate.in_flight, int(0.85 * gate.known) if self._held else gate.known))
        gate.due = now + TEST

    def granted(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        self._young[serial] = now
        self._taken += 1
        if self._lone == -1:
            self._lone = serial

    def left(self, gate: Gate[Any], serial: int) -> None:
        self._young.pop(serial, None)

    def passed(self, gate: Gate[Any], serial: int, now: float) -> None:
        if serial > self._mark and gate.limit < gate.known / 4 and 4 * self._bad <= self._judged:
            gate.limit += 1
        self._judge(gate, now)

    def failed(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        if serial == self._lone and gate.in_flight:
            # It was more than there was room for, so that says nothing.
            self._young.pop(serial, None)
            self._taken -= 1
            gate.limit = max(1.0, gate.in_flight)
        elif serial > self._mark:
            self._taken -= 1
            if serial in self._young:
                self._failed.add(serial)
            else:
                self._bad += 1
            gate.limit = max(self._floor, min(gate.limit, gate.in_flight))
        else:
            gate.limit = max(1.0, min(gate.limit, gate.in_flight))
            self._floor = max(1, gate.limit // 2)
            self._before = max(self._before, gate.share)
        self._judge(gate, now)

    def _ripen(self, gate: Gate[Any], now: float) -> None:
        """What is old enough and has not failed has passed."""
        ripe = now - 2 * gate.cost
        while self._young:
            serial = next(iter(self._young))
            if self._young[serial] > ripe:
                return
            del self._young[serial]
            self._judged += 1
            if serial in self._failed:
                self._failed.remove(serial)
                self._bad += 1

    def _judge(self, gate: Gate[Any], now: float) -> None:
        self._ripen(gate, now)
        judged, bad, before = self._judged, self._bad, self._before
        sample = 6 / min(before, 0.5)
        if self._is_down(gate):
            gate.enter(Down(held=self._held), now)
        elif gate.crowd:
            if judged >= 8:
                gate.enter(Free(), now)
        elif (
            bad >= 4
            and judged >= 6
            and bad > 0.7 * before * judged
            and (bad < EXCUSED * judged or (judged >= 16 and bad < DOWN * judged))
        ):
            self._excuse(gate, now)
        elif (judged >= sample and bad <= before * judged / 4) or (
            judged >= 2 * sample and bad <= 0.4 * before * judged
        ):
            gate.enter(Limited(), now)

    def _is_down(self, gate: Gate[Any]) -> bool:
        """Whether nearly everything fails."""
        judged, bad = self._judged, self._bad
        if gate.in_flight:
            return judged >= 8 and ((bad >= DOWN * judged and gate.share >= 0.65) or bad == judged >= 10)
        if bad == judged:
            return bad >= (1 if gate.share >= 0.9 else 4)
        return gate.limit <= max(1.0, gate.known / 8) and bad >= 3 and bad >= 0.75 * judged and gate.share >= 0.65

    def _excuse(self, gate: Gate[Any], now: float) -> None:
        """Less load does not help: it is chance, or it is counted by time."""
        if gate.kind is Kind.QUOTA and now >= gate.unpaced_until and now - gate.since >= LEAST:
            gate.enter(Paced(self._taken / (now - gate.since), now), now)
        else:
            gate.enter(Free(min(EXCUSED, 1.25 * gate.share + 0.1)), now)

    def tick(self, gate: Gate[Any], now: float) -> bool:
        self._judge(gate, now)
        if gate.phase is not self:
            return True
        gate.due = now + TEST
        if gate.crowd:
            gate.enter(Free(), now)
        elif not self._bad and (
            self._judged * self._before >= 3 or (self._judged and now - gate.since >= max(TEST_MOST, 4 * gate.cost))
        ):
            gate.enter(Limited(), now)
        elif not self._judged and not self._young:
            # Long answers hold all slots: one more may go.
            gate.limit = gate.in_flight + 1
            self._lone = -1
        elif self._judged >= 6 and now - gate.since >= max(TEST_MOST, 4 * gate.cost):
            if self._bad <= 0.4 * self._before * self._judged:
                gate.enter(Limited(), now)
            elif self._bad < EXCUSED * self._judged:
                self._excuse(gate, now)
        return True


class Limited(Phase):
    """See the module."""

    __slots__ = ("_beyond", "_ended", "_mark", "_passes", "_since", "_step", "_sure", "_taken", "_went", "_yielded")
    condition = Condition.LIMITED

    def __init__(self) -> None:
        self._step = 1
        """How many more the next try lets go."""
        self._beyond = 0
        """How many more may go now."""
        self._went = 0
        """How many did."""
        self._mark = -1
        """The newest lease when something was refused: what is older is no news."""
        self._passes = 0
        """Since a try was refused."""
        self._yielded = False
        self._taken = 0
        """What was granted lately, less what was refused."""

    def begin(self, gate: Gate[Any], now: float) -> None:
        gate.limit = max(gate.limit if gate.limit < inf else gate.in_flight, 1)
        gate.forgive(TOLERANCE_HELD)
        self._since = self._ended = self._sure = now
        self._mark = gate.newest
        self._arm(gate, now)

    def _pause(self) -> float:
        """Seconds between two tries: the longer the limit has held, the more."""
        return max(0.1, min((self._ended - self._sure) / 8, DOUBT))

    def _arm(self, gate: Gate[Any], now: float) -> None:
        """Try for more, in a while, when all slots are taken."""
        if gate.in_flight < gate.limit or (gate.limit >= gate.known and self._passes < PASSES):
            return
        when = self._ended + self._pause()
        if when > now:
            gate.due = when
            return
        room = gate.known - gate.limit
        self._beyond = int(min(self._step, room)) if room >= 1 else self._step
        gate.limit += self._beyond

    def granted(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        self._taken += 1
        beyond = gate.in_flight - (gate.limit - self._beyond)
        if self._beyond and beyond > self._went:
            if not self._went:
                gate.due = now + gate.look
            self._went = int(beyond)
        elif not self._beyond and gate.due == inf:
            self._arm(gate, now)

    def passed(self, gate: Gate[Any], serial: int, now: float) -> None:
        self._passes += 1

    def failed(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        self._taken -= 1
        if serial <= self._mark:
            return
        if self._went:
            self._mark = gate.newest
            gate.known = gate.limit - self._beyond
            self._step = 1
            self._passes = 0
            self._yielded = gate.shared and not self._yielded
            if self._yielded:
                # Whoever came later finds room, and what is still free then is taken back.
                self._step = max(1, int(gate.known / 10))
                self._end(gate, gate.known - self._step, now + YIELD * min(1.0, gate.known / 10))
            else:
                self._end(gate, gate.known, now)
        elif gate.charge():
            elapsed = now - self._since
            if gate.kind is Kind.QUOTA and now >= gate.unpaced_until and elapsed >= TEST and self._taken > 0:
                gate.enter(Paced(self._taken / elapsed, now), now)
            else:
                gate.enter(Testing(gate, gate.limit), now)

    def tick(self, gate: Gate[Any], now: float) -> bool:
        if self._went:
            # None of those that went beyond the limit was refused.
            limit = gate.limit - self._beyond + self._went
            quick = self._pause() <= 0.1
            self._sure = now - (now - self._sure) / 4
            self._step = self._step * 2 if limit < gate.known or quick else 1
            if now - self._since > STALE:
                self._since = now
                self._taken = 0
            self._end(gate, limit, now)
        elif not self._beyond:
            self._arm(gate, now)
        return True

    def _end(self, gate: Gate[Any], limit: float, now: float) -> None:
        """A try is over."""
        gate.limit = limit
        self._beyond = self._went = 0
        self._ended = now
        gate.due = inf
        self._arm(gate, now)


class Paced(Phase):
    """See the module."""

    __slots__ = ("_carried", "_crowding", "_pace", "_refusals", "_refused_at")
    condition = Condition.PACED

    def __init__(self, rate: float, now: float) -> None:
        """*rate*: what it took in a second."""
        self._pace = Pace(rate, now)
        self._crowding: dict[int, int] = {}
        """Leases, and how many were under way with each."""
        self._forget()

    def _forget(self) -> None:
        """Begin to compare anew at how many under way it took and refused."""
        self._carried = 0
        self._refused_at = 1 << 30
        self._refusals = 0

    @property
    def rate(self) -> float:
        """Attempts a second, as measured."""
        return self._pace.rate

    def begin(self, gate: Gate[Any], now: float) -> None:
        gate.limit = inf
        gate.due = now + QUIET

    def granted(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        self._pace.take(1, now)
        self._crowding[serial] = gate.in_flight

    def left(self, gate: Gate[Any], serial: int) -> None:
        self._crowding.pop(serial, None)

    def passed(self, gate: Gate[Any], serial: int, now: float) -> None:
        self._carried = max(self._carried, self._crowding.pop(serial, 0))

    def failed(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        crowding = self._crowding.pop(serial, None)
        if crowding is not None:
            self._refused_at = min(self._refused_at, crowding)
            self._refusals += 1
        if not self._pace.refused(1, now, shared=gate.shared):
            gate.unpaced_until = now + UNPACED
            gate.enter(Testing(gate, gate.peak), now)
        elif self._refusals >= REFUSALS:
            if self._refused_at >= max(2, 0.8 * self._carried):
                # Always when so many were under way, and never with fewer: it counts those after all.
                gate.limit = self._refused_at - 1
                gate.enter(Limited(), now)
            self._forget()

    def tick(self, gate: Gate[Any], now: float) -> bool:
        gate.due = now + QUIET
        if self._pace.quiet(now) >= QUIET:
            gate.enter(Free(), now)
        return True

    def wait(self, size: int, now: float) -> float:
        return self._pace.wait(1, now)


class Down(Phase):
    """See the module. A probe is waited for, may go, is out, or did not fail and has let others in behind it."""

    __slots__ = ("_began", "_held", "_mark", "_may_probe", "_probing", "_ramping", "_stumbles", "_taken")
    condition = Condition.DOWN

    def __init__(self, *, held: bool) -> None:
        """*held*: there was a limit before, which holds again afterwards."""
        self._held = held
        self._may_probe = False
        self._probing: float | None = None
        """When the oldest probe went that is out."""
        self._ramping = False
        self._stumbles = 0
        """Failures since then."""
        self._taken = 0
        """What was granted since then, and did not fail."""

    def begin(self, gate: Gate[Any], now: float) -> None:
        self._mark = gate.newest
        self._pause(gate, now)

    def _pause(self, gate: Gate[Any], now: float) -> None:
        """The next probe may go in a while."""
        gate.limit = gate.in_flight
        self._may_probe = False
        self._probing = None
        self._ramping = False
        gate.due = max(now + self._between(gate, now), gate.not_before)

    @staticmethod
    def _between(gate: Gate[Any], now: float) -> float:
        """Seconds between two probes."""
        out = now - gate.last_pass
        return max(PROBE_FIRST, min(out / 8, PROBE), min(out / 120, PROBE_LAST))

    def _let_probe(self, gate: Gate[Any]) -> None:
        self._may_probe = True
        gate.limit = gate.in_flight + 1

    def granted(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        self._taken += 1
        if self._ramping:
            return
        self._may_probe = False
        if self._probing is None:
            self._probing = self._began = now
            self._stumbles = 0
            self._taken = 1
        # Where failures are slow the next one goes beside it.
        gate.due = min(self._probing + gate.look, now + max(self._between(gate, now), PROBE))

    def left(self, gate: Gate[Any], serial: int) -> None:
        if serial > self._mark and self._probing is not None and not self._ramping:
            # A probe that says nothing: the next one goes at once.
            self._probing = None
            gate.due = inf
            self._let_probe(gate)
        else:
            self._one_less(gate)

    def passed(self, gate: Gate[Any], serial: int, now: float) -> None:
        if serial > self._mark:
            self._ramp(gate, 2, now)
        else:
            self._one_less(gate)

    def _one_less(self, gate: Gate[Any]) -> None:
        """One from before is over: its slot is not filled again."""
        if self._may_probe:
            gate.limit = gate.in_flight + 1
        elif not self._ramping:
            gate.limit = min(gate.limit, gate.in_flight)

    def failed(self, gate: Gate[Any], serial: int, size: int, now: float) -> None:
        if serial <= self._mark:
            self._one_less(gate)
            return
        self._taken -= 1
        self._stumbles += 1
        if gate.in_flight < 3 or not self._ramping:
            if not gate.in_flight:
                self._mark = gate.newest
            self._pause(gate, now)
        elif self._stumbles >= 2:
            # It lives, but does not take all.
            elapsed = now - self._began
            if gate.kind is Kind.QUOTA and elapsed >= TEST and self._taken > 0:
                gate.enter(Paced(self._taken / elapsed, now), now)
            else:
                gate.enter(Testing(gate, gate.known), now)

    def tick(self, gate: Gate[Any], now: float) -> bool:
        if self._ramping or (self._probing is not None and now >= self._probing + gate.look - 1e-9):
            gate.last_pass = now
            self._ramp(gate, 3 * max(gate.limit, gate.in_flight) + 1, now)
        elif self._may_probe:
            # Nobody has wanted it for long.
            return False
        else:
            gate.due = now + UNWANTED
            self._let_probe(gate)
        return True

    def _ramp(self, gate: Gate[Any], more: float, now: float) -> None:
        """So many more may go; when they are as many as before, it is over."""
        if not self._ramping or gate.due == inf:
            gate.due = now + STEP
        self._ramping = True
        self._may_probe = False
        gate.limit = max(gate.limit, gate.in_flight) + more
        if gate.limit < gate.known:
            return
        if self._held:
            gate.limit = gate.known
            gate.enter(Limited(), now)
        else:
            gate.enter(Free(), now)
