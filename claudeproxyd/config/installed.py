"""The makers that other packages bring as Twisted plugins, and what becomes of the faults in them."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from twisted.plugin import getPlugins

from claudeproxyd.config.config_paths import ConfigPath
from claudeproxyd.config.diagnostics import Diagnostics, Problem
from claudeproxyd.interfaces import IExecutorMaker, IPluginMaker

AnyMaker = TypeVar("AnyMaker", IExecutorMaker, IPluginMaker)
Section = TypeVar("Section")


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


def check_by(
    check: Callable[[Section], Sequence[tuple[str, str]]], section: Section, at: ConfigPath, diagnostics: Diagnostics
) -> None:
    """Add what a maker's *check* finds wrong with *section*; that it fails to check is an error too."""
    try:
        for member, message in check(section):
            diagnostics.error(at.below(member), message)
    except Exception as error:
        diagnostics.error(at, f"cannot be checked: {fault(error)}", "mend the kind, or leave the section out")


def fault(error: Exception) -> str:
    """Return what a plugin's code failed with and where, without the words: they may quote a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
