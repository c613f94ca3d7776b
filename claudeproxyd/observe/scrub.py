"""What nobody may see: masks secrets in text that is about to leave the daemon.

The last line of defence. Nobody hands a secret to a log in the first place, but exceptions quote URLs, upstreams quote
keys, and captures hold whole requests. Pure, but for the values that were remembered.

Two measures. What operators read (logs, captures, pages) is *scrubbed*: all that looks like a secret goes. What clients
read is *redacted*: their errors must stay as they were said, so only known values and keys of an unmistakable shape go.
"""

from __future__ import annotations

import json
import re
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Headers = Sequence[tuple[bytes, bytes]]

MASK = b"***"

SHORTEST = 8
"""Bytes; a shorter configured value would be found in innocent words."""

REMEMBERED = 1000
"""How many fetched values at least: tokens are fetched, and files read anew, for ever. The oldest are forgotten."""

FEW = 250
"""Known values are looked for one by one up to here; of more, by their ends."""
PIECE = 65_536
"""Bytes that are looked at for ends at once."""
BUSY = 500
"""Cues between two rests, for who lets others run meanwhile."""
SHAPED = 65_536
"""Bytes in which clients' errors are looked through for shapes; in larger ones, for known values alone."""
LEAST = 24
"""Bytes of the shortest real key of a known shape."""

#: Between a name and its value, as HTTP, JSON, a URL or the ``repr`` of a pair or a mapping has it. Blanks are bounded,
#: so that no text makes the search quadratic.
_IS = rb"""["']?\s{0,4}(?:[:=]|,(?=\s{0,4}b?["']))\s{0,4}[\[(]?\s{0,4}(?:b?["'])?(?:(?:bearer|basic)\s{1,4})?"""
_VALUE = rb"""[^\s"'\\&,;()\[\]<>@]+"""

#: The rest of a PEM block, as far as it goes: one that was cut must not take all that follows along.
_PEM = rb"[\w+/=\s\\:,-]*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?![\w+/=\s\\:,-]))"

_Rules = list[tuple[bytes, re.Pattern[bytes]]]


def _rules(*rows: tuple[bytes, bytes, bytes]) -> _Rules:
    """What to look for, in lower case, and what to match from there: a secret, after what may stay. Looking for plain
    words first is what makes an innocent line cost a microsecond, and a megabyte few milliseconds."""
    return [
        (cue, re.compile(rb"(?i:(?P<stays>" + stays + rb")" + secret + rb")", re.DOTALL)) for cue, stays, secret in rows
    ]


#: Keys of a shape that nothing else has. A pattern takes all word characters that follow, so that nothing in its rest
#: can look like a key the next time.
_SHAPES = _rules(
    (b"-----begin", rb"", rb"-----BEGIN [A-Z ]*PRIVATE KEY-----" + _PEM),
    (b"sk-", rb"(?<!\w)", rb"(?:sk-ant-[\w-]{4,}|sk-[\w-]{16,})"),
    (b"aiza", rb"(?<!\w)", rb"AIza[\w-]{16,}"),
    (b"ya29.", rb"(?<!\w)", rb"ya29\.[\w.-]{8,}"),
    (b"akia", rb"(?<!\w)", rb"(?-i:AKIA)[A-Z0-9]{12}[\w-]*"),
    (b"asia", rb"(?<!\w)", rb"(?-i:ASIA)[A-Z0-9]{12}[\w-]*"),
    (b"eyj", rb"(?<!\w)", rb"(?-i:eyJ)[\w-]{8,}\.(?-i:eyJ)[\w-]{8,}\.[\w.-]{16,}"),
)
#: What is called a secret.
_NAMES = _rules(
    (b"bearer", rb"bearer\s{1,4}", rb"[\w.~+/=-]{8,}"),
    (b"basic", rb"basic\s{1,4}", rb"[\w.~+/=-]{8,}"),
    (b"://", rb"://[^\s/:@\"']*:", rb"[^\s/@\"']+(?=@)"),
    (b"key", rb"(?:(?:(?<=api)|(?<=api[-_]))key" + _IS + rb"|(?<!\w)key=)", _VALUE),
    (b"token", rb"token" + _IS, _VALUE),
    (b"secret", rb"secret(?:_?access)?(?:_?key)?" + _IS, _VALUE),
    (b"authorization", rb"authorization" + _IS, _VALUE),
    (b"cookie", rb"cookie" + _IS, rb"""[^\r\n"'\\]+"""),
)


