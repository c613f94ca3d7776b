"""One usage record an attempt, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from zope.interface import implementer

from claudeproxyd.interfaces import IUsageSink
from claudeproxyd.observe.failures import FirstFailures
from claudeproxyd.observe.lines import Write, json_line
from claudeproxyd.observe.scrub import redact

if TYPE_CHECKING:
    from collections.abc import Sequence


MESSAGES = "messages"
COUNT_TOKENS = "count_tokens"
LOST = "lost"
"""The outcome of an attempt that was under way when the process was killed."""
#: Characters of what others have written in a record.
MAX_WORD_CHARACTERS = 200


def foreign(word: str) -> str:
    """Return a client's or an upstream's *word* as a record may have it: shortened, and secrets in it masked."""
    return redact(word)[:MAX_WORD_CHARACTERS]


class UsageRecord(msgspec.Struct, kw_only=True):
    """What one attempt asked for, got and cost. Made by dispatch when the attempt is over.

    A figure that is not known is None, which is not the same as 0. Times are seconds, sizes bytes.
    """

    time: float
    """When the attempt was over, since the epoch."""
    request_id: str
    """Ours: several attempts of one request share it."""
    upstream_request_id: str = ""
    client: str = ""
    labels: Mapping[str, str] = {}
    """The client's, as configured."""
    trace_id: str = ""
    """Of the trace that it is part of, where that is exported."""
    session: str = ""
    model_asked: str = ""
    model_served: str = ""
    """The upstream's name for it."""
    provider: str = ""
    credential: str = ""
    """Its name."""
    attempt: int = 1
    """1 for a request's first; 0 in the record of one that had none, which the ledger alone has."""
    operation: str = MESSAGES
    """Or :data:`COUNT_TOKENS`, which uses none: its record has no figures of tokens."""
    outcome: str = ""
    """As :class:`claudeproxyd.outcomes.types.Kind` has it, or :data:`LOST`."""
    status: int = 0
    """The upstream's; 0 where no head came."""
    stop_reason: str | None = None
    input_tokens: int | None = None
    """Without what was read from or written to a cache."""
    output_tokens: int | None = None
    """With thinking."""
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    """Those of the cache writes that are kept for an hour, which cost more."""
    thinking_tokens: int | None = None
    nano_usd: int | None = None
    """What it cost, in 10⁻⁹ USD; None: nobody has said what its model costs."""
    estimated: bool = False
    """The figure of the input or of the output is our estimate, since the upstream has told none."""
    time_to_first_byte: float | None = None
    time_to_first_content: float | None = None
    duration: float = 0.0
    bytes_in: int = 0
    """From the upstream."""
    bytes_out: int = 0
    """To the upstream."""

    def __str__(self) -> str:
        """Return the record as a line of JSON: records are for machines in a text log too."""
        return json_line(self)


@implementer(IUsageSink)
class UsageLog:
    """Writes each record as a line of its own, by :func:`~claudeproxyd.observe.lines.to_log` or ``to_file``."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def record(self, record: UsageRecord) -> None:
        """Write it. See :class:`~claudeproxyd.interfaces.IUsageSink`."""
        self._write(record)


@implementer(IUsageSink)
class Sinks:
    """Gives each record to every sink. One that fails neither hurts the request nor keeps the others from theirs."""

    def __init__(self, sinks: Sequence[IUsageSink]) -> None:
        self._sinks = tuple(sinks)
        self._failures = FirstFailures("usage records are lost: {who} failed")

    def record(self, record: UsageRecord) -> None:
        """Give it to every sink. A sink's first failure is logged, the rest are not."""
        for place, sink in enumerate(self._sinks):
            try:
                sink.record(record)
            except Exception:
                self._failures.note(place, sink)
