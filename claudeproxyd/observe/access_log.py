"""The access log: one line a request, for people and for machines."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from claudeproxyd.observe.scrub import redact, scrub

#: Characters of any one field in a line.
MAX_FIELD_CHARACTERS = 200
#: Characters of what clients and upstreams have put into words, in an entry …
MAX_TEXT_CHARACTERS = 1000
#: … and of those in which secrets are looked for: none is cut in two and then not known.
MAX_SEARCHED_CHARACTERS = 2 * MAX_TEXT_CHARACTERS

#: How the paths of the API begin. What asks for others is a probe, an operator, or lost.
API = "/v1/"

_plain = re.compile(r"[!#-\[\]-~]{1,200}").fullmatch


class AccessEntry(msgspec.Struct, kw_only=True):
    """What there is to say of one request when it is over. Made by web.

    A figure that is not known is None. Times are seconds, sizes bytes.
    """

    time: float
    """When the request came, since the epoch."""
    request_id: str
    trace_id: str = ""
    """Of the trace that it is part of, where that is exported."""
    client: str = ""
    remote: str = ""
    """The client's address."""
    method: str = ""
    path: str = ""
    """Without its query."""
    model: str = ""
    """What was asked for; '' where there is none."""
    provider: str = ""
    """Of the attempt that was answered with."""
    credential: str = ""
    """Its name."""
    attempts: int = 0
    status: int = 0
    """What the client was told; 0 when it left before."""
    outcome: str = ""
    stop_reason: str | None = None
    stream: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    time_to_first_byte: float | None = None
    """To the head of the answer."""
    time_to_first_content: float | None = None
    duration: float = 0.0
    overhead: float | None = None
    """What of it the daemon itself took, where it was measured."""
    events: int = 0
    """Sent to the client."""
    bytes_in: int = 0
    """From the client."""
    bytes_out: int = 0
    """To the client."""
    error: str = ""
    """Why there was no answer, in short."""
    refusal: str = ""
    """What a refusal is counted as, or ''."""

    def __str__(self) -> str:
        """Return the line without its time. What is not one plain word is quoted as in JSON: nothing breaks a line."""
        parts = [
            f"{_word(self.method)} {_word(self.path)} {self.status} {_word(self.outcome)}"
            f" request={self.request_id} client={_word(self.client)} remote={_word(self.remote)}"
        ]
        if self.trace_id:
            parts.append(f"trace={self.trace_id}")
        if self.model:
            parts.append(f"model={_word(self.model)}")
        if self.attempts:
            parts.append(f"via={_word(self.provider)}/{_word(self.credential)} attempts={self.attempts}")
        if self.stream:
            parts.append("stream")
        if self.stop_reason:
            parts.append(f"stop={_word(self.stop_reason)}")
        if self.input_tokens is not None or self.output_tokens is not None:
            parts.append(f"tokens={_figure(self.input_tokens)}/{_figure(self.output_tokens)}")
        if self.time_to_first_byte is not None:
            parts.append(f"first={self.time_to_first_byte * 1000:.0f}ms")
        parts.append(f"total={self.duration * 1000:.0f}ms bytes={self.bytes_in}/{self.bytes_out}")
        if self.error:
            parts.append(f"error={_word(self.error)}")
        return " ".join(parts)


def mask(entry: AccessEntry) -> None:
    """Mask the secrets in what clients and upstreams have put into an entry.

    Of a request that was served that is the model's name alone, as a rule too short for a secret: it costs nothing.
    """
    if entry.error or entry.status >= 400:
        entry.error = _masked(entry.error)
        entry.model = _masked(entry.model)
        entry.path = _masked(entry.path)
    else:
        entry.model = redact(entry.model)


def _masked(words: str) -> str:
    masked = scrub(words[:MAX_SEARCHED_CHARACTERS])
    if len(words) > MAX_SEARCHED_CHARACTERS:  # however short it has become, there may be half a secret at its end
        masked = masked[:-MAX_TEXT_CHARACTERS]
    return masked[:MAX_TEXT_CHARACTERS]


def text_line(entry: AccessEntry) -> str:
    """The line in a file of its own: UTC time first."""
    return f"{utc(entry.time)}Z {entry}"


def terminal_line(entry: AccessEntry, colour: bool) -> str:
    """Return an entry's line on a terminal: local time, status, model, who served it, tokens, time."""
    green, yellow, red, dim, plain = ("\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m") if colour else [""] * 5
    status = entry.status
    tint = green if 200 <= status < 400 else yellow if 0 < status < 500 else red
    parts = [
        f"{dim}{datetime.fromtimestamp(entry.time):%H:%M:%S}{plain}",
        f"{tint}{status or '---'}{plain}",
        _word(entry.model) if entry.model else f"{_word(entry.method)} {_word(entry.path)}",
    ]
    if entry.attempts:
        parts.append(f"{dim}by{plain} {_word(entry.provider)}/{_word(entry.credential)}")
    if entry.attempts > 1:
        parts.append(f"{yellow}after {entry.attempts} attempts{plain}")
    if entry.input_tokens is not None or entry.output_tokens is not None:
        parts.append(f"{_figure(entry.input_tokens)} in, {_figure(entry.output_tokens)} out")
    first = f"{entry.time_to_first_byte:.2f} s to " if entry.stream and entry.time_to_first_byte is not None else ""
    parts.append(f"{dim}{first}{entry.duration:.2f} s{plain}")
    if entry.error:
        parts.append(f"{tint}{_word(entry.error)}{plain}")
    return "  ".join(parts)


def utc(time: float) -> str:
    """Return *time*, in seconds since the epoch, as date and time of UTC with milliseconds, without the zone."""
    milliseconds = int(time * 1000)
    return f"{_utc_second(milliseconds // 1000)}.{milliseconds % 1000:03d}"


@lru_cache(maxsize=4)
def _utc_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _figure(count: int | None) -> str:
    return "-" if count is None else str(count)


def _word(value: str) -> str:
    """Return *value* as one word: itself, or quoted; a dash for ''."""
    return _quoted(value[: MAX_FIELD_CHARACTERS + 1])


@lru_cache(maxsize=1024)
def _quoted(value: str) -> str:
    if _plain(value):
        return value
    if not value:
        return "-"
    shown = value if len(value) <= MAX_FIELD_CHARACTERS else value[:MAX_FIELD_CHARACTERS] + "…"
    return json.dumps(shown).replace("\x7f", "\\u007f")
