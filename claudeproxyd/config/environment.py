"""A configuration from the environment alone: each provider key that is set gives one provider."""

from __future__ import annotations

from collections.abc import Mapping

from claudeproxyd.config.config_paths import ConfigPath, SourceFile
from claudeproxyd.config.diagnostics import Diagnostics
from claudeproxyd.config.installed import fault
from claudeproxyd.interfaces import IExecutorMaker


def from_environment(
    environ: Mapping[str, str], makers: Mapping[str, IExecutorMaker], diagnostics: Diagnostics
) -> SourceFile:
    """Return the tree that a file would have, with what each kind makes of *environ*."""
    source = SourceFile("the environment", {"providers": []})
    providers = source.tree["providers"]
    for maker in sorted(makers.values(), key=lambda maker: maker.is_fallback):
        if maker.is_fallback and providers:
            continue
        try:
            made = maker.from_environment(environ)
        except ValueError as error:
            diagnostics.warn(ConfigPath(source), str(error), "no provider is made of it")
            continue
        except Exception as error:
            diagnostics.warn(
                ConfigPath(source), f"kind {maker.kind} cannot read it: {fault(error)}", "no provider is made of it"
            )
            continue
        if made is None:
            continue
        providers.append({"kind": maker.kind, **made})
    return source
