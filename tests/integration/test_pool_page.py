"""The pool's page in a real browser: what an operator sees at three in the morning, and can do about it."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.browser import Browser, chromium, enter
from tests.integration.support.daemon import ADMIN_KEY, Daemon, provider
from tests.integration.support.needs import needs
from tests.integration.support.upstream import Exchange, Upstream

pytestmark = needs(chromium)

HEADLINE = "document.querySelector('#headline').textContent"
TEXT = "document.body.innerText"
#: Where somebody wants to look at the page: screenshots go there.
SHOTS = os.environ.get("SCREENSHOTS")


async def troubled(start_daemon: StartDaemon, upstream: Upstream) -> Daemon:
    """A daemon with one good key, one without quota for one model, one refused, and a provider that is not there."""
    upstream.script_for("good", answers.usual())
    upstream.script_for(
        "spent", answers.error(429, "rate_limit_error", "This request would exceed", retry_after="1800")
    )
    upstream.script_for("dead", answers.error(401, "authentication_error", "invalid x-api-key"))
    config = '[pool]\nmax_wait = 20.0\n[[models]]\nname = "gone"\nroutes = [{ provider = "nowhere" }]\n'
    config += '[[models]]\nname = "*"\nroutes = [{ provider = "up" }]\n'
    nowhere = provider("http://127.0.0.1:1", "one", "two", name="nowhere")
    daemon = await start_daemon(config + provider(upstream, "spent", "dead", "good") + nowhere)
    for prompt in ("one", "two", "three"):
        assert (await wire.post(daemon.port, wire.Message(prompt=prompt).encode())).status == 200
    return daemon


@ensureDeferred
async def test_problems_come_first(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """The headline says how bad it is; then come what rests, for how long and why, and what failed last."""
    daemon = await troubled(start_daemon, upstream)
    await enter(browser, daemon)
    await browser.until(f"{HEADLINE} === '2 of 5 credentials held back'")
    cards = await browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#held .card')].map(e => [e.dataset.name, e.innerText]))"
    )
    assert list(cards) == ["up/spent", "up/dead"]
    assert "min" in cards["up/spent"]
    assert "claude-opus-5-5" in cards["up/spent"]
    assert "This request would exceed" in cards["up/spent"]
    assert "all of it" in cards["up/dead"]
    assert "invalid x-api-key" in cards["up/dead"]
    assert "up/dead" in await browser.evaluate("document.querySelector('#failures').innerText")
    assert "up/good" in await browser.evaluate("document.querySelector('#well').innerText")
    places = "['#held', '#failures', '#well'].map(id => document.querySelector(id).getBoundingClientRect().top)"
    assert await browser.evaluate(places) == sorted(await browser.evaluate(places))


@ensureDeferred
async def test_model_that_nobody_serves(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """Where each credential rests for another reason, and none is left for a model, the headline says so."""
    upstream.script_for("spent", answers.error(429, "rate_limit_error", "later", retry_after="1800"))
    upstream.script_for("poor", answers.error(402, "billing_error", "no credit"))
    daemon = await start_daemon(provider(upstream, "spent", "poor"))
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 429
    await enter(browser, daemon)
    await browser.until(f"{HEADLINE} === 'Nobody serves claude-opus-5-5'")
    await browser.until("document.title === 'Nobody serves claude-opus-5-5 – claudeproxyd'")
    told = await browser.evaluate("document.querySelector('#unserved').innerText")
    for words in ("claude-opus-5-5", "1 request refused", "quota", "next try in"):
        assert words in told
    upstream.script_for("spent", answers.usual())
    await browser.press("Clear", "[data-name='up/spent']")
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
    await browser.until(f"{HEADLINE} === '1 of 2 credentials held back'")
    assert await browser.evaluate("document.querySelector('#unserved').closest('section').hidden")


@ensureDeferred
async def test_key_is_asked_once(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """Without the key nothing is shown; a wrong one is told; the right one is kept in memory and nowhere else."""
    daemon = await start_daemon(provider(upstream))
    await enter(browser, daemon)
    await browser.until(f"{HEADLINE} === 'The credential works'")
    kept = "[localStorage.length, sessionStorage.length, document.cookie, location.href, secret.value]"
    page = f"http://127.0.0.1:{daemon.admin}/admin/"
    assert await browser.evaluate(kept) == [0, 0, "", page, ""]
    await browser.call("Page.reload")
    await browser.until("document.querySelector('#key')?.hidden === false")
    await browser.type("wrong")
    await browser.press("Open")
    await browser.until(f"{TEXT}.includes('That is not the admin key.')")
    await browser.type(ADMIN_KEY)
    await browser.press("Open")
    await browser.until(f"{HEADLINE} === 'The credential works'")
    assert await browser.evaluate("document.querySelector('#note').hidden")
    assert {url.partition("?")[0] for url in browser.requests} <= {
        page,
        *(f"{page}v1/{name}" for name in ("operator", "pool", "clients", "status")),
        "data:,",
    }


@ensureDeferred
async def test_buttons(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """Clear, disable and enable do it, and the page shows what became of it."""
    daemon = await troubled(start_daemon, upstream)
    await enter(browser, daemon, 400)
    await browser.until(f"{HEADLINE} === '2 of 5 credentials held back'")
    await browser.press("Clear", "[data-name='up/spent']")
    await browser.until(f"{HEADLINE} === '1 of 5 credentials held back'")
    await browser.press("Disable", "[data-name='up/good']")
    await browser.until("document.querySelector('#held [data-name=\"up/good\"]') !== null")
    assert browser.confirms == ["Take up/good out of service? What it has under way is finished."]
    await browser.press("Enable", "[data-name='up/good']")
    await browser.until("document.querySelector('#well [data-name=\"up/good\"]') !== null")
    assert daemon.log.count("audit:") == 4  # with the page's first question, which has no key yet


@ensureDeferred
async def test_whole_providers_and_who_waits(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """A provider that cannot be reached is one problem, and not one for each of its keys; who waits for it is named."""
    daemon = await troubled(start_daemon, upstream)
    await enter(browser, daemon)
    waiting = [await wire.stream(daemon.port, wire.Message(model="gone", stream=True)) for _ in range(3)]
    await browser.until("document.querySelector('#held [data-name=\"nowhere\"]') !== null")
    await browser.until("document.querySelector('#queue').innerText.includes('nowhere/gone')")
    await browser.until(f"{HEADLINE} === 'Nobody serves gone, 3 requests wait'")
    told = await browser.evaluate("document.querySelector('#held [data-name=\"nowhere\"]').innerText")
    assert "all of nowhere" in told
    for name, width, height in (("phone", 400, 800), ("wide", 1400, 900)):
        for dark in (False, True):
            await browser.look(width, height, dark)
            assert await browser.evaluate("document.documentElement.scrollWidth") <= width
            if SHOTS:
                await browser.screenshot(Path(SHOTS) / f"{name}-{'dark' if dark else 'light'}.png")
    for each in waiting:
        each.reset()


@ensureDeferred
async def test_typing_errors_are_no_alarm(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """A client that asks for models which nobody has does not wake anybody, nor fill the page."""
    upstream.script(answers.error(404, "not_found_error", "model: no such thing"))
    daemon = await start_daemon(provider(upstream))
    for number in range(9):
        for prompt in ("one", "two"):
            wanted = wire.Message(prompt=prompt, model=f"no-such-{number}")
            assert (await wire.post(daemon.port, wanted.encode())).status == 404
    await enter(browser, daemon)
    await browser.until(f"{HEADLINE} === 'The credential works'")
    card = await browser.evaluate("document.querySelector('#well .card').innerText")
    assert "and 5 more" in card
    assert "ready" in card


@ensureDeferred
async def test_daemon_that_is_gone(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """When the daemon answers no more the page says that what it shows is old."""
    daemon = await start_daemon(provider(upstream))
    await enter(browser, daemon)
    await browser.until(f"{HEADLINE} === 'The credential works'")
    await daemon.stop()
    await browser.until(f"{TEXT}.includes('what is below is old')")
    assert await browser.evaluate("document.body.classList.contains('stale')")
    browser.complaints.clear()  # it says, too, that it could not connect


@ensureDeferred
async def test_names_are_not_markup(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """What an upstream or a client says is shown as it is, and never run."""
    evil = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
    upstream.script(answers.error(429, "rate_limit_error", evil, retry_after="1800"))
    daemon = await start_daemon(provider(upstream))
    assert (await wire.post(daemon.port, wire.Message(model="claude-<b>").encode())).status == 429
    await enter(browser, daemon)
    await browser.until(f"{TEXT}.includes('onerror')")
    assert "owned" not in await browser.evaluate("document.title")
    assert await browser.evaluate("document.querySelectorAll('img, b b').length") == 0


@ensureDeferred
async def test_thousands(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """With thousands of credentials the page shows the first two hundred, and all when asked to."""
    daemon = await start_daemon(provider(upstream, *(f"key-{number}" for number in range(2000))))
    await enter(browser, daemon)
    await browser.until(f"{HEADLINE} === 'All 2,000 credentials work'")
    assert await browser.evaluate("document.querySelectorAll('.card').length") == 200
    await browser.press("Show all 2,000")
    await browser.until("document.querySelectorAll('.card').length === 2000")


@ensureDeferred
async def test_what_was_learned(start_daemon: StartDaemon, upstream: Upstream, browser: Browser) -> None:
    """The page says in words what was learned of a place that fails now and then, and when one is down."""
    asked = 0

    async def now_and_then(exchange: Exchange) -> None:
        nonlocal asked
        asked += 1
        failing = exchange.request.json["model"] == "claude-down" or asked % 4 == 0
        await (answers.error(500, "api_error", "weather") if failing else answers.usual())(exchange)

    upstream.script(now_and_then)
    daemon = await start_daemon("[pool]\nmax_wait = 2.0\n" + provider(upstream))
    for number in range(12):
        assert (await wire.post(daemon.port, wire.Message(prompt=f"{number}").encode())).status == 200
    assert (await wire.post(daemon.port, wire.Message(model="claude-down").encode())).status == 500
    (entry,) = (await daemon.pool())["credentials"]
    told = {gate["model"]: (gate["state"], gate["told"]) for gate in entry["gates"]}
    assert told["claude-opus-5-5"][0] == "free"
    assert told["claude-opus-5-5"][1].endswith("% failing, not held back")
    assert told["claude-down"][0] == "down"
    await enter(browser, daemon)
    await browser.until(f"{TEXT}.includes('failing, not held back')")
    await browser.until(f"{TEXT}.includes('next probe in') || {TEXT}.includes('a probe is due')")
    await browser.until(f"{TEXT}.includes('weather')")
    if SHOTS:
        await browser.screenshot(Path(SHOTS) / "gates.png")
