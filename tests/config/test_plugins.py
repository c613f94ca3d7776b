"""``[[plugins]]`` as operators write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zope.interface import implementer
from zope.interface.verify import verifyObject

from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.config.loading import load
from claudeproxyd.config.reload import difference
from claudeproxyd.config.report import report
from claudeproxyd.config.schema import Config
from claudeproxyd.config.secret import Secret, secrets_within
from claudeproxyd.config.setting import required, setting
from claudeproxyd.interfaces import IPluginMaker
from tests.config.support import SANDBOX, ConfigTestCase

EVERYWHERE = '[server]\nlisten = ["tcp:8765:interface=0.0.0.0"]\n'
AUDIT = '[[plugins]]\nkind = "audit"\npath = "/audit"\n'
GATE = '[[plugins]]\nkind = "gate"\n'


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Settings of a plugin."""

    path: str = required("Where to.")
    key: Secret | None = setting(None, "With what.")


@implementer(IPluginMaker)
class FakePluginMaker:
    """A kind that finds wrong what a test says, and may not make anything."""

    def __init__(self, kind: str, settings: type[Any], authenticates: bool = False) -> None:
        self.kind = kind
        self.settings = settings
        self.authenticates = authenticates
        self.problems: Sequence[tuple[str, str]] = ()
        self.checked: list[Any] = []

    def check(self, settings: Any) -> Sequence[tuple[str, str]]:
        self.checked.append(settings)
        return self.problems

    def make(self, settings: Any, services: Any) -> object:
        raise AssertionError("nothing is made to be checked")


verifyObject(IPluginMaker, FakePluginMaker("x", Audit))


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """No settings."""


class PluginTests(ConfigTestCase):
    """With two kinds of plugins, one of which asks who calls."""

    def setUp(self) -> None:
        super().setUp()
        self.audit, self.gate = FakePluginMaker("audit", Audit), FakePluginMaker("gate", Nothing, True)
        self.plugin_makers: dict[str, Any] = {"audit": self.audit, "gate": self.gate}

    def test_read(self) -> None:
        """Sections of all files keep their order; their settings are the kind's own."""
        self.write("more.toml", GATE)
        loaded = self.load('include = ["more.toml"]\n' + SANDBOX + AUDIT + AUDIT.replace("/audit", "/other"))
        self.assertEqual([plugin.kind for plugin in loaded.config.plugins], ["audit", "audit", "gate"])
        self.assertEqual([plugin.own.path for plugin in loaded.config.plugins[:2]], ["/audit", "/other"])
        self.assertEqual([str(at) for at in loaded.plugin_paths], ["plugins[0]", "plugins[1]", "plugins[0]"])
        self.assertEqual(self.audit.checked, [plugin.own for plugin in loaded.config.plugins[:2]])

    def test_errors(self) -> None:
        """What is wrong has its place, and its fix where one is known."""
        for text, path, message, hint in (
            (
                AUDIT.replace("audit", "audti", 1),
                "kind",
                'there is no plugin "audti"',
                "audit, gate; install the package",
            ),
            ("[[plugins]]\n", "kind", "is missing", ""),
            (AUDIT + 'paht = "x"\n', "paht", "is no setting here", 'did you mean "path"?'),
            (AUDIT.replace('"/audit"', "3"), "path", "must be a string", ""),
            (GATE + 'path = "/audit"\n', "path", 'is no setting of kind "gate"', "it belongs to audit"),
        ):
            problem = self.problems(SANDBOX + text)[0]
            self.assertEqual(problem.path, f"plugins[0].{path}")
            self.assertIn(message, problem.message)
            self.assertIn(hint, problem.hint)
        self.audit.problems = [("path", "is no folder: name one")]
        problem = self.problem(SANDBOX + AUDIT)
        self.assertEqual(
            (problem.path, problem.line, problem.message), ("plugins[0].path", 6, "is no folder: name one")
        )

    def test_not_installed(self) -> None:
        """Of a kind that nobody brings this alone is said."""
        self.plugin_makers.clear()
        problem = self.problem(SANDBOX + AUDIT)
        self.assertEqual((problem.path, problem.message), ("plugins[0].kind", 'there is no plugin "audit"'))
        self.assertTrue(problem.hint.startswith("install the package"))

    def test_report(self) -> None:
        """--check shows each with its settings, no secret, and who is let in."""
        text = report(self.load(SANDBOX + AUDIT + 'key = "a-key-of-audits"\n' + GATE), self.makers)
        self.assertIn("\nplugins:\n  audit, path /audit, key ****\n  gate", text)
        self.assertIn("\n  whom the plugin gate lets in\n", text)
        self.assertNotIn("without a key", text)

    def test_secrets(self) -> None:
        """Secrets among the settings are found, to be masked."""
        config = self.load(SANDBOX + AUDIT + 'key = "a-key-of-audits"\n').config
        self.assertEqual([secret.reveal() for secret in secrets_within(config)], ["a-key-of-audits"])

    def test_reload(self) -> None:
        """A reload tells that they changed."""
        old = self.load(SANDBOX + AUDIT).config
        for text, changed in ((AUDIT, ()), (AUDIT.replace("/audit", "/other"), ("plugins",)), ("", ("plugins",))):
            new = self.load(SANDBOX + text).config
            self.assertEqual(difference(old, new, self.makers).settings, changed)

    def test_authenticators_close(self) -> None:
        """With one that asks who calls, a listener may be reached by others; with another kind it may not."""
        self.load(EVERYWHERE + SANDBOX + GATE)
        self.assertIn("can be reached by others", self.problem(EVERYWHERE + SANDBOX + AUDIT).message)
        problem = self.problem("[server]\nopen = true\n" + SANDBOX + GATE)
        self.assertEqual((problem.path, problem.hint), ("server.open", "remove it, or the plugin"))

    def reloaded(self, in_force: Config, text: str) -> list[str]:
        """The paths of what is wrong with a reload."""
        path = self.write("main.toml", text)
        try:
            load(path, self.environ, self.makers, plugin_makers=self.plugin_makers, in_force=in_force)
        except ConfigError as error:
            return [problem.path for problem in error.errors]
        return []

    def test_reload_opens_nothing(self) -> None:
        """A reload cannot take the last one away, or put anything but clients in its place."""
        in_force = self.load(SANDBOX + GATE).config
        self.assertEqual(self.reloaded(in_force, SANDBOX), ["plugins"])
        self.assertEqual(self.reloaded(in_force, SANDBOX + AUDIT), ["plugins"])
        self.plugin_makers.pop("gate")
        self.assertEqual(self.reloaded(in_force, SANDBOX), ["plugins"])
        clients = '[[clients]]\nname = "c"\nkey = "a-key-that-is-long-enough"\n'
        self.assertEqual(self.reloaded(in_force, SANDBOX + clients), [])
