"""Five incidents at three in the morning, rehearsed: one alert fires, the page's title says which, its page ends it.

What the daemon's metrics were before, meanwhile and after is what the alert rules are given; they are not waited for.
"""

from __future__ import annotations

from pathlib import Path

from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import ensureDeferred as begun

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.browser import Browser, chromium, enter
from tests.integration.support.daemon import Daemon, free_port, provider
from tests.integration.support.needs import needs
from tests.integration.support.process import eventually
from tests.integration.support.promtool import History, promtool
from tests.integration.support.upstream import Exchange, Upstream

pytestmark = needs(chromium, promtool)

MODEL = (
    '[pool]\nmax_wait = 1.0\naffinity = false\n[[models]]\nname = "claude-opus-5-5"\nroutes = [{ provider = "up" }]\n'
)
SPENT = answers.error(429, "rate_limit_error", "This request would exceed your limit", retry_after="1800")
POOR = answers.error(402, "billing_error", "Your credit balance is too low")
#: Minutes for which an incident lasts, and after which it is over for every rule.
MEANWHILE, AFTER = 6, 15


async def ask(daemon: Daemon, key: str = "any") -> int:
    """One request; the status of its answer."""
    return (await wire.post(daemon.port, wire.Message().encode(), headers={"x-api-key": key})).status


async def quiet(daemon: Daemon, folder: Path, key: str = "any") -> History:
    """All is well: the daemon serves, and nothing fires."""
    assert await ask(daemon, key) == 200
    history = History(folder)
    history.add(await daemon.metrics(), MEANWHILE)
    history.expect()
    return history


async def entitled(browser: Browser, title: str) -> None:
    """What somebody reads who has the page open in another window."""
    await browser.until(f"document.title === {f'{title} – claudeproxyd'!r}")


@ensureDeferred
async def test_one_key_out_of_quota(
    start_daemon: StartDaemon, upstream: Upstream, browser: Browser, tmp_path: Path
) -> None:
    """It is told, and nobody is woken: the others serve. Where its limit was raised it is cleared."""
    upstream.script(answers.usual())
    daemon = await start_daemon(MODEL + provider(upstream, "one", "two", "three"))
    history = await quiet(daemon, tmp_path)
    upstream.script_for("two", SPENT)
    assert [await ask(daemon) for _ in range(4)] == [200] * 4
    history.add(await daemon.metrics(), MEANWHILE)
    history.expect("ClaudeproxydCredentialHeldBack")
    await enter(browser, daemon)
    await entitled(browser, "1 of 3 credentials held back")

    upstream.script_for("two", answers.usual())
    await browser.press("Clear", "[data-name='up/two']")
    await entitled(browser, "All 3 credentials work")
    history.add(await daemon.metrics(), AFTER)
    history.expect()
    await history.check()


@ensureDeferred
async def test_all_keys_out(start_daemon: StartDaemon, upstream: Upstream, browser: Browser, tmp_path: Path) -> None:
    """Two without quota and one without credit: one alert, and not one for each of them. To pay and clear ends it."""
    upstream.script(answers.usual())
    daemon = await start_daemon(MODEL + provider(upstream, "one", "two", "three"))
    history = await quiet(daemon, tmp_path)
    for key, answer in (("one", SPENT), ("two", SPENT), ("three", POOR)):
        upstream.script_for(key, answer)
    assert [await ask(daemon) for _ in range(40)] == [429] * 40
    history.add(await daemon.metrics(), MEANWHILE)
    history.expect("ClaudeproxydModelUnserved")
    assert daemon.log.count("Nobody serves claude-opus-5-5") == 1
    await enter(browser, daemon)
    await entitled(browser, "Nobody serves claude-opus-5-5")
    assert "40 requests refused" in await browser.evaluate("document.querySelector('#unserved').innerText")

    for key in ("one", "two", "three"):
        upstream.script_for(key, answers.usual())
        await browser.press("Clear", f"[data-name='up/{key}']")
        await browser.until(f"document.querySelector('#held [data-name=\"up/{key}\"]') === null")
    assert await ask(daemon) == 200
    await entitled(browser, "All 3 credentials work")
    assert daemon.log.count("claude-opus-5-5 is served again") == 1
    history.add(await daemon.metrics(), AFTER)
    history.expect()
    await history.check()


