"""Merges several files into one configuration, and records where each part of it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_origin

from claudeproxyd.config.config_paths import ConfigPath, SourceFile
from claudeproxyd.config.diagnostics import Diagnostics
from claudeproxyd.config.reading import Reader, hints_of
from claudeproxyd.config.schema import Config


@dataclass
class SourceMap:
    """Where the sections of a merged configuration are."""

    default: SourceFile
    """For what no file has."""
    sections: dict[str, ConfigPath] = field(default_factory=dict)
    entries: dict[str, list[ConfigPath]] = field(default_factory=dict)
    """For each list of tables, the path of every entry in the merged order."""

    def at(self, section: str, *path: str | int) -> ConfigPath:
        """Return the path of a setting of the merged configuration: ``at("providers", 3, "name")``."""
        if path and section in self.entries and isinstance(path[0], int):
            found, *rest = self.entries[section][path[0]], *path[1:]
        else:
            found, *rest = self.sections.get(section, ConfigPath(self.default) / section), *path
        for step in rest:
            found = found / step
        return found


def merged(sources: Sequence[SourceFile], reader: Reader, diagnostics: Diagnostics) -> tuple[Config, SourceMap]:
    """Return one configuration out of all *sources*: lists of tables are joined, other sections stand in one source."""
    source_map = SourceMap(sources[0])
    values: dict[str, Any] = {}
    hints = hints_of(Config)
    joined = {each.name for each in fields(Config) if get_origin(hints[each.name]) is list}
    for source in sources:
        part = reader.table(Config, source.tree, ConfigPath(source))
        for name in [each.name for each in fields(Config) if each.name in source.tree]:
            at = ConfigPath(source) / name
            if name in joined:
                values.setdefault(name, []).extend(getattr(part, name))
                source_map.entries.setdefault(name, []).extend(at / i for i in range(len(getattr(part, name))))
            elif name in values:
                diagnostics.error(at, f"is in {source_map.sections[name].source.name} too", "join the two")
            else:
                values[name] = getattr(part, name)
            source_map.sections.setdefault(name, at)
    return Config(**values), source_map
