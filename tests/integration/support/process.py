"""Child processes on the test's own reactor: run to the end, or kept until they are told to stop."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure


@dataclass
class Result:
    """How a program ended and what it said."""

    code: int | None
    """Its exit status, or None where a signal ended it."""
    signal: int | None
    out: str
    err: str


class Child(ProcessProtocol):
    """A running program, its output collected. Its standard input is closed at once: some wait for it."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
        inherit: Sequence[int] = (),
        spawn: Callable[..., object] = reactor.spawnProcess,
    ) -> None:
        """*inherit*: descriptors that it gets, from 3 on. *spawn*: what is called as ``reactor.spawnProcess`` is."""
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._waiting: list[Deferred[Result]] = []
        self.result: Result | None = None
        argv = [str(each) for each in argv]
        fds: dict[int, int | str] = {0: "w", 1: "r", 2: "r", **dict(enumerate(inherit, 3))}
        spawn(self, argv[0], argv, env=clean_environment(env), path=str(cwd), childFDs=fds)

    @property
    def pid(self) -> int:
        return self.transport.pid

    @property
    def output(self) -> str:
        """Everything it has said so far, both streams."""
        return b"".join([*self._out, *self._err]).decode(errors="replace")

    def connectionMade(self) -> None:
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self._out.append(data)

    def errReceived(self, data: bytes) -> None:
        self._err.append(data)

    def processEnded(self, reason: Failure) -> None:
        ended = reason.value
        clean = reason.check(ProcessDone)
        self.result = Result(
            code=0 if clean else ended.exitCode,
            signal=None if clean else ended.signal,
            out=b"".join(self._out).decode(errors="replace"),
            err=b"".join(self._err).decode(errors="replace"),
        )
        for waiting in self._waiting:
            waiting.callback(self.result)

    def signal(self, name: str) -> None:
        """Send it a signal, by name: ``TERM``, ``HUP``."""
        self.transport.signalProcess(name)

    async def ended(self, within: float) -> Result:
        """How it ended. After *within* seconds it is killed, and :class:`TimeoutError` says what it had printed."""
        if self.result is None:
            waiting: Deferred[Result] = Deferred()
            self._waiting.append(waiting)
            killer = reactor.callLater(within, self.signal, "KILL")
            result = await waiting
            if not killer.active():
                raise TimeoutError(f"not done after {within} s; it said:\n{self.output[-4000:]}")
            killer.cancel()
            return result
        return self.result


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Only what a program needs to run, so that no key of the developer's own reaches a test."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TERM") if name in os.environ}
    return {**kept, "HOME": tempfile.gettempdir(), **(more or {})}


async def run(
    argv: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    cwd: str | Path = "/",
    within: float = 60.0,
    spawn: Callable[..., object] = reactor.spawnProcess,
) -> Result:
    """Run a program to its end, at most *within* seconds."""
    return await Child(argv, env, cwd, spawn=spawn).ended(within)


async def sleep(seconds: float) -> None:
    """Let the reactor run."""
    await deferLater(reactor, seconds, lambda: None)


async def eventually(what: str, true: Callable[[], object], within: float = 60.0) -> None:
    """Wait until *true()*, or what it is awaited for, holds; fails with *what* after *within* seconds."""
    deadline = reactor.seconds() + within
    while not (await held if isawaitable(held := true()) else held):
        assert reactor.seconds() < deadline, f"not within {within} s: {what}"
        await sleep(0.02)
