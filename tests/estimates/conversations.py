"""Fifty conversations, the same ones each time: prose in many languages, code, JSON, tools, their results, thinking.

Their texts are in ``corpus/``; tables, logs and listings are drawn from a seeded generator. No image and no PDF: the
model that counts them reads text alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

CORPUS = Path(__file__).parent / "corpus"

_LANGUAGES = [
    "german",
    "french",
    "spanish",
    "portuguese",
    "italian",
    "polish",
    "turkish",
    "russian",
    "ukrainian",
    "chinese",
    "japanese",
    "korean",
    "arabic",
    "vietnamese",
]
_CODE = ("python_1", "python_2", "typescript", "go", "rust", "sql", "shell", "c")
_WORDS = [
    "order",
    "stock",
    "warehouse",
    "invoice",
    "customer",
    "payment",
    "session",
    "worker",
    "queue",
    "cache",
    "index",
    "report",
    "shipment",
    "address",
    "discount",
    "currency",
    "country",
    "quantity",
    "reservation",
    "release",
]


@dataclass(frozen=True)
class Conversation:
    """One request of a client's."""

    name: str
    kind: str
    request: dict[str, Any]

    @property
    def body(self) -> bytes:
        """As it comes to the daemon."""
        return json.dumps(self.request).encode()


def text(name: str) -> str:
    """Return a text of the corpus."""
    return (CORPUS / f"{name}.txt").read_text().rstrip("\n")


def conversations() -> list[Conversation]:
    """Return all of them; made anew, and always alike."""
    return [
        *_prose(),
        *_languages(),
        *_of_code(),
        *_of_json(),
        *_of_tools(),
        *_of_results(),
        *_of_thinking(),
        *_sessions(),
    ]


def _made(name: str, kind: str, *turns: object, **members: object) -> Conversation:
    """Return a conversation whose turns are the user's and the assistant's in alternation."""
    messages = [{"role": ("user", "assistant")[index % 2], "content": turn} for index, turn in enumerate(turns)]
    return Conversation(name, kind, {"model": "SmolLM2-135M-Instruct", "messages": messages, **members})


def _prose() -> Iterator[Conversation]:
    kind = "English prose"
    for number in (1, 2, 3):
        yield _made(f"english-{number}", kind, f"Summarize this in two sentences.\n\n{text(f'english_{number}')}")
    yield _made(
        "english-chat",
        kind,
        "Is this advice sound?",
        text("english_2"),
        "And how would you tell a colleague who has never heard of it?",
        text("english_1"),
        "Thanks. Now shorter, please.",
        system="You are a patient editor. Answer in plain words, and never in more than three paragraphs.",
    )
    yield _made("markdown", kind, [{"type": "text", "text": text("markdown")}, {"type": "text", "text": "Proofread."}])


def _languages() -> Iterator[Conversation]:
    for language in _LANGUAGES:
        whole = text(language)
        half = whole.index("\n") if "\n" in whole else len(whole) // 2
        yield _made(language, "other languages", whole[:half], whole[half:].strip(), whole)


def _of_code() -> Iterator[Conversation]:
    for name in _CODE:
        fenced = f"```{name.split('_')[0]}\n{text(name)}\n```"
        yield _made(f"code-{name}", "code", f"Review this, and say what you would change:\n\n{fenced}")


def _rows(random: Random, count: int) -> list[dict[str, object]]:
    return [
        {
            "id": random.randrange(10_000, 99_999),
            "sku": f"{random.choice(_WORDS)[:3].upper()}-{random.randrange(1000):03}",
            "customer": {"name": f"{random.choice(_WORDS).title()} {random.choice(_WORDS).title()}", "vip": False},
            "quantity": random.randrange(1, 40),
            "unit_price": round(random.uniform(1, 400), 2),
            "tags": random.sample(_WORDS, 2),
            "shipped_at": None if random.random() < 0.3 else f"2026-{random.randrange(1, 13):02}-14T08:30:00Z",
        }
        for _ in range(count)
    ]


