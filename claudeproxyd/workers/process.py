"""One worker's process, from its start to its end. It goes by its parent's word, and ends when the parent is gone."""

from __future__ import annotations

import pickle
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger, globalLogBeginner

from claudeproxyd.observe.logging import observer, patient
from claudeproxyd.workers.channel import ControlChannel, Handler
from claudeproxyd.workers.supervisor import CHANNEL
from claudeproxyd.workers.worker import Greeting, WorkerDaemon

if TYPE_CHECKING:
    from twisted.application.service import IService

    from claudeproxyd.config.loading import Loaded
    from claudeproxyd.config.schema import Config


#: Seconds that the others may take to let go of each other's sockets when the parent is gone.
LEAVE_GRACE = 0.25


class WorkerProcess:
    """Takes the parent's greeting, and serves until it is told to end."""

    _log = Logger()

    def __init__(self, reactor: Any, loaded: Callable[[Config, tuple[str, ...]], Loaded]) -> None:
        """*loaded* completes a configuration with what this process has installed."""
        self._reactor = reactor
        self._loaded = loaded
        self._handlers: dict[str, Handler] = {
            "start": self._start,
            "heard": lambda channel, body: None,
            "drain": lambda channel, body: self._end(),
        }
        self._status = 0
        self._ending = False

    def run(self) -> int:
        """Run the reactor to the end. Return the exit status.

        Signals are for the parent: a terminal, and systemd, send them to all processes of a group.
        """
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        factory = Factory.forProtocol(lambda: ControlChannel(self._reactor, self._handlers, self._orphaned))
        factory.noisy = False
        with socket.socket(fileno=CHANNEL) as inherited:
            inherited.setblocking(False)
            self._reactor.adoptStreamConnection(inherited.fileno(), socket.AF_UNIX, factory)
        self._reactor.run(installSignalHandlers=False)
        return self._status

    def _start(self, channel: ControlChannel, body: object) -> None:
        greeting: Greeting = pickle.loads(cast("bytes", body))  # noqa: S301 - the parent's
        log, out = greeting.config.log, patient(sys.stdout)
        globalLogBeginner.beginLoggingTo([observer(out, log.format, log.level)], redirectStandardIO=False)
        try:
            daemon = WorkerDaemon(self._reactor, greeting, self._loaded(greeting.config, greeting.files), channel)
            self._handlers.update(daemon.handlers())
            daemon.use_output(out)
            daemon.privilegedStartService()
            daemon.startService()
        except (Exception, SystemExit) as error:
            self._log.failure("worker {number} cannot serve: {error}", number=greeting.slot + 1, error=str(error))
            self._status = 1
            self._end()
        else:
            self._reactor.addSystemEventTrigger("before", "shutdown", self.stop, daemon)

    def stop(self, daemon: IService) -> Deferred[None]:
        """Stop what serves. Fires in a turn of its own.

        What ends may be told by the parent. The reactor closes all sockets in the moment that this fires, and would
        write to the parent's next, had it just read from it.
        """
        return maybeDeferred(daemon.stopService).addCallback(lambda _: deferLater(self._reactor, 0))

    def _orphaned(self, channel: ControlChannel) -> None:
        """The parent is gone, as all workers know: each is soon the only one that has its socket, and ends."""
        if "leave" in self._handlers:
            self._handlers["leave"](channel, None)
        self._reactor.callLater(LEAVE_GRACE, self._end)

    def _end(self) -> None:
        if not self._ending:
            self._ending = True
            self._reactor.callWhenRunning(self._reactor.stop)
