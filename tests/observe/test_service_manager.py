"""What systemd is told."""

from __future__ import annotations

import os
import time

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.scrub import configure
from claudeproxyd.observe.service_manager import LOOK_EVERY, ServiceManager
from tests.service_manager import NotifySocket


class Told(SynchronousTestCase):
    """Datagrams."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.theirs = NotifySocket()
        self.addCleanup(self.theirs.close)
        self.environ = {"NOTIFY_SOCKET": self.theirs.path, "HOME": "/"}

    def test_ready(self) -> None:
        """That it serves is said once, when it does."""
        manager, settled = ServiceManager(self.environ, self.clock), [False]
        manager.ready_when(lambda: settled[0], "serving")
        self.clock.advance(LOOK_EVERY)
        self.assertEqual(self.theirs.told(), [])
        settled[0] = True
        self.clock.pump([LOOK_EVERY] * 3)
        self.assertEqual(self.theirs.told(), [["READY=1", "STATUS=serving"]])

    def test_reload(self) -> None:
        """A reload has a beginning, with its time on the clock that nobody sets, and an end with what came of it."""
        manager = ServiceManager(self.environ, self.clock)
        before = time.monotonic_ns() // 1000
        manager.reloading()
        manager.reloaded("f.toml:3: drian:\n  did you mean drain?")
        begun, ended = self.theirs.told()
        self.assertEqual(begun[:2], ["RELOADING=1", "STATUS=reloading"])
        self.assertLessEqual(before, int(begun[2].removeprefix("MONOTONIC_USEC=")))
        self.assertEqual(ended, ["READY=1", "STATUS=f.toml:3: drian: did you mean drain?"])

    def test_stopping(self) -> None:
        """So has the end."""
        ServiceManager(self.environ, self.clock).stopping("draining")
        self.assertEqual(self.theirs.told(), [["STOPPING=1", "STATUS=draining"]])

    def test_watchdog(self) -> None:
        """Whoever watches is told twice in his time that the reactor runs; children are not watched."""
        self.environ |= {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
        manager = ServiceManager(self.environ, self.clock)
        self.assertEqual((manager.alive_every, self.environ), (30.0, {"HOME": "/"}))
        manager.alive()
        self.assertEqual(self.theirs.told(), [["WATCHDOG=1"]])

    def test_no_watchdog(self) -> None:
        """Nobody watches, or somebody else is watched, or what is said of it makes no sense."""
        for variables in ({}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}):
            self.assertEqual(ServiceManager({**self.environ, **variables}, self.clock).alive_every, 0.0)
        self.assertEqual(ServiceManager({"WATCHDOG_USEC": "60000000"}, self.clock).alive_every, 0.0)

    def test_secrets(self) -> None:
        """Secrets are told to nobody."""
        configure(["sk-very-secret-indeed"])
        self.addCleanup(configure, [])
        ServiceManager(self.environ, self.clock).reloaded("no file sk-very-secret-indeed")
        self.assertNotIn("very-secret", str(self.theirs.told()))

    def test_abstract(self) -> None:
        """A socket without a path, as managers in containers have, does as well."""
        name = f"claudeproxyd-test-{os.getpid()}"
        theirs = NotifySocket(f"\0{name}")
        self.addCleanup(theirs.close)
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}, self.clock).stopping("draining")
        self.assertEqual(len(theirs.told()), 1)

    def test_nobody(self) -> None:
        """Without a manager nothing is said, and no timer is left; children do not see whose socket it was."""
        manager = ServiceManager({}, self.clock)
        manager.ready_when(lambda: False, "serving")
        manager.stopping("draining")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        ServiceManager(self.environ, self.clock)
        self.assertEqual(self.environ, {"HOME": "/"})

    def test_gone(self) -> None:
        """A manager that does not listen is no reason to fail."""
        os.unlink(self.theirs.path)
        with capturedLogs() as logs:
            ServiceManager(self.environ, self.clock).stopping("draining")
        self.assertIn("was not told STOPPING=1", formatEvent(logs[0]))
