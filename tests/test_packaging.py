"""What setup.py says of the package, held against the package."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
#: Distributions whose import has another name.
IMPORTED_AS = {
    "genai-prices": "genai_prices",
    "opentelemetry-proto": "opentelemetry",
    "pyopenssl": "OpenSSL",
    "service-identity": "service_identity",
    "zope.interface": "zope",
}


#: Extras that bring what the package imports when it is configured; the others are for tests and development.
OPTIONAL = ("redis", "postgresql", "prices", "traces")


def requirements(name: str, extras: tuple[str, ...] = ()) -> set[str]:
    """The distributions in one of setup()'s lists, without extras and versions; of a dict those of *extras*, or all."""
    tree = ast.parse((ROOT / "setup.py").read_text("utf-8"))
    (call,) = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    (value,) = (keyword.value for keyword in call.keywords if keyword.arg == name)
    found = ast.literal_eval(value)
    lists = (
        [names for extra, names in found.items() if extra in (extras or found)] if isinstance(found, dict) else [found]
    )
    return {re.split(r"[\[<>=]", each)[0] for names in lists for each in names}


def imported() -> set[str]:
    """Top-level names of others' packages that our modules import."""
    names: set[str] = set()
    for path in (ROOT / "claudeproxyd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"claudeproxyd"}


class Requirements(SynchronousTestCase):
    """The list of dependencies is true and explained."""

    def test_names_what_is_imported(self) -> None:
        """An installed daemon finds every package that it imports, and installs none that it does not."""
        named = requirements("install_requires") | requirements("extras_require", OPTIONAL)
        self.assertEqual({IMPORTED_AS.get(name, name) for name in named}, imported())

    def test_is_explained(self) -> None:
        """Each dependency has its reason on the page of dependencies."""
        rows = re.findall(r"^\| (`.+?) \|", (ROOT / "docs/dependencies.md").read_text("utf-8"), re.MULTILINE)
        explained = {name.split("[")[0] for row in rows for name in re.findall(r"`(.+?)`", row)}
        self.assertEqual(requirements("install_requires") | requirements("extras_require"), explained)


class Plugin(SynchronousTestCase):
    """What Twisted's plugin system needs."""

    def test_folders_are_not_packages(self) -> None:
        """Twisted owns ``twisted.plugins``: an ``__init__.py`` of ours would hide or overwrite Twisted's own."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])

    def test_plugin_imports_nothing_of_ours(self) -> None:
        """Every ``twistd`` on the machine loads the plugin file; it must be cheap and must not fail.

        What its functions import is for a twistd that calls them: one that is to be the daemon.
        """
        loaded = ast.parse((ROOT / "twisted/plugins/claudeproxyd_plugin.py").read_text("utf-8"))
        for node in ast.walk(loaded):
            if isinstance(node, ast.FunctionDef):
                node.body = []
        imports = [node for node in ast.walk(loaded) if isinstance(node, (ast.Import, ast.ImportFrom))]
        self.assertEqual(
            [ast.unparse(node) for node in imports], ["from twisted.application.service import ServiceMaker"]
        )