@ensureDeferred
async def test_provider_down(start_daemon: StartDaemon, browser: Browser, tmp_path: Path) -> None:
    """Nobody listens there any more. When somebody does again a probe finds out, and nothing is to be done."""
    port = free_port()
    upstream = await Upstream().start(port)
    upstream.script(answers.usual())
    daemon = await start_daemon(MODEL + provider(upstream, "one", "two"))
    history = await quiet(daemon, tmp_path)
    await upstream.stop()
    statuses = await gatherResults([begun(ask(daemon)) for _ in range(20)])
    assert min(statuses) >= 500
    history.add(await daemon.metrics(), MEANWHILE)
    history.expect("ClaudeproxydModelUnserved")
    await enter(browser, daemon)
    await entitled(browser, "Nobody serves claude-opus-5-5")

    upstream = await Upstream().start(port)
    upstream.script(answers.usual())

    async def served() -> bool:
        return await ask(daemon) == 200

    await eventually("a probe succeeds", served)
    await entitled(browser, "All 2 credentials work")
    assert daemon.log.count("Nobody serves") == daemon.log.count("is served again") == 1
    history.add(await daemon.metrics(), AFTER)
    history.expect()
    await history.check()
    await upstream.stop()


@ensureDeferred
async def test_client_that_hammers(
    start_daemon: StartDaemon, upstream: Upstream, browser: Browser, tmp_path: Path
) -> None:
    """One with a limit of 20 sends 60 at once, and a key was revoked. A higher limit, and the new key, end it."""
    go_on: Deferred[None] = Deferred()

    async def held(exchange: Exchange) -> None:
        await exchange.until(go_on)
        await answers.usual()(exchange)

    upstream.script(answers.usual(), held)
    config = MODEL + provider(upstream, "one", "two")
    clients = '[[clients]]\nname = "user007"\nkey = "known"\nmax_concurrency = {}\n'
    daemon = await start_daemon(config + clients.format(20))
    history = await quiet(daemon, tmp_path, "known")
    hammering = [begun(ask(daemon, "known")) for _ in range(60)]
    assert [await ask(daemon, "revoked") for _ in range(40)] == [401] * 40

    async def refused() -> bool:
        return (await daemon.metrics())['claudeproxyd_refused_total{reason="client_limit"}'] == 40

    await eventually("forty are over the limit", refused)
    history.add(await daemon.metrics(), MEANWHILE)
    history.expect("ClaudeproxydClientsRefused")
    await enter(browser, daemon)
    await entitled(browser, "user007 is refused; Requests come without a key that is known")

    go_on.callback(None)
    assert sorted(await gatherResults(hammering)) == [200] * 20 + [429] * 40
    daemon.rewrite(config + clients.format(60))
    daemon.signal("HUP")
    await eventually("the higher limit is in force", lambda: "reloaded" in daemon.log)
    assert await gatherResults([begun(ask(daemon, "known")) for _ in range(60)]) == [200] * 60
    history.add(await daemon.metrics(), AFTER)
    history.expect()
    await history.check()


@ensureDeferred
async def test_bad_reload(start_daemon: StartDaemon, upstream: Upstream, browser: Browser, tmp_path: Path) -> None:
    """Two typing errors: the daemon goes on, and would not start again. To mend the file and reload ends it."""
    upstream.script(answers.usual())
    config = MODEL + provider(upstream)
    daemon = await start_daemon(config)
    history = await quiet(daemon, tmp_path)
    daemon.rewrite(config + "[streaming]\nkeepaliv = 3\n[timeouts]\nconect = 1.0\n")
    daemon.signal("HUP")
    await eventually("the log names the mistakes", lambda: "conect" in daemon.log)
    assert await ask(daemon) == 200
    history.add(await daemon.metrics(), MEANWHILE)
    history.expect("ClaudeproxydReloadFailed")
    await enter(browser, daemon, view="#daemon")
    await entitled(browser, "The last reload failed")

    daemon.rewrite(config)
    await browser.press("Reload the configuration")
    await entitled(browser, "The credential works")
    history.add(await daemon.metrics(), AFTER)
    history.expect()
    await history.check()
