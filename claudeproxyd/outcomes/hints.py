"""How long an upstream asks to be left alone, and what of it: the table of hints.

A hint is believed up to a year; anything else (negative, zero, NaN, years) is no hint. The pool caps it again with its
``max_cooldown``. Nothing here raises, whatever the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from claudeproxyd.headers import Headers
from claudeproxyd.outcomes.bodies import ErrorBody, read_error
from claudeproxyd.outcomes.types import Family, Scope

#: Seconds. What is longer was not meant.
LONGEST_HINT = 366 * 86_400.0
#: Seconds until a Google quota of the ``PerMinute`` kind is there again, where the answer does not say.
PER_MINUTE = 60.0

_NUMBER = re.compile(r"\d{1,15}(?:\.\d*)?|\.\d+", re.ASCII)
_SPAN = re.compile(
    r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,15}(?:\.\d+)?)s)?(?:(\d{1,15}(?:\.\d+)?)ms)?", re.ASCII
)
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_RETRY_IN = re.compile(r"\b(?:retry|try again) in ((?:\d{1,9}(?:\.\d{1,15})?(?:ms|[dhms]))+)", re.ASCII)
_REGAIN = re.compile(r"regain access on (\d{4}-\d\d-\d\d)(?: at (\d\d:\d\d))?", re.ASCII)


class Hint(NamedTuple):
    """What an upstream asks for."""

    seconds: float
    scope: Scope
    """MODEL or CREDENTIAL."""


def hint(headers: Headers, body: bytes, family: str, now: float) -> Hint | None:
    """What a failed answer by an upstream of *family* asks for. *now* is seconds since the epoch."""
    asked = _retry_after(headers, now)
    if family == Family.GOOGLE:
        return _google_hint(read_error(body, family), asked, now)
    reset = foreseen(headers, family, now)
    if family == Family.ANTHROPIC and _is_rejected(headers):
        # retry-after then stands for the nearest of several windows.
        longest = max(asked or 0.0, reset or 0.0)
        return Hint(longest, Scope.CREDENTIAL) if longest else None
    if family == Family.OPENAI and reset is None:
        reset = _bare_reset(headers)
    seconds = asked or reset or _regained(body, family, now)
    if seconds is None and family == Family.OPENAI:  # inside a stream no header tells
        seconds = _in_words(read_error(body, family).message)
    return Hint(seconds, Scope.MODEL) if seconds else None


def foreseen(headers: Headers, family: str, now: float) -> float | None:
    """Seconds until every limit that this answer, a success too, shows as used up is reset; None: none is.

    Called for each answer, and most upstreams send a dozen such headers with each: so values are looked at first,
    for hardly one is ``0``.
    """
    dialect = _LIMITS.get(family)
    if dialect is None:
        return None
    longest = None
    for name, value in headers:
        if value in (b"0", b"rejected") and name.startswith(dialect.prefix):
            reset_name = name.replace(b"remaining", b"reset").replace(b"-status", b"-reset")
            reset = _first(headers, reset_name, lambda text: dialect.seconds(text, now))
            if reset is not None and reset_name != name:
                longest = max(reset, longest or 0.0)
    return longest


def _retry_after(headers: Headers, now: float) -> float | None:
    """``retry-after-ms`` is the finer one, and SDKs prefer it."""
    return _first(headers, b"retry-after-ms", lambda text: span(text + "ms")) or _first(
        headers, b"retry-after", lambda text: _sane(_number(text)) or _http_date(text, now)
    )


def _is_rejected(headers: Headers) -> bool:
    return any(
        value == b"rejected" and name.startswith(b"anthropic-ratelimit-unified-") and name.endswith(b"status")
        for name, value in headers
    )


def _bare_reset(headers: Headers) -> float | None:
    """OpenAI's resets, from a server that does not say what remains."""
    names = {name for name, _ in headers}
    resets = (
        _first(headers, b"x-ratelimit-reset-" + limit, span)
        for limit in (b"requests", b"tokens")
        if b"x-ratelimit-remaining-" + limit not in names
    )
    return max((reset for reset in resets if reset is not None), default=None)


def _regained(body: bytes, family: str, now: float) -> float | None:
    """Anthropic, of a limit that the customer set: "You will regain access on 2026-12-01 at 00:00 UTC"."""
    if family != Family.ANTHROPIC:
        return None
    date = _REGAIN.search(read_error(body, family).message)
    return _until(f"{date[1]}T{date[2] or '00:00'}Z", now) if date else None


def _google_hint(error: ErrorBody, asked: float | None, now: float) -> Hint | None:
    scope = Scope.MODEL if all(quota.per_model for quota in error.quotas) else Scope.CREDENTIAL
    if any("PerDay" in quota.id for quota in error.quotas):
        # Beside such a quota RetryInfo still says half a minute.
        return Hint(until_midnight(now), scope)
    seconds = asked or span(error.retry_delay) or _in_words(error.message)
    if seconds is None and any("PerMinute" in quota.id for quota in error.quotas):
        seconds = PER_MINUTE
    return Hint(seconds, scope) if seconds else None


def _in_words(said: str) -> float | None:
    """Google, where ``RetryInfo`` is missing: "Please retry in 36.4s". OpenAI: "Please try again in 6m0s"."""
    told = _RETRY_IN.search(said)
    return span(told[1]) if told else None


def until_midnight(now: float) -> float:
    """Seconds to the next midnight in California, when Google's daily quotas begin anew."""
    zone = _pacific()
    tomorrow = datetime.fromtimestamp(now, zone).date() + timedelta(days=1)
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone).timestamp() - now


def _pacific() -> tzinfo:
    """Machines without a zone database get the standard time: in summer that is an hour off."""
    try:
        return ZoneInfo("America/Los_Angeles")
    except ZoneInfoNotFoundError:
        return timezone(timedelta(hours=-8))


def span(text: str) -> float | None:
    """Seconds of a duration as Go and protobuf write them: ``6m0s``, ``1h2m``, ``20ms``, ``34.07s``, or bare."""
    text = text.strip()
    parts = _SPAN.fullmatch(text)
    if parts is None:
        return _sane(_number(text))
    return _sane(sum(float(part) * unit for part, unit in zip(parts.groups(), _UNITS, strict=True) if part))


def _until(text: str, now: float) -> float | None:
    """Seconds to an RFC 3339 moment, or to one in seconds since the epoch."""
    epoch = _number(text)
    if epoch is not None:
        return _sane(epoch - now)
    try:
        return _sane(_utc(datetime.fromisoformat(text.strip())).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _http_date(text: str, now: float) -> float | None:
    try:
        return _sane(_utc(parsedate_to_datetime(text)).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _sane(seconds: float | None) -> float | None:
    return seconds if seconds is not None and 0 < seconds <= LONGEST_HINT else None


def _first(headers: Headers, wanted: bytes, read: Callable[[str], float | None]) -> float | None:
    """What *read* makes of the first header of that name that it can make something of."""
    for name, value in headers:
        if name == wanted and (found := read(value.decode("latin-1"))) is not None:
            return found
    return None


class _Dialect(NamedTuple):
    prefix: bytes
    seconds: Callable[[str, float], float | None]
    """What a reset header says, at this moment."""


_LIMITS: Mapping[str, _Dialect] = {
    Family.ANTHROPIC: _Dialect(b"anthropic-ratelimit-", _until),
    Family.OPENAI: _Dialect(b"x-ratelimit-", lambda text, now: span(text)),
}
