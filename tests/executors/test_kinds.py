"""The list of provider kinds."""

from __future__ import annotations

from dataclasses import fields

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import claudeproxyd.config.installed
from claudeproxyd.config.reading import settings_of
from claudeproxyd.config.timeouts import overridable
from claudeproxyd.executors import kinds
from claudeproxyd.executors.maker import Maker
from claudeproxyd.interfaces import IExecutorMaker


class Echo(Maker):
    """A kind of a plugin."""

    kind = "echo"


class Imposter(Maker):
    """A plugin by the name of a kind that is built in."""

    kind = "anthropic"


class KindsTests(SynchronousTestCase):
    """Built-in kinds, and those of plugins."""

    def test_built_in(self) -> None:
        """Each is whole: what it has is documented, and its time-outs are those that a provider may have."""
        for maker in kinds.BUILT_IN:
            verifyObject(IExecutorMaker, maker)
            self.assertTrue(maker.about)
            self.assertLessEqual(set(maker.timeouts), set(overridable()))
            for section in (maker.settings, maker.credential_settings):
                self.assertEqual(len(settings_of(section)), len(fields(section)))

    def test_plugins(self) -> None:
        """They are added, and none takes the place of one that is built in."""
        self.patch(claudeproxyd.config.installed, "getPlugins", lambda interface: [Echo(), Imposter()])
        made = kinds.makers([])
        self.assertIsInstance(made["echo"], Echo)
        self.assertIs(made["anthropic"], kinds.BUILT_IN[0])
        self.assertEqual(list(made), [*(maker.kind for maker in kinds.BUILT_IN), "echo"])

    def test_base(self) -> None:
        """A kind that says nothing but its name has a default for all else, and cannot be made."""
        verifyObject(IExecutorMaker, Echo())
        self.assertIsNone(Echo().from_environment({}))
        self.assertRaises(NotImplementedError, Echo().make, None, None)
