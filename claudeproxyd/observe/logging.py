"""The daemon's own log: as text or as flat JSON, filtered by level, with secrets masked in the finished line.

How ``[log]`` takes effect: twistd makes the services, gives them the application as their parent, and then, before it
makes an observer of its own, asks the application for an ``ILogObserver``. So the daemon's service, when it is given
its parent, sets an :func:`observer` on :func:`for_twistd`'s file as that component; twistd then hands it all that was
logged before. An explicit ``--logger`` wins, which is twistd's own rule; :func:`text_logger` and :func:`json_logger`
are for it.

An event may carry an *entry*: a struct that is all there is to say (an access entry, a usage record). JSON gets its
members in the place of a message, text gets its ``str``. One or two come with each request, so the formatter and the
search for secrets are for other events: who makes an entry masks in it what others have written, and no field breaks a
line.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, cast

import msgspec
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    formatEventAsClassicLogText,
    formatTime,
)
from twisted.python.logfile import LogFile

from claudeproxyd.observe.access_log import AccessEntry, terminal_line, utc
from claudeproxyd.observe.lines import json_line
from claudeproxyd.observe.output import Output
from claudeproxyd.observe.scrub import scrub
from claudeproxyd.observe.usage import UsageRecord

if TYPE_CHECKING:
    from twisted.logger import LogEvent

#: How many full pieces of a log file stay beside it, of 1 MB each. Twisted's own default is all of them.
MAX_ROTATED_FILES = 20

ENTRIES = (AccessEntry, UsageRecord)

#: Members that Twisted adds to events of the older ``twisted.python.log``; all they say is said otherwise.
_LEGACY = frozenset({"message", "time", "system", "isError", "format", "failure", "why"})

#: What could move a terminal's cursor or colour it, as its escape; newlines are indented by Twisted's own format.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))} | {
    code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


def as_text(event: LogEvent) -> str | None:
    """An event in Twisted's classic form. Lines after the first are indented; other control characters are escaped."""
    entry = event.get("entry")
    if isinstance(entry, ENTRIES):
        return f"{_local(int(event['log_time']))} [{event['log_namespace']}#{event['log_level'].name}] {entry}\n"
    text = formatEventAsClassicLogText(event)
    return None if text is None else scrub(text[:-1].translate(_CONTROLS)) + "\n"


def as_json(event: LogEvent) -> str:
    """An event as one flat object: ts, level, ns, msg, its simple fields, traceback."""
    entry = event.get("entry")
    level = event.get("log_level")
    line: dict[str, object] = {
        "ts": f"{utc(event.get('log_time', 0.0))}+00:00",
        "level": "info" if level is None else level.name,
        "ns": event.get("log_namespace", "-"),
    }
    if isinstance(entry, ENTRIES):
        return f"{msgspec.json.encode(line)[:-1].decode()},{json_line(entry)[1:]}\n"
    line["msg"] = formatEvent(event)
    for name, value in event.items():
        if not name.startswith("log_") and name not in _LEGACY and name not in line and _simple(value):
            line[name] = value
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return scrub(json.dumps(line, default=str).replace("\x7f", "\\u007f")) + "\n"


def for_terminal(colour: bool) -> Callable[[LogEvent], str | None]:
    """Return an event as text for a terminal, where requests have a line that is made for eyes."""

    def format(event: LogEvent) -> str | None:
        entry = event.get("entry")
        if isinstance(entry, AccessEntry):
            return scrub(terminal_line(entry, colour)) + "\n"
        return as_text(event)

    return format


def observer(out: IO[Any] | Output, form: str = "text", level: str = "info") -> ILogObserver:
    """Return what writes events from *level* up to *out*. *form* is text, which heeds ``NO_COLOR``, or json."""
    format: Callable[[LogEvent], str | None]
    if form == "json":
        format = as_json
    elif getattr(out, "isatty", bool)():  # twistd's LogFile does not know
        format = for_terminal(colour=not os.environ.get("NO_COLOR"))
    else:
        format = as_text
    lowest = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level))
    return FilteringLogObserver(FileLogObserver(cast(IO[Any], out), format), [lowest])


def for_twistd(options: Mapping[str, object]) -> IO[Any] | Output | None:
    """Return where twistd's own observer would write: ``--logfile``, else stdout under ``-n``, else ``twistd.log``.

    A file rotates at 1 MB, and :data:`MAX_ROTATED_FILES` pieces of it stay.

    *options* are twistd's: the ``parent`` of the plugin's. None under ``--syslog``, which is left to twistd.
    """
    if options.get("syslog"):
        return None
    name = options.get("logfile")
    if name == "-" or (options.get("nodaemon") and not name):
        return patient(sys.stdout)
    name = name or "twistd.log"
    file: IO[Any] = LogFile.fromFullPath(name, maxRotatedFiles=MAX_ROTATED_FILES)  # type: ignore[no-untyped-call]  # Twisted has no types here
    return file


def patient(out: IO[str]) -> IO[str] | Output:
    """Return *out* so that it is not waited for; as it is where it is no file of the system's."""
    try:
        return Output(out)
    except (OSError, ValueError):  # closed, or in memory
        return out


def text_logger() -> ILogObserver:
    """Return what writes text to stdout, for ``twistd --logger claudeproxyd.observe.logging.text_logger``."""
    return observer(patient(sys.__stdout__ or sys.stdout))


def json_logger() -> ILogObserver:
    """Return what writes JSON to stdout, for ``twistd --logger claudeproxyd.observe.logging.json_logger``."""
    return observer(patient(sys.__stdout__ or sys.stdout), "json")


@lru_cache(maxsize=4)
def _local(second: int) -> str:
    """Return a time as Twisted has it; it takes longer than all the rest of a line."""
    return formatTime(second)


def _simple(value: object) -> bool:
    return value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))
