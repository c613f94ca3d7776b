"""How late the reactor is: whatever holds it holds every stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.observe.exposition import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from claudeproxyd.observe.exposition import Registry

#: Seconds between two looks.
LAG_EVERY = 0.25
#: Seconds.
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class LoopLag:
    """Measures by how much its own calls are late. Called by a timer of the daemon."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        """*seconds*: the timer's clock."""
        self._seconds = seconds
        self._due: float | None = None
        self.late = Histogram(LAG_BUCKETS)

    def register(self, metrics: Registry) -> None:
        """Add its metric."""
        metrics.histogram(
            "claudeproxyd_event_loop_lag_seconds",
            "How late the reactor was, looked at four times a second.",
            self._read,
        )

    def _read(self) -> Histogram:
        return self.late

    def look(self) -> None:
        """Note how late this call is, which is due every :data:`LAG_EVERY` seconds; missed ones are left out."""
        now = self._seconds()
        if self._due is not None:
            late = max(0.0, now - self._due)
            self.late.observe(late)
            self._due += LAG_EVERY * (late // LAG_EVERY + 1)
        else:
            self._due = now + LAG_EVERY