def _of_json() -> Iterator[Conversation]:
    kind = "JSON"
    random = Random(4)
    yield _made("json-compact", kind, json.dumps(_rows(random, 25), separators=(",", ":")))
    yield _made("json-indented", kind, "What is odd here?\n" + json.dumps(_rows(random, 12), indent=2))
    nested = {"services": {word: {"image": f"registry.example.com/{word}:1.4", "replicas": 2} for word in _WORDS}}
    yield _made(
        "json-nested", kind, json.dumps(nested, indent=4), "It deploys twenty services.", "Which of them twice?"
    )
    lines = "\n".join(json.dumps(row) for row in _rows(random, 20))
    yield _made("json-lines", kind, lines)


def _tool(random: Random, number: int) -> dict[str, Any]:
    noun, other = random.sample(_WORDS, 2)
    return {
        "name": f"{random.choice(('get', 'list', 'update', 'search'))}_{noun}_{number}",
        "description": f"Work with the {noun} of one {other}. Use it when the user asks about a {noun}; prefer it to"
        f" reading files. Returns JSON with the {noun}, or an error that says which {other} was not found.",
        "input_schema": {
            "type": "object",
            "properties": {
                f"{other}_id": {"type": "integer", "description": f"The {other}'s number."},
                "query": {"type": "string", "description": "Words to look for, or a glob such as src/**/*.py"},
                "status": {"type": "string", "enum": ["open", "paid", "shipped", "cancelled"]},
                "limit": {"type": "integer", "minimum": 1, "maximum": 500, "default": 50},
            },
            "required": [f"{other}_id"],
            "additionalProperties": False,
        },
    }


def _call(number: int, name: str, **arguments: object) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{number:024}", "name": name, "input": arguments}


def _result(number: int, content: object, **members: object) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": f"toolu_{number:024}", "content": content, **members}


def _of_tools() -> Iterator[Conversation]:
    kind = "tools"
    for count in (1, 4, 12, 30):
        random = Random(count)
        tools = [_tool(random, number) for number in range(count)]
        yield _made(f"tools-{count}", kind, "Which orders are open?", system=text("english_2")[:300], tools=tools)
    random = Random(5)
    tools = [_tool(random, number) for number in range(3)]
    calls = [_call(number, tools[number % 3]["name"], order_id=number, query="stock") for number in range(6)]
    results = [_result(number, json.dumps(row)) for number, row in enumerate(_rows(random, 6))]
    yield _made("tools-called", kind, "Look at all six.", calls, results, "None is late.", "Good.", tools=tools)


def _log(random: Random, lines: int) -> str:
    return "\n".join(
        f"2026-11-{random.randrange(1, 29):02}T{random.randrange(24):02}:{random.randrange(60):02}"
        f":17.{random.randrange(1000):03}Z"
        f" {random.choice(('INFO', 'WARN', 'ERROR'))} [{random.choice(_WORDS)}-{random.randrange(9)}]"
        f" {random.choice(('request finished', 'connection reset by peer', 'slow query', 'retrying in 2s'))}"
        f" id={random.randrange(10**6)} took={random.randrange(3000)}ms"
        for _ in range(lines)
    )


def _listing(random: Random, lines: int) -> str:
    return "\n".join(
        f"-rw-r--r-- 1 deploy deploy {random.randrange(10**6):>8}"
        f" Nov {random.randrange(1, 29):>2} 09:{random.randrange(60):02}"
        f" {random.choice(_WORDS)}_{random.choice(_WORDS)}.{random.choice(('py', 'ts', 'json', 'md'))}"
        for _ in range(lines)
    )


def _numbered(name: str) -> str:
    return "\n".join(f"{number:6}\t{line}" for number, line in enumerate(text(name).splitlines(), 1))


def _found(random: Random, lines: int) -> str:
    code = [line for line in text("python_2").splitlines() if line.strip()]
    return "\n".join(
        f"src/{random.choice(_WORDS)}/{random.choice(_WORDS)}.py:{random.randrange(1, 900)}:{random.choice(code)}"
        for _ in range(lines)
    )


def _diff(name: str) -> str:
    random = Random(name)
    marks = [random.choice((" ", " ", " ", "-", "+")) for _ in text(name).splitlines()]
    changed = "\n".join(mark + line for mark, line in zip(marks, text(name).splitlines(), strict=True))
    return f"diff --git a/src/{name} b/src/{name}\nindex 3f1c2aa..9b07d41 100644\n@@ -1,48 +1,52 @@\n{changed}"


