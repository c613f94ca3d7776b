"""``toolConfig``: what the model may call, and whether it has to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.conversation import ToolUse
from claudeproxyd.translate.converse.schemas import tool_schema
from claudeproxyd.translate.field_policy import not_carried

if TYPE_CHECKING:
    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Conversation, ToolChoice
    from claudeproxyd.translate.converse.models import ConverseCapabilities
    from claudeproxyd.translate.names import ToolNames

#: The API has no word for ``none``, and wants the tools of past calls in every request.
NO_TOOLS_NOW = "<system-reminder>\nNo tool can be called now. Answer in words.\n</system-reminder>"
_GONE = "Was called earlier in this conversation, and cannot be called any more."


def tool_config(
    conversation: Conversation, capabilities: ConverseCapabilities, names: ToolNames, warnings: list[str]
) -> Steps[tuple[dict[str, object] | None, str]]:
    """Return ``toolConfig``, or None where there is nothing to be called; and what has to be said besides, or ''.

    Raises :class:`Unsupported`.
    """
    choice = conversation.tool_choice
    offered = conversation.tools if choice.kind != "none" else []
    called = list(
        dict.fromkeys(part.name for turn in conversation.turns for part in turn.parts if isinstance(part, ToolUse))
    )
    if not (offered or called):
        return None, ""
    if not capabilities.tools:
        raise Unsupported(not_carried("tools", "a tool"))
    specs: list[dict[str, object]] = []
    for tool in conversation.tools:
        spec: dict[str, object] = {"name": names.upstream(tool.name)}
        if tool.description.strip():
            spec["description"] = tool.description
        spec["inputSchema"] = {"json": tool_schema(tool.schema, capabilities)}
        specs.append({"toolSpec": spec})
        yield
    if not specs:
        specs = [{"toolSpec": _stand_in(names.upstream(name))} for name in called]
    config: dict[str, object] = {"tools": specs}
    if not offered:
        return config, NO_TOOLS_NOW
    if not choice.parallel:
        warnings.append("tool_choice.disable_parallel_tool_use: this model may call several tools at once")
    if choice.kind in ("any", "tool"):
        config["toolChoice"] = _forced(choice, len(offered), capabilities, names)
    return config, ""


def _stand_in(name: str) -> dict[str, object]:
    return {"name": name, "description": _GONE, "inputSchema": {"json": {"type": "object", "properties": {}}}}


def _forced(choice: ToolChoice, tools: int, capabilities: ConverseCapabilities, names: ToolNames) -> dict[str, object]:
    """Return the ``toolChoice`` of a model that has to call something."""
    if choice.kind == "tool" and "tool" in capabilities.choices:
        return {"tool": {"name": names.upstream(choice.name)}}
    if "any" in capabilities.choices and (choice.kind == "any" or tools == 1):
        return {"any": {}}
    raise Unsupported(not_carried("tool_choice", f"`{choice.kind}`"))
