"""``messages``: the turns of a conversation, each part in the words of the Converse API.

The API wants roles to alternate, no blank text, and text beside every document; families of models want more (see
:mod:`.models`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claudeproxyd.errors import Unsupported, shown
from claudeproxyd.steps import STEP
from claudeproxyd.translate.conversation import Media, Text, Thought, ToolResult, ToolUse
from claudeproxyd.translate.converse.reasoning import unseal
from claudeproxyd.translate.field_policy import not_carried

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Part, Turn
    from claudeproxyd.translate.converse.models import ConverseCapabilities
    from claudeproxyd.translate.names import ToolNames

Block = dict[str, Any]

CACHE_POINT: Block = {"cachePoint": {"type": "default"}}
#: What stands where the API wants words and nobody has said any.
SEE_DOCUMENT = "See the document."
NO_OUTPUT = "(no output)"
FOLLOWS = "(what was returned follows)"
FAILED = "The call failed:"
RECEIVED = "I have the results."
GO_AHEAD = "Go ahead."

_A = {"image": "an image", "document": "a document"}
_FORMATS = {
    "image": {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"},
    "document": {
        "application/pdf": "pdf",
        "text/plain": "txt",
        "text/csv": "csv",
        "text/html": "html",
        "text/markdown": "md",
        "application/msword": "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
        "application/vnd.ms-excel": "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    },
}


class ConverseWriter:
    """Writes the messages of one request. Raises :class:`Unsupported` for what the model does not take."""

    def __init__(self, capabilities: ConverseCapabilities, names: ToolNames, ids: ToolNames) -> None:
        """*names*, *ids*: of tools and of calls, as the API takes them."""
        self._capabilities = capabilities
        self._names = names
        self._ids = ids
        self._documents = 0

    def write(self, turns: Sequence[Turn], at_start: Sequence[str] = (), at_end: str = "") -> Steps[list[Block]]:
        """Return the messages. *at_start*, *at_end*: what the user says besides."""
        messages: list[Block] = []
        _add(messages, "user", [{"text": text} for text in at_start if text.strip()])
        for turn in turns:
            content: list[Block] = []
            for block in self._said(turn):
                content.append(block)
                if not len(content) % STEP:
                    yield
            if turn.role == "assistant" and all("reasoningContent" in block for block in content):
                content = []  # taken for words that the model is to go on with, and refused
            _add(messages, turn.role, content)
            yield
        if at_end:
            _add(messages, "user", [{"text": at_end}])
        if not messages or messages[0]["role"] != "user" or messages[-1]["role"] != turns[-1].role:
            raise Unsupported("messages: text content blocks must contain non-whitespace text")
        for message in messages:
            _add_words(message["content"])
            if any("toolUse" in block or "toolResult" in block for block in message["content"]):
                message["content"] = [block for block in message["content"] if block is not CACHE_POINT]
        return _apart(messages) if self._capabilities.tools_alone else messages

    def _said(self, turn: Turn) -> Iterator[Block]:
        if turn.role == "assistant":
            yield from self._said_by_model(turn.parts)
            return
        beside: list[Block] = []
        for part in turn.parts:
            if isinstance(part, ToolResult):
                yield self._result(part, beside)
        yield from beside
        for part in turn.parts:
            if isinstance(part, Text):
                yield from self._text(part)
            elif isinstance(part, Media):
                yield from self._titled(part)

    def _said_by_model(self, parts: Sequence[Part]) -> Iterator[Block]:
        for part in parts:
            if isinstance(part, Text):
                yield from self._text(part)
            elif isinstance(part, ToolUse):
                call = {
                    "toolUseId": self._ids.upstream(part.id),
                    "name": self._names.upstream(part.name),
                    "input": part.input,
                }
                yield {"toolUse": call}
            elif isinstance(part, Thought):
                if (reasoning := unseal(part, self._capabilities)) is not None:
                    yield {"reasoningContent": reasoning}
            elif isinstance(part, Media):
                raise Unsupported(not_carried("messages", f"{_A[part.kind]} in an assistant's message"))

    def _text(self, part: Text) -> Iterator[Block]:
        if part.text.strip():
            yield {"text": part.text}
            if part.cached and self._capabilities.cache:
                yield CACHE_POINT

    def _result(self, result: ToolResult, beside: list[Block]) -> Block:
        """Return a toolResult. *beside* gets the media that cannot be within."""
        content: list[Block] = []
        outside = len(beside)
        for part in result.content:
            if isinstance(part, Text):
                if part.text.strip():
                    content.append({"text": part.text})
                continue
            content += _title(part)
            fits = part.kind in self._capabilities.in_results
            (content if fits else beside).append(self._media(part))
        if not content:
            content.append({"text": FOLLOWS if len(beside) > outside else NO_OUTPUT})
        _add_words(content)
        made: Block = {"toolUseId": self._ids.upstream(result.id), "content": content}
        if result.is_error and self._capabilities.status:
            made["status"] = "error"
        elif result.is_error:
            content.insert(0, {"text": FAILED})
        return {"toolResult": made}

    def _titled(self, media: Media) -> Iterator[Block]:
        yield from _title(media)
        yield self._media(media)

    def _media(self, media: Media) -> Block:
        kind = media.kind
        if not (self._capabilities.images if kind == "image" else self._capabilities.documents):
            raise Unsupported(not_carried("messages", _A[kind]))
        format = _FORMATS[kind].get(media.media_type)
        if format is None:
            raise Unsupported(not_carried("messages", f"{_A[kind]} of type {shown(media.media_type, 100)}"))
        made: Block = {"format": format, "source": {"bytes": media.data}}
        if kind == "document":
            # Models may take a name for an instruction, and the API has few characters for one: titles are text.
            self._documents += 1
            made["name"] = f"document {self._documents}"
        return {kind: made}


def _apart(messages: list[Block]) -> list[Block]:
    """Return *messages*; those with calls or results, and anything else, in two, with a word of the other side between.

    What is said beside calls goes ahead of them, for results have to follow; what is said beside results comes behind.
    Reasoning stays with its calls: no model that takes it back wants them alone.
    """
    made: list[Block] = []
    for message in messages:
        tools: list[Block] = []
        others: list[Block] = []
        for block in message["content"]:
            (tools if "toolUse" in block or "toolResult" in block else others).append(block)
        if not (tools and others) or any("reasoningContent" in block for block in others):
            made.append(message)
        elif message["role"] == "assistant":
            _add(made, "assistant", others)
            _add(made, "user", [{"text": GO_AHEAD}])
            _add(made, "assistant", tools)
        else:
            _add(made, "user", tools)
            _add(made, "assistant", [{"text": RECEIVED}])
            _add(made, "user", others)
    return made


def _title(media: Media) -> list[Block]:
    return [{"text": f"Title: {media.title}"}] if media.title else []


def _add_words(content: list[Block]) -> None:
    """Put words beside a document, if there are none."""
    if any("document" in block for block in content) and not any("text" in block for block in content):
        content.append({"text": SEE_DOCUMENT})


def _add(messages: list[Block], role: str, content: list[Block]) -> None:
    if content and messages and messages[-1]["role"] == role:
        messages[-1]["content"] += content
    elif content:
        messages.append({"role": role, "content": content})
