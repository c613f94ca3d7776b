"""What the admin page tells beside the pool: usage, limits, requests, clients, reloads. In a real browser."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any

from pytest_twisted import ensureDeferred

from claudeproxyd.accounts.database import LedgerFile
from claudeproxyd.messages.ids import Ids
from claudeproxyd.observe.usage import UsageRecord
from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.browser import Browser, chromium, enter
from tests.integration.support.daemon import SANDBOX, Daemon, provider
from tests.integration.support.needs import needs
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Upstream

pytestmark = needs(chromium)

TEXT = "document.body.innerText"
#: Where somebody wants to look at the page: screenshots go there.
SHOTS = os.environ.get("SCREENSHOTS")
#: Where axe-core is: its file axe.min.js looks for what keeps people out.
AXE = os.environ.get("AXE")
DAYS = 30
EVIL = "<img src=x onerror=document.title='owned'>"
VIEWS = ("pool", "usage", "limits", "requests", "clients", "keys", "daemon")

_ids = Ids(os.urandom)


def records() -> Iterator[UsageRecord]:
    """A month of a few clients, some of whom choose names that are no names."""
    now = time()
    for day in range(DAYS):
        for client, team, model, nano in (
            ("laptop", "search", "claude-opus-5-5", 30_000_000),
            ("ci", "ads", "claude-haiku-5-5", 2_000_000),
            (EVIL, "ads", f"claude-{EVIL}", None),
        ):
            if client == EVIL and day % 7:
                continue
            yield record(
                now - day * 86_400,
                client=client,
                labels={"team": team},
                model_asked=model,
                model_served=model,
                nano_usd=nano,
                input_tokens=1000 + 100 * (day % 5),
            )


def record(at: float, **fields: Any) -> UsageRecord:
    """One attempt that went well."""
    usual: dict[str, Any] = {
        "time": at,
        "request_id": _ids.request(at),
        "session": "session-1",
        "provider": "up",
        "credential": "key-a",
        "outcome": "ok",
        "status": 200,
        "stop_reason": "end_turn",
        "output_tokens": 500,
        "cache_read_tokens": 3000,
        "cache_write_tokens": 0,
        "duration": 2.5,
    }
    return UsageRecord(**{**usual, **fields})


def ledger(folder: Path, *more: UsageRecord) -> str:
    """A ledger with a month in it; the section that names it."""
    file = LedgerFile(str(folder / "ledger" / "accounts.db"))
    file.enter([*records(), *more])
    file.close()
    return f'[accounts]\ndatabase = "sqlite:{file.path}"\n'


async def looked_at(browser: Browser, name: str) -> None:
    """Nothing is wider than the screen, in light and dark; and nothing shuts anybody out, where that can be told."""
    for size, width, height in (("phone", 400, 800), ("wide", 1400, 900)):
        for dark in (False, True):
            await browser.look(width, height, dark)
            assert await browser.evaluate("document.documentElement.scrollWidth") <= width, name
            if SHOTS:
                await browser.screenshot(Path(SHOTS) / f"{name}-{size}-{'dark' if dark else 'light'}.png")
            if AXE:
                await browser.evaluate(Path(AXE).read_text())
                await browser.evaluate(
                    "window.found = null; axe.run().then(each => { window.found = each.violations; })"
                )
                await browser.until("window.found !== null")
                assert (
                    await browser.evaluate(
                        "found.map(each => [each.id, each.nodes.map(node => node.html + node.failureSummary)])"
                    )
                    == []
                ), (name, width, dark)


@ensureDeferred
async def test_usage(start_daemon: StartDaemon, upstream: Upstream, browser: Browser, tmp_path: Path) -> None:
    """A month is drawn by whatever is asked for; the table behind it and the CSV have the ledger's own figures."""
    daemon = await start_daemon(ledger(tmp_path) + provider(upstream))
    await enter(browser, daemon, view="#usage")
    await browser.until("document.querySelectorAll('#usage figure').length === 4")
    tiles = await browser.evaluate("document.querySelector('#usage .tiles').innerText")
    assert "$0.96 + unpriced" in tiles
    assert "tokens without a price" in tiles
    first = "#usage figure svg"
    assert await browser.evaluate(f"document.querySelectorAll('{first} rect.s0').length") > DAYS
    assert await browser.evaluate("document.querySelector('#usage figure').querySelectorAll('.unpriced').length") == 5
    rows = (
        "Object.fromEntries([...document.querySelectorAll('#usage [data-name=groups] tbody tr')].map("
        "row => [row.cells[0].innerText, [...row.cells].slice(1).map(cell => cell.innerText)]))"
    )
    shown = await browser.evaluate(rows)
    told = {row["client"]: row for row in (await daemon.admin_get("/admin/v1/usage?by=client")).json}
    assert list(shown) == ["laptop", "ci", EVIL]
    for client, cells in shown.items():
        assert cells[2] == f"{told[client]['input_tokens']:,}", client
        assert cells[8] == f"{told[client]['requests']:,}"
    assert shown[EVIL][0] == "unpriced"
    assert shown["laptop"][0] == "$0.90"

    behind = "[...document.querySelectorAll('#usage .csv')].map(each => each.getAttribute('href'))"
    by_day, *_ = await browser.evaluate(behind)
    table = list(csv.DictReader(io.StringIO((await daemon.admin_get(by_day)).body.decode())))
    assert sum(int(row["requests"]) for row in table) == sum(row["requests"] for row in told.values())
    await browser.evaluate("URL.createObjectURL = blob => { window.kept = blob.size; return 'data:,'; }")
    await browser.evaluate("document.querySelector('#usage .csv').click()")
    await browser.until("window.kept > 1000")

    await browser.evaluate(
        "(by => { by.value = 'label.team'; by.dispatchEvent(new Event('change', {bubbles: true})); })"
        "(document.querySelector('#usage-asking [name=by]'))"
    )
    await browser.until("location.hash.includes('label.team')")
    await browser.until("document.querySelector('#usage .legend')?.innerText.includes('search')")
    assert list(await browser.evaluate(rows)) == ["search", "ads"]
    await browser.evaluate("location.hash = '#usage?from=2026-02-01&to=2026-01-01'")
    await browser.until("document.querySelector('#view-usage .trouble').innerText.includes('before')")
    assert "owned" not in await browser.evaluate("document.title")
    assert await browser.evaluate("document.querySelectorAll('img').length") == 0


