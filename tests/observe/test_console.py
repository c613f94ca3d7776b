"""What somebody sees who starts the daemon."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.console import banner
from claudeproxyd.observe.scrub import scrub


class BannerTests(SynchronousTestCase):
    """The way from `make run` to the first answer is on the screen."""

    def test_banner(self) -> None:
        """It says where, what, and how to point Claude Code at it; credentials by name."""
        text = banner(
            ["http://127.0.0.1:8765"],
            [("anthropic", "anthropic", ["a", "b"]), ("g", "gemini", [])],
            "http://127.0.0.1:8766",
            keyed=False,
            state="/var/lib/claudeproxyd/state.db",
            accounts="none",
            workers=4,
        )
        for line in (
            "  listens on   http://127.0.0.1:8765",
            "  admin        http://127.0.0.1:8766/admin/",
            "  workers      4",
            "  state        /var/lib/claudeproxyd/state.db",
            "  accounts     none",
            "  provider     anthropic: a, b",
            "  provider     g (gemini): no credential",
            '  Claude Code  ANTHROPIC_BASE_URL=http://127.0.0.1:8765 ANTHROPIC_AUTH_TOKEN="<any>" claude',
            "  curl         curl http://127.0.0.1:8765/v1/models",
        ):
            self.assertIn(line + "\n", text)

    def test_no_claude(self) -> None:
        """Where no name of Claude's is served, the line for Claude Code has the place for another."""
        gemini = ("gemini", "gemini", ["a"])
        for providers, names_claude, told in (
            ([gemini], False, True),
            ([gemini], True, False),
        ):
            text = banner(["http://127.0.0.1:8765"], providers, "", keyed=False, names_claude=names_claude)
            self.assertEqual('"<any>" ANTHROPIC_MODEL="<one of /v1/models>" claude\n' in text, told)
            self.assertEqual(scrub(text), text)

    def test_survives_the_log(self) -> None:
        """It goes through the log, whose last look for secrets leaves the lines as they can be typed."""
        for keyed in (False, True):
            text = banner(["http://127.0.0.1:8765"], [], "", keyed=keyed)
            self.assertEqual(scrub(text), text)

    def test_keyed(self) -> None:
        """Where clients need a key, each line has the place for it."""
        text = banner(["http://127.0.0.1:8765/"], [], "", keyed=True)
        self.assertEqual(text.count("<your key>"), 3)
        self.assertNotIn("admin", text)

    def test_no_url(self) -> None:
        """A UNIX socket is named, and no line pretends that a client could be pointed at it."""
        text = banner(["unix:/run/x.sock"], [], "", keyed=False)
        self.assertIn("unix:/run/x.sock", text)
        self.assertNotIn("ANTHROPIC_BASE_URL", text)
