"""The kinds of items: what each amounts to in a Claude message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.errors import shown
from claudeproxyd.messages.block import is_object
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.messages.reader import MalformedAnswer
from claudeproxyd.translate.openai_responses.events import arguments_of
from claudeproxyd.translate.openai_responses.item_queue import OutputItem
from claudeproxyd.translate.openai_responses.records import SIGNATURES, SealedReasoning, encode_reasoning

if TYPE_CHECKING:
    import msgspec

    from claudeproxyd.translate.openai_responses.events import Item, OutputPart
    from claudeproxyd.translate.openai_responses.item_queue import AnswerItems

#: Between two parts of what was reasoned.
_BETWEEN = "\n\n"


class MessageItem(OutputItem):
    """Text, with its sources; or the words of a refusal."""

    kind = "message"

    def __init__(self, answer: AnswerItems) -> None:
        super().__init__(answer)
        self._parts: dict[int, list[str]] = {}
        self._cited: dict[int, int] = {}
        """How many sources of each part are known."""
        self._citations: list[dict[str, object]] = []

    def add(self, index: int | None, delta: str) -> None:
        """Add a piece of a part."""
        if index is None:
            index = self.index(None)
        part = self._parts.get(index)
        if part is None:
            self._parts[index] = [delta]
        else:
            part.append(delta)
        self.answer.kept += len(delta)
        if self._live:
            self.answer.machine.text(delta)
        else:
            self.say(delta)

    def add_whole(self, index: int | None, text: str) -> None:
        """Add what a whole part has more."""
        index = self.index(index)
        if text and (rest := self.rest(self._parts.setdefault(index, []), text)):
            self.say(rest)

    def refuse(self, index: int | None, delta: str) -> None:
        """Add a piece of a refusal."""
        self.answer.refused += delta
        self.add(index, delta)

    def add_part(self, index: int | None, part: OutputPart) -> None:
        """Add what a whole part has more: its words, or those of a refusal, and its sources."""
        index = self.index(index)
        if part.type == "refusal":
            before = len("".join(self._parts.get(index, ())))
            words = part.refusal or part.text or ""
            self.answer.refused += words[before:]
            self.add_whole(index, words)
            return
        self.add_whole(index, part.text or "")
        told = self._cited.get(index, 0)
        for annotation in (part.annotations or ())[told:]:
            self.cite(index, annotation)

    def cite(self, index: int | None, annotation: msgspec.Raw) -> None:
        """Add a source of what was said."""
        index = self.index(index)
        self._cited[index] = self._cited.get(index, 0) + 1
        citation = self.answer.sources.citation(annotation, "".join(self._parts.get(index, ())))
        if citation is not None:
            self._citations.append(citation)

    def complete(self, item: Item, raw: msgspec.Raw) -> None:
        """See the base."""
        for index, part in enumerate(self.answer.parts(item.content)):
            self.add_part(index, part)

    @property
    def hollow(self) -> bool:
        """See the base."""
        return not self._parts

    def show(self, text: str) -> None:
        """See the base."""
        self.answer.machine.text(text)

    def end(self) -> None:
        """See the base. The sources of a text follow it: they tell of places in it."""
        for citation in self._citations:
            self.answer.machine.citation(citation)
        self.answer.machine.close()


class ReasoningItem(OutputItem):
    """What was reasoned: summed up, as it was, or only sealed."""

    kind = "reasoning"

    def __init__(self, answer: AnswerItems) -> None:
        super().__init__(answer)
        self._parts: dict[int, list[str]] = {}
        self._source = ""
        """Which of its two members is shown: the first that came."""
        self._last: int | None = None
        self._said = False
        self._id = ""
        self._sealed = ""

    def add(self, source: str, index: int | None, delta: str) -> None:
        """Add a piece of a part of ``summary`` or ``content``."""
        if source != self._source:
            if self._source:
                return
            self._source = source
        if index is None:
            index = self.index(None)
        part = self._parts.get(index)
        if part is None:
            part = self._parts[index] = []
        part.append(delta)
        self.answer.kept += len(delta)
        if self._said and index == self._last and self._live:
            if self.answer.shows:
                self.answer.machine.thinking(delta)
        else:
            self._say(index, delta)

    def add_whole(self, source: str, index: int | None, text: str) -> None:
        """Add what a whole part has more."""
        if not text or source != (self._source or source):
            return
        index, self._source = self.index(index), source
        self._say(index, self.rest(self._parts.setdefault(index, []), text))

    def _say(self, index: int, text: str) -> None:
        if not text:
            return
        if self._said and index != self._last:
            text = _BETWEEN + text
        self._last, self._said = index, True
        if self.answer.shows:
            self.say(text)

    def complete(self, item: Item, raw: msgspec.Raw) -> None:
        """See the base. Only here the sealed content is all there."""
        self._id = item.id or self._id
        self._sealed = item.encrypted_content or self._sealed
        for source, parts in (("content", item.content), ("summary", item.summary)):
            for index, part in enumerate(self.answer.parts(parts)):
                self.add_whole(source, index, part.text or "")

    def show(self, text: str) -> None:
        """See the base."""
        self.answer.machine.thinking(text)

    def end(self) -> None:
        """See the base."""
        answer = self.answer
        if not answer.thinks:
            return
        if self._sealed:
            answer.machine.signature(_sign(SealedReasoning(self._id, self._sealed)))
        elif self._said and answer.shows and answer.open_reasoning:
            answer.machine.signature(_sign(SealedReasoning(self._id)))
        else:
            answer.machine.close()


class CallItem(OutputItem):
    """A call of a function."""

    kind = "function_call"

    def __init__(self, answer: AnswerItems) -> None:
        super().__init__(answer)
        self.call_id = ""
        self.name = ""
        self._had: list[str] = []
        self._shown = ""
        """The id that the client sees, once the call is shown."""
        self._early: list[str] = []
        """Arguments that came ahead of the name."""

    def know(self, call_id: str | None, name: str | None) -> None:
        """Take over what is told of it."""
        self.call_id = self.call_id or call_id or ""
        self.name = self.name or name or ""
        if self._live:
            self.begin()

    def add(self, delta: str) -> None:
        """Add a piece of the arguments."""
        self._had.append(delta)
        self.answer.kept += len(delta)
        if self._live and self._shown:
            self.answer.machine.tool_input(self._shown, delta)
        else:
            self.say(delta)

    def add_whole(self, arguments: str) -> None:
        """Add what the whole arguments have more."""
        had = "".join(self._had)
        if had and not arguments.startswith(had) and is_object(had) and is_object(arguments):
            return  # the same, as a rule, in another hand
        if rest := self.rest(self._had, arguments):
            self.say(rest)

    def complete(self, item: Item, raw: msgspec.Raw) -> None:
        """See the base."""
        self.know(item.call_id or item.id, item.name)  # some have but one of the two
        if arguments := arguments_of(item):
            self.add_whole(arguments)

    @property
    def hollow(self) -> bool:
        """See the base."""
        return not self._had

    def begin(self) -> None:
        """See the base: as soon as it is known what is called, and by which id."""
        if self.name and self.call_id:
            self._begin()

    def _begin(self) -> None:
        if self._shown:
            return
        answer = self.answer
        id = None if self.call_id in answer.call_ids else self.call_id or None  # some count anew in every answer
        self._shown = answer.machine.tool_use(answer.names.client(self.name), id)
        for text in self._early:
            answer.machine.tool_input(self._shown, text)

    def show(self, text: str) -> None:
        """See the base."""
        if self._shown:
            self.answer.machine.tool_input(self._shown, text)
        else:
            self._early.append(text)

    def end(self) -> None:
        """See the base."""
        if not self.name:
            raise MalformedAnswer("a function call without a name")
        self._begin()
        self.answer.machine.tool_end(self._shown)


class SearchItem(OutputItem):
    """A search that OpenAI has run: nothing of it shows before it is whole."""

    kind = "web_search_call"

    def __init__(self, answer: AnswerItems) -> None:
        super().__init__(answer)
        self._raw: msgspec.Raw | None = None

    def complete(self, item: Item, raw: msgspec.Raw) -> None:
        """See the base."""
        self._raw = raw

    def show(self, text: str) -> None:
        """See the base."""

    def end(self) -> None:
        """See the base."""
        if self._raw is not None:
            self.answer.sources.tell_search(self._raw, self.answer.machine)


class OtherItem(OutputItem):
    """An item of no known kind."""

    kind = ""

    def complete(self, item: Item, raw: msgspec.Raw) -> None:
        """See the base."""
        self.answer.note(f"an item of no known kind was left out: {shown(item.type)}")

    def show(self, text: str) -> None:
        """See the base."""


_KINDS: dict[str, type[OutputItem]] = {kind.kind: kind for kind in (MessageItem, ReasoningItem, CallItem, SearchItem)}


def new_item(kind: str, answer: AnswerItems) -> OutputItem:
    """Return an item of that type."""
    return _KINDS.get(kind, OtherItem)(answer)


def _sign(reasoning: SealedReasoning) -> str:
    return mint_signature(SIGNATURES, encode_reasoning(reasoning))
