"""What the ledger's databases have in common: how records come in and go, and the questions that are put to each.

Blocks: runs in threads, entering in one and answering in another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from zope.interface import implementer

from claudeproxyd.accounts.limits import Amounts, Asked
from claudeproxyd.accounts.rows import (
    FILTERS,
    GIVEN,
    QUARTER,
    Question,
    Series,
    answer_of,
    check_by,
    first_id,
    series_of,
)
from claudeproxyd.accounts.schema import ATTEMPTS, BLOCK, SERIES
from claudeproxyd.interfaces import ILedgerDatabase
from claudeproxyd.observe.usage import MESSAGES

if TYPE_CHECKING:
    from claudeproxyd.observe.usage import UsageRecord

ALL = 2**63 - 1
"""Groups, where all are wanted."""
MANY = 4
"""Times as many groups as are wanted. Of fewer, adding all up once takes no longer than reading the first again."""
MAX_SERIES = 100_000
"""Series whose numbers are remembered."""

_COLUMNS = (*(name for name in ATTEMPTS if name != "series"), *SERIES)
"""Of an attempt, as it is asked for."""


class ForeignLedger(Exception):
    """The database is another program's, or of a later version: it is left as it is."""


@implementer(ILedgerDatabase)
class LedgerDatabase(ABC):
    """One of them. Each thread that uses it has one of these.

    A statement is written with ``?`` for each value.
    """

    def __init__(self, path: str) -> None:
        """*path*: where it is, for people."""
        self.path = path
        self._series: dict[Series, int] = {}
        """The numbers of those that were seen."""

    # -- entering

    @property
    @abstractmethod
    def _entered_at_once(self) -> int:
        """Records of one transaction: others can write in between, and a question sees them soon."""

    @property
    @abstractmethod
    def _forgotten_at_once(self) -> int:
        """Records that are deleted in one transaction."""

    def enter(self, records: Iterable[UsageRecord]) -> int:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`."""
        entered = 0
        rest = iter(records)
        while batch := list(islice(rest, self._entered_at_once)):
            try:
                entered += self._enter(batch)
            except BaseException:
                self._series.clear()  # some of them may have been rolled back
                raise
        return entered

    @abstractmethod
    def _enter(self, records: Sequence[UsageRecord]) -> int:
        """Enter records in one transaction. Return how many were new."""

    def _numbered(
        self, records: Sequence[UsageRecord], number: Callable[[Series], int]
    ) -> list[tuple[UsageRecord, int]]:
        """Return each record with the number of its series.

        *number* finds or makes one that is not remembered; they come to it in their order.
        """
        series = [series_of(record) for record in records]
        for new in sorted({each for each in series if each not in self._series}):
            self._series[new] = number(new)
        numbered = [(record, self._series[each]) for record, each in zip(records, series, strict=True)]
        if len(self._series) > MAX_SERIES:
            self._series.clear()
        return numbered

    def forget(self, before: float) -> int:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`."""
        deleted = 0
        while (some := self._forget(first_id(before))) == self._forgotten_at_once:
            deleted += some
        return deleted + some

    @abstractmethod
    def _forget(self, before: str) -> int:
        """Delete some attempts with smaller ids of requests, in one transaction. Return how many."""

    # -- answering

    @abstractmethod
    def _ask(self, statement: str, values: Sequence[object] = ()) -> Iterable[tuple[object, ...]]:
        """Return the rows."""

    def _text(self, value: str) -> str:
        """Return *value* as the database has it."""
        return value

    def totals(self, question: Question) -> list[dict[str, object]]:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`."""
        by, since, until = question.by, question.since, question.until
        check_by(by)
        labels = [self._label(name.removeprefix("label.")) for name in by if name.startswith("label.")]
        values = (*labels, since // BLOCK, until // BLOCK, since, until, question.limit or ALL)
        statement = self._first_of_many(by) if self._are_many(question, labels) else self._totals(by)
        return [answer_of(by, row) for row in self._ask(statement, values) if row[-1] is not None]

    def _are_many(self, question: Question, labels: Sequence[str]) -> bool:
        """Whether there may be far more groups than are wanted, by days and names: then it pays to look for these
        first, though their rows are read again."""
        names = [name for name in question.by if name != "day"]
        if not question.limit or not names or "day" not in question.by:
            return False
        ((first,),) = self._ask("SELECT min(block) FROM days WHERE block >= ?", (question.since // BLOCK,))
        of_series = f"SELECT DISTINCT {', '.join(map(self._column, names))} FROM series"
        ((count,),) = self._ask(f"SELECT count(*) FROM ({of_series}) AS f", labels)
        days = question.until + 1 - max(question.since, int(str(first or 0)) * BLOCK)
        return int(str(count)) * days > MANY * question.limit

    @abstractmethod
    def _label(self, name: str) -> str:
        """Return how a label is named in the values of :meth:`_totals`."""

    @abstractmethod
    def _column(self, name: str) -> str:
        """Return the expression for what a series has by that name, with a label's in the values."""

    @abstractmethod
    def _totals(self, by: Sequence[str]) -> str:
        """Return the statement that adds up days; its values are labels, then blocks and days, first and last, and
        how many groups are wanted.

        Groups that cost the same are in the order of their names, and then of their days.
        """

    @abstractmethod
    def _first_of_many(self, by: Sequence[str]) -> str:
        """Return the statement that adds up days by names, as few groups as are wanted of many.

        Two figures decide which groups these are, and they alone are added up in full; until then groups are ranks and
        days, since numbers are cheaper to sort than texts. Its values, and their order, are those of :meth:`_totals`.
        """

    def attempts(self, where: Mapping[str, str], after: float, limit: int) -> list[dict[str, object]]:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`."""
        names = [name for name in FILTERS if name in where]
        found = self._ask(
            f"SELECT {', '.join(_COLUMNS)} FROM attempts JOIN series ON series.id = attempts.series"
            f" WHERE request_id >= ?{''.join(f' AND {name} = ?' for name in names)}"
            " ORDER BY request_id DESC, attempt DESC LIMIT ?",
            (first_id(after), *(self._text(where[name]) for name in names), limit),
        )
        return [dict(zip(_COLUMNS, row, strict=True)) for row in found]

    def label_names(self) -> list[str]:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`."""
        return [str(name) for (name,) in self._ask(self._label_names)]

    @property
    @abstractmethod
    def _label_names(self) -> str:
        """The statement that returns them."""

    def used(self, since: float, until: float) -> Iterator[tuple[Asked, Amounts, float]]:
        """See :class:`~claudeproxyd.interfaces.ILedgerDatabase`."""
        rows = self._ask(
            f"SELECT client, labels, model, provider, quarter * {QUARTER}, usd, given, made, requests FROM"
            f" (SELECT series, {self._quarter} AS quarter, sum(coalesce(nano_usd, 0)) AS usd, sum({GIVEN}) AS given,"
            " sum(coalesce(output_tokens, 0)) AS made, count(CASE WHEN attempt = 1 THEN 1 END) AS requests"
            " FROM attempts WHERE request_id >= ? AND time < ? AND operation = ? GROUP BY series, quarter) AS f"
            " JOIN series ON series.id = f.series ORDER BY quarter",
            (first_id(since), until, MESSAGES),
        )
        for client, labels, model, provider, quarter, *figures in rows:
            usd, given, made, requests = (int(str(figure)) for figure in figures)
            yield (
                Asked(str(client), msgspec.json.decode(str(labels), type=dict[str, str]), str(model), (str(provider),)),
                Amounts(usd, given, made, requests),
                min(float(str(quarter)) + QUARTER, until),
            )

    @property
    @abstractmethod
    def _quarter(self) -> str:
        """The expression for how many quarters of hours had passed at an attempt's ``time``."""

    def close(self) -> None:
        """Let go of it."""
        self._series.clear()


def ranked(by: Sequence[str], column: Callable[[str], str]) -> tuple[str, str, str]:
    """Return, for groups that are ranks and days, their names, the columns of these, and what each group is by."""
    names = {f"g{place}": name for place, name in enumerate(by) if name != "day"}
    columns = (f"{column(name)} AS {alias}" for alias, name in names.items())
    groups = (f"first.day AS g{place}" if name == "day" else f"g{place}" for place, name in enumerate(by))
    return ", ".join(names), ", ".join(columns), ", ".join(groups)


def in_order(by: Sequence[str]) -> str:
    """Return how groups are sorted, ``g0`` to what they are by: by cost, then by names, and then by day."""
    groups = sorted((name == "day", place) for place, name in enumerate(by))
    return "".join(["nano_usd DESC, input_tokens DESC", *(f", g{place}" for _, place in groups)])
