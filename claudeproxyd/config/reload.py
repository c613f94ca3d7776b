"""What a reload changes, and what it cannot change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from claudeproxyd.config.schema import Config
from claudeproxyd.config.timeouts import timeouts_for
from claudeproxyd.interfaces import IExecutorMaker


@dataclass(frozen=True)
class Difference:
    """Between the configuration in force and another. Its text is for the log line of a SIGHUP."""

    added: tuple[str, ...]
    """Names of providers, in the new file's order; so are those that follow."""
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    settings: tuple[str, ...]
    """What else takes effect: ``clients``, ``models``, ``pool.max_wait`` …"""
    restart: tuple[str, ...]
    """What differs and takes effect at the next start only: ``server.listen`` …"""

    def __str__(self) -> str:
        parts = [
            f"{what} {', '.join(names)}"
            for what, names in (
                ("providers added:", self.added),
                ("removed:", self.removed),
                ("changed:", self.changed),
                ("settings changed:", self.settings),
                ("not before a restart:", self.restart),
            )
            if names
        ]
        return "; ".join(parts) or "nothing changed"


def difference(old: Config, new: Config, makers: Mapping[str, IExecutorMaker]) -> Difference:
    """What *new* changes of *old*; both are checked already. A provider that only moved in the file is unchanged."""
    # A change of [timeouts] is one of every provider that does not override it.
    before = {provider.name: (provider, timeouts_for(provider, old, makers)) for provider in old.providers}
    after = {provider.name: (provider, timeouts_for(provider, new, makers)) for provider in new.providers}
    both = [name for name in after if name in before]
    settings = dict(_settings(old, new))
    return Difference(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in both if after[name] != before[name]),
        unchanged=tuple(name for name in both if after[name] == before[name]),
        settings=tuple(name for name, restart in settings.items() if not restart),
        restart=tuple(name for name, restart in settings.items() if restart),
    )


def put_in_force(old: Config, new: Config) -> Config:
    """*new* as far as a reload goes: what needs a restart is as it is in *old*."""
    sections: dict[str, Any] = {}
    for section in fields(Config):
        was, becomes = getattr(old, section.name), getattr(new, section.name)
        if is_dataclass(becomes) and not isinstance(becomes, type):
            kept = {each.name: getattr(was, each.name) for each in fields(becomes) if each.metadata["restart"]}
            sections[section.name] = replace(becomes, **kept)
    return replace(new, **sections)


def _settings(old: Config, new: Config) -> Iterator[tuple[str, bool]]:
    """Each setting outside the providers that differs, and whether it needs a restart."""
    for section in fields(Config):
        was, becomes = getattr(old, section.name), getattr(new, section.name)
        if section.name in ("providers", "include") or was == becomes:
            continue
        if not is_dataclass(was):
            yield section.name, False
            continue
        for each in fields(was):
            if getattr(was, each.name) != getattr(becomes, each.name):
                yield f"{section.name}.{each.name}", each.metadata["restart"]
