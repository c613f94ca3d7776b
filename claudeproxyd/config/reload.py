"""Compares two configurations for a reload: what changes, and what cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from claudeproxyd.config.schema import Config
from claudeproxyd.config.timeouts import timeouts_for
from claudeproxyd.interfaces import IExecutorMaker


@dataclass(frozen=True)
class Difference:
    """The changes between the configuration in force and another. Its text is for the log line of a SIGHUP."""

    added: tuple[str, ...]
    """Names of providers, in the new file's order; so are the next three."""
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    settings: tuple[str, ...]
    """Other settings that take effect: ``clients``, ``models``, ``pool.max_wait`` …"""
    restart: tuple[str, ...]
    """Settings that take effect at the next start only: ``server.listen`` …"""

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
    """Return the changes from *old* to *new*, which are both checked. A provider that only moved in the file has none.

    *makers* are the provider kinds, which have time-outs of their own.
    """
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
    """Return *new* with the settings of *old* that need a restart to change."""
    sections: dict[str, Any] = {}
    for section in fields(Config):
        was, becomes = getattr(old, section.name), getattr(new, section.name)
        if is_dataclass(becomes) and not isinstance(becomes, type):
            kept = {each.name: getattr(was, each.name) for each in fields(becomes) if each.metadata["restart"]}
            sections[section.name] = replace(becomes, **kept)
    return replace(new, **sections)


def _settings(old: Config, new: Config) -> Iterator[tuple[str, bool]]:
    """Yield each setting outside the providers that differs, and whether it needs a restart."""
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
