"""What a request costs in a worker: hardly more than in a daemon by itself."""

from __future__ import annotations

from twisted.internet.testing import StringTransport

from claudeproxyd.tap import Options
from claudeproxyd.workers.channel import ControlChannel
from claudeproxyd.workers.worker import WorkerDaemon
from tests.test_calls import AT_ONCE, UNARY, CallsTestCase
from tests.test_daemon import Reactor
from tests.workers.support import greeting

MOST = 1.1


class WorkerCallsTests(CallsTestCase):
    """The same requests, in a worker that has limits to keep."""

    worker = False

    def setUpDaemon(self, arguments: list[str] | None = None) -> None:
        if not self.worker:
            super().setUpDaemon(arguments)
            return
        options = Options()
        options.parseOptions(["--config", self.path])
        loaded = options.loaded
        self.reactor = Reactor()
        self.channel = ControlChannel(self.reactor, {}, lambda channel: None)
        self.channel.makeConnection(StringTransport())
        self.daemon = WorkerDaemon(self.reactor, greeting(loaded, 0, {}), loaded, self.channel)
        self.daemon.privilegedStartService()
        self.daemon.startService()

    def test_unary(self) -> None:
        """One answer at once."""
        self.compare(*UNARY)

    def test_burst(self) -> None:
        """A stream of fifty events in one read."""
        self.compare(*AT_ONCE)

    def compare(self, body: str, answer: bytes) -> None:
        """A request in a daemon by itself, and in a worker."""
        alone = self.calls(body, answer)
        self.daemon.stopService()
        self.reactor.advance(0)
        self.worker = True
        self.setUpDaemon()
        here = self.calls(body, answer)
        self.assertLessEqual(here, MOST * alone, f"{here} calls, and {alone} in a daemon by itself")
