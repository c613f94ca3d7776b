"""What the admin listener tells of accounts: what was used, the last requests, and how full the limits are."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

import msgspec
from twisted.logger import Logger

from claudeproxyd.accounts.prices import DAY, NANO
from claudeproxyd.accounts.rows import Question
from claudeproxyd.accounts.schema import FIGURES
from claudeproxyd.errors import ClaudeError
from claudeproxyd.observe.scrub import redact_bytes
from claudeproxyd.web.answering import answer_in_turns
from claudeproxyd.web.asking import read_query
from claudeproxyd.web.root import Endpoint

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from claudeproxyd.accounts.ledger import Ledger
    from claudeproxyd.accounts.limits import Counter
    from claudeproxyd.interfaces import ILimitStore
    from claudeproxyd.web.request import GatewayRequest

MAX_REQUESTS = 1000
"""Of one answer."""
MAX_LIMIT = 1_000_000
"""Of the groups that somebody wants."""
ROWS_PER_TURN = 200
"""Rows that are written in one turn of the reactor: a millisecond's work."""

_log = Logger()
_encode = msgspec.json.Encoder().encode

_Row = TypeVar("_Row")

JSON = b"application/json"

#: How a formula begins, in full width too.
_FORMULAS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
#: The figures of a row, as they are told.
_TOLD = (*(name for name in FIGURES if name != "nano_usd"), "usd")
#: Of an attempt's row, what its request has in common.
_OF_REQUEST = ("client", "labels", "session", "model", "operation")
#: Of the last attempt's row, or of one that says that there was none: how the request ended.
_OF_END = ("time", "outcome", "status")


class _UsageQuery(msgspec.Struct, rename={"since": "from", "until": "to"}, forbid_unknown_fields=True):
    since: date | None = None
    until: date | None = None
    by: str = ""
    format: str = "json"
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)] | None = None


class _RequestsQuery(msgspec.Struct, forbid_unknown_fields=True):
    after: float = 0.0
    client: str | None = None
    request_id: str | None = None
    session: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_REQUESTS)] = 200


class _OfLedger(Endpoint):
    """The base of all that ask it."""

    def __init__(self, ledger: Ledger | None) -> None:
        super().__init__()
        self._ledger = ledger

    @property
    def ledger(self) -> Ledger:
        """Raises ClaudeError: there is none."""
        if self._ledger is None:
            raise ClaudeError(404, 'There is no ledger: accounts.database is ""')
        return self._ledger

    def answer(self, request: GatewayRequest, asked: Deferred[Iterator[bytes]], content_type: bytes) -> None:
        """Send what comes of *asked*."""

        def answer(pieces: Iterator[bytes]) -> None:
            answer_in_turns(request, content_type, pieces)

        def fail(failure: Failure) -> None:
            if request.channel is None:
                return
            if failure.check(ValueError):
                request.refuse(ClaudeError(400, failure.getErrorMessage()))
            else:
                _log.warn("the ledger does not answer: {why}", why=failure.getErrorMessage())
                request.refuse(ClaudeError(503, "The ledger does not answer; the log says why"))

        asked.addCallbacks(answer, fail)


class ShowUsage(_OfLedger):
    """``/admin/v1/usage``: tokens and money of whole days, by whatever is asked for."""

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer with a row for each group, those that cost most first."""
        query = read_query(request, _UsageQuery)
        if query.format not in ("json", "csv"):
            raise ClaudeError(400, "format: must be json or csv")
        by = [name for name in query.by.split(",") if name]
        until = query.until or datetime.now(UTC).date()
        question = Question(_day(query.since) if query.since else 0, _day(until), by, query.limit or 0)
        asked = self.ledger.totals(question)
        if query.format == "csv":
            self.answer(request, asked.addCallback(_csv, by), b"text/csv; charset=utf-8")
        else:
            self.answer(request, asked.addCallback(_json), JSON)


class ShowLabels(_OfLedger):
    """``/admin/v1/labels``: by which labels usage can be asked for."""

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer with their names."""
        asked = self.ledger.labels()
        self.answer(request, asked.addCallback(lambda names: iter([redact_bytes(_encode(names))])), JSON)


