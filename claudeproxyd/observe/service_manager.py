"""Tells the service manager how the daemon is: systemd, by ``sd_notify``'s datagrams, or whoever else asks for them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING

from twisted.logger import Logger

from claudeproxyd.observe.scrub import redact

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Seconds between two looks at whether the daemon is ready.
LOOK_EVERY = 0.05


class ServiceManager:
    """Does nothing where ``NOTIFY_SOCKET`` names no socket. Kept by the daemon."""

    _log = Logger()

    def __init__(self, environ: MutableMapping[str, str], clock: IReactorTime) -> None:
        """Takes its variables out of *environ*: what is said there is said by this process alone."""
        self._clock = clock
        watched, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        named = environ.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{named[1:]}" if named.startswith("@") else named if named.startswith("/") else ""
        is_watched = self._address and watched.isdecimal() and pid in ("", str(os.getpid()))
        self.alive_every = int(watched) / 2e6 if is_watched else 0.0
        """Seconds between two calls of :meth:`alive`; 0: nobody waits for it."""

    def ready_when(self, settled: Callable[[], bool], status: str) -> None:
        """Say that the daemon serves as soon as it is *settled*."""
        if not self._address:
            return
        if settled():
            self._send("READY=1", status)
        else:
            self._clock.callLater(LOOK_EVERY, self.ready_when, settled, status)

    def reloading(self) -> None:
        """Say that a reload has begun. :meth:`reloaded` is its end."""
        self._send("RELOADING=1", "reloading", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self, status: str) -> None:
        """Say what came of it. There is no word for a reload that failed, but *status*."""
        self._send("READY=1", status)

    def stopping(self, status: str) -> None:
        """Say that the daemon is about to end, and what it waits for."""
        self._send("STOPPING=1", status)

    def alive(self) -> None:
        """Say that the reactor runs. A daemon that does not for :attr:`alive_every` twice is ended."""
        self._send("WATCHDOG=1")

    def _send(self, state: str, status: str = "", *more: str) -> None:
        if not self._address:
            return
        lines = [state, *([f"STATUS={redact(' '.join(status.split()))}"] if status else []), *more]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.setblocking(False)
                sending.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            self._log.warn("the service manager was not told {state}: {error}", state=state, error=str(error))
