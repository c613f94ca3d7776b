"""The provider kinds that are built in. A new one is a folder beside this module, and its maker in this list."""

from __future__ import annotations

from collections.abc import Sequence

from claudeproxyd.config.diagnostics import Problem
from claudeproxyd.config.installed import installed
from claudeproxyd.executors.anthropic.maker import AnthropicMaker
from claudeproxyd.executors.bedrock.maker import BedrockMaker
from claudeproxyd.executors.gemini.maker import GeminiMaker
from claudeproxyd.executors.openai_chat.maker import OpenAIChatMaker
from claudeproxyd.executors.openai_responses.maker import OpenAIResponsesMaker
from claudeproxyd.executors.sandbox.maker import SandboxMaker
from claudeproxyd.executors.vertex.maker import VertexMaker
from claudeproxyd.interfaces import IExecutorMaker

#: In the order in which providers of the environment alone are asked for a model.
BUILT_IN: Sequence[IExecutorMaker] = (
    AnthropicMaker(),
    GeminiMaker(),
    OpenAIChatMaker(),
    OpenAIResponsesMaker(),
    BedrockMaker(),
    VertexMaker(),
    SandboxMaker(),
)


def makers(broken: list[Problem]) -> dict[str, IExecutorMaker]:
    """Return the makers of all kinds of this installation: the built-in ones, and Twisted plugins of other packages.

    Those that are of no use are added to *broken*.
    """
    kinds: dict[str, IExecutorMaker] = {maker.kind: maker for maker in BUILT_IN}
    return kinds | {maker.kind: maker for maker in installed(IExecutorMaker, broken) if maker.kind not in kinds}
