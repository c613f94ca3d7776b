"""The prices that providers publish, as the package ``genai-prices`` has them; its data is read once, at the start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeGuard, cast
from urllib.parse import urlsplit

from claudeproxyd.accounts.prices import DAY, Price

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.types import ModelPrice, Provider, TieredPrices

#: In the order of :meth:`Price.per_million`.
_RATES = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")


def are_installed() -> bool:
    """Whether the package is there: the extra ``claudeproxyd[prices]``."""
    return find_spec("genai_prices") is not None


def may_be_sold_at(base_url: str) -> bool:
    """Return whether what a server there takes may be published: whether it has a name in the public DNS."""
    host = urlsplit(base_url).hostname or ""
    return "." in host and not host[-1].isdigit()  # as addresses end, and no top-level domain


class ListedPrices:
    """Finds the published price of a provider's model by where the provider is, and the model's name."""

    def __init__(self, base_urls: Mapping[str, str]) -> None:
        """*base_urls*: of each provider by its name. Takes a third of a second, to read the data."""
        from genai_prices.data import providers

        self._all = providers
        self._at = {name: self._seller(url) for name, url in base_urls.items()}

    def __call__(self, provider: str, model: str, day: int) -> Price | None:
        """Return what *model* costs there on a day since the epoch (UTC); None: it is not in the list."""
        seller = self._at.get(provider)
        found = None if seller is None else seller.find_model(model, all_providers=self._all)
        return None if found is None else _price(found.get_prices(datetime.fromtimestamp((day + 0.5) * DAY, UTC)))

    def _seller(self, base_url: str) -> Provider | None:
        return next((each for each in self._all if re.match(each.api_pattern, base_url)), None)


def _price(listed: ModelPrice) -> Price | None:
    """Return what the list says of one model; None where text has no price in it."""
    rates: list[Decimal | TieredPrices | None] = [getattr(listed, name, None) for name in _RATES]
    if rates[0] is None or rates[1] is None:
        return None
    starts = {tier.start for rate in rates if _has_tiers(rate) for tier in rate.tiers}
    price, above = None, 0
    for start in (*sorted(starts, reverse=True), 0):  # the last first: each leads to the next
        given, made, *caches = [None if rate is None else _amount(rate, start) for rate in rates]
        assert given is not None
        assert made is not None
        price, above = Price.per_million(given, made, *caches, above=above, beyond=price), start
    return price


def _has_tiers(rate: Decimal | TieredPrices | None) -> TypeGuard[TieredPrices]:
    return hasattr(rate, "tiers")


def _amount(rate: Decimal | TieredPrices, start: int) -> float:
    """Dollars for a million tokens, at so many of input."""
    if not _has_tiers(rate):
        return float(cast("Decimal", rate))
    reached = [tier.price for tier in rate.tiers if tier.start <= start]
    return float(reached[-1] if reached else rate.base)
