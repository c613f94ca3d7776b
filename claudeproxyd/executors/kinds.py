"""The provider kinds that are built in. A new one is a folder beside this module, and its maker in this list."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.plugin import getPlugins

from claudeproxyd.executors.anthropic.maker import AnthropicMaker
from claudeproxyd.executors.gemini.maker import GeminiMaker
from claudeproxyd.executors.sandbox.maker import SandboxMaker
from claudeproxyd.executors.vertex.maker import VertexMaker
from claudeproxyd.interfaces import IExecutorMaker

BUILT_IN: Sequence[IExecutorMaker] = (AnthropicMaker(), GeminiMaker(), VertexMaker(), SandboxMaker())


def makers() -> dict[str, IExecutorMaker]:
    """Return the makers of all kinds of this installation: the built-in ones, and Twisted plugins of other packages."""
    return {maker.kind: maker for maker in (*getPlugins(IExecutorMaker), *BUILT_IN)}