@ensureDeferred
async def test_same_figures_everywhere(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """What the page shows of clients, the CSV behind it and the metrics are the same figures: tokens, money, and what
    has no price."""
    upstream.script(answers.usual())
    clients = "".join(f'[[clients]]\nname = "{name}"\nkey = "key-of-{name}-0123"\n' for name in ("ann", "bob"))
    price = '[[prices]]\nmodel = "claude-opus-*"\ninput = 1000000\noutput = 5000000\n'  # a dollar a token, and five
    daemon = await start_daemon(clients + price + provider(upstream))
    for name, model, count in (("ann", "claude-opus-5-5", 3), ("bob", "claude-opus-5-5", 2), ("bob", "claude-new", 1)):
        for number in range(count):
            message = wire.Message(model=model, stream=bool(number % 2)).encode()
            answer = await wire.post(daemon.port, message, headers={"x-api-key": f"key-of-{name}-0123"})
            assert answer.status == 200

    async def is_entered() -> bool:
        (row,) = (await daemon.admin_get("/admin/v1/usage")).json or [{"requests": 0}]
        return row["requests"] == 6

    await eventually("all is entered", is_entered)
    await enter(browser, daemon, view="#usage")
    await browser.until("document.querySelectorAll('#usage [data-name=groups] tbody tr').length === 2")
    shown = await browser.evaluate(
        "[...document.querySelectorAll('#usage [data-name=groups] tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.innerText))"
    )
    behind = await browser.evaluate("document.querySelector('#usage [data-name=groups] .csv').getAttribute('href')")
    table = list(csv.DictReader(io.StringIO((await daemon.admin_get(behind)).body.decode())))
    metrics = await daemon.metrics()

    def told(metric: str, client: str, more: str = "") -> float:
        """The metric's sum for a client."""
        mine = f'{metric}{{client="{client}",'
        return sum(value for name, value in metrics.items() if name.startswith(mine) and more in name)

    assert [row["client"] for row in table] == [cells[0] for cells in shown] == ["ann", "bob"]
    for cells, row in zip(shown, table, strict=True):
        client, spent = row["client"], float(row["usd"])
        sums = {kind: float(row[f"{kind}_tokens"]) for kind in ("input", "output", "unpriced")}
        assert [spent, sums["unpriced"] > 0] == [told("claudeproxyd_cost_usd_total", client), client == "bob"]
        assert cells[1] == f"${spent:,.2f}" + (" + unpriced" if sums["unpriced"] else "")
        for kind, column in (("input", 3), ("output", 6)):
            of_kind = told("claudeproxyd_client_tokens_total", client, f'kind="{kind}"')
            assert [cells[column], of_kind] == [f"{sums[kind]:,.0f}", sums[kind]]
        assert [cells[8], cells[9]] == [f"{sums['unpriced']:,.0f}", row["requests"]]
    unpriced = sum(value for name, value in metrics.items() if name.startswith("claudeproxyd_unpriced_tokens_total"))
    assert unpriced == sum(float(row["unpriced_tokens"]) for row in table)


@ensureDeferred
async def test_limits(start_daemon: StartDaemon, upstream: Upstream, browser: Browser, tmp_path: Path) -> None:
    """The fullest comes first, in the colour of how full it is, with when it begins anew, or has refilled; a request
    that is refused is found by its id."""
    limits = "".join(
        f'[[limits]]\nname = "{name}"\nusd = {usd}\nper = "day"\n{more}\n'
        for name, usd, more in (("roomy", 1000.0, ""), ("nearly", 0.034, 'each = "client"'), ("over", 0.01, ""))
    )
    limits += '[[limits]]\nname = "refills"\nrequests = 300\nper = "hour"\n'
    daemon = await start_daemon(ledger(tmp_path) + limits + provider(upstream))
    await enter(browser, daemon, view="#limits")
    await browser.until("document.querySelectorAll('#limits .card').length === 6")
    cards = await browser.evaluate(
        "[...document.querySelectorAll('#limits .card')].map(each => [each.className, each.innerText])"
    )
    assert [colour for colour, _ in cards] == ["card bad", "card warn", *["card good"] * 4]
    assert "over" in cards[0][1]
    assert "client: laptop" in cards[1][1]
    assert "$0.03 of $0.034 a day" in cards[1][1]
    assert "begins anew" in cards[1][1]
    assert EVIL in cards[-1][1] + cards[-2][1]
    (refilling,) = [words for _, words in cards if "refills" in words]
    assert re.search(r"refills steadily, all of it in [23]\d s", refilling), refilling  # three requests, of 300 an hour
    refused = await wire.post(daemon.port, wire.Message().encode())
    assert refused.status == 429
    request_id = refused.headers["x-claudeproxyd-request-id"]
    await browser.evaluate(f"location.hash = '#requests?request_id={request_id}'")
    await browser.until("document.querySelectorAll('#requests .request').length === 1", 20)
    told = await browser.evaluate("document.querySelector('#requests .request').innerText")
    assert "budget" in told
    assert "answered with 429, no attempt was made" in told


@ensureDeferred
async def test_requests(start_daemon: StartDaemon, upstream: Upstream, browser: Browser, tmp_path: Path) -> None:
    """Each of the last requests with what became of each attempt; found by id, session and client."""
    upstream.script_for("spent", answers.error(429, "rate_limit_error", "later", retry_after="1800"))
    upstream.script_for("good", answers.usual())
    config = ledger(tmp_path) + provider(upstream, "spent", "good")
    daemon = await start_daemon(config + '[pool]\nstrategy = "fill-first"\n')
    message = wire.Message(model=f"claude-{EVIL}").encode()
    answer = await wire.post(daemon.port, message, headers={"x-claude-code-session-id": EVIL})
    assert answer.status == 200
    await enter(browser, daemon, view="#requests?client=anonymous")
    await browser.until("document.querySelectorAll('#requests .request').length === 1", 20)
    told = await browser.evaluate("document.querySelector('#requests .request').innerText")
    assert "ok, 2 attempts" in told
    assert EVIL in told
    await browser.evaluate("document.querySelector('#requests details').open = true")
    attempts = await browser.evaluate("[...document.querySelectorAll('#requests tbody tr')].map(row => row.innerText)")
    assert "up/spent" in attempts[0]
    assert "429" in attempts[0]
    assert "up/good" in attempts[1]
    request_id = await browser.evaluate("document.querySelector('#requests .request').dataset.name")
    await browser.until("document.querySelector('#requests details').open")

    await browser.evaluate("document.querySelector('#requests-asking').reset()")
    await browser.until("document.querySelectorAll('#requests .request').length > 50")
    await browser.evaluate("document.querySelector('#requests-asking [name=request_id]').focus()")
    await browser.type(request_id)
    await browser.press("Search", "#requests-asking")
    await browser.until("document.querySelectorAll('#requests .request').length === 1")
    assert await browser.evaluate("location.hash") == f"#requests?request_id={request_id}"
    await browser.evaluate(
        "[...document.querySelectorAll('#requests a')].find(each => each.hash.includes('session')).click()"
    )
    await browser.until("location.hash.includes('session')")
    assert await browser.evaluate("document.querySelector('#requests-asking [name=session]').value") == EVIL
    await browser.evaluate("location.hash = '#requests?session=none'")
    await browser.until(f"{TEXT}.includes('There is no such request.')")
    assert "owned" not in await browser.evaluate("document.title")
    assert await browser.evaluate("document.querySelectorAll('img').length") == 0


@ensureDeferred
async def test_reload_that_failed(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """A file that cannot be used is told above every view, and where its mistake is; until it is mended."""
    config = provider(upstream)
    daemon = await start_daemon(config)
    await enter(browser, daemon)
    await browser.until(f"{TEXT}.includes('The credential works')")
    daemon.rewrite(config + "[server]\n[pool]\nmax_wiat = 3\n")
    daemon.signal("HUP")
    await browser.until("document.querySelector('#notices').innerText.includes('a restart would fail')")
    await browser.until("document.title === 'The last reload failed – claudeproxyd'")
    assert "running for" in await browser.evaluate("document.querySelector('#about').innerText")
    assert (await daemon.metrics())["claudeproxyd_config_last_reload_successful{}"] == 0
    await browser.evaluate("location.hash = '#daemon'")
    await browser.until("document.querySelector('#daemon pre') !== null")
    daemon.rewrite(config + "[pool]\nmax_wait = 3.0\n")
    await browser.press("Reload the configuration")
    await browser.until("document.querySelector('#notices').children.length === 0")
    await browser.until("document.querySelector('#daemon').innerText.includes('pool.max_wait')")
    told = await browser.evaluate("document.querySelector('#daemon').innerText")
    assert "went well" in told
    metrics = await daemon.metrics()
    assert metrics["claudeproxyd_config_last_reload_successful{}"] == 1
    assert abs(metrics["claudeproxyd_config_last_reload_timestamp_seconds{}"] - time()) < 60


@ensureDeferred
async def test_ledger_away(start_daemon: StartDaemon, browser: Browser, tmp_path: Path) -> None:
    """Limits that do not know what was used before the start are told above every view."""
    (tmp_path / "accounts.db").mkdir()  # no file can be there
    config = f'[accounts]\ndatabase = "sqlite:{tmp_path}/accounts.db"\n[[limits]]\nname = "a"\nusd = 1\nper = "day"\n'
    daemon = await start_daemon(config + '[[clients]]\nname = "a"\nkey = "key-of-a-0123456789"\n' + SANDBOX)
    await enter(browser, daemon)
    notices = "document.querySelector('#notices').innerText"
    await browser.until(f"{notices}.includes('Limits do not know all that was used before the start')")
    await browser.until("document.title.startsWith('Limits do not know what was used before')")
    assert "unable to open database file" in await browser.evaluate(notices)


@ensureDeferred
async def test_client_that_hammers(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """Who is refused, and who comes without a key that is known, is told above the pool, and in full below."""
    upstream.script(answers.usual())
    clients = '[[clients]]\nname = "user007"\nkey = "known-key"\nmodels = ["claude-*"]\n'
    daemon = await start_daemon(clients + provider(upstream))
    for _ in range(12):
        other = wire.Message(model="other").encode()
        assert (await wire.post(daemon.port, other, headers={"x-api-key": "known-key"})).status == 400
        assert (await wire.post(daemon.port, other, headers={"x-api-key": "revoked"})).status == 401
    await enter(browser, daemon)
    notices = "document.querySelector('#notices').innerText"
    await browser.until(f"{notices}.includes('user007 is refused: 12 requests in 5 minutes')")
    assert "bad requests" in await browser.evaluate(notices)
    title = "user007 is refused; Requests come without a key that is known – claudeproxyd"
    await browser.until(f"document.title === {title!r}")
    assert "12 requests without a key that is known in 5 minutes, from 1 address" in await browser.evaluate(notices)
    await browser.evaluate("document.querySelector('#notices a').click()")
    await browser.until("!document.querySelector('#view-clients').hidden")
    told = await browser.evaluate("document.querySelector('#view-clients').innerText")
    assert "12 × 400" in told
    assert "unknown client key, SHA-256" in told
    assert "127.0.0.1" in told


async def status(daemon: Daemon, secret: str) -> int:
    """What somebody with that key is answered."""
    return (await wire.get(daemon.port, "/v1/models", {"x-api-key": secret})).status


async def revealed(browser: Browser) -> str:
    """The key that is shown once."""
    await browser.until("document.querySelector('#minted pre') !== null")
    secret: str = await browser.evaluate("document.querySelector('#minted pre').innerText")
    return secret


@ensureDeferred
async def test_keys(start_daemon: StartDaemon, upstream: Upstream, browser: Browser, tmp_path: Path) -> None:
    """A key is minted, shown once, rotated and revoked; what it was shown as is nowhere afterwards."""
    clients = '[[clients]]\nname = "laptop"\nkey = "known-key-of-the-file"\n'
    daemon = await start_daemon(ledger(tmp_path) + clients + provider(upstream))
    await enter(browser, daemon, view="#keys")
    await browser.until("document.querySelector('#keys').innerText.includes('in the configuration')")
    for field, text in (("name", EVIL), ("labels", "team=ads, project=x"), ("models", "claude-haiku-*")):
        await browser.evaluate(f"document.querySelector('#keys-minting [name={field}]').focus()")
        await browser.type(text)
    await browser.press("Mint", "#keys-minting")
    secret = await revealed(browser)
    assert await status(daemon, secret) == 200
    await browser.press("Done", "#minted")
    await browser.until("document.querySelector('#minted').hidden")
    assert secret not in await browser.evaluate("document.documentElement.innerHTML")
    told = "document.querySelector('#keys').innerText"
    await browser.until(f"{told}.includes('project=x · team=ads · claude-haiku-*')")
    await browser.until(f"{told}.includes('last used')")
    await browser.press("Rotate", "#keys")
    another = await revealed(browser)
    assert [await status(daemon, each) for each in (secret, another)] == [200, 200]
    await browser.evaluate("location.hash = '#pool'")
    await browser.until("document.querySelector('#minted pre') === null")
    await browser.evaluate("location.hash = '#keys'")
    await browser.until(f"{told}.includes('…, until')")
    await browser.press("Revoke", "#keys")
    await browser.until(f"{told}.includes('revoked')")
    assert [await status(daemon, each) for each in (secret, another)] == [401, 401]
    assert len(browser.confirms) == 2
    assert await browser.evaluate("document.querySelectorAll('img').length") == 0


@ensureDeferred
async def test_keys_of_a_label(start_daemon: StartDaemon, browser: Browser) -> None:
    """Whoever may mint for a label alone sees that and nothing else, and does it by keyboard.

    The page asks for nothing that they may not see: the audit has what they did, and no refusal.
    """
    lead = '[[operators]]\nname = "lead"\nkey = "key-of-the-lead-0123"\nrole = "mint"\n'
    lead += 'mint = { labels = { team = "ads" }, models = ["claude-haiku-*"], max_concurrency = 4, longest = 86400 }\n'
    clients = '[[clients]]\nname = "laptop"\nkey = "known-key-of-the-file"\n'
    daemon = await start_daemon(lead + clients + SANDBOX)
    await enter(browser, daemon, width=400, key="key-of-the-lead-0123")
    await browser.until("document.querySelector('#keys-bounds').innerText.startsWith('You mint for team=ads; models')")
    assert await browser.evaluate("location.hash") == "#keys"
    assert await browser.evaluate("document.querySelector('nav').innerText.trim()") == "Keys"
    assert await browser.evaluate("document.querySelector('#keys').innerText") == "There is no key yet."
    await browser.evaluate("document.querySelector('#keys-minting [name=name]').focus()")
    await browser.type("ann")
    await browser.strike("Enter")
    secret = await revealed(browser)
    assert await status(daemon, secret) == 200
    for _ in range(3):  # the key itself, Copy, Done
        await browser.strike("Tab")
    await browser.strike("Enter")
    await browser.until("document.activeElement.name === 'name' && document.querySelector('#minted').hidden")
    await browser.until(
        "document.querySelector('#keys').innerText.includes('team=ads · claude-haiku-* · at most 4 at once')"
    )
    await looked_at(browser, "keys-of-a-label")
    await browser.evaluate("document.querySelector('[data-does=revoke]').focus()")
    await browser.strike("Enter")
    await browser.until("document.querySelector('#keys').innerText.includes('revoked')")
    assert await status(daemon, secret) == 401
    audited = [line for line in daemon.log.splitlines() if "audit: lead" in line]
    assert [("key.mint" in line, "key.revoke" in line) for line in audited] == [(True, False), (False, True)], audited


@ensureDeferred
async def test_each_view_for_everybody(
    start_daemon: StartDaemon, upstream: Upstream, browser: Browser, tmp_path: Path
) -> None:
    """From 400 px to wide, in light and dark, by keyboard and by ear."""
    upstream.script(answers.usual())
    limits = '[[limits]]\nname = "all of it, a month"\nusd = 1.0\nper = "month"\n'
    limits += '[[limits]]\nname = "each, a month"\nusd = 0.9\nper = "month"\neach = "client"\n'
    daemon = await start_daemon(ledger(tmp_path) + limits + provider(upstream))
    assert (await wire.post(daemon.port, wire.Message(model="claude-" + "x" * 150).encode())).status in (200, 429)
    await enter(browser, daemon)
    for view in VIEWS:
        await browser.evaluate(f"document.querySelector('nav [href=\"#{view}\"]').click()")
        await browser.until(f"!document.querySelector('#view-{view}').hidden")
        await browser.until(f"document.querySelector('#view-{view}').innerText.length > 50")
        marked = "[...document.querySelectorAll('[aria-current]')].map(each => each.hash)"
        assert await browser.evaluate(marked) == [f"#{view}"]
        if view == "usage":
            await browser.until("document.querySelectorAll('#usage figure').length === 4")
        if view == "requests":
            await browser.until("document.querySelectorAll('#requests .request').length > 10")
            await browser.evaluate("document.querySelector('#requests details').open = true")
        await looked_at(browser, view)
    assert await browser.evaluate("document.querySelector('#live').getAttribute('role')") == "status"
    assert await browser.evaluate("document.querySelector('#live').innerText") != ""
    unnamed = "[...document.querySelectorAll('input, select')].filter(each => !each.labels.length).length"
    assert await browser.evaluate(unnamed) == 0
