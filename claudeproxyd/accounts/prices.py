"""What an attempt cost, in money.

Pure. Sums of money are integers of nano-dollars (10⁻⁹ USD), so that any two ways of adding them up agree to the last
digit. A model without a price is unpriced, which is not the same as free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claudeproxyd.globs import matches

if TYPE_CHECKING:
    from claudeproxyd.observe.usage import UsageRecord

NANO = 1_000_000_000
"""Nano-dollars in a dollar."""
_PICO_PER_MILLION = 1_000_000
"""Pico-dollars a token, for a dollar a million tokens."""

DAY = 86_400
"""Seconds."""
MAX_REMEMBERED = 10_000
"""Models whose price is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a token costs, in pico-dollars (10⁻¹² USD), so that a price with six decimals a million is exact."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    """Of caches that are kept for an hour."""
    above: int = 0
    """Tokens of input, caches included, beyond which :attr:`beyond` holds for all of an attempt; 0: never."""
    beyond: Price | None = None

    @classmethod
    def per_million(
        cls,
        input: float,
        output: float,
        cache_read: float | None = None,
        cache_write: float | None = None,
        cache_write_1h: float | None = None,
        *,
        above: int = 0,
        beyond: Price | None = None,
    ) -> Price:
        """Return it by dollars for a million tokens. A cache that is not priced costs what input does."""
        written = input if cache_write is None else cache_write
        return cls(
            input=_pico(input),
            output=_pico(output),
            cache_read=_pico(input if cache_read is None else cache_read),
            cache_write=_pico(written),
            cache_write_1h=_pico(written if cache_write_1h is None else cache_write_1h),
            above=above,
            beyond=beyond,
        )

    def for_input(self, given: int) -> Price:
        """Return the one that holds for so many tokens of input, caches included."""
        price = self
        while price.beyond is not None and given > price.above:
            price = price.beyond
        return price

    def cost(self, record: UsageRecord) -> int:
        """Return what *record* cost, in nano-dollars. What is not known of it costs nothing."""
        read, written = record.cache_read_tokens or 0, record.cache_write_tokens or 0
        price = self.for_input((record.input_tokens or 0) + read + written)
        for_an_hour = record.cache_write_1h_tokens or 0
        if for_an_hour > written:
            for_an_hour = written
        pico = (
            (record.input_tokens or 0) * price.input
            + read * price.cache_read
            + (written - for_an_hour) * price.cache_write
            + for_an_hour * price.cache_write_1h
            + (record.output_tokens or 0) * price.output
        )
        return (pico + 500) // 1000


def _pico(dollars: float) -> int:
    return round(dollars * _PICO_PER_MILLION)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPrice:
    """One of the operator's: which models, from when on, and what they cost."""

    price: Price
    model: str
    """A glob of names that clients ask for, or of the provider's own."""
    provider: str = "*"
    """A glob."""
    since: int = 0
    """The first day, in days since the epoch (UTC)."""

    def holds(self, provider: str, served: str, asked: str, day: int) -> bool:
        """Whether it is the price of that model on that day."""
        return (
            self.since <= day
            and matches(provider, (self.provider,))
            and (matches(served, (self.model,)) or matches(asked, (self.model,)))
        )


class Prices:
    """What models cost: by the operator's own prices, in their order, and then by a list."""

    def __init__(
        self, own: Sequence[OwnPrice] = (), listed: Callable[[str, str, int], Price | None] | None = None
    ) -> None:
        """*listed* gives the price of (provider, its model, day), where it is known."""
        self._own = tuple(own)
        self._listed = listed
        self._found: dict[tuple[str, str, str], Price | None] = {}
        self._day = 0
        """Of what was found."""

    def of(self, provider: str, served: str, asked: str, time: float) -> Price | None:
        """Return what a provider's model *served*, which a client *asked* for by that name, cost then; None: unpriced.

        *time* is since the epoch.
        """
        day = int(time // DAY)
        if day != self._day:
            self._day = day
            self._found.clear()
        key = (provider, served, asked)
        try:
            return self._found[key]
        except KeyError:
            if len(self._found) >= MAX_REMEMBERED:
                self._found.clear()
            found = self._found[key] = self._find(provider, served, asked, day)
            return found

    def cost(self, record: UsageRecord) -> int | None:
        """Return what *record* cost in nano-dollars; None: nobody has said what its model costs."""
        price = self.of(record.provider, record.model_served, record.model_asked, record.time)
        return None if price is None else price.cost(record)

    def _find(self, provider: str, served: str, asked: str, day: int) -> Price | None:
        for own in self._own:
            if own.holds(provider, served, asked, day):
                return own.price
        return self._listed(provider, served, day) if self._listed is not None else None
