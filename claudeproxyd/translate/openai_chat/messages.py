"""``messages``: the turns of a conversation, each part in the words of chat completions.

A result is a message of its own, which holds text alone: images and documents of results follow the last of them, in a
message of the user. An assistant's reasoning goes back in the member in which its server takes it, and to its own maker
alone: from the thinking block that carries it, or else, for a call, from memory.
"""

from __future__ import annotations

import re
from hashlib import blake2s
from typing import TYPE_CHECKING

from claudeproxyd.errors import Unsupported, shown
from claudeproxyd.messages.url_sources import objection, refusal
from claudeproxyd.steps import STEP
from claudeproxyd.translate.conversation import Media, Text, Thought, ToolResult, ToolUse
from claudeproxyd.translate.field_policy import not_carried
from claudeproxyd.translate.names import ToolNames
from claudeproxyd.translate.openai.words import FAILED
from claudeproxyd.translate.openai_chat.carried import read_carried
from claudeproxyd.translate.signatures import ConversationDigest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Part, Turn
    from claudeproxyd.translate.openai_chat.dialects import Dialect

Message = dict[str, object]

#: Some servers refuse an empty result.
NO_TEXT = "(no text)"
#: Stands between a result and what the user says, where a server wants the assistant to have spoken.
BRIDGE = "Done."
#: Stands for reasoning that nobody has kept, where a server insists on some.
NOT_KEPT = "(not kept)"

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_A = {"image": "an image", "document": "a document"}
#: Characters of a call's id; Mistral has another form.
_MAX_ID = 40
_NINE = re.compile(r"[A-Za-z0-9]{9}", re.ASCII)


