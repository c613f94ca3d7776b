"""Makers that other packages bring, some of which are of no use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import claudeproxyd.config.installed
from claudeproxyd.config.config_paths import ConfigPath, SourceFile
from claudeproxyd.config.diagnostics import Diagnostics, Problem
from claudeproxyd.config.environment import from_environment
from claudeproxyd.config.installed import check_by
from claudeproxyd.executors.kinds import BUILT_IN, makers
from claudeproxyd.executors.maker import Maker
from claudeproxyd.interfaces import IExecutorMaker, IPluginMaker
from claudeproxyd.plugin_loader import PluginMaker, plugin_makers


class Echo(Maker):
    """A kind that is whole."""

    kind = "echo"


class Nameless(Maker):
    """One that forgot its kind."""


class Odd(Maker):
    """One whose kind is none."""

    kind: Any = None


@implementer(IExecutorMaker)
class Bare:
    """One that says it provides the interface, and has nothing of it but its name."""

    kind = "bare"


class Audit(PluginMaker):
    """A kind of plugins that is whole."""

    kind = "audit"


class NamelessPlugin(PluginMaker):
    """One that forgot its kind."""


@implementer(IPluginMaker)
class BarePlugin:
    """One that has nothing but its name."""

    kind = "bare"


class Installed(SynchronousTestCase):
    """Plugins as Twisted finds them."""

    def found(self, *plugins: Any) -> tuple[set[str], set[str], list[str]]:
        """The kinds of providers and of plugins, and what is told of the others."""
        self.patch(
            claudeproxyd.config.installed,
            "getPlugins",
            lambda interface: [each for each in plugins if interface.providedBy(each)],
        )
        broken: list[Problem] = []
        kinds = set(makers(broken)) - {maker.kind for maker in BUILT_IN}
        return kinds, set(plugin_makers(broken)), [str(each) for each in broken]

    def test_left_out(self) -> None:
        """What is broken is named, with its file, what it lacks and what to do; all else is there."""
        broken = (Nameless(), Odd(), Bare(), NamelessPlugin(), BarePlugin())
        kinds, plugins, told = self.found(broken[0], Echo(), *broken[1:], Audit())
        self.assertEqual((kinds, plugins, len(told)), ({"echo"}, {"audit"}, len(broken)))
        for words, line in zip(
            (
                "has no kind,",
                "has the kind None,",
                "has no about, added_paths, base_urls,",
                "has no kind,",
                "has no auth",
            ),
            told,
            strict=True,
        ):
            self.assertIn(words, line)
        for maker, line in zip(broken, told, strict=True):
            self.assertIn(f"{__file__}: {type(maker).__name__} has", line)
            self.assertIn("remove its package", line)

    def test_faults(self) -> None:
        """A check that raises is an error with the section's place and the code's, and without what was said."""

        def check(section: object) -> NoReturn:
            raise TypeError("sk-ant-api03-a-secret")

        diagnostics = Diagnostics()
        check_by(check, "section", ConfigPath(SourceFile("main.toml", {}), ("providers", 0)), diagnostics)
        (told,) = map(str, diagnostics.errors)
        self.assertIn("main.toml: providers[0] cannot be checked: TypeError in ", told)
        self.assertIn(f"{__file__}:{check.__code__.co_firstlineno + 1} ", told)
        self.assertNotIn("secret", told)

    def test_environment(self) -> None:
        """A kind that fails to read the environment makes no provider, and the others do."""

        class Blind(Maker):
            """It breaks over any environment."""

            kind = "blind"

            def from_environment(self, environ: Mapping[str, str]) -> NoReturn:
                raise KeyError("HOME")

        diagnostics = Diagnostics()
        kinds = {maker.kind: maker for maker in (*BUILT_IN, Blind())}
        source = from_environment({"ANTHROPIC_API_KEY": "sk-ant-x"}, kinds, diagnostics)
        self.assertEqual([made["kind"] for made in source.tree["providers"]], ["anthropic"])
        self.assertIn("kind blind cannot read it: KeyError in ", str(diagnostics.warnings[0]))

    def test_none_is_broken(self) -> None:
        """Nothing is told."""
        self.assertEqual(self.found(Echo(), Audit()), ({"echo"}, {"audit"}, []))
