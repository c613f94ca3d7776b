"""The files of access log and audit, and where lines go that have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from claudeproxyd.observe.access_log import text_line
from claudeproxyd.observe.audit import audit_line
from claudeproxyd.observe.lines import FLUSH_DELAY, LineFile, json_line, to_file, to_log

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.config.schema import Log
    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.observe.lines import Write
    from claudeproxyd.threads import InThread


class LogFiles:
    """Opened once; which lines are written, and how, may change with a reload."""

    def __init__(self, log: Log, reactor: IReactorTime, new_thread: Callable[[str], InThread]) -> None:
        """Open them. Raises SystemExit where one cannot be. *new_thread* makes a thread, by its name."""
        self._reactor = reactor
        self._new_thread = new_thread
        self._access = self._open("access", log.access, FLUSH_DELAY)
        self._audit = self._open("audit", log.audit, 0.0)

    def _open(self, setting: str, path: str, delay: float) -> LineFile | None:
        if path in ("", "off"):
            return None
        try:
            return LineFile(path, self._reactor, self._new_thread(f"{setting} log"), delay)
        except OSError as e:
            raise SystemExit(f"claudeproxyd: log.{setting}: {e}: name a file that can be written") from None

    def register(self, metrics: Registry) -> None:
        """Add the metrics of the access log's file."""
        if self._access is not None:
            self._access.register(metrics)

    def audit(self) -> Write:
        """Return what writes an action of an operator."""
        return to_log("claudeproxyd.audit") if self._audit is None else to_file(self._audit, audit_line)

    def access(self, log: Log) -> Callable[[Any], None]:
        """Return what writes a request."""
        if log.access == "off":
            return lambda entry: None
        if self._access is None:
            return to_log("claudeproxyd.access")
        return to_file(self._access, json_line if log.format == "json" else text_line)

    def usage(self) -> Write:
        """Return what writes a usage record."""
        return to_log("claudeproxyd.usage") if self._access is None else to_file(self._access, json_line)

    def reopen(self) -> None:
        """Open them anew: they were renamed."""
        for file in filter(None, (self._access, self._audit)):
            file.reopen()

    async def close(self) -> None:
        """Write what waits."""
        for file in filter(None, (self._access, self._audit)):
            await file.close()
