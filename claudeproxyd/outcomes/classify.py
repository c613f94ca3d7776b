"""From a failed attempt to its outcome: operator's rules, then the tables of :mod:`claudeproxyd.outcomes.tables`.

Pure, and nothing here raises, whatever the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from claudeproxyd.outcomes.bodies import aws_name, implied_status, read_error, shortened
from claudeproxyd.outcomes.hints import foreseen, hint
from claudeproxyd.outcomes.tables import (
    AUTH,
    BILLING,
    BY_NAME,
    BY_STATUS,
    CLIENT_FAULT,
    CONFIGURATION,
    CONTEXT_OVERFLOW,
    LOCATION,
    MODEL_FAULT,
    MODEL_UNAVAILABLE,
    OVERFLOWS,
    OVERLOADED,
    PERMISSION,
    QUOTA,
    SEARCHED,
    TOO_LARGE,
    TRANSIENT,
    UNSUPPORTED,
    Case,
    Hinted,
    Row,
)
from claudeproxyd.outcomes.types import Evidence, Failure, Kind, Outcome, Scope, Then
from claudeproxyd.patterns import Pattern

#: The outcomes that an operator's rule may name.
FOR_RULES = {
    outcome.kind.value: outcome
    for outcome in (
        CLIENT_FAULT,
        TOO_LARGE,
        UNSUPPORTED,
        MODEL_UNAVAILABLE,
        QUOTA,
        OVERLOADED,
        AUTH,
        BILLING,
        PERMISSION,
        LOCATION,
        TRANSIENT,
        MODEL_FAULT,
        CONFIGURATION,
    )
}

#: Seconds. A quota that is back so soon is a matter of pace: resting for it would leave a place idle that takes more.
SHORT_HINT = 5.0

#: Bytes of a body that a rule's pattern is tried on.
SEARCHED_BY_RULES = 2_048

#: Failures that are our own time-outs; once they have cost a request that long, the same candidate is not asked again.
_LONG_TIMEOUTS = frozenset({Failure.FIRST_BYTE_TIMEOUT, Failure.CONTENT_TIMEOUT, Failure.IDLE_TIMEOUT})
_TIMEOUTS = _LONG_TIMEOUTS | {Failure.CONNECT_TIMEOUT}


@dataclass(frozen=True, slots=True)
class OperatorRule:
    """An operator's own reading of an upstream's answer. Made by :func:`operator_rule`."""

    row: Row
    """The outcome; its own signs are unused."""
    status: int
    """0: any."""
    match: Pattern | None
    """What the body must contain."""

    def fits(self, case: Case) -> bool:
        body = case.evidence.body
        return self.status in (0, case.status) and (
            self.match is None or self.match.found_in(body[:SEARCHED_BY_RULES].decode("utf-8", "replace"))
        )


def operator_rule(
    outcome: str, status: int = 0, match: str = "", cooldown: float = 0.0, scope: str = ""
) -> OperatorRule:
    """A rule from the values of a ``[[providers.rules]]`` section, where 0 and '' mean: as the outcome has it.

    Raises :class:`ValueError`, which says what is wrong and how to mend it.
    """
    if outcome not in FOR_RULES:
        raise ValueError(f"outcome {outcome!r} is none of {', '.join(FOR_RULES)}")
    if not status and not match:
        raise ValueError("a rule needs a status or a match: without both it takes every failure for the same")
    try:
        pattern = Pattern(match) if match else None
    except ValueError as error:
        raise ValueError(f"match {error}") from None
    if not 0 <= cooldown < math.inf:
        raise ValueError("cooldown must be a number of seconds from 0 up")
    made = FOR_RULES[outcome]
    if scope:
        made = replace(made, scope=_scope(scope))
    if cooldown:
        made = replace(made, base=cooldown, ceiling=cooldown, passing=False, doubtful=False)
    if made.scope is Scope.NONE:
        if cooldown:
            raise ValueError(f"a cooldown for {outcome} needs a scope: model, credential …")
        made = replace(made, base=0.0, ceiling=0.0, passing=False, doubtful=False)
    elif not made.base and not made.passing:
        raise ValueError(f"scope {scope} for {outcome} needs a cooldown")
    if cooldown or made.scope is Scope.NONE:
        hinted = Hinted.NOTHING
    elif scope:
        hinted = Hinted.COOLDOWN
    else:
        hinted = Hinted.COOLDOWN_AND_SCOPE if made.kind is Kind.QUOTA else Hinted.COOLDOWN
    return OperatorRule(Row(made, (), hinted), status, pattern)


def _scope(name: str) -> Scope:
    try:
        return Scope(name)
    except ValueError:
        raise ValueError(f"scope {name!r} is none of {', '.join(scope.value for scope in Scope)}") from None


def classify(evidence: Evidence, rules: Sequence[OperatorRule] = ()) -> Outcome:
    """What a failed attempt came to. Called by executors; *rules* are the provider's, in the operator's order."""
    case = _read(evidence)
    row = _row(case, rules)
    outcome = _hinted(row, evidence)
    then = outcome.then
    if then is Then.REFRESH_ONCE and not evidence.refreshable:
        then = Then.NEXT
    if evidence.message_committed and then is not Then.DONE:
        then = Then.ANSWER
    return replace(
        outcome,
        then=then,
        reason=_reason(case),
        exhausted=foreseen(evidence.headers, evidence.family, evidence.now),
        repeatable=_is_repeatable(outcome, evidence),
        timed_out=evidence.failure in _TIMEOUTS,
    )


def _reason(case: Case) -> str:
    """The words for logs and the pool's page: an error's own sentence, or else of which kind and how long it was.

    What stands in the place of an answer may be one, and what is no error object may quote the prompt.
    """
    evidence, error = case.evidence, case.error
    is_answer = evidence.failure is Failure.NOT_CLAUDE
    if evidence.failure and not is_answer:  # words of our own
        return shortened(error.message) or str(evidence.failure)
    if error.message and (error.in_error or not (is_answer or error.form == "text")):
        return shortened(error.message)
    what = "a 200 that is no answer of the API" if is_answer else f"status {evidence.status}"
    return f"{what}: {len(evidence.body)} bytes of {error.form}" if evidence.body else what


def _row(case: Case, rules: Sequence[OperatorRule]) -> Row:
    for rule in rules:
        if rule.fits(case):
            return rule.row
    return next(row for table in (BY_NAME, BY_STATUS) for row in table if any(sign.fits(case) for sign in row.signs))


def _hinted(row: Row, evidence: Evidence) -> Outcome:
    outcome = row.outcome
    if row.hinted is Hinted.NOTHING:
        return outcome
    asked = hint(evidence.headers, evidence.body, evidence.family, evidence.now)
    if asked is None:
        return outcome
    if outcome.passing and (outcome.kind is not Kind.QUOTA or asked.seconds <= SHORT_HINT):
        return replace(outcome, until_hint=asked.seconds)
    scope = asked.scope if row.hinted is Hinted.COOLDOWN_AND_SCOPE else outcome.scope
    return replace(outcome, until_hint=asked.seconds, scope=scope, passing=False)


def _is_repeatable(outcome: Outcome, evidence: Evidence) -> bool:
    return (
        (outcome.passing or outcome.kind in (Kind.TRANSIENT, Kind.QUOTA))
        and not evidence.message_committed
        and evidence.failure not in _LONG_TIMEOUTS
        and not any(name == b"x-should-retry" and value == b"false" for name, value in evidence.headers)
    )


class ContextOverflow(NamedTuple):
    """A request that holds more than the model's window."""

    tokens: int | None
    """None: the upstream does not say."""
    maximum: int | None
    output: int | None = None
    """The ``max_tokens`` for which there is no room, where the upstream says that these are too many."""

    @property
    def message(self) -> str:
        """The words by which clients know to compact, or to ask for a shorter answer."""
        if self.tokens is None or self.maximum is None:
            return "prompt is too long"
        if self.tokens > self.maximum:
            return f"prompt is too long: {self.tokens} tokens > {self.maximum} maximum"
        if self.output is None:  # a figure that explains nothing
            return "prompt is too long"
        return (
            f"input length and `max_tokens` exceed context limit: {self.tokens} + {self.output} > {self.maximum}, "
            "decrease input length or `max_tokens` and try again"
        )


