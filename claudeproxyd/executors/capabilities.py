"""``capabilities`` of a model in the Claude list."""

from __future__ import annotations


def capabilities(*, thinks: bool, searches: bool) -> dict[str, object]:
    """Return what a client of this daemon can use of a model: what the model has and the translation carries.

    *thinks*: it can be told to; *searches*: it can search the web.
    """
    yes, no = {"supported": True}, {"supported": False}
    thinking, searching = {"supported": thinks}, {"supported": searches}
    return {
        "batch": no,
        "citations": no,
        "code_execution": no,
        "context_management": no,
        "effort": {**thinking, **dict.fromkeys(("low", "medium", "high", "xhigh", "max"), thinking)},
        "image_input": yes,
        "pdf_input": yes,
        "server_tools": {**searching, "web_search": searching, "code_execution": no},
        "structured_outputs": yes,
        "thinking": {
            **thinking,
            "types": {"adaptive": thinking, "enabled": thinking, "between_tools": thinking, "disabled": yes},
        },
    }
