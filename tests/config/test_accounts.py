"""``[accounts]`` and ``[[prices]]``."""

from __future__ import annotations

import os

from claudeproxyd.config.accounts import first_day, ledger_path
from tests.config.support import SANDBOX, ConfigTestCase

PRICE = '[[prices]]\nmodel = "claude-*"\ninput = 5.0\noutput = 25\n'


class AccountsTests(ConfigTestCase):
    """Where the ledger is, and what models cost."""

    def test_path(self) -> None:
        """In full, or none."""
        self.assertEqual(ledger_path(""), "")
        self.assertEqual(ledger_path("sqlite:a.db"), os.path.abspath("a.db"))
        self.patch(os, "environ", {"HOME": "/h"})
        self.assertEqual(ledger_path("sqlite:~/a.db"), "/h/a.db")

    def test_bad_path(self) -> None:
        """With what it may be."""
        for database in ("sqlite:", "sqlite:a/", "a.db", "mysql://x", "sqlite:a\\u0000b"):
            problem = self.problem(f'[accounts]\ndatabase = "{database}"\n' + SANDBOX)
            self.assertEqual(problem.path, "accounts.database")
            self.assertIn("must be sqlite:PATH", problem.message)

    def test_price(self) -> None:
        """Caches may be left out."""
        (price,) = self.load(PRICE + SANDBOX).config.prices
        self.assertEqual((price.input, price.output, price.cache_read, price.provider), (5.0, 25.0, None, "*"))

    def test_bad_prices(self) -> None:
        """Each names the member."""
        for more, path in (
            ('since = "tomorrow"', "prices[0].since"),
            ("cache_read = -1", "prices[0].cache_read"),
            ('output_tokens = "x"', "prices[0].output_tokens"),
        ):
            self.assertEqual(self.problem(PRICE + more + "\n" + SANDBOX).path, path)

    def test_first_day(self) -> None:
        """In days since the epoch."""
        self.assertEqual((first_day(""), first_day("1970-01-02"), first_day("2026-12-01")), (0, 1, 20788))
