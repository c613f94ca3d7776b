"""The tools that have no schema in a request, since Claude was trained on them, with what the documentation publishes.

To another model they are ordinary functions: the client runs them all the same, and knows only these members.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class BuiltinTool:
    """One version of a tool that the documentation describes."""

    name: str
    """The only name that the API takes for it."""
    description: str
    schema: msgspec.Raw


def _tool(name: str, description: str, required: list[str], properties: dict[str, object]) -> BuiltinTool:
    schema = {"type": "object", "properties": properties, "required": required}
    return BuiltinTool(name, description, msgspec.Raw(msgspec.json.encode(schema)))


def _text(description: str) -> dict[str, object]:
    return {"type": "string", "description": description}


def _line(description: str) -> dict[str, object]:
    return {"type": "integer", "description": description}


_RANGE = {
    "type": "array",
    "items": {"type": "integer"},
    "minItems": 2,
    "maxItems": 2,
    "description": "For view: the first and the last line to show, counted from 1; -1 is the end of the file.",
}

_BASH = _tool(
    "bash",
    "Runs a command in a bash shell that lives on from call to call. restart begins a new one.",
    [],
    {
        "command": _text("The command to run. Needed unless restart is true."),
        "restart": {"type": "boolean", "description": "True to start the shell anew instead."},
    },
)


def _editor(name: str, commands: list[str], inserted: str) -> BuiltinTool:
    """Return an editor. *inserted*: the member that holds what ``insert`` inserts."""
    properties = {
        "command": {"type": "string", "enum": commands, "description": "What to do."},
        "path": _text("The absolute path of the file or directory."),
        "view_range": _RANGE,
        "file_text": _text("For create: the content of the new file."),
        "old_str": _text("For str_replace: the text to replace. It must occur in the file exactly once."),
        "new_str": _text("For str_replace: the text to put in its place."),
        "insert_line": _line("For insert: the line after which to insert; 0 is the start of the file."),
    }
    if inserted == "new_str":
        properties["new_str"] = _text("For str_replace: the text to put in its place. For insert: the text to insert.")
    else:
        properties[inserted] = _text("For insert: the text to insert.")
    return _tool(
        name,
        "Views, creates and edits text files. Each command needs its own members.",
        ["command", "path"],
        properties,
    )


_EDITOR_WITH_UNDO = _editor(
    "str_replace_editor", ["view", "create", "str_replace", "insert", "undo_edit"], inserted="new_str"
)
_EDITOR = _editor("str_replace_based_edit_tool", ["view", "create", "str_replace", "insert"], inserted="insert_text")

_MEMORY = _tool(
    "memory",
    "Keeps notes in files under /memories that outlive the conversation. View the directory before starting a task.",
    ["command"],
    {
        "command": {
            "type": "string",
            "enum": ["view", "create", "str_replace", "insert", "delete", "rename"],
            "description": "What to do.",
        },
        "path": _text("For all but rename: the path of the file or directory, below /memories."),
        "view_range": _RANGE,
        "file_text": _text("For create: the content of the new file."),
        "old_str": _text("For str_replace: the text to replace. It must occur in the file exactly once."),
        "new_str": _text("For str_replace: the text to put in its place."),
        "insert_line": _line("For insert: the line after which to insert; 0 is the start of the file."),
        "insert_text": _text("For insert: the text to insert."),
        "old_path": _text("For rename: the present path."),
        "new_path": _text("For rename: the new path."),
    },
)

#: By the tool's type. A version that is not here has commands that nobody can tell the model of.
BUILTIN_TOOLS = {
    "bash_20241022": _BASH,
    "bash_20250124": _BASH,
    "text_editor_20241022": _EDITOR_WITH_UNDO,
    "text_editor_20250124": _EDITOR_WITH_UNDO,
    "text_editor_20250429": _EDITOR,
    "text_editor_20250728": _EDITOR,
    "memory_20250818": _MEMORY,
}