def context_overflow(evidence: Evidence) -> ContextOverflow | None:
    """The overflow that *evidence* tells of, or None where it tells of something else."""
    case = _read(evidence)
    if not any(sign.fits(case) for sign in CONTEXT_OVERFLOW):
        return None
    told: dict[str, str | None] = {}
    for text in OVERFLOWS:
        found = text.match(case.error.message, 0, SEARCHED)
        if found:
            told = found.groupdict()
    return ContextOverflow(_count(told.get("tokens")), _count(told.get("maximum")), _count(told.get("output")))


def _count(digits: str | None) -> int | None:
    return int(digits.replace(",", "")[:12]) if digits else None


def _read(evidence: Evidence) -> Case:
    error = read_error(evidence.body, evidence.family)
    seen = _names_in_headers(evidence.headers)
    status = evidence.status
    if status < 300:  # an error inside a stream
        status = implied_status(seen) or error.status
    return Case(evidence, error, error.names.union(seen), status)


def _names_in_headers(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """What AWS names an error by, as an answer and inside a stream, and how a wall in front of the API shows itself."""
    names = []
    for name, value in headers:
        if name in (b"x-amzn-errortype", b":exception-type"):
            names.append(aws_name(value.decode("latin-1")))
        elif name in (b"cf-mitigated", b"x-amzn-waf-action"):
            names.append("challenge")
    return names
