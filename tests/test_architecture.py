"""Which part of the house may import which, held by reading every import statement."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd import plugin, testing
from claudeproxyd.executors.kinds import BUILT_IN

PACKAGE = Path(__file__).parents[1] / "claudeproxyd"
DOCS = PACKAGE.parent / "docs"

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
        "happenings",
        "headers",
        "json_guards",
        "slices",
        "steps",
        "patterns",
        "principals",
        "remembered",
    ),
    ("framing",),
    ("messages",),
    ("translate",),
    ("config", "observe", "descriptors", "hangups", "memory", "sockets", "threads"),
    ("turnstile",),
    ("accounts", "log_files", "routing", "upstream", "pool"),
    ("dispatch", "secrets", "pool.service"),
    ("catalog", "checkup", "executors", "plugin_loader", "reporting", "store"),
    ("issuers",),
    ("web",),
    ("configured", "providers"),
    ("graph", "reference"),
    ("reloads",),
    ("daemon",),
    ("workers",),
    ("tap",),
    ("cli",),
    ("__main__", "workers.__main__"),
    # What third parties import: it may name everything, and nothing here may name it.
    ("plugin",),
    ("testing",),
)
FLOOR = {part: number for number, parts in enumerate(FLOORS) for part in parts}
GROUND = FLOORS[0]

#: Parts that are pure: no reactor, no I/O, no clock of their own. The pool is, but for its service;
#: of the HTTP client its parser is, and of the server what reads heads.
PURE = (
    *(part for part in GROUND if part != "interfaces"),
    "messages",
    "framing",
    "translate",
    "pool",
    "upstream.parser",
    "web.head",
)

#: Modules that know each other, if only for types: a factory and its protocol, a gate and its phases, a channel and its
#: requests, the parts of one scope. This list may only get shorter.
CIRCLES = {
    frozenset({"web.channel", "web.request"}),
    frozenset({"upstream.client", "upstream.connection"}),
    frozenset(
        {"pool.gate", "pool.phases", *(f"pool.phases.{p}" for p in ("down", "free", "limited", "paced", "testing"))}
    ),
    frozenset(
        f"pool.{p}" for p in ("forecast", "model_credentials", "predicted_resets", "provider_credentials", "scopes")
    ),
}

#: How often ``Any`` may stand in the code, imports apart. This number may only fall.
MAX_ANY = 162


@cache
def modules() -> Sequence[tuple[str, ast.Module]]:
    """Each module's dotted name below the package, and its syntax."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found.append((name, ast.parse(path.read_text("utf-8"), str(path))))
    return found


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


def reachable(name: str, ties: Mapping[str, Set[str]]) -> set[str]:
    """Every module that *name* imports, and that these import."""
    found: set[str] = set()
    ahead = [name]
    while ahead:
        new = ties[ahead.pop()] - found
        found |= new
        ahead += new
    return found


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

    def test_circles(self) -> None:
        """No modules import each other, by whatever way round, but for those that are listed."""
        trees = {name: tree for name, tree in modules() if name != "interfaces"}
        ties: dict[str, set[str]] = {}
        for name, tree in trees.items():
            named = {imported.removeprefix("claudeproxyd.") for imported in imports(tree)}
            ties[name] = (named | {imported.rpartition(".")[0] for imported in named}) & trees.keys() - {name}
        reached = {name: reachable(name, ties) for name in ties}
        circles = {
            frozenset(other for other in reached[name] if name in reached[other])
            for name in ties
            if name in reached[name]
        }
        self.assertEqual(circles, CIRCLES)

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


#: In an f-string: at most so many characters of a word, as ``{word:.50}``.
CUT = re.compile(r"f'\.\d+'")


class Words(SynchronousTestCase):
    """What is told of what others have written."""

    def test_no_word_is_cut(self) -> None:
        """Secrets are masked later, and half of one nobody would know: a word is told as a whole, or not at all."""
        cut = [
            f"{name}:{node.lineno}"
            for name, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.FormattedValue) and node.format_spec and CUT.match(ast.unparse(node.format_spec))
        ]
        self.assertEqual(cut, [])


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


class Types(SynchronousTestCase):
    """What has a type says so."""

    def test_any_grows_rarer(self) -> None:
        """``Any`` turns the type checker off; there is no more of it than there was."""
        users = Counter(
            name
            for name, tree in modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id == "Any"
        )
        self.assertLessEqual(users.total(), MAX_ANY, users.most_common(10))


#: Private attributes that are reached for, all of them Twisted's: what of a write costs most by its own ways. This list
#: may only get shorter.
REACHED = {("sockets", "_tempDataBuffer"), ("sockets", "_tempDataLen"), ("sockets", "_writeDisconnecting")}


def is_private(name: str) -> bool:
    """Whether a name begins with one underscore."""
    return name.startswith("_") and not name.startswith("__")


def is_own(node: ast.Attribute) -> bool:
    """Whether an attribute is one of ``self`` or ``cls``: a base class may be from another module."""
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def defined(tree: ast.Module) -> set[str]:
    """The private names that a module gives to attributes, methods and fields of its own classes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_own(node) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


class PublicFace(SynchronousTestCase):
    """Third parties build on two modules, and those who work here may move all else."""

    def test_private_names_stay_in_their_module(self) -> None:
        """No module imports a name or a module of another that begins with an underscore."""
        wrong = [
            f"{name} imports {imported}"
            for name, tree in modules()
            for imported in imports(tree)
            if imported.startswith("claudeproxyd.") and any(part.startswith("_") for part in imported.split("."))
        ]
        self.assertEqual(wrong, [])

    def test_private_attributes_stay_in_their_module(self) -> None:
        """Nobody reaches into an object of another module for a name that begins with an underscore."""
        reached = {
            (name, node.attr)
            for name, tree in modules()
            for own in (defined(tree),)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node) and node.attr not in own
        }
        self.assertEqual(reached, REACHED)

    def test_docs_import_the_public_face_alone(self) -> None:
        """Every example on a page for developers works with what is stable."""
        public = {module.__name__: set(module.__all__) for module in (plugin, testing)}
        wrong = [
            f"{page.name}: {imported}"
            for page in sorted(DOCS.rglob("*.md"))
            for code in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
            for imported in imports(ast.parse(code))
            if imported.startswith("claudeproxyd")
            and imported.rpartition(".")[2] not in public.get(imported.rpartition(".")[0], ())
        ]
        self.assertEqual(wrong, [])

    def test_what_is_public_is_imported_from_where_it_is(self) -> None:
        """All that :mod:`claudeproxyd.plugin` imports is in its ``__all__``, and nothing else is."""
        imported = {name.rpartition(".")[2] for name in imports(dict(modules())["plugin"])} - {"annotations"}
        self.assertEqual(imported, set(plugin.__all__))