def _tests(random: Random, count: int) -> str:
    lines = [
        f"tests/test_{random.choice(_WORDS)}.py::Test{random.choice(_WORDS).title()}"
        f"::test_{random.choice(_WORDS)}_{random.choice(_WORDS)}"
        f" {random.choice(('PASSED', 'PASSED', 'PASSED', 'FAILED'))}   [{number * 100 // count:3}%]"
        for number in range(count)
    ]
    return "\n".join((*lines, f"==== 3 failed, {count - 3} passed in 4.21s ===="))


def _csv(random: Random, lines: int) -> str:
    return "\n".join(
        f"{random.randrange(10**5)},{random.choice(_WORDS)},{random.uniform(0, 900):.2f},{random.randrange(50)}"
        f",2026-0{random.randrange(1, 10)}-11"
        for _ in range(lines)
    )


def _of_results() -> Iterator[Conversation]:
    random = Random(6)
    bash = {
        "name": "Bash",
        "description": "Run a command in a shell, and return what it prints.",
        "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    }
    for name, command, output in (
        ("log", "tail -60 app.log", _log(random, 60)),
        ("listing", "ls -l src", _listing(random, 60)),
        ("file", "cat -n src/orders.go", _numbered("go")),
        ("grep", "grep -rn stock src", _found(random, 50)),
        ("diff", "git diff", _diff("rust")),
        ("tests", "pytest -v", _tests(random, 50)),
        ("csv", "head -80 orders.csv", _csv(random, 80)),
        ("html", "curl -s localhost", f"<html><body><p class='x'>{text('english_3')}</p></body></html>"),
    ):
        content: object = [{"type": "text", "text": output}] if name in ("log", "grep", "csv") else output
        yield _made(
            f"result-{name}",
            "tool results",
            "Have a look.",
            [{"type": "text", "text": "I run it."}, _call(1, "Bash", command=command)],
            [_result(1, content, is_error=name == "tests")],
            tools=[bash],
        )


def _of_thinking() -> Iterator[Conversation]:
    kind = "thinking"
    thought = {"type": "thinking", "thinking": text("thinking"), "signature": "EqQBCkYIBxgCKkD" * 40}
    yield _made(
        "thinking", kind, "Why is it lost?", [thought, {"type": "text", "text": "Since it is reloaded."}], "Mend it."
    )
    more = {**thought, "thinking": text("english_2")}
    yield _made(
        "thinking-twice",
        kind,
        "Why?",
        [thought, {"type": "text", "text": "It is."}],
        "Now?",
        [more, {"type": "text", "text": "Yes."}],
        "Go.",
    )
    other = {**thought, "thinking": text("german")}
    yield _made("thinking-german", kind, "Warum?", [other, {"type": "text", "text": "Darum."}], "Weiter.")


def _sessions() -> Iterator[Conversation]:
    """Agents at work: tools, calls and what came of them, code, and a word in between; longer than what is sampled."""
    for number, steps in ((1, 12), (2, 30), (3, 60)):
        random = Random(700 + number)
        tools = [_tool(random, each) for each in range(10)]
        turns: list[object] = [text("english_3")]
        outputs = (
            lambda r: _log(r, 25),
            lambda r: _listing(r, 25),
            lambda r: _found(r, 20),
            lambda r: _numbered(r.choice(_CODE)),
            lambda r: _diff(r.choice(_CODE)),
            lambda r: json.dumps(_rows(r, 8)),
            lambda r: text(r.choice(("markdown", "english_1", "english_2"))),
        )
        for step in range(steps):
            words = text("thinking").split(". ")
            said = {"type": "text", "text": f"{random.choice(words)}. {random.choice(words)}."}
            turns.append([said, _call(step, random.choice(tools)["name"], query=random.choice(_WORDS), limit=step)])
            turns.append([_result(step, random.choice(outputs)(random))])
        yield _made(f"session-{number}", "agents at work", *turns, system=text("markdown"), tools=tools)
