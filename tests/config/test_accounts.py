"""``[accounts]`` and ``[[prices]]``."""

from __future__ import annotations

import os

from claudeproxyd.accounts.prices import Price
from claudeproxyd.config.accounts import AccountsPlace, first_day, passwords_of, place_of, waiting_name
from claudeproxyd.config.report import report
from claudeproxyd.config.schema import Accounts
from claudeproxyd.configured import prices_of, secrets_of
from tests.config.support import MAKERS, SANDBOX, ConfigTestCase

PRICE = '[[prices]]\nmodel = "claude-*"\ninput = 5.0\noutput = 25\n'


class AccountsTests(ConfigTestCase):
    """Where the ledger is, and what models cost."""

    def test_path(self) -> None:
        """In full, or none."""
        self.assertIsNone(place_of(Accounts(database="")))
        here = os.path.abspath("a.db")
        self.assertEqual(place_of(Accounts(database="sqlite:a.db")), AccountsPlace(here, f"{here}.waiting"))
        self.patch(os, "environ", {"HOME": "/h"})
        place = place_of(Accounts(database="sqlite:~/a.db", waiting="~/w"))
        self.assertEqual(place, AccountsPlace("/h/a.db", "/h/w"))

    def test_postgresql(self) -> None:
        """Is told of without its user, its password and its options, and each database has a folder of its own."""
        self.patch(os, "environ", {"HOME": "/h"})
        for url, where in (
            (
                "postgresql://ann:top%20secret@db.example:5433/books?sslmode=verify-full",
                "postgresql://db.example:5433/books",
            ),
            ("postgres:///books?host=/run/postgresql&password=top%20secret", "postgresql:///run/postgresql/books"),
            ("postgresql://a,b/books", "postgresql://a,b/books"),
        ):
            place = place_of(Accounts(database=url))
            assert place is not None
            self.assertEqual((place.where, place.dsn), (where, url))
            self.assertEqual(os.path.basename(place.waiting), waiting_name(url))
            self.assertNotIn("secret", repr(place))

    def test_postgresql_that_proves_nothing(self) -> None:
        """By default its driver takes any certificate, or none, and gives the password to whoever has it."""
        for rest, is_told in (
            ("ann:hush@db.example/b", True),
            ("ann:hush@db.example/b?sslmode=require", True),
            ("ann:hush@127.0.0.1,db.example:5433/b", True),
            ("/b?host=db.example&user=ann", True),
            ("ann:hush@db.example/b?sslmode=verify-full", False),
            ("ann:hush@127.0.0.1:5433/b", False),
            ("ann:hush@[::1]:5433/b", False),
            ("ann:hush@localhost/b", False),
            ("/b?host=/run/postgresql", False),
            ("/b", False),
        ):
            loaded = self.load(f'[accounts]\ndatabase = "postgresql://{rest}"\n' + SANDBOX)
            told = [each for each in loaded.warnings if "whoever stands before it" in str(each)]
            self.assertEqual(bool(told), is_told, rest)
            self.assertNotIn("hush", str(told))

    def test_secrets_of_postgresql(self) -> None:
        """Its password is masked in each form, from a file too, and stands in no complaint."""
        for database, expected in (
            ("postgresql://ann:top%20secret@h/b", {"top%20secret", "top secret"}),
            ("postgresql://h/b?password=hush&sslpassword=shy", {"hush", "shy"}),
            ("postgresql://ann@h/b", set()),
            ("sqlite:a.db", set()),
        ):
            self.assertEqual(set(passwords_of(Accounts(database=database))), expected)
        loaded = self.load('[accounts]\ndatabase = "postgresql://ann:hush@h/b"\npassword = "shy"\n' + SANDBOX)
        self.assertLessEqual({"hush", "shy"}, set(secrets_of(loaded.config)))
        self.assertNotIn("hush", report(loaded, MAKERS) + repr(loaded.config))
        name = waiting_name("postgresql://h/b")
        self.assertEqual(loaded.config.accounts.waiting, f"~/.local/state/claudeproxyd/{name}")
        problem = self.problem('[accounts]\ndatabase = "postgresql://ann:hush@h/b?sslmod=x"\n' + SANDBOX)
        self.assertEqual(problem.path, "accounts.database")
        self.assertNotIn("hush", str(problem))

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

    def test_price_of_long_contexts(self) -> None:
        """Beside the usual one, and caches may be left out."""
        more = "long_context = { above = 200_000, input = 10, output = 37.5, cache_read = 1 }\n"
        price = prices_of(self.load(PRICE + more + SANDBOX)).of("sandbox", "claude-x", "claude-x", 0.0)
        beyond = Price.per_million(10, 37.5, 1)
        self.assertEqual(price, Price.per_million(5, 25, above=200_000, beyond=beyond))

    def test_bad_prices(self) -> None:
        """Each names the member."""
        for more, path in (
            ("long_context = { above = 0, input = 1, output = 1 }", "prices[0].long_context.above"),
            ("long_context = { above = 200_000, input = 1 }", "prices[0].long_context.output"),
            ('since = "tomorrow"', "prices[0].since"),
            ("cache_read = -1", "prices[0].cache_read"),
            ('output_tokens = "x"', "prices[0].output_tokens"),
        ):
            self.assertEqual(self.problem(PRICE + more + "\n" + SANDBOX).path, path)

    def test_first_day(self) -> None:
        """In days since the epoch."""
        self.assertEqual((first_day(""), first_day("1970-01-02"), first_day("2026-12-01")), (0, 1, 20788))
