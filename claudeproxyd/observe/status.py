"""What the process is: its version, since when it runs, and how its last reload went."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import twisted

import claudeproxyd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from claudeproxyd.observe.exposition import Registry


@dataclass
class Status:
    """Kept by the daemon, which tells it of reloads. Times are seconds since the epoch."""

    started_at: float
    reloaded_at: float
    """When the last reload ended, well or not; before any, when the process began."""
    changes: str = ""
    """What the last one that went well has changed."""
    mistake: str = ""
    """Why the last one changed nothing; '' where it went well. The file as it is would not start, either."""
    unknown_use: Sequence[str] = ()
    """Why limits do not know all that was used before the start; empty where they do."""

    @classmethod
    def begun(cls, now: float) -> Status:
        """Return that of a process that begins now, with a configuration that could be used."""
        return cls(started_at=now, reloaded_at=now)

    def reloaded(self, changes: str, now: float) -> None:
        """Note a reload that went well."""
        self.changes, self.mistake, self.reloaded_at = changes, "", now

    def not_reloaded(self, mistake: str, now: float) -> None:
        """Note one after which all is as it was."""
        self.mistake, self.reloaded_at = mistake, now

    def register(self, metrics: Registry) -> None:
        """Add its metrics."""
        metrics.gauge("claudeproxyd_build_info", "1, for these versions.", _versions, ("version", "python", "twisted"))
        metrics.gauge(
            "claudeproxyd_config_last_reload_successful",
            "Whether the last reload went well.",
            lambda: int(not self.mistake),
        )
        metrics.gauge(
            "claudeproxyd_config_last_reload_timestamp_seconds",
            "When the last reload ended.",
            lambda: self.reloaded_at,
        )


def _versions() -> Mapping[tuple[str, ...], float]:
    return {(claudeproxyd.__version__, platform.python_version(), twisted.__version__): 1}
