"""What the sandbox answers, word by word. Pure: whoever pulls the words sets the pace."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING

from claudeproxyd.messages.estimate import tokens_of
from claudeproxyd.messages.ids import mint_signature

if TYPE_CHECKING:
    from claudeproxyd.executors.sandbox.prompt import Prompt
    from claudeproxyd.messages.blocks import BlockMachine

#: Whose mark the sandbox's signatures bear.
FAMILY = "sandbox"

#: Characters of a quotation, from its beginning and from its end.
_QUOTED = 60
#: Characters of JSON in one delta.
_PIECE = 16
_FILLER = ("the", "daemon", "keeps", "the", "stream", "flowing", "and", "counts", "every", "word", "that", "passes")

#: What a step costs, as text, and how it is said.
_Step = tuple[str, Callable[[], object]]


def speak(machine: BlockMachine, prompt: Prompt, *, model: str, words: int, max_tokens: int | None) -> Iterator[None]:
    """Say the whole answer, one word for each ``next``; the last one finishes the message.

    :param words: how many filler words to say instead of an answer; 0: answer.
    """
    spent = 0
    stop_reason = "end_turn"
    for text, say in _steps(machine, prompt, model, words):
        cost = tokens_of(text)
        if max_tokens is not None and spent + cost > max_tokens:
            stop_reason = "max_tokens"
            break
        spent += cost
        say()
        yield
        if machine.stopped:
            break
    machine.usage.output = spent
    machine.finish(stop_reason)
    yield


def _steps(machine: BlockMachine, prompt: Prompt, model: str, words: int) -> Iterator[_Step]:
    if prompt.thinks:
        yield from _thought(machine, prompt)
    if words:
        yield from ((word, partial(machine.text, word)) for word in _spaced(islice(cycle(_FILLER), words)))
        return
    structured = prompt.json_answer()
    calls = prompt.calls()
    known = [(name, input_json) for name, input_json in calls if name in prompt.tools]
    if calls and not known:
        text = f"You asked for the tool {calls[0][0]}, which this request does not offer."
    elif known:
        text = f"I will use {' and '.join(name for name, _ in known)}."
    elif structured is not None:
        yield from ((piece, partial(machine.text, piece)) for piece in _pieces(structured))
        return
    elif prompt.results:
        text = "The tool returned: " + "; ".join(map(_quoted, prompt.results))
    else:
        text = (
            f"This is the sandbox of claudeproxyd, an offline stand-in for {model}; no model has read this."
            f" You said: {_quoted(prompt.said)}"
        )
    yield from ((word, partial(machine.text, word)) for word in _spaced(text.split()))
    for name, input_json in known:
        yield from _call(machine, name, input_json)


def _thought(machine: BlockMachine, prompt: Prompt) -> Iterator[_Step]:
    thought = f"The user said {len(prompt.said.split())} words and offers {len(prompt.tools)} tools. I am the sandbox."
    machine.usage.thinking = sum(map(tokens_of, _spaced(thought.split())))
    shown = prompt.shows_thinking
    for word in _spaced(thought.split()):
        yield word, partial(machine.thinking, word if shown else "")
    digest = hashlib.blake2b(prompt.said.encode(), digest_size=16).digest()
    yield "", partial(machine.signature, mint_signature(FAMILY, digest))


def _call(machine: BlockMachine, name: str, input_json: str) -> Iterator[_Step]:
    ids: list[str] = []
    yield name, lambda: ids.append(machine.tool_use(name))
    for piece in _pieces(input_json):
        yield piece, partial(_input, machine, ids, piece)
    yield "", lambda: machine.tool_end(ids[0])


def _input(machine: BlockMachine, ids: list[str], piece: str) -> None:
    machine.tool_input(ids[0], piece)


def _spaced(words: Iterator[str] | list[str]) -> Iterator[str]:
    """The words, each but the first with its blank in front."""
    for number, word in enumerate(words):
        yield f" {word}" if number else word


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))


def _quoted(text: str) -> str:
    """*text* in quotation marks, its middle left out where it is long."""
    text = " ".join(text.split())
    if len(text) > 2 * _QUOTED + 3:
        text = f"{text[:_QUOTED]} … {text[-_QUOTED:]}"
    return f"“{text}”"
