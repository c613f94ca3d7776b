"""The ledger as the daemon has it: takes usage records, and answers what was used.

Records go into the :class:`~claudeproxyd.accounts.journal.Journal` before anything is sent in which they can be seen,
those of one turn of the reactor together, and from there into the database by a thread of its own. Questions are
answered by another one, so that neither waits for the other.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from claudeproxyd.accounts.database import LedgerFile
from claudeproxyd.accounts.journal import SUFFIX, Journal, deserted, lines_of
from claudeproxyd.accounts.limits import RATES, Limit, UsageLimits, amounts_of, asked_by
from claudeproxyd.accounts.prices import DAY
from claudeproxyd.accounts.rows import Question
from claudeproxyd.accounts.under_way import SUFFIX as BEGUN
from claudeproxyd.accounts.under_way import AttemptsUnderWay, lost_in
from claudeproxyd.accounts.windows import window_of
from claudeproxyd.interfaces import IAttemptJournal, ILedgerDatabase, IUsageSink
from claudeproxyd.observe.usage import MESSAGES, UsageRecord

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.threads import InThread

ENTER_DELAY = 1.0
"""Seconds that a record may wait for others to be entered with it."""
RETRY_DELAY = 5.0
"""Seconds to the next try after the database could not be written."""
SWEEP_INTERVAL = 3600.0
"""Seconds between two deletions of old rows."""
MAX_WAITING_BYTES = 268_435_456
"""Of records while the database is away: some 500,000."""
MAX_UNSENT = 60
"""Requests of a client without an attempt that are kept in a minute: metrics count them all."""
SEGMENT_BYTES = 8_388_608
"""Of a file of records that wait: while the database is away nothing is gained by many small ones."""

_decode = msgspec.json.Decoder(UsageRecord).decode


@dataclass(eq=False)
class _Counting:
    """A question what was used until then."""

    limits: Sequence[Limit]
    until: float
    meanwhile: Callable[[UsageLimits, str], None]
    """Told, once, what is known where the database is away."""
    counted: Deferred[UsageLimits]
    is_told: bool = False


@implementer(IAttemptJournal, IUsageSink)
class Ledger(Service):
    """What was used by whom, and what it cost."""

    _log = Logger()

    def __init__(
        self,
        path: str,
        keep: float,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        enter_in: InThread,
        answer_in: InThread,
        database: Callable[[], ILedgerDatabase] | None = None,
        waiting: str = "",
        before_sending: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        """*path* is the database's, beside which the records wait, or in the folder *waiting*.

        *keep*: days of single rows. *database* makes what each of the threads uses; None: the SQLite file at *path*.
        *before_sending* calls what it is given before anything is sent; None: records are written one by one.
        """
        self.keep = keep
        self._clock = clock
        self._wall_clock = wall_clock
        self._journal = Journal(waiting or path + ".waiting", MAX_WAITING_BYTES)
        self._under_way = AttemptsUnderWay(self._journal.folder)
        self._written, self._asked = (LedgerFile(path) if database is None else database() for _ in range(2))
        self._enter_in, self._answer_in = enter_in, answer_in
        self._before_sending = before_sending
        self._is_to_write = False
        self._unsent: Counter[str] = Counter()
        """Requests without an attempt, by client, in the last minute that had any."""
        self._minute = 0
        self._timer: IDelayedCall | None = None
        self._busy = False
        self._failing = False
        self._swept = 0.0
        self._stopped: Deferred[None] | None = None
        self._countings: list[_Counting] = []

    def register(self, metrics: Registry) -> None:
        """Add the metrics of the entering."""
        metrics.gauge(
            "claudeproxyd_ledger_waiting_bytes", "Usage records not yet in the ledger.", lambda: self._journal.size
        )
        metrics.gauge(
            "claudeproxyd_ledger_connected", "Whether usage records are entered.", lambda: int(not self._failing)
        )
        metrics.counter("claudeproxyd_ledger_lost_total", "Usage records lost.", lambda: self._journal.lost)

    # -- taking

    def begun(self, record: UsageRecord) -> None:
        """See :class:`~claudeproxyd.interfaces.IAttemptJournal`."""
        self._under_way.begin(record)
        if not self._is_to_write:
            self._write_soon()

    def record(self, record: UsageRecord) -> None:
        """See :class:`~claudeproxyd.interfaces.IUsageSink`."""
        self._journal.add(record)
        self._under_way.end(record)
        if not self._is_to_write:
            self._write_soon()
        if self._timer is None and not self._busy:
            self._soon()

    def unsent(self, record: UsageRecord) -> None:
        """See :class:`~claudeproxyd.interfaces.IAttemptJournal`. Of those of one client so many are kept in a minute:
        whoever asks again and again for nothing is to fill no disk."""
        minute = int(record.time // 60)
        if minute != self._minute:
            self._minute = minute
            self._unsent.clear()
        self._unsent[record.client] += 1
        if self._unsent[record.client] <= MAX_UNSENT:
            self.record(record)

    def _write_soon(self) -> None:
        if self._before_sending is None or not self.running:  # at the end there may be no other turn
            self._write()
        else:
            self._is_to_write = True
            self._before_sending(self._write)

    def _write(self) -> None:
        self._is_to_write = False
        self._journal.write()
        self._under_way.write()

    def startService(self) -> None:
        """Enter what an earlier process has left."""
        super().startService()
        self._busy = True
        found = self._enter_in(_left_behind, self._journal.folder)
        found.addCallbacks(self._adopt, self._not_found).addCallback(self._done)

    def stopService(self) -> Deferred[None]:
        """Enter what there is; what cannot be entered now the next start will."""
        super().stopService()
        self._write()  # the hub may have no other turn
        stopped = self._stopped = Deferred()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._busy:
            self._enter()
        return stopped

    def _soon(self) -> None:
        self._timer = self._clock.callLater(RETRY_DELAY if self._failing else ENTER_DELAY, self._enter)

    def _enter(self) -> None:
        """Hand on what has come up."""
        self._timer = None
        journal = self._journal
        self._write()  # records ahead of the marks
        self._under_way.flush()
        if self._stopped is not None:
            journal.close()
        elif not self._failing or journal.open_bytes > SEGMENT_BYTES:
            journal.cut()
        countings = list(self._countings)
        sweeps = self._clock.seconds() - self._swept >= SWEEP_INTERVAL
        if journal.waiting or sweeps or countings:
            if sweeps:
                self._swept = self._clock.seconds()
            self._busy = True
            before = self._wall_clock() - self.keep * DAY if sweeps else None
            paths = list(journal.waiting)
            self._enter_in(self._work, paths, before, countings).addCallbacks(
                self._entered, self._failed, (paths, countings), errbackArgs=(paths, countings)
            )
        elif self._stopped is not None:
            self._finish()

    def _work(self, paths: list[str], forget_before: float | None, countings: Sequence[_Counting]) -> list[UsageLimits]:
        """In the thread."""
        for path in paths:
            if os.path.exists(path):  # another daemon may have entered it
                self._written.enter(_records_in(path))
                os.unlink(path)
        if forget_before is not None:
            self._written.forget(forget_before)
        return [self._count(each) for each in countings]

    def _count(self, counting: _Counting) -> UsageLimits:
        limits, until = UsageLimits(counting.limits), counting.until
        windows = [window_of(each.per, each.zone, until).start for each in counting.limits if each.is_budget]
        for asked, amounts, at in self._written.used(min([until - RATES["hour"], *windows]), until):
            limits.settle(asked, amounts, at)
        return limits

    def _entered(self, counted: list[UsageLimits], paths: list[str], countings: Sequence[_Counting]) -> None:
        for path in paths:
            self._journal.entered(path)
        for counting, limits in zip(countings, counted, strict=True):
            self._countings.remove(counting)
            counting.counted.callback(limits)
        if self._failing:
            self._failing = False
            self._log.info("usage is entered into {path} again", path=self._written.path)
        self._done(None)

    def _failed(self, failure: Failure, paths: list[str], countings: Sequence[_Counting]) -> None:
        if not self._failing:
            self._failing = True
            self._log.warn(
                "usage is not entered into {path}, and waits in {folder}: {why}",
                path=self._written.path,
                folder=self._journal.folder,
                why=failure.getErrorMessage(),
            )
        if self._stopped is not None:
            self._journal.close()
            self._finish()
        elif untold := [each for each in countings if not each.is_told]:
            why = failure.getErrorMessage()
            counted = self._enter_in(_count_waiting, paths, untold).addBoth(self._tell_meanwhile, untold, why)
            counted.addErrback(lambda fault: self._log.failure("limits begin without the ledger", fault))
            counted.addCallback(self._done)
        else:
            self._done(None)

    def _tell_meanwhile(self, found: list[UsageLimits] | Failure, untold: Sequence[_Counting], why: str) -> None:
        known = [UsageLimits(each.limits) for each in untold] if isinstance(found, Failure) else found
        for counting, limits in zip(untold, known, strict=True):
            counting.is_told = True
            counting.meanwhile(limits, why)

    def _adopt(self, left_behind: tuple[dict[str, int], list[str]]) -> None:
        found, unreadable = left_behind
        self._journal.adopt(found)
        if unreadable:
            self._log.warn(
                "usage of an earlier run is not entered: {paths} may not be read; look at whose they are",
                paths=", ".join(unreadable),
            )

    def _not_found(self, failure: Failure) -> None:
        self._log.warn("usage of an earlier run is not looked for: {why}", why=failure.getErrorMessage())

    def _done(self, _: object) -> None:
        """Go on with what has come up while the thread was at work."""
        self._busy = False
        if self._stopped is not None or (self._countings and not self._failing):
            self._enter()
        elif self._journal.size or self._countings:
            self._soon()

    def _finish(self) -> None:
        stopped, self._stopped = self._stopped, None
        assert stopped is not None
        self._under_way.close()
        self._enter_in(self._written.close).addBoth(lambda _: self._answer_in(self._asked.close)).addBoth(
            lambda _: stopped.callback(None)
        )

    # -- answering

    def count(self, limits: Sequence[Limit], meanwhile: Callable[[UsageLimits, str], None]) -> Deferred[UsageLimits]:
        """Return what was used until now, as *limits* count it; what is recorded from now on is not in it.

        Where the database is away *meanwhile* is told, once, what waits in files alone, and why; what is returned fires
        when it is back, if the ledger runs so long.
        """
        counting = _Counting(limits, self._wall_clock(), meanwhile, Deferred())
        self._countings.append(counting)
        if self.running and not self._busy:
            if self._timer is not None:
                self._timer.cancel()
            self._enter()
        return counting.counted

    def totals(self, question: Question) -> Deferred[list[dict[str, object]]]:
        """Return the figures of whole days; see :meth:`LedgerFile.totals`."""
        return self._answer_in(self._asked.totals, question)

    def attempts(self, where: Mapping[str, str], after: float, limit: int) -> Deferred[list[dict[str, object]]]:
        """Return the latest attempts; see :meth:`LedgerFile.attempts`."""
        return self._answer_in(self._asked.attempts, where, after, limit)

    def labels(self) -> Deferred[list[str]]:
        """Return the names of all labels; see :meth:`LedgerFile.label_names`."""
        return self._answer_in(self._asked.label_names)


def _records_in(path: str) -> Iterator[UsageRecord]:
    return (lost_in if path.endswith(BEGUN) else lines_of)(path, _decode)


def _count_waiting(paths: Sequence[str], countings: Sequence[_Counting]) -> list[UsageLimits]:
    """Return what records in files come to, each once, as each counting counts it. Blocks."""
    found = [UsageLimits(each.limits) for each in countings]
    counted: set[tuple[str, int]] = set()
    for path in sorted(paths, key=lambda path: path.endswith(BEGUN)):  # what is lost has no record
        try:
            records = list(_records_in(path))
        except OSError:  # another daemon may have entered it
            continue
        for record in records:
            key = record.request_id, record.attempt
            if key in counted:
                continue
            counted.add(key)
            if record.operation == MESSAGES:
                for counting, limits in zip(countings, found, strict=True):
                    if record.time < counting.until:
                        limits.settle(asked_by(record), amounts_of(record), record.time)
    return found


def _left_behind(folder: str) -> tuple[dict[str, int], list[str]]:
    """Return the files of processes that are gone, and those that may not be read. Blocks.

    What is lost comes last, when all that has a record is entered; and is looked for first, so that no process whose
    end is found by it has added any after the others were listed.
    """
    unreadable: list[str] = []
    begun = deserted(folder, BEGUN, unreadable)
    return {**deserted(folder, SUFFIX, unreadable), **begun}, unreadable
