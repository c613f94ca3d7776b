"""One conversation, whose turns are dealt at random to backends of every family, each of which judges what it gets."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.messages.ids import MARK
from claudeproxyd.translate.signatures import Signatures
from tests.golden import strict
from tests.golden.every.answers import Saying
from tests.golden.every.backends import BACKENDS, Backend

Json = dict[str, Any]

SEEDS = 200
TURNS = 20

PNG = "iVBORw0KGgo="
#: Every word of a session, and each seal: in whose number it is, and in which order it stands.
_WORDS = re.compile(r"(ask|word|thought|call|result|note|seal)-0*(\d+)(-\d+)?\.")
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
    shown: bool
    """The client asked for thinking, and so brings it back."""


@dataclass
class Session:
    """One client's conversation."""

    seed: int
    chance: random.Random = field(init=False)
    messages: list[Json] = field(default_factory=list)
    given: list[Given] = field(default_factory=list)
    has_images: bool = False
    dealt: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.forgets = self.seed % 4 == 3
        """The daemon begins anew with every turn."""
        self.memories: dict[str, Signatures] = {}
        """As one server of each API would have them, with models of all makers."""

    def memory(self, backend: Backend) -> Signatures:
        """What the daemon keeps."""
        return self.memories.setdefault(backend.folder, Signatures(lambda: 1.0))

    def play(self) -> None:
        """All turns."""
        for number in range(1, TURNS + 1):
            self.ask(number)
            request = self.request()
            if self.forgets:
                self.memories.clear()
            backend, body = self.deal(request)
            self.dealt[backend.name] += 1
            try:
                self.check_words(backend, body)
                self.answer(number, backend, request, body)
            except AssertionError as fault:
                raise AssertionError(f"{self.place(number, backend)}: {fault}\n{json.dumps(body, indent=1)}") from fault

    def place(self, number: int, backend: Backend) -> str:
        return f"seed {self.seed}, turn {number}, {backend.name}"

    # -- the client

    def ask(self, number: int) -> None:
        """The user's turn: the results of what was called, or a question, or both; and sometimes a system message."""
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
            "system": [{"type": "text", "text": "Be brief."}],
            "tools": _TOOLS,
            "messages": self.messages,
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

    # -- the daemon and the upstreams

    def deal(self, request: Json) -> tuple[Backend, Json]:
        """Send it to one that takes it: not all have images or can be made to call, and so another one is asked."""
        for backend in self.chance.sample(BACKENDS, len(BACKENDS)):
            try:
                return backend, backend.send(request, self.memory(backend))
            except Unsupported as refusal:
                blind = self.has_images and not backend.traits.sees and "image" in str(refusal)
                if not blind and (backend.traits.forces or not str(refusal).startswith("tool_choice")):
                    raise AssertionError(f"{self.place(len(self.given) + 1, backend)}: {refusal}") from refusal
            except Exception as fault:
                raise AssertionError(f"{self.place(len(self.given) + 1, backend)}: {fault}") from fault
        raise AssertionError("nobody takes it")

    def check_words(self, backend: Backend, body: Json) -> None:
        """Everything is there once and in its place, reasoning with those alone who gave it."""
        told = json.dumps(body, ensure_ascii=False)
        assert MARK not in told, "what was minted"
        found = [(match[1], int(match[2]), match[0]) for match in _WORDS.finditer(told)]
        own = [word for kind, _, word in found if kind not in ("thought", "seal")]
        asked = [
            match[0] for match in _WORDS.finditer(json.dumps(self.messages)) if match[1] not in ("thought", "seal")
        ]
        assert Counter(own) == Counter(asked), Counter(own) - Counter(asked) + (Counter(asked) - Counter(own))
        order = [2 * number + (kind in ("word", "thought", "call")) for kind, number, _ in found]
        assert order == sorted(order), f"out of order: {found}"
        thoughts = Counter(number for kind, number, _ in found if kind == "thought")
        assert not thoughts or max(thoughts.values()) == 1, f"a thought twice: {thoughts}"
        self.check_reasoning(backend, told, set(thoughts))

    def check_reasoning(self, backend: Backend, told: str, thoughts: set[int]) -> None:
        """What must go back does, and what others gave does not."""
        traits = backend.traits
        mine = [each for each in self.given if traits.group and each.backend.traits.group == traits.group]
        seals = {each.saying.number for each in self.given if each.saying.seal() in told.replace("-", "+")}
        assert thoughts | seals <= {each.saying.number for each in mine}, f"others' reasoning: {thoughts} {seals}"
        for each in mine:
            saying = each.saying
            if not saying.thinks or not (each.shown or (traits.recalls and saying.calls and not self.forgets)):
                continue
            if not traits.signs:
                assert saying.number in thoughts, f"the thought of {saying.number} is lost"
            elif saying.calls or traits.group != "gemini":  # which signs calls alone
                assert saying.number in seals, f"the seal of {saying.number} is lost"

    def thinks(self, backend: Backend, wants: bool) -> bool:
        """Claude does so where it is told to alone, others as they like."""
        return self.chance.random() < (0.8 if wants else 0.3 * (backend.folder != "claude"))

    def answer(self, number: int, backend: Backend, request: Json, body: Json) -> None:
        """The upstream's answer, as the client gets it, becomes a part of the conversation."""
        choice = request.get("tool_choice", {"type": "auto"})
        count = {"none": 0, "any": self.chance.randint(1, 3), "tool": 1}.get(
            choice["type"], self.chance.choice([0, 1, 1, 2, 3])
        )
        if choice.get("disable_parallel_tool_use"):
            count = min(count, 1)
        if number == TURNS:
            count = 0
        names = {each["name"]: there for each, there in zip(_TOOLS, backend.tools(body), strict=False)}
        called = [choice.get("name") or self.chance.choice(_TOOLS)["name"] for _ in range(count)]
        calls = [(names[name], backend.id(number, at, names[name])) for at, name in enumerate(called)]
        wants = request.get("thinking", {"type": "disabled"})["type"] != "disabled"
        saying = Saying(number, self.thinks(backend, wants), not calls or self.chance.random() < 0.5, calls)
        message = backend.answer(request, saying, self.memory(backend), streamed=self.chance.random() < 0.5)
        strict.check_message(message)
        got = [block for block in message["content"] if block["type"] == "tool_use"]
        assert [block["name"] for block in got] == called, message
        assert [block["input"] for block in got] == [saying.input(at) for at in range(count)], message
        self.messages.append({"role": "assistant", "content": message["content"]})
        self.given.append(Given(backend, saying, wants))


class EveryBackendTests(SynchronousTestCase):
    """Sessions by their seeds."""

    def test_sessions(self) -> None:
        """No upstream refuses a turn, and nothing is lost between them."""
        dealt: Counter[str] = Counter()
        for seed in range(SEEDS):
            session = Session(seed)
            session.play()
            dealt += session.dealt
        self.assertEqual(dealt.keys(), {backend.name for backend in BACKENDS})