class MessageWriter:
    """Writes the messages of one request. Raises :class:`Unsupported` for media that the model does not take."""

    def __init__(
        self,
        dialect: Dialect,
        names: ToolNames,
        lookup: Callable[[str], str | None],
        *,
        thinks: bool,
        places: Collection[str] = (),
    ) -> None:
        """*lookup* gives the reasoning that came with a call, by :meth:`ConversationDigest.call_key`. *thinks*: the
        model will. *places*: hosts that clients may name in URLs, beside public ones."""
        self.digest = ConversationDigest()
        """Of what was written, where reasoning goes back."""
        self._dialect = dialect
        self._names = names
        self._lookup = lookup
        self._demands = thinks and dialect.reasoning_demanded
        self._places = places
        self._fitting = ToolNames(_MAX_ID)
        self._ids: dict[str, str] = {}
        """The server's, by the client's."""
        self._last: tuple[Sequence[Message], Sequence[Part]] = (), ()
        """What the user's last message was made of."""

    @property
    def calls(self) -> Collection[str]:
        """The ids of all calls, as the client has them."""
        return self._ids.keys()

    def write(self, system: Sequence[str], turns: Sequence[Turn]) -> Steps[list[Message]]:
        """Return the messages."""
        messages: list[Message] = []
        remembers = self._dialect.reasoning_back != "none"
        if remembers:
            self.digest = ConversationDigest(system)
        if system and self._dialect.system != "user":
            messages.append({"role": self._dialect.system, "content": "\n\n".join(system)})
        said: list[Part] = [Text(text) for text in system] if self._dialect.system == "user" else []
        for number, turn in enumerate(turns):
            if turn.role == "user":
                shown = self._results(turn.parts, messages)
                said += [part for part in turn.parts if not isinstance(part, ToolResult)]
                if shown or said:
                    self._say(shown, said, messages)
                said = []
            elif (message := self._assistant(turn.parts)) is not None:
                messages.append(message)
            if remembers:
                self.digest.update(turn)
            if not number % STEP or len(turn.parts) > STEP:
                yield
        return messages

    # -- the user

    def _results(self, parts: Sequence[Part], messages: list[Message]) -> list[Message]:
        """Add the results. Return their images and documents, which follow."""
        shown: list[Message] = []
        for part in parts:
            if not isinstance(part, ToolResult):
                break
            told: list[str] = []
            for each in part.content:
                if isinstance(each, Text):
                    told.append(each.text)
                else:
                    told += _title(each)
                    shown.append(self._media(each))
            text = "\n".join(told) or NO_TEXT
            content = FAILED + text if part.is_error else text
            messages.append({"role": "tool", "tool_call_id": self._ids[part.id], "content": content})
        return shown

    def _say(self, shown: Sequence[Message], said: Sequence[Part], messages: list[Message]) -> None:
        """Add what the user says; *shown*: images and documents of the results before it."""
        last = messages[-1] if messages else {}
        if last.get("role") == "tool" and not self._dialect.has("user_after_tool"):
            messages.append({"role": "assistant", "content": BRIDGE})
        if last.get("role") == "user":  # nothing was left of a turn in between
            messages.pop()
            shown, said = [*self._last[0], *shown], [*self._last[1], *said]
        self._last = shown, said
        messages.append({"role": "user", "content": self._content(shown, said)})

    def _content(self, shown: Sequence[Message], said: Sequence[Part]) -> str | list[Message]:
        """Return texts alone as one: not every server takes a list of them."""
        if not shown and not any(isinstance(part, Media) for part in said):
            return "\n\n".join(part.text for part in said if isinstance(part, Text))
        content = list(shown)
        for part in said:
            if isinstance(part, Text):
                content.append(_text(part.text))
            elif isinstance(part, Media):
                content += [*map(_text, _title(part)), self._media(part)]
        return content

    def _media(self, media: Media) -> Message:
        kind = "image" if media.kind == "image" else "pdf"
        if media.url:
            if not self._dialect.has(f"{kind}_url"):
                raise Unsupported(not_carried("messages", f"{_A[media.kind]} by url"))
            if (why := objection(media.url, self._places)) is not None:
                raise Unsupported(refusal(why))
            url = media.url
        else:
            fits = media.media_type in _IMAGES if kind == "image" else media.media_type == "application/pdf"
            if not fits or not self._dialect.has(kind):
                raise Unsupported(not_carried("messages", f"{_A[media.kind]} of type {shown(media.media_type, 100)}"))
            url = f"data:{media.media_type};base64,{media.data}"
        if kind == "image":
            return {"type": "image_url", "image_url": {"url": url}}
        return {"type": "file", "file": {"filename": _file_name(media.title), "file_data": url}}

    # -- the assistant

    def _assistant(self, parts: Sequence[Part]) -> Message | None:
        texts: list[str] = []
        calls: list[Message] = []
        first = ""
        thoughts: list[Thought] = []
        for part in parts:
            match part:
                case Text():
                    texts.append(part.text)
                case ToolUse():
                    first = first or part.id
                    calls.append(self._call(part))
                case Thought():
                    thoughts.append(part)
                case Media():
                    raise Unsupported(not_carried("messages", f"{_A[part.kind]} that the assistant gave"))
        if not texts and not calls:
            return None
        message: Message = {"role": "assistant", "content": "\n\n".join(texts) or None}
        self._give_back(thoughts, first, message)
        if calls:
            message["tool_calls"] = calls
        return message

    def _call(self, call: ToolUse) -> Message:
        number = len(self._ids)
        name = self._names.upstream(call.name)
        match self._dialect.ids:
            case "kimi":
                id = f"functions.{name}:{number}"
            case "nine":
                id = call.id if _NINE.fullmatch(call.id) else blake2s(call.id.encode()).hexdigest()[:9]
            case _:
                id = self._fitting.upstream(call.id)
        self._ids[call.id] = id
        return {"id": id, "type": "function", "function": {"name": name, "arguments": bytes(call.input).decode()}}

    def _recalled(self, call: str) -> str:
        return self._lookup(self.digest.call_key(self._dialect.maker, call)) or ""

    def _give_back(self, thoughts: Sequence[Thought], call: str, message: Message) -> None:
        """Add the turn's reasoning. *call*: the id of its first call, or ''."""
        dialect = self._dialect
        if dialect.reasoning_back == "none":
            return
        form, texts, details = "", [], []
        for thought in thoughts:
            carried = read_carried(thought.payload)
            if carried is not None and carried.maker == dialect.maker:
                form = form or carried.form
                texts.append(thought.thinking or carried.text)
                details += carried.details
        text = "\n\n".join(filter(None, texts)) or (self._recalled(call) if call else "")
        if not text and not details:
            if not (call and self._demands):
                return
            text = NOT_KEPT
        member = dialect.reasoning_back
        if member == "as given":
            member = form or "reasoning_content"
        match member:
            case "content":
                said = message["content"]
                thinking: Message = {"type": "thinking", "thinking": [_text(text)]}
                message["content"] = [thinking, *([_text(said)] if isinstance(said, str) else [])]
            case "reasoning_details" if details:
                message["reasoning_details"] = details
            case "reasoning_details" if dialect.maker == "minimax" and dialect.server != "openrouter":
                message["reasoning_details"] = [{"type": "reasoning.text", "text": text}]
            case "reasoning_details":
                message["reasoning"] = text
            case _:
                message[member] = text


def _text(text: str) -> Message:
    return {"type": "text", "text": text}


def _title(media: Media) -> list[str]:
    return [f"Title: {media.title}"] if media.title else []


def _file_name(title: str) -> str:
    name = "".join(c if c.isalnum() or c in " ._-()" else "_" for c in title.strip())[:100].strip() or "document"
    return name if name.lower().endswith(".pdf") else f"{name}.pdf"
