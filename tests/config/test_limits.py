"""``[[limits]]``."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

from claudeproxyd.config.accounts import zone_of
from claudeproxyd.configured import limits_of
from tests.config.support import SANDBOX, ConfigTestCase

LIMIT = '[[limits]]\nname = "ads, a month"\nper = "month"\n'


class LimitTests(ConfigTestCase):
    """What an operator can write."""

    def test_whole(self) -> None:
        """Dollars are counted in billionths."""
        text = LIMIT + 'usd = 500.5\nmatch = { "label.team" = "ads", model = "*" }\neach = "client"\n'
        (limit,) = limits_of(self.load(text + 'zone = "Europe/Berlin"\n' + SANDBOX).config)
        self.assertEqual((limit.amount, limit.measure, limit.each), (500_500_000_000, "usd", "client"))
        self.assertEqual((limit.match, limit.zone), ({"label.team": "ads", "model": "*"}, ZoneInfo("Europe/Berlin")))

    def test_labels_as_tables(self) -> None:
        """TOML's dotted keys make tables of ``label.team``, and mean the same."""
        text = LIMIT + 'requests = 1\nmatch = { label.team = "ads", client = "a*" }\n'
        (limit,) = limits_of(self.load(text + SANDBOX).config)
        self.assertEqual(limit.match, {"label.team": "ads", "client": "a*"})

    def test_mistakes(self) -> None:
        """Each names the member."""
        for more, path, words in (
            ("", "limits[0]", "must have one of usd"),
            ("usd = 1.0\ntokens = 5\n", "limits[0]", "has usd and tokens"),
            ('usd = 1.0\nmatch = { team = "x" }\n', "limits[0].match.team", "nothing that a request has"),
            ('usd = 1.0\neach = "provider"\n', "limits[0].each", "counter"),
            ('usd = 1.0\nzone = "Mars"\n', "limits[0].zone", "no time zone"),
            ('usd = 1.0\nzone = "../../etc/passwd"\n', "limits[0].zone", "no time zone"),
            ("usd = -1.0\n", "limits[0].usd", "at least 0"),
        ):
            problem = self.problem(LIMIT + more + SANDBOX)
            self.assertEqual(problem.path, path, more)
            self.assertIn(words, problem.message)

    def test_names(self) -> None:
        """Two of a name are one too many: people are told it."""
        text = LIMIT + "usd = 1.0\n"
        self.assertIn("is taken already", self.problem(text * 2 + SANDBOX).message)

    def test_utc(self) -> None:
        """Needs no file of zones."""
        self.assertIs(zone_of("UTC"), UTC)
