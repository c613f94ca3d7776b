"""What nobody may see: masks secrets in text that is about to leave the daemon.

The last line of defence. Nobody hands a secret to a log in the first place, but exceptions quote URLs, upstreams quote
keys, and captures hold whole requests. Pure, but for the values that were remembered.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = b"***"

SHORTEST = 8
"""Bytes; a shorter configured value would be found in innocent words."""

REMEMBERED = 1000
"""How many values at most: secrets that are re-read from files change for ever. The oldest are forgotten."""

#: Between a name and its value, as HTTP, JSON, a URL or the ``repr`` of a pair or a mapping has it. Blanks are bounded,
#: so that no text makes the search quadratic.
_IS = rb"""["']?\s{0,4}(?:[:=]|,(?=\s{0,4}b?["']))\s{0,4}[\[(]?\s{0,4}(?:b?["'])?(?:(?:bearer|basic)\s{1,4})?"""
_VALUE = rb"""[^\s"'\\&,;()\[\]<>@]+"""

#: The rest of a PEM block, as far as it goes: one that was cut must not take all that follows along.
_PEM = rb"[\w+/=\s\\:,-]*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?![\w+/=\s\\:,-]))"

#: What to look for, in lower case, and what to match from there: a secret, after what may stay. Looking for plain words
#: first is what makes an innocent line cost a microsecond, and a megabyte few milliseconds. A pattern for keys of some
#: shape takes all word characters that follow, so that nothing in its rest can look like a key the next time.
_RULES = [
    (cue, re.compile(rb"(?i:(?P<stays>" + stays + rb")" + secret + rb")", re.DOTALL))
    for cue, stays, secret in (
        (b"-----begin", rb"", rb"-----BEGIN [A-Z ]*PRIVATE KEY-----" + _PEM),
        (b"sk-", rb"(?<!\w)", rb"(?:sk-ant-[\w-]{4,}|sk-[\w-]{16,})"),
        (b"aiza", rb"(?<!\w)", rb"AIza[\w-]{16,}"),
        (b"ya29.", rb"(?<!\w)", rb"ya29\.[\w.-]{8,}"),
        (b"akia", rb"(?<!\w)", rb"AKIA[A-Z0-9]{12}[\w-]*"),
        (b"asia", rb"(?<!\w)", rb"ASIA[A-Z0-9]{12}[\w-]*"),
        (b"bearer", rb"bearer\s{1,4}", rb"[\w.~+/=-]{8,}"),
        (b"basic", rb"basic\s{1,4}", rb"[\w.~+/=-]{8,}"),
        (b"://", rb"://[^\s/:@\"']*:", rb"[^\s/@\"']+(?=@)"),
        (b"key", rb"(?:(?:(?<=api)|(?<=api[-_]))key" + _IS + rb"|(?<!\w)key=)", _VALUE),
        (b"token", rb"token" + _IS, _VALUE),
        (b"secret", rb"secret(?:_?access)?(?:_?key)?" + _IS, _VALUE),
        (b"authorization", rb"authorization" + _IS, _VALUE),
        (b"cookie", rb"cookie" + _IS, rb"""[^\r\n"'\\]+"""),
    )
]


class Scrubber:
    """Masks what looks like a secret, and what is known to be one. The daemon has one: :func:`scrub` and its like."""

    def __init__(self) -> None:
        self._known: dict[bytes, None] = {}

    def remember(self, values: Iterable[str]) -> None:
        """Mask these exact values from now on: each configured or fetched secret. Short ones are passed over."""
        for value in values:
            # A secret with unusual characters looks otherwise inside JSON or a URL.
            for form in (value, json.dumps(value)[1:-1], quote(value, safe="", errors="replace")):
                known = form.encode("utf-8", "surrogatepass")
                if len(known) >= SHORTEST:
                    self._known.pop(known, None)
                    self._known[known] = None
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    def text(self, text: str) -> str:
        """*text* with its secrets masked. Doing it again changes nothing."""
        return self.data(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def data(self, data: bytes) -> bytes:
        """The same for bytes in any encoding that holds ASCII."""
        for known in self._known:
            if known in data:
                data = data.replace(known, MASK)
        lower = data.lower()
        for cue, rule in _RULES:
            if cue in lower:
                data = _apply(cue, rule, data, lower)
                lower = data.lower()
        return data


def _apply(cue: bytes, rule: re.Pattern[bytes], data: bytes, lower: bytes) -> bytes:
    """Mask what *rule* matches at each *cue*; *lower* is *data* in lower case."""
    parts: list[bytes] = []
    done = 0
    at = lower.find(cue)
    while at >= 0:
        match = rule.match(data, at)
        if match is not None:
            parts += (data[done : match.end("stays")], MASK)
            done = match.end()
        at = lower.find(cue, max(at + 1, done))
    parts.append(data[done:])
    return b"".join(parts)


_daemon = Scrubber()
remember = _daemon.remember
scrub = _daemon.text
scrub_bytes = _daemon.data