class Scrubber:
    """Masks what looks like a secret, and what is known to be one. The daemon has one: :func:`scrub` and its like."""

    def __init__(self) -> None:
        self._configured: dict[bytes, None] = {}
        self._fetched: dict[bytes, None] = {}
        self._bound = REMEMBERED
        self._known: list[bytes] = []
        """All of them, those ahead that may hold another."""
        self._by_end: dict[bytes, list[bytes]] = {}
        """The same by their last bytes, where there are more than a few."""
        self._least = LEAST
        """Bytes; in less there is nothing to redact."""

    def configure(self, values: Iterable[str]) -> None:
        """Mask these exact values for as long as the configuration has them, and a while longer: all its secrets."""
        self._fetched.update(self._configured)
        self._configured = dict.fromkeys(_forms(values))
        self._learn()

    def remember(self, values: Iterable[str]) -> None:
        """Mask these exact values from now on: tokens that were fetched, files that were read anew."""
        for known in _forms(values):
            self._fetched.pop(known, None)
            self._fetched[known] = None
        self._learn()

    def _learn(self) -> None:
        # A token for each, the one before, and some; also of a configuration that is over, whose answers still come.
        self._bound = max(self._bound, 3 * len(self._configured))
        while len(self._fetched) > self._bound:
            del self._fetched[next(iter(self._fetched))]
        self._known = sorted({**self._configured, **self._fetched}, key=len, reverse=True)
        self._least = min([len(known) for known in self._known[-1:]] + [LEAST])
        self._by_end = {}
        if len(self._known) > FEW:
            for known in self._known:
                self._by_end.setdefault(known[-SHORTEST:], []).append(known)

    def text(self, text: str) -> str:
        """*text* with its secrets masked, for operators. Doing it again changes nothing."""
        return self.data(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def data(self, data: bytes, rest: Callable[[], None] = lambda: None) -> bytes:
        """The same for bytes in any encoding that holds ASCII. *rest* is called now and then where there is much to
        do: a thread lets the others run."""
        return _masked(_SHAPES + _NAMES, self._without_known(data), rest)

    def redacted(self, text: str) -> str:
        """*text* without what is a secret beyond doubt, for clients."""
        data = text.encode("utf-8", "surrogatepass")
        return text if len(data) < self._least else self.redacted_data(data).decode("utf-8", "surrogatepass")

    def redacted_data(self, data: bytes) -> bytes:
        """The same for bytes."""
        data = self._without_known(data)
        return _masked(_SHAPES, data, lambda: None) if len(data) <= SHAPED else data

    def redacted_headers(self, headers: Headers) -> Headers:
        """The same for headers' values. Of every answer: so what is too short for a secret costs next to nothing."""
        least = self._least
        values = b"\n".join([value for _, value in headers if len(value) >= least])
        if not values or self.redacted_data(values) == values:
            return headers
        return [(name, self.redacted_data(value)) for name, value in headers]

    def _without_known(self, data: bytes) -> bytes:
        for known in self._near(data) if self._by_end else self._known:
            if known in data:
                data = data.replace(known, MASK)
        return data

    def _near(self, data: bytes) -> list[bytes]:
        """Which known values *data* may hold: those whose end is in it."""
        ends: set[bytes] = set()
        for start in range(0, len(data), PIECE):
            stop = min(start + PIECE, len(data) - SHORTEST + 1)
            ends |= self._by_end.keys() & {data[at : at + SHORTEST] for at in range(start, stop)}
        return sorted((known for end in ends for known in self._by_end[end]), key=len, reverse=True)


def _forms(values: Iterable[str]) -> Iterator[bytes]:
    """How each is written in plain text, JSON of several makes, a URL and HTML; short ones are passed over."""
    for value in values:
        in_json = json.dumps(value)[1:-1]
        forms = (
            value,
            in_json,
            in_json.replace("/", "\\/"),
            json.dumps(value, ensure_ascii=False)[1:-1],
            quote(value, safe="", errors="replace"),
            escape(value),
        )
        for form in dict.fromkeys(forms):
            known = form.encode("utf-8", "surrogatepass")
            if len(known) >= SHORTEST:
                yield known


def _masked(rules: _Rules, data: bytes, rest: Callable[[], None]) -> bytes:
    lower = data.lower()
    for cue, rule in rules:
        if cue in lower:
            data = _apply(cue, rule, data, lower, rest)
            lower = data.lower()
    return data


def _apply(cue: bytes, rule: re.Pattern[bytes], data: bytes, lower: bytes, rest: Callable[[], None]) -> bytes:
    """Mask what *rule* matches at each *cue*; *lower* is *data* in lower case."""
    parts: list[bytes] = []
    done = seen = 0
    at = lower.find(cue)
    while at >= 0:
        match = rule.match(data, at)
        if match is not None:
            parts += (data[done : match.end("stays")], MASK)
            done = match.end()
        seen += 1
        if not seen % BUSY:
            rest()
        at = lower.find(cue, max(at + 1, done))
    parts.append(data[done:])
    return b"".join(parts)


_daemon = Scrubber()
configure = _daemon.configure
remember = _daemon.remember
scrub = _daemon.text
scrub_bytes = _daemon.data
redact = _daemon.redacted
redact_bytes = _daemon.redacted_data
redact_headers = _daemon.redacted_headers
