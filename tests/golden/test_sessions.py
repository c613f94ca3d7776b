"""Whole conversations, turn by turn: README.md tells the format.

Every request has the history that a client would send: what the daemon has given it, word for word.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.signatures import Signatures
from tests.golden import facts, strict
from tests.golden.cases import FOLDER, Case, filled
from tests.golden.checks import check_warnings
from tests.golden.families import FAMILIES
from tests.golden.test_gemini import CHECKS
from tests.messages.accumulate import accumulate

Json = dict[str, Any]

FAMILY = FAMILIES["gemini"]


@dataclass(frozen=True)
class Turn:
    """What the client says next, and what comes of it."""

    says: list[Json]
    contents: list[Json]
    upstream_answer: list[Json]
    answer: Json
    returned: list[Json] = field(default_factory=list)
    request: Json = field(default_factory=dict)
    upstream_request: Json = field(default_factory=dict)
    contents_before: list[Json] | None = None
    warnings: list[str] = field(default_factory=list)
    own_words: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Session:
    """One file."""

    name: str
    about: str
    request: Json
    upstream_request: Json
    turns: list[Turn]
    model: str = "gemini-3-pro-preview"
    kind: str = "gemini"
    version: str = "2023-06-01"
    messages: list[Json] = field(default_factory=list)
    contents: list[Json] = field(default_factory=list)
    needs_memory: bool = False


def sessions() -> list[Session]:
    """Every file of ``sessions/``. A member that none has is a mistake, and raises TypeError."""
    found = []
    for path in sorted((FOLDER / "sessions").glob("*.json")):
        members = json.loads(path.read_bytes())
        members["turns"] = [Turn(**turn) for turn in members["turns"]]
        found.append(Session(path.stem, **members))
    return found


def spoken(value: Any, seen: dict[str, str]) -> Any:
    """*value* as the client has it: placeholders as what they have stood for so far."""
    if isinstance(value, str):
        return seen.get(value) or filled(value, FAMILY.mark)
    if isinstance(value, dict) and "<minted>" in value:
        return filled(value, FAMILY.mark)
    if isinstance(value, dict):
        return {key: spoken(member, seen) for key, member in value.items()}
    return [spoken(member, seen) for member in value] if isinstance(value, list) else value


def there(members: Json) -> Json:
    """Without what a turn has taken away by null."""
    return {name: value for name, value in members.items() if value is not None}


class SessionTests(SynchronousTestCase):
    """Each turn of the conversation becomes the body, and its answer the message, that the session says."""

    maxDiff = None


class ForgettingTests(SynchronousTestCase):
    """The same with a daemon that was started anew before every turn: what it has to know the client brings back."""

    maxDiff = None


def play(test: SynchronousTestCase, session: Session, memory: Callable[[], Signatures], *, whole: bool) -> None:
    """All turns, in the session's order. *memory* is asked before each."""
    seen: dict[str, str] = {}
    messages, contents = list(session.messages), list(session.contents)
    request, upstream_request = dict(session.request), dict(session.upstream_request)
    kept: dict[str, str] = {}
    for number, turn in enumerate(session.turns, 1):
        request |= turn.request
        upstream_request |= turn.upstream_request
        messages += spoken(turn.says, seen)
        if turn.contents_before is not None:
            contents = list(turn.contents_before)
        contents += turn.contents
        case = Case(
            name=f"turn {number}",
            about=session.about,
            model=session.model,
            kind=session.kind,
            version=session.version,
            request=there({**request, "messages": messages}),
            remembered=kept,
            upstream_request=spoken(there({**upstream_request, "contents": contents}), seen),
            own_words=turn.own_words,
            upstream_answer=turn.upstream_answer,
            answer=turn.answer,
            kept=turn.kept,
        )
        signatures = memory()
        check_request(test, case, signatures, turn.warnings)
        message = answered(case, turn, signatures, whole)
        seen.pop("<msg>", None)
        test.assertEqual(message, case.matched(message, turn.answer, seen), case.name)
        check_message(turn, message)
        for key, signature in turn.kept.items():
            test.assertEqual(signatures.lookup(CHECKS.key_of(seen.get(key, key), case)), signature, key)
        messages.append({"role": "assistant", "content": message["content"]})
        contents += [{"role": "model", "parts": turn.returned}] if turn.returned else []
        kept = {**kept, **{seen.get(key, key): signature for key, signature in turn.kept.items()}}


def check_request(test: SynchronousTestCase, case: Case, signatures: Signatures, warnings: list[str]) -> None:
    """The body is the expected one; and that one is right by the types and by the facts."""
    translation = CHECKS.translator.translated(case, signatures)
    test.assertEqual(json.loads(translation.body), case.upstream_request, case.name)
    check_warnings(test, translation.warnings, warnings)
    FAMILY.check_request(case.upstream_request or {}, case.kind)
    facts.compare_requests(
        FAMILY, json.loads(case.body), case.upstream_request, own_words=case.own_words, signatures=case.signatures
    )


def answered(case: Case, turn: Turn, signatures: Signatures, whole: bool) -> Json:
    """The message that the daemon makes of the turn's answer."""
    if whole:
        _, body = next(FAMILY.bodies(turn.upstream_answer))
        return CHECKS.read_body(case, body, signatures)
    _, reads = next(FAMILY.streams(turn.upstream_answer))
    batches, _ = CHECKS.read_stream(case, reads, signatures)
    return accumulate(b"".join(batch.frames for batch in batches))


def check_message(turn: Turn, message: Json) -> None:
    """By the types and by the facts."""
    for chunk in turn.upstream_answer:
        FAMILY.check_answer(chunk)
    strict.check_message(message)
    facts.compare_answers(FAMILY, turn.upstream_answer, message)


def _add_tests() -> None:
    for session in sessions():

        def streamed(test: SessionTests, session: Session = session) -> None:
            memory = Signatures(lambda: 1.0)
            play(test, session, lambda: memory, whole=False)

        def whole(test: SessionTests, session: Session = session) -> None:
            memory = Signatures(lambda: 1.0)
            play(test, session, lambda: memory, whole=True)

        def forgetting(test: ForgettingTests, session: Session = session) -> None:
            play(test, session, lambda: Signatures(lambda: 1.0), whole=False)

        streamed.__doc__ = whole.__doc__ = forgetting.__doc__ = session.about
        setattr(SessionTests, f"test_{session.name}", streamed)
        setattr(SessionTests, f"test_{session.name}_not_streamed", whole)
        if not session.needs_memory:
            setattr(ForgettingTests, f"test_{session.name}", forgetting)


_add_tests()
