"""The checks of ``[[plugins]]``: that there is the kind, and what the kind says of its settings."""

from __future__ import annotations

from collections.abc import Mapping

from claudeproxyd.config.diagnostics import Diagnostics
from claudeproxyd.config.installed import check_by
from claudeproxyd.config.merging import SourceMap
from claudeproxyd.config.schema import Config
from claudeproxyd.interfaces import IPluginMaker


def check_plugins(
    config: Config, source_map: SourceMap, makers: Mapping[str, IPluginMaker], diagnostics: Diagnostics
) -> None:
    """Check each plugin, and have its kind check it. Nothing is made."""
    for index, plugin in enumerate(config.plugins):
        at = source_map.at("plugins", index)
        maker = makers.get(plugin.kind)
        if maker is None:
            known = f"there are {', '.join(sorted(makers))}; " if makers else ""
            hint = f"{known}install the package that brings it where the daemon runs"
            diagnostics.error(at / "kind", f'there is no plugin "{plugin.kind}"', hint)
        elif diagnostics.was_read(at):
            check_by(maker.check, plugin.own, at, diagnostics)
