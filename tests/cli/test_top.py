"""``claudeproxyd top``."""

from __future__ import annotations

from treq.testing import StubTreq
from twisted.internet.defer import ensureDeferred
from twisted.python.usage import UsageError

from claudeproxyd.cli import top
from claudeproxyd.cli.admin import Admin
from claudeproxyd.cli.command import CommandFailed
from claudeproxyd.cli.top import TopCommand
from tests.cli.support import PLACE, CommandTestCase
from tests.cli.test_commands import credential, used

ATTEMPT = {"time": 0.0, "provider": "p", "credential": "a", "outcome": "ok", "status": 200, "duration": 1.0}
OUTAGE = {"model": "m", "reason": "", "ready_in": None, "refused": 0}


class Top(CommandTestCase):
    """Pictures, one after the other."""

    def setUp(self) -> None:
        super().setUp()
        self.pool = {"total": 1, "gauges": {"in_flight": 4}, "queue": [], "credentials": [credential()]}
        self.admin.tell("/admin/v1/pool", self.pool)
        self.admin.tell("/admin/v1/usage", [used(client="ads", attempts=3, requests=3)])
        request = {"request_id": "req_1", "client": "ads", "model": "m", "attempts": [ATTEMPT]}
        self.admin.tell("/admin/v1/requests", [request])
        self.http = StubTreq(self.admin)

    def begin_top(self, *argv: str) -> None:
        """Draw the first picture."""
        command = TopCommand()
        command.parseOptions(list(argv))
        self.drawing = ensureDeferred(command.ask(Admin(self.http, PLACE, self.clock), self.clock))
        self.http.flush()

    def test_pictures(self) -> None:
        """Pool, clients and requests are asked and drawn anew each second."""
        self.begin_top()
        for words in ("4 attempts under way", "ads", "req_1"):
            self.assertIn(words, self.out.getvalue())
        self.assertNotIn("\x1b", self.out.getvalue())
        self.admin.tell("/admin/v1/requests", [])
        self.clock.advance(1.0)
        self.http.flush()
        self.assertIn("no request was found", self.out.getvalue())
        self.assertNoResult(self.drawing)

    def test_names_do_nothing_to_a_terminal(self) -> None:
        """What clients and upstreams have written moves no cursor, and the picture alone does."""
        self.patch(self.out, "isatty", lambda: True)
        self.admin.tell("/admin/v1/pool", {**self.pool, "unserved": [{**OUTAGE, "model": "m\x1b[9A\u2028"}]})
        self.begin_top()
        self.assertEqual(self.out.getvalue().count("\x1b"), 2)
        self.assertIn("nobody serves m·[9A·:", self.out.getvalue())

    def test_count(self) -> None:
        """It can be told to end."""
        self.begin_top("--count", "2", "--every", "5")
        self.assertNoResult(self.drawing)
        self.clock.advance(5.0)
        self.assertEqual(self.successResultOf(self.drawing), 0)
        self.assertEqual(self.out.getvalue().count("claudeproxyd  "), 2)

    def test_many_clients(self) -> None:
        """Those that cost most are asked for, and all together: the sum is of everybody."""
        self.begin_top("--count", "1")
        asked = [each.query for each in self.admin.asked if each.path == "/admin/v1/usage"]
        self.assertEqual(
            [(each.get("by"), int(each["limit"]) >= 3) for each in asked], [("client", True), (None, True)]
        )

    def test_no_ledger(self) -> None:
        """Without a ledger there is the pool."""
        self.admin.refuse("/admin/v1/usage", 404, 'There is no ledger: accounts.database is ""')
        self.begin_top("--count", "1")
        self.assertIn("accounts.database", self.out.getvalue())
        self.assertIn("1 credential,", self.out.getvalue())

    def test_daemon_goes_away(self) -> None:
        """A restart is waited for; a daemon that was never there is not."""
        self.begin_top("--count", "3")
        self.admin.answers["/admin/v1/pool"] = None
        self.clock.advance(1.0)
        self.clock.advance(60.0)
        self.assertIn("does not answer", self.out.getvalue())
        self.assertNoResult(self.drawing)
        self.drawing.addErrback(lambda _: None)
        self.drawing.cancel()
        self.out.truncate(0)
        self.begin_top()
        self.clock.advance(60.0)
        self.assertEqual(self.failureResultOf(self.drawing, CommandFailed).value.code, 3)

    def test_terminal(self) -> None:
        """A terminal is drawn over, and no line is longer or lower than it is."""
        self.out.isatty = lambda: True  # type: ignore[method-assign]
        self.patch(top.shutil, "get_terminal_size", lambda: top.shutil.os.terminal_size((30, 5)))
        self.begin_top("--count", "1")
        picture = self.out.getvalue()
        self.assertTrue(picture.startswith("\x1b[H\x1b[J"))
        lines = picture.removeprefix("\x1b[H\x1b[J").split("\n")
        self.assertEqual((len(lines), max(map(len, lines)) <= 30), (4, True))

    def test_wrong_number(self) -> None:
        """A pause that is none is a mistake in the command line."""
        self.begin_top("--every", "0")
        self.failureResultOf(self.drawing, UsageError)
