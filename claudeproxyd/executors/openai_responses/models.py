"""OpenAI's list of models as entries of the Claude list."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import msgspec

from claudeproxyd.translate.openai_responses.models import ResponsesCapabilities, capabilities_of

#: Models that do not answer in words, by what OpenAI calls them.
_SILENT = (
    "*audio*",
    "*embedding*",
    "*image*",
    "*instruct*",
    "*moderation*",
    "*realtime*",
    "*transcribe*",
    "*tts*",
    "babbage*",
    "dall-e*",
    "davinci*",
    "sora*",
    "whisper*",
)


class ResponsesModel(msgspec.Struct):
    """One model, as ``GET /models`` has it."""

    id: str

    @property
    def answers(self) -> bool:
        """Whether it can serve a request."""
        return not any(fnmatchcase(self.id, glob) for glob in _SILENT)


class _ModelList(msgspec.Struct):
    data: list[ResponsesModel] = []


_decode_list = msgspec.json.Decoder(_ModelList).decode


def read_list(body: bytes) -> tuple[list[ResponsesModel], str]:
    """The models of a list, which has one page."""
    return _decode_list(body).data, ""


def entry(model: ResponsesModel, like: Mapping[str, str]) -> dict[str, object]:
    """That model in the Claude list. *like*: the models behind names that say nothing."""
    made: dict[str, object] = {"id": model.id, "display_name": model.id}
    known = capabilities_of(like.get(model.id, model.id))
    if known.max_output_tokens is not None:  # of others too little is known
        made["max_tokens"] = known.max_output_tokens
        made["capabilities"] = _capabilities(known)
    return made


def _capabilities(model: ResponsesCapabilities) -> dict[str, object]:
    """What a client of this daemon can use of a model: what the model has and the translation carries."""
    yes, no = {"supported": True}, {"supported": False}
    thinks, searches = {"supported": bool(model.efforts)}, {"supported": model.web_search}
    return {
        "batch": no,
        "citations": no,
        "code_execution": no,
        "context_management": no,
        "effort": {**thinks, **dict.fromkeys(("low", "medium", "high", "xhigh", "max"), thinks)},
        "image_input": yes,
        "pdf_input": yes,
        "server_tools": {**searches, "web_search": searches, "code_execution": no},
        "structured_outputs": yes,
        "thinking": {
            **thinks,
            "types": {"adaptive": thinks, "enabled": thinks, "between_tools": thinks, "disabled": yes},
        },
    }
