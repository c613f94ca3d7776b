"""What tests of plugins are given keeps to the interfaces that it stands for."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd import plugin, testing
from claudeproxyd.interfaces import IBufferAccount, IDownlink, IEventConsumer
from claudeproxyd.testing import EventRecorder, FakeAccount, FakeDownlink


class Interfaces(SynchronousTestCase):
    """A plugin whose tests pass on the fakes passes on the real ones, as far as the interface says."""

    def test_fakes(self) -> None:
        """Each has all that its interface has."""
        for interface, fake in (
            (IDownlink, FakeDownlink(Clock())),  # type: ignore[arg-type]  # it is one in all but its declaration
            (IEventConsumer, EventRecorder()),
            (IBufferAccount, FakeAccount()),
        ):
            verifyClass(interface, type(fake))
            verifyObject(interface, fake)


class PublicNames(SynchronousTestCase):
    """What plugins may import is there, and says what it is."""

    def test_all(self) -> None:
        """Each name is there once, and what has a docstring by nature has one."""
        for module in (plugin, testing):
            self.assertEqual(len(module.__all__), len(set(module.__all__)))
            for name in module.__all__:
                value = getattr(module, name)
                if callable(value) and getattr(value, "__module__", "").startswith("claudeproxyd"):
                    self.assertTrue(value.__doc__, name)
