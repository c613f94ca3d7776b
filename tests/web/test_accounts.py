"""The admin listener's questions to the ledger."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from time import time
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.accounts.ledger import ENTER_DELAY, Ledger
from claudeproxyd.accounts.limits import Amounts, Asked, Limit, UsageLimits
from claudeproxyd.accounts.local_limits import LocalLimits
from claudeproxyd.accounts.prices import NANO
from claudeproxyd.web.accounts import ROWS_PER_TURN
from tests.accounts.support import NOON, record
from tests.web.support import AdminListener, Connection, Reply, get, replies, turns
from tests.web.test_admin import admin_root


def at_once(work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
    """Takes the place of a thread."""
    return maybeDeferred(work, *arguments)


class LedgerPages(SynchronousTestCase):
    """With three attempts in the ledger."""

    def setUp(self) -> None:
        """On a clock."""
        self.ledger_clock = clock = Clock()
        self.ledger = Ledger(self.mktemp() + "/a.db", 90.0, clock, lambda: NOON, at_once, at_once)
        self.ledger.startService()
        self.addCleanup(self.ledger.stopService)
        self.ledger.record(record(1, outcome="transient", status=529, credential="a", nano_usd=None))
        self.ledger.record(record(1, attempt=2))
        self.ledger.record(record(2, client="desk", model_asked="=1+1", nano_usd=2_000_000))
        clock.advance(ENTER_DELAY)
        self.use(self.ledger)

    def use(self, ledger: Ledger | None) -> None:
        """Ask that one."""
        listener = AdminListener(admin_root(ledger))
        self.clock, self.site = listener.clock, listener.site

    def ask(self, target: str) -> Reply:
        """The answer to a GET."""
        connection = Connection(self.site)
        connection.send(get(target))
        while not (taken := connection.take()):
            self.clock.advance(0)
        (reply,) = replies(taken)
        return reply

    def refused(self, target: str) -> tuple[int, str]:
        """Status and words."""
        reply = self.ask(target)
        return reply.status, reply.json["error"]["message"]

    def test_usage(self) -> None:
        """Rows by what is asked for, with days in words and dollars as such."""
        rows = self.ask("/admin/v1/usage?by=client,day&from=2026-12-01&to=2026-12-01").json
        self.assertEqual(
            [(row["client"], row["day"]) for row in rows], [("desk", "2026-12-01"), ("laptop", "2026-12-01")]
        )
        desk, laptop = rows
        self.assertEqual((desk["usd"], desk["requests"], desk["attempts"]), (0.002, 1, 1))
        self.assertEqual((laptop["requests"], laptop["attempts"], laptop["unpriced_tokens"]), (1, 2, 100))
        self.assertEqual(self.ask("/admin/v1/usage?from=2026-12-02&to=2026-12-31").json, [])

    def test_first(self) -> None:
        """As many as are asked for, of those that cost most; in a table too."""
        first, *others = self.ask("/admin/v1/usage?by=client&to=2030-01-01").json
        self.assertEqual(len(others), 1)
        self.assertEqual(self.ask("/admin/v1/usage?by=client&to=2030-01-01&limit=1").json, [first])
        lines = self.ask("/admin/v1/usage?by=client&to=2030-01-01&limit=1&format=csv").body.splitlines()
        self.assertEqual(len(lines), 2)

    def test_csv(self) -> None:
        """The same figures; nothing in it is a formula to a spreadsheet."""
        reply = self.ask("/admin/v1/usage?by=model&format=csv&to=2030-01-01")
        self.assertEqual(reply.headers[b"content-type"], b"text/csv; charset=utf-8")
        rows = list(csv.DictReader(io.StringIO(reply.body.decode())))
        self.assertEqual([(row["model"], row["usd"]) for row in rows], [("'=1+1", "0.002"), ("claude-a", "1e-06")])
        same = self.ask("/admin/v1/usage?by=model&to=2030-01-01").json
        self.assertEqual([row["input_tokens"] for row in rows], [str(row["input_tokens"]) for row in same])

    def test_formulas(self) -> None:
        """However a client begins a model's name: by a blank, a line's end, or as East Asian keyboards write it."""
        names = [f"{before}{sign}1" for sign in "=+-@＝＋－＠" for before in ("", " ", "\t", "\r", "\n", "\xa0")]
        self.patch(self.ledger, "totals", lambda question: succeed([{"model": name} for name in (*names, "a=b-c")]))
        text = self.ask("/admin/v1/usage?by=model&format=csv").body.decode()
        told = [row["model"] for row in csv.DictReader(io.StringIO(text, newline=""))]
        self.assertEqual(told, [*(f"'{name}" for name in names), "a=b-c"])

    def test_in_turns(self) -> None:
        """Many rows are told over many turns of the reactor, and are all there; so in a table."""
        rows = [{"day": 20_000 + number, "usd": 1.5} for number in range(3 * ROWS_PER_TURN)]
        self.patch(self.ledger, "totals", lambda question: succeed(rows))
        for query in ("by=day", "by=day&format=csv"):
            connection = Connection(self.site)
            connection.send(get(f"/admin/v1/usage?{query}"))
            taken = turns(self.clock, connection)
            self.assertGreater(len(taken), 3)
            (reply,) = replies(taken[-1])
            self.assertEqual(reply.body.count(b"1.5"), len(rows))
        self.assertEqual(len(list(csv.DictReader(io.StringIO(reply.body.decode())))), len(rows))

    def test_labels(self) -> None:
        """The names by which usage can be asked."""
        self.assertEqual(self.ask("/admin/v1/labels").json, ["team"])

    def test_requests(self) -> None:
        """Each with its attempts, in order."""
        latest, first = self.ask("/admin/v1/requests").json
        self.assertEqual((latest["client"], first["client"], first["labels"]), ("desk", "laptop", {"team": "ads"}))
        self.assertEqual([(each["attempt"], each["status"]) for each in first["attempts"]], [(1, 529), (2, 200)])
        self.assertEqual([each["usd"] for each in first["attempts"]], [None, 1e-06])
        by_id = self.ask(f"/admin/v1/requests?request_id={first['request_id']}").json
        self.assertEqual(by_id, [first])
        self.assertEqual(self.ask("/admin/v1/requests?client=desk&limit=1").json, [latest])
        self.assertEqual(self.ask("/admin/v1/requests?session=other").json, [])
        self.assertEqual([(each["outcome"], each["status"]) for each in (latest, first)], [("ok", 200)] * 2)

    def test_request_without_an_attempt(self) -> None:
        """Is found by its id, with what it was told, and is in no sum."""
        before = self.ask("/admin/v1/usage?by=client").json
        self.ledger.unsent(record(3, attempt=0, outcome="budget", status=429, provider="", credential=""))
        self.ledger_clock.advance(ENTER_DELAY)
        (found,) = self.ask(f"/admin/v1/requests?request_id={record(3).request_id}").json
        self.assertEqual((found["client"], found["outcome"], found["status"]), ("laptop", "budget", 429))
        self.assertEqual((found["time"], found["attempts"]), (NOON + 3, []))
        self.assertEqual(self.ask("/admin/v1/usage?by=client").json, before)

    def test_bad_questions(self) -> None:
        """Refused, in words."""
        for target, words in (
            (
                "/admin/v1/usage?by=key",
                "cannot be asked by key, but by day, client, model, model_served, provider, credential and label.NAME",
            ),
            ("/admin/v1/usage?format=xml", "format"),
            ("/admin/v1/usage?from=yesterday", "from"),
            ("/admin/v1/usage?since=2026-01-01", "since"),
            ("/admin/v1/usage?limit=0", "limit"),
            ("/admin/v1/requests?limit=0", "limit"),
            ("/admin/v1/requests?limit=100000", "limit"),
        ):
            status, message = self.refused(target)
            self.assertEqual(status, 400, target)
            self.assertIn(words, message)

    def test_no_ledger(self) -> None:
        """And how to have one."""
        self.use(None)
        self.assertEqual(self.refused("/admin/v1/usage"), (404, 'There is no ledger: accounts.database is ""'))

    def test_ledger_that_fails(self) -> None:
        """Nothing of the inside is told."""
        self.patch(self.ledger, "totals", lambda question: fail(OSError("disk")))
        self.assertEqual(self.refused("/admin/v1/usage")[0], 503)

    def test_client_gone(self) -> None:
        """Nobody is answered."""
        waiting: Deferred[Any] = Deferred()
        self.patch(self.ledger, "totals", lambda question: waiting)
        connection = Connection(self.site)
        connection.send(get("/admin/v1/usage"))
        connection.lose()
        waiting.callback([])
        self.assertEqual(connection.take(), b"")


class LimitPages(SynchronousTestCase):
    """How full the limits are."""

    def ask(self, limits: UsageLimits) -> Any:
        """The answer, after as many turns as it takes."""
        return AdminListener(admin_root(limits=LocalLimits(limits))).ask(get("/admin/v1/limits")).json

    def test_counters(self) -> None:
        """Each with its unit."""
        limit = Limit(name="ads", measure="usd", amount=5 * NANO, per="day", each="client")
        limits = UsageLimits([limit])
        asked = Asked("ann", {}, "m", ())
        limits.reserve(asked, Amounts(NANO, 1, 1), time())
        limits.settle(asked, Amounts(2 * NANO, 1, 1), time())
        (entry,) = self.ask(limits)
        self.assertGreater(entry.pop("resets_at"), time())
        self.assertEqual(
            entry,
            {
                "name": "ads",
                "each": "client",
                "value": "ann",
                "measure": "usd",
                "per": "day",
                "warn": 0.8,
                "limit": 5.0,
                "used": 2.0,
                "reserved": 1.0,
            },
        )

    def test_none(self) -> None:
        """An empty list; a reload may bring some to the same page."""
        self.assertEqual(self.ask(UsageLimits()), [])
