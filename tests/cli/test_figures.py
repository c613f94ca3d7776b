"""Figures as people read them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.cli.figures import cost, counted, dollars, plain, span, table, tokens


class Figures(SynchronousTestCase):
    """Amounts, money and times."""

    def test_tokens(self) -> None:
        """Three digits say enough, and a unit is never a thousand of the one below it."""
        told = {0: "0", 999: "999", 1000: "1k", 1240: "1.24k", 999_499: "999k", 999_500: "1M", 2_500_000_000: "2.5G"}
        self.assertEqual({count: tokens(count) for count in told}, told)

    def test_dollars(self) -> None:
        """What cost something is never shown as nothing."""
        told = {0.0: "$0.00", 0.00001: "<$0.0001", 0.0042: "$0.0042", 0.5: "$0.50", 1234.5: "$1,234.50"}
        self.assertEqual({usd: dollars(usd) for usd in told}, told)

    def test_unpriced(self) -> None:
        """What has no price is never shown as free."""
        self.assertEqual(cost(0.0, 500), "unpriced")
        self.assertEqual(cost(1.0, 2_000_000), "$1.00 + 2M unpriced")
        self.assertEqual(cost(0.0, 0), "$0.00")

    def test_span(self) -> None:
        """Two units at most."""
        told = {
            0.0: "0 s",
            0.25: "250 ms",
            2.54: "2.5 s",
            9.96: "10 s",
            59.7: "1 min",
            3599: "59 min 59 s",
            7500: "2 h 05 min",
            90_000: "1 d 01 h",
        }
        self.assertEqual({seconds: span(seconds) for seconds in told}, told)

    def test_counted(self) -> None:
        """One is one."""
        self.assertEqual([counted(count, "request") for count in (0, 1, 2)], ["0 requests", "1 request", "2 requests"])


class Tables(SynchronousTestCase):
    """Columns."""

    def test_columns(self) -> None:
        """Words to the left, figures to the right, and nothing after the last."""
        told = table(["WHO", "IN", "WHY"], [["a", "12", "x"], ["longer", "3", ""]], right="IN")
        self.assertEqual(told, "WHO     IN  WHY\na       12  x\nlonger   3")

    def test_names_do_nothing_to_a_terminal(self) -> None:
        """Clients choose the names of models: they neither colour nor clear anything, nor begin a line."""
        self.assertEqual(plain("a\x1b[2Jb\r\nc\x9b"), "a·[2Jb··c·")
        self.assertNotIn("\x1b", table(["A"], [["\x1b[31m"]]))
