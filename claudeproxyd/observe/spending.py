"""What clients used and what it cost: the metrics of it, by client, and by each label that clients have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.observe.label_table import MAX_LABEL_CHARACTERS, OTHER, LabelTable
from claudeproxyd.observe.scrub import redact

if TYPE_CHECKING:
    from collections.abc import Set

    from claudeproxyd.observe.exposition import Labels, Registry
    from claudeproxyd.observe.usage import UsageRecord

#: Values of clients' labels that are told apart: those of whom something was counted first.
MAX_LABELS = 1000
_KINDS = ("input", "output", "cache_read", "cache_write")


class _Spent:
    """On one model, by one client, or by all that have a label."""

    __slots__ = (*_KINDS, "nano_usd", "unpriced")

    def __init__(self) -> None:
        self.input = self.output = self.cache_read = self.cache_write = 0
        self.nano_usd = self.unpriced = 0

    def add(self, record: UsageRecord) -> None:
        """Count an attempt whose usage is known."""
        given, made = record.input_tokens or 0, record.output_tokens or 0
        read, written = record.cache_read_tokens or 0, record.cache_write_tokens or 0
        self.input += given
        self.output += made
        self.cache_read += read
        self.cache_write += written
        if record.nano_usd is None:
            self.unpriced += given + made + read + written
        else:
            self.nano_usd += record.nano_usd


class Spending:
    """Sums of the records that the ledger gets, too. Belongs to the metrics."""

    def __init__(self, named: Set[str]) -> None:
        """*named*: see :class:`LabelTable`."""
        self._by_client = LabelTable(_Spent, named)
        self._by_label = LabelTable(_Spent, named)
        self._labels: dict[tuple[str, str], tuple[str, str]] = {}
        """What clients' labels are shown as, name and value."""

    def add(self, record: UsageRecord, client: str, model: str) -> None:
        """Count an attempt whose usage is known, by what its client and its model are shown as."""
        self._by_client[client, model].add(record)
        for label in record.labels.items():
            name, value = self._labels.get(label) or self._new_label(label)
            self._by_label[name, model, value].add(record)

    def _new_label(self, label: tuple[str, str]) -> tuple[str, str]:
        """Return what a label is shown as: the tokens of others may bring any number of values."""
        name, value = label
        if len(self._labels) >= MAX_LABELS:
            return name, OTHER
        shown = self._labels[label] = name, redact(value)[:MAX_LABEL_CHARACTERS]
        return shown

    def register(self, registry: Registry) -> None:
        """Add the metrics."""
        client, label = ("client", "model"), ("label", "model", "value")
        registry.counter(
            "claudeproxyd_client_tokens_total",
            "Tokens that clients' requests took, by kind.",
            lambda: _tokens(self._by_client),
            (*client, "kind"),
        )
        registry.counter(
            "claudeproxyd_cost_usd_total",
            "What clients' requests cost, where the model has a price.",
            lambda: self._by_client.each(_usd),
            client,
        )
        registry.counter(
            "claudeproxyd_unpriced_tokens_total",
            "Tokens of models without a price.",
            lambda: self._by_client.each(lambda row: row.unpriced),
            client,
        )
        registry.counter(
            "claudeproxyd_label_tokens_total",
            "Tokens that requests took, by kind and by each label of their clients.",
            lambda: _tokens(self._by_label),
            (*label, "kind"),
        )
        registry.counter(
            "claudeproxyd_label_cost_usd_total",
            "What requests cost, by each label of their clients.",
            lambda: self._by_label.each(_usd),
            label,
        )
        registry.counter(
            "claudeproxyd_label_unpriced_tokens_total",
            "Tokens of models without a price, by each label of their clients.",
            lambda: self._by_label.each(lambda row: row.unpriced),
            label,
        )


def _tokens(table: LabelTable[_Spent]) -> dict[Labels, int]:
    return {(*key, kind): getattr(row, kind) for key, row in table.items() for kind in _KINDS}


def _usd(row: _Spent) -> float:
    return row.nano_usd / 1e9
