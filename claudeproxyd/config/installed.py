"""The makers that other packages bring as Twisted plugins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TypeVar

from twisted.plugin import getPlugins

from claudeproxyd.config.diagnostics import Problem
from claudeproxyd.interfaces import IExecutorMaker, IPluginMaker

AnyMaker = TypeVar("AnyMaker", IExecutorMaker, IPluginMaker)


def installed(interface: type[AnyMaker], broken: list[Problem]) -> Iterator[AnyMaker]:
    """Yield the plugins that provide *interface* and have all of its members, ``kind`` above all.

    Any other is added to *broken*, for a warning, and left out. Imports what other packages have, and blocks for it.
    """
    for maker in getPlugins(interface):
        missing = [name for name in interface.names(all=True) if not hasattr(maker, name)]
        made_by = type(maker)
        if missing:
            what = f"has no {', '.join(sorted(missing))}"
        elif not (isinstance(maker.kind, str) and maker.kind):
            what = f"has the kind {maker.kind!r}, which is no word"
        else:
            yield maker
            continue
        file = getattr(sys.modules.get(made_by.__module__), "__file__", None) or made_by.__module__
        message = f"{what}, so this plugin is left out"
        hint = f"mend the class, which is to provide {interface.__name__}, or remove its package"
        broken.append(Problem(file, made_by.__qualname__, message, hint))
