"""``input``: the turns of a conversation as items, in the order in which everything was said.

A reasoning item stands directly ahead of what followed it, be it text, a call or a search: OpenAI refuses one that is
the last of its turn. Messages, calls and results bear no ids of items, which would bind them to reasoning that may be
gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.errors import Unsupported, shown
from claudeproxyd.messages.url_sources import objection, refusal
from claudeproxyd.steps import STEP
from claudeproxyd.translate.conversation import Media, ProviderBlock, Text, Thought, ToolResult, ToolUse
from claudeproxyd.translate.field_policy import not_carried
from claudeproxyd.translate.names import ToolNames
from claudeproxyd.translate.openai.words import FAILED
from claudeproxyd.translate.openai_responses.records import read_reasoning, read_searches

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Part, Turn
    from claudeproxyd.translate.openai_responses.models import ResponsesCapabilities

_A = {"image": "an image", "document": "a document"}
_TYPES = {"image": ("image/png", "image/jpeg", "image/webp", "image/gif"), "document": ("application/pdf",)}
_PDF = "document.pdf"


class ItemWriter:
    """Writes the items of one request. Raises :class:`Unsupported` for media that OpenAI does not take."""

    def __init__(
        self, capabilities: ResponsesCapabilities, names: ToolNames, *, searches: bool, places: Collection[str] = ()
    ) -> None:
        """*searches*: the model may search the web, and so knows what its earlier searches are. *places*: hosts that
        the server may be sent to, beside public ones."""
        self._places = places
        self.call_ids: set[str] = set()
        """Of all calls, as the client has them."""
        self._capabilities = capabilities
        self._names = names
        self._ids = ToolNames(64)
        self._searches = searches
        self._recorded = False
        """The last search has gone up as an item, and its results with it."""

    def write(self, turns: Sequence[Turn]) -> Steps[list[Mapping[str, object]]]:
        """Return the items."""
        items: list[Mapping[str, object]] = []
        for turn in turns:
            if turn.role == "user":
                yield from self._said_by_user(turn.parts, items)
            else:
                yield from self._said_by_model(turn.parts, items)
            yield
        return items

    def _said_by_user(self, parts: Sequence[Part], items: list[Mapping[str, object]]) -> Steps[None]:
        content: list[dict[str, object]] = []
        for number, part in enumerate(parts, 1):
            if isinstance(part, ToolResult):
                items.append(self._result(part))
            elif isinstance(part, Text):
                content.append(_input_text(part.text))
            elif isinstance(part, Media):
                content += self._media(part)
            if not number % STEP:
                yield
        if content:
            items.append({"type": "message", "role": "user", "content": content})

    def _said_by_model(self, parts: Sequence[Part], items: list[Mapping[str, object]]) -> Steps[None]:
        reasoned: list[Mapping[str, object]] = []
        last_call = max((number for number, part in enumerate(parts) if isinstance(part, ToolUse)), default=-1)
        for number, part in enumerate(parts):
            if isinstance(part, Thought):
                reasoned += self._reasoning(part)
                continue
            said = self._said(part, on_the_way=number < last_call)
            if said:
                items += reasoned
                items += said
                reasoned.clear()
            if not (number + 1) % STEP:
                yield

    def _said(self, part: Part, *, on_the_way: bool) -> Sequence[Mapping[str, object]]:
        """Return the items of what is no thought."""
        if isinstance(part, ToolUse):
            self.call_ids.add(part.id)
            return [
                {
                    "type": "function_call",
                    "call_id": self._ids.upstream(part.id),
                    "name": self._names.upstream(part.name),
                    "arguments": bytes(part.input).decode(),
                }
            ]
        if isinstance(part, ProviderBlock) and (record := self._record(part)) is not None:
            return record
        if isinstance(part, Text):
            message: dict[str, object] = {"type": "message", "role": "assistant", "content": part.text}
            if self._capabilities.phases:
                message["phase"] = "commentary" if on_the_way else "final_answer"
            return [message]
        if isinstance(part, Media):
            raise Unsupported(not_carried("messages", f"{_A[part.kind]} in an assistant turn"))
        return []

    def _reasoning(self, thought: Thought) -> list[Mapping[str, object]]:
        sealed = read_reasoning(thought.payload)
        if sealed is None:
            return []
        item: dict[str, object] = {"type": "reasoning", "id": sealed.id, "summary": []}
        if sealed.encrypted_content:
            if not self._capabilities.sealed:
                return []
            if thought.thinking:
                item["summary"] = [{"type": "summary_text", "text": thought.thinking}]
            item["encrypted_content"] = sealed.encrypted_content
        elif self._capabilities.open_reasoning and thought.thinking:
            item["content"] = [{"type": "reasoning_text", "text": thought.thinking}]
        else:
            return []
        return [item]

    def _record(self, search: ProviderBlock) -> Sequence[Mapping[str, object]] | None:
        """Return OpenAI's own items of a search; None if it goes up as text."""
        if not search.payload:
            return [] if self._recorded else None
        record = read_searches(search.payload) if self._searches else None
        self._recorded = record is not None
        return record

    def _result(self, result: ToolResult) -> dict[str, object]:
        content: list[dict[str, object]] = []
        for part in result.content:
            if isinstance(part, Text):
                content.append(_input_text(part.text))
            else:
                content += self._media(part)
        output: str | list[dict[str, object]] = content
        if all(part["type"] == "input_text" for part in content):  # not every server knows the other form
            output = "\n".join(str(part["text"]) for part in content)
        if result.is_error:  # the protocol has no member for it
            output = (FAILED + output).rstrip() if isinstance(output, str) else [_input_text(FAILED.rstrip()), *output]
        return {"type": "function_call_output", "call_id": self._ids.upstream(result.id), "output": output}

    def _media(self, media: Media) -> list[dict[str, object]]:
        if media.url:
            if (why := objection(media.url, self._places)) is not None:
                raise Unsupported(refusal(why))
            data = media.url
        elif media.media_type in _TYPES[media.kind]:
            data = f"data:{media.media_type};base64,{media.data}"
        else:
            raise Unsupported(not_carried("messages", f"{_A[media.kind]} of type {shown(media.media_type, 100)}"))
        if media.kind == "image":
            return [{"type": "input_image", "image_url": data, "detail": "auto"}]
        titled = [_input_text(f"Title: {media.title}")] if media.title else []
        if media.url:
            return [*titled, {"type": "input_file", "file_url": data}]
        return [*titled, {"type": "input_file", "filename": _PDF, "file_data": data}]


def _input_text(text: str) -> dict[str, object]:
    return {"type": "input_text", "text": text}
