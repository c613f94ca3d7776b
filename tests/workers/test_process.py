"""One worker's process."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.workers.process import WorkerProcess


class Ending(Service):
    """A service whose end is somebody else's word."""

    def __init__(self) -> None:
        self.stopped: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        """See :class:`twisted.application.service.IService`."""
        return self.stopped


class EndTests(SynchronousTestCase):
    """How it ends."""

    def test_in_a_turn_of_its_own(self) -> None:
        """The reactor closes the parent's socket in no turn that has read from it, and may write to it next."""
        clock, daemon = Clock(), Ending()
        ended = WorkerProcess(clock, lambda config, files: self.fail()).stop(daemon)
        daemon.stopped.callback(None)
        self.assertNoResult(ended)
        clock.advance(0)
        self.successResultOf(ended)
