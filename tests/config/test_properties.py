"""Whatever a file holds, the answer is a configuration or a list of errors."""

from __future__ import annotations

import json
import tempfile
from dataclasses import Field, fields, is_dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.config_paths import lines_of
from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.config.loading import load
from claudeproxyd.config.reading import hints_of, members_of
from claudeproxyd.config.report import report
from claudeproxyd.config.schema import CaptureSettings, Config, Log, Pool, Timeouts
from tests.config.support import MAKERS, SANDBOX

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), max_size=8)


def written(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)} = {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


def names_in(section: type[Any]) -> set[str]:
    """The names of a section's settings and of all below it."""
    names = set()
    for name, hint in hints_of(section).items():
        names.add(name)
        for member in members_of(hint):
            for inner in (member, *getattr(member, "__args__", ())):
                if is_dataclass(inner):
                    names |= names_in(inner)  # type: ignore[arg-type]  # a class, as hints hold no instances
    return names


KEYS = st.sampled_from(sorted(names_in(Config) | {"env"})) | TEXT
LEAVES = (
    st.sampled_from(["sandbox", "anthropic", "adc", "*", "[", "tcp:0", "sha256:", "sqlite:", "https://x", "(?"])
    | TEXT
    | st.booleans()
    | st.integers()
    | st.floats()
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))


def shaped(section: type[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Trees that have a section's names, and mostly its types, so that the checks behind the types are reached."""
    return st.fixed_dictionaries(
        {}, optional={name: _fitting(hint) | LEAVES for name, hint in hints_of(section).items() if name != "include"}
    )


def _fitting(hint: Any) -> st.SearchStrategy[Any]:
    member = members_of(hint)[0]
    arguments = getattr(member, "__args__", ())
    if is_dataclass(member):
        return st.deferred(lambda: shaped(member))  # type: ignore[arg-type]
    if arguments:
        inner = _fitting(arguments[-1])
        return st.lists(inner, max_size=2) if len(arguments) == 1 else st.dictionaries(TEXT, inner, max_size=2)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(0, 600),
        float: st.floats(0, 1e6) | st.integers(0, 600),
    }
    return simple.get(member, LEAVES.filter(lambda leaf: isinstance(leaf, str)))


class PropertyTests(SynchronousTestCase):
    """Any tree at all."""

    def outcome(self, text: str) -> None:
        """Loads a text; anything but ConfigError goes through."""
        with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            try:
                report(load(file.name, {}, MAKERS), MAKERS)
            except ConfigError as error:
                for problem in error.errors:
                    self.assertTrue(problem.message, str(error))

    @settings(max_examples=100, deadline=None)
    @given(st.dictionaries(KEYS, TREES, max_size=4).map(lambda tree: {k: v for k, v in tree.items() if k != "include"}))
    def test_any_tree(self, tree: dict[str, Any]) -> None:
        """No tree of TOML values makes the loader fall over."""
        self.outcome("\n".join(f"{written(key)} = {written(value)}" for key, value in tree.items()))

    @settings(max_examples=150, deadline=None)
    @given(shaped(Config))
    def test_nearly_right_tree(self, tree: dict[str, Any]) -> None:
        """Nor does one that has the right names and mostly the right types."""
        self.outcome("\n".join(f"{written(key)} = {written(value)}" for key, value in tree.items()))

    @settings(max_examples=100, deadline=None)
    @given(st.text(st.sampled_from("[]{}.,=\"'\\#\n a1"), max_size=40))
    def test_any_text(self, text: str) -> None:
        """Nor does a text that may be no TOML."""
        self.outcome(text)

    @settings(max_examples=50, deadline=None)
    @given(st.dictionaries(TEXT, TREES, max_size=4))
    def test_lines(self, tree: dict[str, Any]) -> None:
        """Every key of a file has the line on which it stands."""
        lines = lines_of("\n\n".join(f"{written(key)} = {written(value)}" for key, value in tree.items()))
        self.assertEqual([lines[key,] for key in tree], [1 + 2 * index for index in range(len(tree))])

    @settings(max_examples=50, deadline=None)
    @given(st.data())
    def test_round_trip(self, data: st.DataObject) -> None:
        """A value that is valid arrives as it was written."""
        tree: dict[str, dict[str, Any]] = {
            name: {each.name: data.draw(_valid(each, hints_of(section)[each.name])) for each in fields(section)}
            for name, section in (("pool", Pool), ("timeouts", Timeouts), ("capture", CaptureSettings), ("log", Log))
        }
        tree["streaming"] = {"head_commit": tree["pool"]["max_wait"] + 1}
        text = "\n".join(f"{written(key)} = {written(value)}" for key, value in tree.items()) + "\n" + SANDBOX
        with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            config = load(file.name, {}, MAKERS).config
        for name, section_tree in tree.items():
            for key, value in section_tree.items():
                self.assertEqual(getattr(getattr(config, name), key), value)


def _valid(setting: Field[Any], hint: Any) -> st.SearchStrategy[Any]:
    if choices := setting.metadata["choices"]:
        return st.sampled_from(choices)
    values: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXT.filter(lambda text: not text.startswith("~")),  # the users there are differ between machines
        bool: st.booleans(),
        int: st.integers(1, 2**63 - 1),
        float: st.floats(1, 1e9) | st.integers(1, 10**9),
    }
    return values[hint]