class ShowRequests(_OfLedger):
    """``/admin/v1/requests``: the last ones, and what happened to each attempt."""

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer with the requests of the last attempts that fit, the last first."""
        query = read_query(request, _RequestsQuery)
        where = {
            name: value for name in ("client", "request_id", "session") if (value := getattr(query, name)) is not None
        }
        asked = self.ledger.attempts(where, query.after, query.limit)
        self.answer(request, asked.addCallback(_requests), JSON)


class ShowLimits(Endpoint):
    """``/admin/v1/limits``: each counter, and how full it is."""

    def __init__(self, limits: ILimitStore) -> None:
        super().__init__()
        self._limits = limits

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer with an entry for each counter that has counted anything, in the order of the limits."""
        now = time.time()

        def answer(counters: Sequence[Counter]) -> None:
            answer_in_turns(request, JSON, _counted(counters, now))

        self._limits.snapshot(now).addCallback(answer)


def _counted(counters: Sequence[Counter], now: float) -> Iterator[bytes]:
    before = b"["
    for counter in counters:
        yield before + redact_bytes(_encode(_entry(counter, now)))
        before = b","
    yield b"]" if counters else b"[]"


def _entry(counter: Counter, now: float) -> dict[str, object]:
    limit = counter.limit
    unit = NANO if limit.measure == "usd" else 1
    return {
        "name": limit.name,
        "each": limit.each,
        "value": counter.value,
        "measure": limit.measure,
        "per": limit.per,
        "warn": limit.warn,
        "limit": limit.amount / unit,
        "used": counter.used(now) / unit,
        "reserved": counter.reserved / unit,
        "resets_at": counter.resets_at(now),
    }


def _day(of: date) -> int:
    return int(datetime(of.year, of.month, of.day, tzinfo=UTC).timestamp()) // DAY


def _dated(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row with its day in words."""
    day = row.get("day")
    return {**row, "day": str(datetime.fromtimestamp(day * DAY, UTC).date())} if isinstance(day, int) else dict(row)


def _json(rows: Sequence[Mapping[str, object]]) -> Iterator[bytes]:
    """Yield a list, some rows at a time."""
    before = b"["
    for some in _turns(rows):
        yield before + redact_bytes(_encode([_dated(row) for row in some])[1:-1])
        before = b","
    yield b"]" if rows else b"[]"


def _csv(rows: Sequence[Mapping[str, object]], by: Sequence[str]) -> Iterator[bytes]:
    """Yield a table, some rows at a time."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*by, *_TOLD], lineterminator="\r\n")
    writer.writeheader()
    for some in _turns(rows):
        writer.writerows({name: _inert(value) for name, value in _dated(row).items()} for row in some)
        yield redact_bytes(text.getvalue().encode())
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def _turns(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    """Yield the rows, as many at a time as one turn has time for."""
    return (rows[start : start + ROWS_PER_TURN] for start in range(0, len(rows), ROWS_PER_TURN))


def _inert(value: object) -> object:
    """A value that no spreadsheet takes for a formula: clients choose models' names."""
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(_FORMULAS) else value


def _requests(attempts: Sequence[dict[str, object]]) -> Iterator[bytes]:
    requests: dict[object, dict[str, object]] = {}
    for attempt in attempts:
        common = {name: attempt.pop(name) for name in _OF_REQUEST}
        common["labels"] = msgspec.json.decode(str(common["labels"]))
        nano = attempt.pop("nano_usd")
        attempt["usd"] = nano / NANO if isinstance(nano, int) else None
        attempt["estimated"] = bool(attempt["estimated"])
        request_id = attempt.pop("request_id")
        end = {name: attempt[name] for name in _OF_END}  # the last attempt comes first
        request = requests.setdefault(request_id, {"request_id": request_id, **common, **end, "attempts": []})
        if attempt["attempt"]:
            cast("list[object]", request["attempts"]).insert(0, attempt)
    return _json(list(requests.values()))
