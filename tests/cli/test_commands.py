"""What each command asks, and what it prints."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from twisted.python.usage import UsageError

from claudeproxyd.cli.limits import LimitsCommand, ToldCounter, limits_in_words
from claudeproxyd.cli.pool import PoolCommand
from claudeproxyd.cli.reload import ReloadCommand
from claudeproxyd.cli.requests import RequestsCommand
from claudeproxyd.cli.usage import UsageCommand, day_of, usage_in_words
from tests.cli.support import CommandTestCase


class Reload(CommandTestCase):
    """``claudeproxyd reload``."""

    PATH = "/admin/v1/reload"

    def test_done(self) -> None:
        """What changed is one line."""
        self.admin.tell(self.PATH, {"reloaded": True, "changes": "settings changed: clients"})
        self.assertEqual(self.ask(ReloadCommand()), "reloaded: settings changed: clients\n")
        self.assertEqual(self.admin.asked[0].method, "POST")

    def test_mistake(self) -> None:
        """A mistake is told with its place, and the exit code is 1: systemctl reload fails by it."""
        self.admin.refuse(self.PATH, 400, "the configuration has 1 error:\n  cp.toml:3: [server] drian")
        error = self.fail_to_ask(ReloadCommand())
        self.assertEqual(error.code, 1)
        self.assertIn("cp.toml:3:", str(error))


def credential(**members: Any) -> dict[str, Any]:
    """One of the pool's answer."""
    return {
        "provider": "p",
        "credential": "a",
        "state": "ready",
        "trouble": False,
        "in_flight": 0,
        "max_concurrency": 0,
        "cooldowns": [],
        "gates": [],
        "last_failure": None,
        **members,
    }


class Pool(CommandTestCase):
    """``claudeproxyd pool``."""

    def show(self, *credentials: dict[str, Any], queue: list[dict[str, Any]] | None = None, **more: Any) -> list[str]:
        """The lines of that pool."""
        gauges = {"in_flight": 1, "waiting": sum(each["requests"] for each in queue or [])}
        self.admin.tell(
            "/admin/v1/pool",
            {"total": 2, "gauges": gauges, "queue": queue or [], "credentials": credentials, **more},
        )
        return self.ask(PoolCommand()).splitlines()

    def test_models_that_nobody_serves(self) -> None:
        """They come first, with what is known of them."""
        told = {"model": "opus", "reason": "model_unavailable", "ready_in": None, "refused": 0}
        more = {**told, "model": "haiku", "ready_in": 90.0, "refused": 33, "reason": "quota"}
        tried = {**told, "model": "fable", "reason": "", "refused": 1}
        lines = self.show(credential(), unserved=[told, more, tried])
        self.assertEqual(lines[1], "nobody serves opus: model unavailable")
        self.assertEqual(lines[3], "nobody serves fable: the next request may try, 1 request refused")
        self.assertIn("nobody serves haiku: quota, 33 requests refused, next try in ", lines[2])

    def test_names_do_nothing_to_a_terminal(self) -> None:
        """Clients choose names of models, and upstreams reasons: in words they are plain, and in JSON escaped."""
        told = {"model": "m\x1b[2J\x9b2J\u202e\r", "reason": "", "ready_in": None, "refused": 0}
        queue = [{"client": "\x1b]0;x\x07", "requests": 1, "longest": 1.0}]
        lines = self.show(credential(), queue=queue, unserved=[told])
        self.assertIn("nobody serves m·[2J·2J··: ", lines[1])
        printed = self.ask(PoolCommand(), "--json")
        self.assertEqual([each for each in self.out.getvalue() if not each.isprintable() and each != "\n"], [])
        self.assertEqual(json.loads(printed[printed.index("{") :])["unserved"], [told])

    def test_cooldowns(self) -> None:
        """Why a credential rests, for which model and how long."""
        cooldown = {"model": "m", "outcome": "quota", "reason": "too much", "remaining": 90.0}
        lines = self.show(credential(state="cooling", trouble=True, cooldowns=[cooldown]), credential(credential="b"))
        self.assertIn("2 credentials, 1 in trouble; 1 attempt under way", lines[0])
        self.assertIn("quota (m) for 1 min 30 s: too much", lines[2])
        self.assertTrue(lines[3].startswith("p         b"))

    def test_gates(self) -> None:
        """What the pool has learned, and of what."""
        gate = {"model": None, "told": "out for 9 s, a probe is due", "reason": "no connection to a:1"}
        lines = self.show(credential(gates=[gate, {**gate, "model": "m", "reason": ""}]), credential())
        self.assertIn("out for 9 s, a probe is due: no connection to a:1; out for 9 s, a probe is due (m)", lines[2])

    def test_last_failure(self) -> None:
        """A credential that works again says what it last failed by."""
        lines = self.show(
            credential(in_flight=2, max_concurrency=4, last_failure={"outcome": "auth", "seconds_ago": 5})
        )
        self.assertIn("2/4  last failed 5 s ago: auth", lines[2])

    def test_queue(self) -> None:
        """Who waits, and how many credentials are not shown."""
        lines = self.show(credential(), queue=[{"client": "ads", "requests": 3, "longest": 12.0}])
        self.assertIn("3 requests waiting; ads: 3 for 12 s", lines[0])
        self.assertEqual(lines[-1], "and 1 more")


