"""OpenAI's list of models as entries of the Claude list."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import msgspec

from claudeproxyd.executors.capabilities import capabilities
from claudeproxyd.translate.openai_responses.models import capabilities_of

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
        made["capabilities"] = capabilities(thinks=bool(known.efforts), searches=known.web_search)
    return made
