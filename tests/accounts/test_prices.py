"""What attempts cost."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.accounts import prices
from claudeproxyd.accounts.listed_prices import ListedPrices, are_installed, may_be_sold_at
from claudeproxyd.accounts.prices import DAY as SECONDS
from claudeproxyd.accounts.prices import NANO, OwnPrice, Price, Prices
from tests.accounts.support import DAY, NOON, record

OPUS = Price.per_million(5, 25, cache_read=0.5, cache_write=6.25, cache_write_1h=10)
tokens = st.integers(0, 10**7)


class PriceTests(SynchronousTestCase):
    """One model's."""

    def test_each_kind_of_token(self) -> None:
        """A million of each costs what the price says."""
        none = {"input_tokens": 0, "output_tokens": 0, "cache_read_tokens": 0, "cache_write_tokens": 0}
        million = 10**6
        for fields, dollars in (
            ({"input_tokens": million}, 5),
            ({"output_tokens": million}, 25),
            ({"cache_read_tokens": million}, 0.5),
            ({"cache_write_tokens": million}, 6.25),
            ({"cache_write_tokens": million, "cache_write_1h_tokens": million}, 10),
            ({"cache_write_tokens": million, "cache_write_1h_tokens": million // 2}, 8.125),
            ({"thinking_tokens": million}, 0),  # within output
        ):
            self.assertEqual(OPUS.cost(record(**{**none, "thinking_tokens": None, **fields})), dollars * NANO, fields)

    def test_caches_cost_what_input_does(self) -> None:
        """Where nothing is said of them."""
        price = Price.per_million(3, 15)
        self.assertEqual((price.cache_read, price.cache_write, price.cache_write_1h), (price.input,) * 3)
        price = Price.per_million(3, 15, cache_write=4)
        self.assertEqual(price.cache_write_1h, price.cache_write)

    def test_what_is_not_known_costs_nothing(self) -> None:
        """An attempt that failed before its usage came."""
        bare = record(input_tokens=None, output_tokens=None, cache_read_tokens=None, cache_write_tokens=None)
        self.assertEqual(OPUS.cost(bare), 0)

    def test_long_context(self) -> None:
        """Beyond a threshold, caches included, all tokens cost the other price."""
        price = Price.per_million(1, 1, above=200_000, beyond=Price.per_million(2, 2, above=400_000, beyond=OPUS))
        for given_tokens, each in ((200_000, 1), (200_001, 2), (400_001, 5)):
            asked = record(input_tokens=given_tokens - 1, cache_read_tokens=1, cache_write_tokens=0, output_tokens=0)
            read = Decimal("0.5") if each == 5 else each
            self.assertEqual(price.cost(asked), ((given_tokens - 1) * each + read) * 1000)

    @given(tokens, tokens, tokens, tokens)
    def test_exact(self, given_tokens: int, made: int, read: int, written: int) -> None:
        """To half a nano-dollar what decimals come to."""
        asked = record(
            input_tokens=given_tokens, output_tokens=made, cache_read_tokens=read, cache_write_tokens=written
        )
        exact = given_tokens * 5 + made * 25 + read * Decimal("0.5") + written * Decimal("6.25")
        self.assertLessEqual(abs(OPUS.cost(asked) - exact * 1000), Decimal("0.5"))


class OwnTests(SynchronousTestCase):
    """The operator's."""

    def test_first_match(self) -> None:
        """By what was asked or served, and the provider; what nobody priced is unpriced."""
        one, two = Price.per_million(1, 1), Price.per_million(2, 2)
        asked = Prices([OwnPrice(price=one, model="claude-*", provider="a"), OwnPrice(price=two, model="*-1")])
        for provider, served, model, price in (
            ("a", "x", "claude-a", one),
            ("a", "claude-b", "y", one),
            ("b", "claude-1", "claude-1", two),
            ("b", "x", "claude-a", None),
        ):
            self.assertIs(asked.of(provider, served, model, NOON), price)
        self.assertIsNone(asked.cost(record(provider="b", model_served="x")))

    def test_since(self) -> None:
        """A price of tomorrow's does not hold today; what is remembered of a day does not outlive it."""
        old, new = Price.per_million(1, 1), Price.per_million(2, 2)
        found = Prices([OwnPrice(price=new, model="*", since=DAY + 1), OwnPrice(price=old, model="*")])
        self.assertEqual(
            [found.of("p", "m", "m", NOON + days * SECONDS) for days in (0, 1, 0)],
            [old, new, old],
        )

    def test_list_comes_last(self) -> None:
        """And is asked once for each model and day."""
        asked: list[tuple[str, str, int]] = []

        def listed(provider: str, model: str, day: int) -> Price | None:
            asked.append((provider, model, day))
            return OPUS if model == "known" else None

        found = Prices([OwnPrice(price=Price.per_million(0, 0), model="own")], listed)
        for _ in range(2):
            self.assertIs(found.of("p", "known", "n", NOON), OPUS)
            self.assertIsNone(found.of("p", "unknown", "n", NOON))
            self.assertEqual(found.cost(record(model_served="own")), 0)
        self.assertEqual(asked, [("p", "known", DAY), ("p", "unknown", DAY)])

    def test_bound(self) -> None:
        """Clients that make names up fill no memory."""
        self.patch(prices, "MAX_REMEMBERED", 10)
        found = Prices()
        for number in range(100):
            found.of("p", f"m{number}", "m", NOON)
            self.assertLessEqual(len(found._found), 10)


class ListedTests(SynchronousTestCase):
    """The published ones."""

    if not are_installed():
        skip = "genai-prices is not installed"

    def setUp(self) -> None:
        """Providers of several kinds."""
        self.listed = ListedPrices(
            {
                "anthropic": "https://api.anthropic.com",
                "google": "https://generativelanguage.googleapis.com",
                "bedrock": "https://bedrock-runtime.eu-west-1.amazonaws.com",
                "own": "http://127.0.0.1:8080",
            }
        )

    def test_known(self) -> None:
        """As the providers' own pages have it."""
        found = self.listed("anthropic", "claude-opus-4-5-20251101", DAY)
        self.assertEqual(found, OPUS)

    def test_elsewhere(self) -> None:
        """Claude's models are known where others sell them."""
        self.assertIsNotNone(self.listed("bedrock", "us.anthropic.claude-opus-4-5-20251101-v1:0", DAY))
        self.assertIsNotNone(self.listed("google", "claude-opus-4-5@20251101", DAY))

    def test_tiers(self) -> None:
        """Of a model with a price for long contexts."""
        found = self.listed("google", "gemini-2.5-pro", DAY)
        assert found is not None
        assert found.beyond is not None
        self.assertEqual((found.above, found.input, found.beyond.input), (200_000, 1_250_000, 2_500_000))

    def test_unknown(self) -> None:
        """A model, or a server, that is not in it has no price, and is not free."""
        self.assertIsNone(self.listed("anthropic", "claude-of-my-own", DAY))
        self.assertIsNone(self.listed("own", "claude-opus-4-5", DAY))
        self.assertIsNone(self.listed("removed", "claude-opus-4-5", DAY))

    def test_nobody_sells_at_an_address(self) -> None:
        """The list knows no server that it would not be read for."""
        for url in (
            "http://127.0.0.1:8080",
            "http://[::1]",
            "http://[::ffff:1.2.3.4]",
            "http://localhost",
            "http://vllm",
            "",
        ):
            self.assertFalse(may_be_sold_at(url), url)
            self.assertIsNone(self.listed._seller(url), url)
        for url in ("https://api.anthropic.com", "https://bedrock-runtime.eu-west-1.amazonaws.com/"):
            self.assertTrue(may_be_sold_at(url), url)
