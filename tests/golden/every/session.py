"""One conversation, whose turns are dealt at random to backends of every family, each of which judges what it gets.

The sessions without a daemon and those through one play the same conversations: what carries a turn is theirs.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from claudeproxyd.messages.ids import MARK
from tests.golden import strict
from tests.golden.every.answers import Json, Saying
from tests.golden.every.backends import Backend
from tests.golden.every.clients import as_it_was

TURNS = 20

PNG = "iVBORw0KGgo="
#: Every word of a session, and each seal: in whose number it is, and in which order it stands.
_WORDS = re.compile(r"(ask|word|thought|call|result|note|seal)-0*(\d+)(-\d+)?\.")
_REASONING = ("thought", "seal")
_TOOLS = [
    {
        "name": name,
        "description": f"It is for {name}",
        "input_schema": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
    }
    for name in ("Read", "Bash", "mcp__a-server-with-a-long-name__and_a_tool_with_a_name_that_is_longer_than_most")
]


@dataclass
class Given:
    """An answer of an earlier turn."""

    backend: Backend
    saying: Saying
    thoughts: list[Json]
    """The blocks of thinking that the client got, and may bring back."""


@dataclass
class Session:
    """One client's conversation."""

    seed: int
    brings: Callable[[random.Random, list[Json]], list[Json]] = as_it_was
    """What the client makes of the conversation each time that it sends it: see :mod:`.clients`."""
    recalls: bool = True
    """What the daemon remembers of a conversation stays good for what the client makes of it."""
    retries: bool = False
    """The client throws some answers away, and asks the same again."""
    chance: random.Random = field(init=False)
    messages: list[Json] = field(default_factory=list)
    given: list[Given] = field(default_factory=list)
    has_images: bool = False
    dealt: Counter[str] = field(default_factory=Counter)
    number: int = 0
    """The turn's. Sessions with one daemon begin behind different hundreds, lest ids come again."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.forgets = self.seed % 4 == 3
        """The daemon begins anew with every turn."""

    def place(self, backend: Backend) -> str:
        """Where a fault is, for whoever wants to play it again."""
        return f"seed {self.seed}, turn {self.number}, {backend.name}"

    # -- the client

    def ask(self) -> None:
        """The user's turn: the results of what was called, or a question, or both; and sometimes a system message."""
        self.number = number = self.number + 1
        if self.messages and self.messages[-1]["role"] != "assistant":
            return  # it asks the same again
        calls = self._calls()
        said = self.chance.random() < 0.3 or not calls
        content = [self._result(number, at, call) for at, call in enumerate(calls)]
        self.chance.shuffle(content)
        if said:
            content.append({"type": "text", "text": f"ask-{number}."})
            if self.chance.random() < 0.1:
                content.append(self._image())
        self.messages.append({"role": "user", "content": content})
        if self.chance.random() < 0.1:
            self.messages.append({"role": "system", "content": f"note-{number}."})

    def _calls(self) -> list[Json]:
        if not self.messages:
            return []
        return [block for block in self.messages[-1]["content"] if block["type"] == "tool_use"]

    def _result(self, number: int, at: int, call: Json) -> Json:
        made: Json = {"type": "tool_result", "tool_use_id": call["id"]}
        words = f"result-{number}-{at}."
        match self.chance.randrange(8):
            case 0:
                return made | {"content": words, "is_error": True}
            case 1:
                return made | {"content": [{"type": "text", "text": words}, self._image()]}
            case 2:
                return made
            case 3:
                return made | {"content": [{"type": "text", "text": words}], "is_error": True}
            case _:
                return made | {"content": words}

    def _image(self) -> Json:
        if self.seed % 2:  # of every other session all backends can take all turns
            return {"type": "text", "text": "no image"}
        self.has_images = True
        return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}

    def request(self) -> Json:
        """The body that the client sends."""
        made: Json = {
            "model": "claude-opus-5-5",
            "max_tokens": 8192,
            "system": [{"type": "text", "text": f"Be brief in session {self.seed}"}],
            "tools": _TOOLS,
            "messages": self.brings(self.chance, self.messages),
        }
        choice = self.chance.choice(
            [
                None,
                None,
                {"type": "auto"},
                {"type": "auto", "disable_parallel_tool_use": True},
                {"type": "any"},
                {"type": "tool", "name": _TOOLS[self.chance.randrange(3)]["name"]},
                {"type": "none"},
            ]
        )
        if choice is not None:
            made["tool_choice"] = choice
        thinking = self.chance.choice(
            [
                {"type": "adaptive"},
                {"type": "adaptive"},
                {"type": "enabled", "budget_tokens": 2048},
                {"type": "disabled"},
                None,
            ]
        )
        if thinking is not None and (choice or {"type": "auto"})["type"] in ("auto", "none"):
            made["thinking"] = thinking
        return made

    # -- the upstream

    def check_words(self, backend: Backend, request: Json, body: Json) -> None:
        """Everything that the client said is there once and in its place, reasoning with those alone who gave it."""
        told = json.dumps(body, ensure_ascii=False)
        assert MARK not in told, "what was minted"
        found = [(match[1], int(match[2]), match[0]) for match in _WORDS.finditer(told)]
        turns = _turns(request["messages"])
        own = Counter(word for kind, _, word in found if kind not in _REASONING)
        asked = Counter(word for word in turns if word.split("-")[0] not in _REASONING)
        assert own == asked, (own - asked) + (asked - own)
        # A thought stands where the first word of its answer does.
        begins = {number: min(turn for word, turn in turns.items() if _is_said(word, number)) for number in self._said}
        order = [begins[number] if kind in _REASONING else turns[word] for kind, number, word in found]
        assert order == sorted(order), f"out of order: {found}"
        thoughts = Counter(number for kind, number, _ in found if kind == "thought")
        assert not thoughts or max(thoughts.values()) == 1, f"a thought twice: {thoughts}"
        self.check_reasoning(backend, request, told, set(thoughts))

    @property
    def _said(self) -> list[int]:
        """The numbers of the answers so far."""
        return [each.saying.number for each in self.given]

    def check_reasoning(self, backend: Backend, request: Json, told: str, thoughts: set[int]) -> None:
        """What must go back does, and what others gave does not."""
        traits = backend.traits
        mine = [each for each in self.given if traits.group and each.backend.traits.group == traits.group]
        seals = {each.saying.number for each in self.given if each.saying.seal() in told.replace("-", "+")}
        assert thoughts | seals <= {each.saying.number for each in mine}, f"others' reasoning: {thoughts} {seals}"
        brought = [block for message in request["messages"] for block in message["content"] if isinstance(block, dict)]
        for each in mine:
            saying = each.saying
            shown = bool(each.thoughts) and all(block in brought for block in each.thoughts)
            remembered = traits.recalls and saying.calls and self.recalls and not self.forgets
            if not saying.thinks or not (shown or remembered):
                continue
            if not traits.signs:
                assert saying.number in thoughts, f"the thought of {saying.number} is lost"
            elif saying.calls or traits.group != "gemini":  # which signs calls alone
                assert saying.number in seals, f"the seal of {saying.number} is lost"

    def says(self, backend: Backend, request: Json, tools: Sequence[str]) -> Saying:
        """What it answers. *tools*: their names as it was told them, in the client's order."""
        number = self.number
        choice = request.get("tool_choice", {"type": "auto"})
        count = {"none": 0, "any": self.chance.randint(1, 3), "tool": 1}.get(
            choice["type"], self.chance.choice([0, 1, 1, 2, 3])
        )
        if choice.get("disable_parallel_tool_use"):
            count = min(count, 1)
        if number % 100 == TURNS:
            count = 0
        names = {each["name"]: there for each, there in zip(_TOOLS, tools, strict=False)}
        called = [choice.get("name") or self.chance.choice(_TOOLS)["name"] for _ in range(count)]
        calls = [(names[name], backend.id(number, at, names[name])) for at, name in enumerate(called)]
        speaks = not calls or self.chance.random() < 0.5
        return Saying(number, self._thinks(backend, request), speaks, calls, called)

    def _thinks(self, backend: Backend, request: Json) -> bool:
        """Claude does so where it is told to alone, others as they like."""
        return self.chance.random() < (0.8 if _wants_thoughts(request) else 0.3 * (backend.folder != "claude"))

    # -- the client again

    def hears(self, backend: Backend, saying: Saying, message: Json) -> None:
        """The answer becomes a part of the conversation."""
        strict.check_message(message)
        content = message["content"]
        got = [block for block in content if block["type"] == "tool_use"]
        assert [block["name"] for block in got] == saying.called, message
        assert [block["input"] for block in got] == [saying.input(at) for at in range(len(saying.calls))], message
        self.messages.append({"role": "assistant", "content": content})
        thoughts = [block for block in content if block["type"] == "thinking"]
        self.given.append(Given(backend, saying, thoughts))
        self.dealt[backend.name] += 1
        if self.retries and self.chance.random() < 0.3:
            self.messages.pop()
            self.given.pop()


def _wants_thoughts(request: Json) -> bool:
    wanted: str = request.get("thinking", {"type": "disabled"})["type"]
    return wanted != "disabled"


def _turns(messages: list[Json]) -> dict[str, int]:
    """Every word of a conversation, and the turn in which it was said."""
    found: dict[str, int] = {}
    for number, (_, said) in enumerate(itertools.groupby(messages, lambda message: message["role"] == "assistant")):
        for match in _WORDS.finditer(json.dumps(list(said))):
            found.setdefault(match[0], number)
    return found


def _is_said(word: str, number: int) -> bool:
    kind, of = word.rstrip(".").split("-")[:2]
    return kind in ("word", "call") and int(of) == number