def used(**members: Any) -> dict[str, Any]:
    """A row of the usage."""
    figures = ("requests", "attempts", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return {**dict.fromkeys(figures, 0), "unpriced_tokens": 0, "estimated_tokens": 0, "usd": 0.0, **members}


class Usage(CommandTestCase):
    """``claudeproxyd usage``."""

    PATH = "/admin/v1/usage"

    def test_question(self) -> None:
        """Days and groups go up as they were asked for."""
        self.admin.tell(self.PATH, [])
        self.ask(UsageCommand(), "--from", "2026-12-01", "--to", "2026-12-02", "--by", "client, label.team")
        wanted = {"from": "2026-12-01", "to": "2026-12-02", "by": "client,label.team", "format": "json", "limit": "100"}
        self.assertEqual(self.admin.asked[0].query, wanted)

    def test_table(self) -> None:
        """A line for each group, and their sum; cache reads as a share of what went in."""
        rows = [
            used(client="a", requests=2, input_tokens=1000, cache_read_tokens=3000, output_tokens=10, usd=1.5),
            used(client="b", requests=1, output_tokens=5, unpriced_tokens=5),
        ]
        lines = usage_in_words(rows, ["client"], rows).splitlines()
        self.assertEqual(lines[1].split(), ["a", "2", "1k", "10", "3k", "0", "75%", "$1.50"])
        self.assertEqual(lines[2].split(), ["b", "1", "0", "5", "0", "0", "-", "unpriced"])
        self.assertEqual(lines[3].split(), ["all", "3", "1k", "15", "3k", "0", "75%", "$1.50", "+", "5", "unpriced"])

    def test_estimates(self) -> None:
        """What is in part estimated is marked, and the mark explained."""
        rows = [used(client="a", output_tokens=10, estimated_tokens=10)]
        told = usage_in_words(rows, ["client"], rows)
        self.assertIn(" ~10 ", told)
        self.assertIn("in part estimated", told)

    def test_first(self) -> None:
        """Of many groups those that cost most are told, what the others come to, and how to see them."""
        rows = [used(client=f"c{number}", attempts=1, requests=1, usd=3.0) for number in range(2)]
        everything = [used(attempts=9, requests=8, usd=7.5, unpriced_tokens=4)]
        lines = usage_in_words(rows, ["client", "model"], everything).splitlines()
        self.assertEqual(lines[3].split(), ["others", "6", "0", "0", "0", "0", "-", "$1.50", "+", "4", "unpriced"])
        self.assertEqual(lines[4].split()[:2], ["all", "8"])
        self.assertEqual(len(lines), 5)

    def test_all_are_asked_for(self) -> None:
        """The sum of everything is asked for where there may be more, and only there; --json has what was asked for."""
        self.admin.tell(self.PATH, [used(client="a", attempts=1)])
        self.assertNotIn("that cost most", self.ask(UsageCommand(), "--limit", "1"))  # there are no others
        self.assertEqual([each.query.get("by", "") for each in self.admin.asked], ["client", ""])
        self.ask(UsageCommand(), "--limit", "2")
        self.ask(UsageCommand(), "--json")
        self.ask(UsageCommand(), "--json", "--limit", "1")
        self.assertEqual([each.query.get("limit") for each in self.admin.asked[2:]], ["2", None, "1"])
        self.failureResultOf(self.begin(UsageCommand(), "--limit", "0"), UsageError)

    def test_everything(self) -> None:
        """Without groups there is one line."""
        self.admin.tell(self.PATH, [used(requests=7)])
        self.assertEqual(self.ask(UsageCommand(), "--by", "").splitlines()[2].split()[0], "7")

    def test_nothing(self) -> None:
        """No row is said to be none."""
        self.assertEqual(usage_in_words([], ["client"], []), "nothing was used")

    def test_csv(self) -> None:
        """The daemon's own, as it is."""
        self.admin.answers[self.PATH] = 200, b"client,usd\r\nads,1.0\r\n"
        self.assertEqual(self.ask(UsageCommand(), "--csv"), "client,usd\r\nads,1.0\r\n")
        self.assertEqual(self.admin.asked[0].query["format"], "csv")

    def test_days(self) -> None:
        """Days by the names that people have for them; anything else is a mistake that names the option."""
        today = date(2026, 12, 3)
        told = {"today": "2026-12-03", "yesterday": "2026-12-02", "7d": "2026-11-26", "2026-01-31": "2026-01-31"}
        self.assertEqual({text: str(day_of("from", text, today)) for text in told}, told)
        for text in ("2026-13-01", "last week", "", "99999d"):
            self.assertIn("--from", str(self.assertRaises(UsageError, day_of, "from", text, today)))

    def test_one_form(self) -> None:
        """Two forms at once are a mistake."""
        self.failureResultOf(self.begin(UsageCommand(), "--csv", "--json"), UsageError)

    def test_no_ledger(self) -> None:
        """A daemon without a ledger says so."""
        self.admin.refuse(self.PATH, 404, 'There is no ledger: accounts.database is ""')
        self.assertIn("accounts.database", str(self.fail_to_ask(UsageCommand())))


class Limits(CommandTestCase):
    """``claudeproxyd limits``."""

    def test_fullest_first(self) -> None:
        """How full each is, what is reserved counted in, in the unit of its measure."""
        counters = [
            ToldCounter("ads", "laptop", "usd", "month", 500.0, 100.0, 0.0, 90_000.0),
            ToldCounter("all", "", "input_tokens", "minute", 1e6, 5e5, 25e4, 30.0),
        ]
        _, first, second = limits_in_words(counters, 0.0).splitlines()
        for words in ("75%", "#######...", "500k", "250k", "1M input tokens", "minute", "30 s", "all"):
            self.assertIn(words, first)
        for words in ("20%", "$100.00", "$500.00", "laptop", "1 d 01 h"):
            self.assertIn(words, second)

    def test_anew(self) -> None:
        """In whole seconds, since a rate refills from moment to moment; what is all there is so now."""
        for resets_at, told in ((0.0, "now"), (-3.0, "now"), (0.991, "1 s"), (18.2, "19 s"), (59.5, "1 min")):
            counter = ToldCounter("all", "", "requests", "minute", 10.0, 3.0, 0.0, resets_at)
            self.assertTrue(limits_in_words([counter], 0.0).endswith(f"  minute  {told:>7}"), told)

    def test_none(self) -> None:
        """No counter is said to be none."""
        self.admin.tell("/admin/v1/limits", [])
        self.assertIn("no limit", self.ask(LimitsCommand()))


class Requests(CommandTestCase):
    """``claudeproxyd requests``."""

    PATH = "/admin/v1/requests"

    def test_question(self) -> None:
        """Each option goes up by the listener's name for it."""
        self.admin.tell(self.PATH, [])
        self.ask(
            RequestsCommand(), "--client", "ads", "--session", "s", "--id", "req_1", "--after", "7", "--limit", "5"
        )
        wanted = {"client": "ads", "session": "s", "request_id": "req_1", "after": "7.0", "limit": "5"}
        self.assertEqual(self.admin.asked[0].query, wanted)

    def test_wrong_number(self) -> None:
        """A number that is none is a mistake in the command line."""
        self.failureResultOf(self.begin(RequestsCommand(), "--limit", "many"), UsageError)
        self.failureResultOf(self.begin(RequestsCommand(), "--limit", "0"), UsageError)

    def test_attempts(self) -> None:
        """A line for each attempt: who was asked, what came of it, what it took and cost."""
        common = {"time": 0.0, "provider": "p", "duration": 1.5}
        failed = {**common, "credential": "a", "outcome": "quota", "status": 429}
        served = {**common, "credential": "b", "outcome": "ok", "status": 200, "input_tokens": 1000}
        served |= {"cache_read_tokens": 500, "output_tokens": 20, "estimated": True, "usd": None}
        request = {"request_id": "req_1", "client": "ads", "model": "m", "attempts": [failed, served]}
        self.admin.tell(self.PATH, [request])
        _, first, second = self.ask(RequestsCommand()).splitlines()
        self.assertEqual(first.split()[2:], ["ads", "m", "req_1", "p/a", "quota", "429", "-", "-", "-", "1.5", "s"])
        self.assertEqual(second.split(), ["p/b", "ok", "1.5k", "~20", "unpriced", "1.5", "s"])

    def test_no_attempt(self) -> None:
        """A request that was refused ahead of its first attempt has a line, with what its client was told."""
        refused = {"request_id": "req_1", "client": "ads", "model": "m", "attempts": []}
        refused |= {"time": 0.0, "outcome": "budget", "status": 429}
        self.admin.tell(self.PATH, [refused])
        _, line = self.ask(RequestsCommand()).splitlines()
        self.assertEqual(line.split()[2:], ["ads", "m", "req_1", "-", "budget", "429", "-", "-", "-", "-"])

    def test_none(self) -> None:
        """No request is said to be none."""
        self.admin.tell(self.PATH, [])
        self.assertIn("no request", self.ask(RequestsCommand()))
