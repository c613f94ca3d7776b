"""Chromium without a screen, told what to do over its DevTools pipe: what a person's browser makes of a page."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.integration.support.daemon import ADMIN_KEY, Daemon
from tests.integration.support.needs import lacking
from tests.integration.support.process import clean_environment, sleep

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-pipe",
)
#: Its file descriptors for commands and answers.
COMMANDS, ANSWERS = 3, 4


def chromium() -> str:
    """The program; see :func:`~tests.integration.support.needs.needs`."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    lacking("chromium is not installed")


class Browser(ProcessProtocol):
    """One Chromium with one page."""

    def __init__(self, folder: Path) -> None:
        self.complaints: list[str] = []
        """What the page's script threw, and what the browser would not let it do."""
        self.requests: list[str] = []
        """Every URL that it asked for."""
        self.confirms: list[str] = []
        """What the page had the person confirm; the answer is always yes."""
        self._received = b""
        self._serial = 0
        self._waiting: dict[int, Deferred[Any]] = {}
        self._session: str | None = None
        self._ended: Deferred[None] = Deferred()
        program = chromium()
        argv = [program, *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        pipes: Any = {0: "w", 1: "r", 2: "r", COMMANDS: "w", ANSWERS: "r"}
        reactor.spawnProcess(self, program, argv, env=clean_environment({"HOME": str(folder)}), childFDs=pipes)

    # -- the pipe

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD != ANSWERS:
            return
        *messages, self._received = (self._received + data).split(b"\0")
        for message in messages:
            self._told(json.loads(message))

    def _told(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case None:
                waiting = self._waiting.pop(message["id"])
                if "error" in message:
                    waiting.errback(RuntimeError(message["error"]))
                else:
                    waiting.callback(message["result"])
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(parameters["exceptionDetails"]["exception"]["description"])
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])
            case "Page.javascriptDialogOpening":
                self.confirms.append(parameters["message"])
                self.call("Page.handleJavaScriptDialog", accept=True)

    def processEnded(self, reason: Failure) -> None:
        reason.trap(ProcessDone, ProcessTerminated)
        for waiting in self._waiting.values():
            waiting.errback(EOFError("the browser ended"))
        self._ended.callback(None)

    def call(self, method: str, **parameters: Any) -> Deferred[Any]:
        """One DevTools command, to the page once there is one; its result."""
        self._serial += 1
        message = {"id": self._serial, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._waiting[self._serial] = Deferred()
        self.transport.writeToChild(COMMANDS, json.dumps(message).encode() + b"\0")
        return self._waiting[self._serial].addTimeout(30, reactor)

    # -- what a person does

    async def open(self, url: str) -> None:
        """Go to *url*."""
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def look(self, width: int, height: int, dark: bool = False) -> None:
        """On a screen of that size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def evaluate(self, script: str) -> Any:
        """The value of an expression, on the page."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, script: str, within: float = 15.0) -> None:
        """Wait until an expression is true; fails with the page's text after *within* seconds."""
        deadline = reactor.seconds() + within
        while not await self.evaluate(script):
            text = await self.evaluate("document.body?.innerText")
            assert reactor.seconds() < deadline, f"not within {within} s: {script}\n{text}\n{self.complaints}"
            await sleep(0.05)

    async def press(self, text: str, among: str = "body") -> None:
        """The button of that text, inside what a selector finds first: where it is on the screen, as a finger does."""
        find = f"[...document.querySelector({json.dumps(among)}).querySelectorAll('button')]"
        there = f"{find}.find(each => each.textContent === {json.dumps(text)})"
        place = await self.evaluate(
            f"(() => {{ const it = {there}; it.scrollIntoView({{block: 'center'}});"
            "const box = it.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            # Not waited for: what is pressed may ask something first.
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
        await sleep(0.05)

    async def type(self, text: str) -> None:
        """On the keyboard, where the cursor is."""
        await self.call("Input.insertText", text=text)

    async def strike(self, key: str) -> None:
        """The Enter or the Tab key."""
        code, text = {"Enter": (13, "\r"), "Tab": (9, "")}[key]
        for kind in ("keyDown", "keyUp"):
            # Not waited for: what is pressed may ask something first.
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)
        await sleep(0.05)

    async def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    async def close(self) -> None:
        """End it."""
        self._session = None
        self.call("Browser.close").addErrback(Failure.trap, EOFError)
        killer = reactor.callLater(10, self.transport.signalProcess, "KILL")
        await self._ended
        if killer.active():
            killer.cancel()


async def enter(browser: Browser, daemon: Daemon, width: int = 1400, view: str = "", key: str = ADMIN_KEY) -> None:
    """Open the admin page and give the key."""
    await browser.open(f"http://127.0.0.1:{daemon.admin}/admin/{view}")
    await browser.look(width, 900)
    await browser.until("document.querySelector('#key')?.hidden === false")
    await browser.type(key)
    await browser.press("Open")
