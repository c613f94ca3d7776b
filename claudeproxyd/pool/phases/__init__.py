"""Take failures phase by phase, as a gate does. Pure.

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
    Where it refuses too much at that pace, too, it is chance.
*Down*
    Nearly everything fails. One probe goes now and then; what has not failed for twice the usual time of a failure has
    passed, so that nobody waits for a long answer to learn that an outage is over. Then four times as many go, and
    so on.

Where failures take longer than answers, the order in which attempts were granted tells more than that in which they
come back. When several in a row failed, fewer where few are ever under way, and nothing has passed that was granted
since, it is down without a test; when something passes after nothing did for longer than answers take, all that was
granted before it is history.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from claudeproxyd.pool.gate import Gate

#: What a gate is a gate of is nothing to its phase.
AnyGate: TypeAlias = "Gate[Any]"

#: From that share of the attempts on a place is taken for down.
DOWN = 0.8
#: No larger share than this is excused as chance.
EXCUSED = 2 / 3


class Condition(Enum):
    """The phases by the names that operators see."""

    FREE = "free"
    TESTING = "testing"
    LIMITED = "limited"
    PACED = "paced"
    DOWN = "down"


class Phase:
    """The base of all phases: by itself nothing happens."""

    __slots__ = ()
    condition: Condition
    held = False
    """There is a limit, or was one before."""

    def begin(self, gate: AnyGate, now: float) -> None:
        """It is *gate*'s from now on."""

    def granted(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        """An attempt begins, and is counted already."""

    def left(self, gate: AnyGate, serial: int) -> None:
        """An attempt is over that says nothing of the place."""

    def passed(self, gate: AnyGate, serial: int, now: float) -> None:
        """An attempt passed; it may still be under way."""

    def failed(self, gate: AnyGate, serial: int, size: int, now: float) -> None:
        """An attempt failed, and is no longer counted."""

    def tick(self, gate: AnyGate, now: float) -> bool:
        """The gate's time has come. False: it may be dropped."""
        return True

    def wait(self, size: int, now: float) -> float:
        """Return the seconds until an attempt of that size is in pace."""
        return 0.0
