"""Which part of the house may import which, held by reading every import statement."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.executors.kinds import BUILT_IN

PACKAGE = Path(__file__).parents[1] / "claudeproxyd"

#: From the ground up. A part imports from itself and from lower floors, never sideways or upwards. The ground floor is
#: one part: small modules of words that everybody uses.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "interfaces",
        "account_ids",
        "errors",
        "outcomes",
        "leases",
        "globs",
        "headers",
        "json_guards",
        "steps",
        "patterns",
        "principals",
    ),
    ("framing",),
    ("messages",),
    ("translate",),
    ("config", "observe", "descriptors", "sockets", "threads"),
    ("routing", "upstream", "pool"),
    ("dispatch", "secrets", "pool.service"),
    ("catalog", "executors", "plugins", "store"),
    ("web",),
    ("graph", "reference"),
    ("reloads",),
    ("daemon",),
    ("tap",),
)
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}
GROUND = FLOORS[0]

#: Parts that are pure: no reactor, no I/O, no clock of their own. The pool is, but for its service;
#: of the HTTP client its parser is.
PURE = (
    *(part for part in GROUND if part != "interfaces"),
    "messages",
    "framing",
    "translate",
    "pool",
    "upstream.parser",
)


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Each module's dotted name below the package, and its syntax."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            yield name, ast.parse(path.read_text("utf-8"), str(path))


def imports(tree: ast.Module) -> Iterator[str]:
    """Every imported name in full, those for types alone included; not our version, which is no part."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if name != "claudeproxyd.__version__")


def part_of(module: str) -> str:
    """The part that a module belongs to, as :data:`FLOORS` names it."""
    two = ".".join(module.split(".")[:2])
    return two if two in FLOOR else module.split(".")[0]


def may_import(module: str, imported: str) -> bool:
    """Whether the floors allow *module* to import *imported*, both named below the package."""
    here, there = part_of(module), part_of(imported)
    return here == there or {here, there} <= set(GROUND) or FLOOR[there] < FLOOR[here]


class Floors(SynchronousTestCase):
    """The house stands on its floors."""

    def test_every_module_has_a_floor(self) -> None:
        """A new part of the house is put on a floor on purpose."""
        self.assertEqual([name for name, _ in modules() if part_of(name) not in FLOOR], [])

    def test_imports_run_downwards(self) -> None:
        """No module imports sideways or upwards; interfaces names the types of all floors, for type checkers alone."""
        wrong = [
            f"{name} imports {imported}"
            for name, tree in modules()
            if name != "interfaces"
            for imported in imports(tree)
            if imported.startswith("claudeproxyd.") and not may_import(name, imported.removeprefix("claudeproxyd."))
        ]
        self.assertEqual(wrong, [])

    def test_interfaces_import_nothing_at_run_time(self) -> None:
        """The seams depend on nobody: what they name of upper floors is under TYPE_CHECKING."""
        tree = dict(modules())["interfaces"]
        run_time = ast.Module([node for node in tree.body if not isinstance(node, ast.If)], [])
        self.assertEqual([name for name in imports(run_time) if name.startswith("claudeproxyd")], [])

    def test_rule_itself(self) -> None:
        """The check can fail: upwards and sideways are refused, downwards and within a package are not."""
        self.assertTrue(may_import("dispatch.request", "messages.batch"))
        self.assertTrue(may_import("pool.service", "pool.cooldown"))
        self.assertFalse(may_import("messages.batch", "dispatch.request"))
        self.assertFalse(may_import("framing.sse", "messages.batch"))
        self.assertFalse(may_import("routing", "pool.cooldown"))
        self.assertFalse(may_import("pool.cooldown", "pool.service"))
        self.assertFalse(may_import("errors", "messages.batch"))


#: Where a kind's word stands as a string outside its folder: all of them the names of families, of headers or of models
#: that happen to be called so. This list may only get shorter.
NAMED = {
    ("config.checking", "anthropic"),
    ("outcomes.types", "anthropic"),
    ("outcomes.types", "bedrock"),
}


class Kinds(SynchronousTestCase):
    """A provider kind is one folder, and its maker in one list."""

    def test_named_in_their_folders_alone(self) -> None:
        """No other module asks for a kind by its name."""
        folders = {
            maker.kind: type(maker).__module__.removeprefix("claudeproxyd.").removesuffix("maker") for maker in BUILT_IN
        }
        named = {
            (name, node.value)
            for name, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and node.value in folders and not name.startswith(folders[node.value])
        }
        self.assertEqual(named, NAMED)

    def test_imported_by_the_list_alone(self) -> None:
        """No other module imports a kind's maker."""
        users = {
            name
            for name, tree in modules()
            for imported in imports(tree)
            if imported.split(".")[-2:-1] == ["maker"]
            and imported.split(".")[-1].endswith("Maker")
            and imported != "claudeproxyd.executors.maker.Maker"
        }
        self.assertEqual(users, {"executors.kinds"})


class Purity(SynchronousTestCase):
    """What is pure stays testable by example, by property and by fuzzing."""

    def test_pure_parts_know_no_twisted(self) -> None:
        """Pure parts import neither Twisted nor treq, sockets, threads or clocks."""
        impure = ("twisted", "treq", "time", "socket", "threading", "asyncio", "ssl")
        wrong = [
            f"{name} imports {imported}"
            for name, tree in modules()
            if part_of(name) in PURE or name in PURE
            for imported in imports(tree)
            if imported.split(".")[0] in impure
        ]
        self.assertEqual(wrong, [])

    def test_only_tap_imports_the_reactor(self) -> None:
        """Everybody else is handed the reactor, so that tests can hand in a clock."""
        users = [name for name, tree in modules() if "twisted.internet.reactor" in imports(tree)]
        self.assertEqual([name for name in users if name != "tap"], [])


class Names(SynchronousTestCase):
    """A name means one thing, so that a search for it finds that."""

    def test_class_names_occur_once(self) -> None:
        """No two modules have a public class of one name."""
        names = Counter(
            node.name
            for _, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        )
        self.assertEqual([name for name, number in names.items() if number > 1], [])
