"""Several files into one configuration, remembering where each part of it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_origin

from claudeproxyd.config.mistakes import Findings
from claudeproxyd.config.places import Place, Source
from claudeproxyd.config.reading import Reader, hints_of
from claudeproxyd.config.schema import Config


@dataclass
class Origins:
    """Where the sections of a merged configuration stand."""

    default: Source
    """For what stands nowhere."""
    sections: dict[str, Place] = field(default_factory=dict)
    entries: dict[str, list[Place]] = field(default_factory=dict)
    """Of each list of tables: the place of every entry, in the merged order."""

    def at(self, section: str, *path: str | int) -> Place:
        """The place of a setting of the merged configuration: ``at("providers", 3, "name")``."""
        if path and section in self.entries and isinstance(path[0], int):
            place, *rest = self.entries[section][path[0]], *path[1:]
        else:
            place, *rest = self.sections.get(section, Place(self.default) / section), *path
        for step in rest:
            place = place / step
        return place


def merged(sources: Sequence[Source], reader: Reader, findings: Findings) -> tuple[Config, Origins]:
    """One configuration out of all *sources*: lists of tables are joined, any other section stands in one of them."""
    origins = Origins(sources[0])
    values: dict[str, Any] = {}
    hints = hints_of(Config)
    joined = {each.name for each in fields(Config) if get_origin(hints[each.name]) is list}
    for source in sources:
        part = reader.table(Config, source.tree, Place(source))
        for name in [each.name for each in fields(Config) if each.name in source.tree]:
            place = Place(source) / name
            if name in joined:
                values.setdefault(name, []).extend(getattr(part, name))
                origins.entries.setdefault(name, []).extend(place / i for i in range(len(getattr(part, name))))
            elif name in values:
                findings.mistake(place, f"stands in {origins.sections[name].source.name} too", "join the two")
            else:
                values[name] = getattr(part, name)
            origins.sections.setdefault(name, place)
    return Config(**values), origins
