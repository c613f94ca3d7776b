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

from claudeproxyd.remembered import MAX_WORD_LENGTH, MAX_WORDS, Remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from claudeproxyd.headers import Headers


MASK = b"***"

#: Bytes; a shorter configured value would be found in innocent words.
MIN_SECRET_BYTES = 8

#: How many fetched values at least: tokens are fetched, and files read anew, for ever. The oldest are forgotten.
KEPT_FETCHED_VALUES = 1000

#: Bytes that are looked at at once for the ends of known values.
PIECE_BYTES = 65_536
#: Cues between two rests, for who lets others run meanwhile.
CUES_BETWEEN_RESTS = 500
#: Bytes of the shortest real key of a known shape.
MIN_KEY_BYTES = 24

#: Between a name and its value, as HTTP, JSON, a URL or the ``repr`` of a pair or a mapping has it. Blanks are bounded,
#: so that no text makes the search quadratic.
_IS = rb"""["']?\s{0,4}(?:[:=]|,(?=\s{0,4}b?["']))\s{0,4}[\[(]?\s{0,4}(?:b?["'])?(?:(?:bearer|basic)\s{1,4})?"""
_VALUE = rb"""[^\s"'\\&,;()\[\]<>@]+"""

#: The rest of a PEM block, as far as it goes: one that was cut must not take all that follows along.
_PEM = rb"[\w+/=\s\\:,-]*?(?:-----END [A-Z ]*PRIVATE KEY-----|(?![\w+/=\s\\:,-]))"


def _shape(cue: bytes, rest: bytes) -> tuple[bytes, re.Pattern[bytes]]:
    """Return the rule for keys that begin a word with *cue* and go on with *rest*; *cue* is what is searched for."""
    return cue, re.compile(re.escape(cue) + rb"(?<!\w" + re.escape(cue) + rb")" + rest, re.DOTALL)


def _called(cue: bytes, stays: bytes, secret: bytes = _VALUE) -> tuple[bytes, re.Pattern[bytes]]:
    """Return the rule for what is called a secret, in whichever case: *cue* is searched for, and *stays* is kept."""
    return cue, re.compile(rb"(?i:(?P<stays>" + stays + rb")" + secret + rb")", re.DOTALL)


#: Keys of a shape that nothing else has. A pattern takes all word characters that follow, so that nothing in its rest
#: can look like a key the next time. That plain words are looked for first is what makes an innocent line cost a
#: microsecond, and a megabyte few milliseconds.
_SHAPES = (
    _shape(b"-----BEGIN ", rb"[A-Z ]*PRIVATE KEY-----" + _PEM),
    _shape(b"cpxd-", rb"[\w-]{16,}"),
    _shape(b"sk-", rb"(?:ant-[\w-]{4,}|[\w-]{16,})"),
    _shape(b"AIza", rb"[\w-]{16,}"),
    _shape(b"ya29.", rb"[\w.-]{8,}"),
    _shape(b"AKIA", rb"[A-Z0-9]{12}[\w-]*"),
    _shape(b"ASIA", rb"[A-Z0-9]{12}[\w-]*"),
    _shape(b"eyJ", rb"[\w-]{8,}\.eyJ[\w-]{8,}\.[\w.-]{16,}"),
)
_NAMES = (
    _called(b"bearer", rb"bearer\s{1,4}", rb"[\w.~+/=-]{8,}"),
    _called(b"basic", rb"basic\s{1,4}", rb"[\w.~+/=-]{8,}"),
    _called(b"://", rb"://[^\s/:@\"']*:", rb"[^\s/@\"']+(?=@)"),
    _called(b"key", rb"(?:(?:(?<=api)|(?<=api[-_]))key" + _IS + rb"|(?<!\w)key=)"),
    _called(b"token", rb"token" + _IS),
    _called(b"secret", rb"secret(?:_?access)?(?:_?key)?" + _IS),
    _called(b"authorization", rb"authorization" + _IS),
    _called(b"cookie", rb"cookie" + _IS, rb"""[^\r\n"'\\]+"""),
)


class Scrubber:
    """Masks what looks like a secret, and what is known to be one. The daemon has one: :func:`scrub` and its like."""

    def __init__(self) -> None:
        self._configured: dict[bytes, None] = {}
        self._fetched: dict[bytes, None] = {}
        self._bound = KEPT_FETCHED_VALUES
        self._known: list[bytes] = []
        """All of them, those ahead that may hold another."""
        self._by_end: dict[bytes, list[bytes]] = {}
        """The known values by their last bytes."""
        self._shortest = MIN_KEY_BYTES
        """Bytes of the shortest of them."""
        self._words = Remembered[str, str](self._redacted_word)
        """What :meth:`redacted` gives for words: each request repeats the names of models and the like."""
        self._innocent: set[bytes] = set()
        """Names and values of headers that hold nothing known: most are those of the answer before."""

    def configure(self, values: Iterable[str]) -> None:
        """Mask these exact values for as long as the configuration has them, and a while longer: all its secrets."""
        self.configure_forms(forms(values))

    def configure_forms(self, known: Iterable[bytes]) -> None:
        """Mask what :func:`forms` made of the configuration's secrets, in place of those of the one before.

        Making the forms takes long, and may be done in a thread.
        """
        self._fetched.update(self._configured)
        self._configured = dict.fromkeys(known)
        self._learn()

    def remember(self, values: Iterable[str]) -> None:
        """Mask these exact values from now on: tokens that were fetched, files that were read anew."""
        for known in forms(values):
            self._fetched.pop(known, None)
            self._fetched[known] = None
        self._learn()

    def _learn(self) -> None:
        # A token for each, the one before, and some; also of a configuration that is over, whose answers still come.
        self._bound = max(self._bound, 3 * len(self._configured))
        while len(self._fetched) > self._bound:
            del self._fetched[next(iter(self._fetched))]
        self._known = sorted({**self._configured, **self._fetched}, key=len, reverse=True)
        self._shortest = len(self._known[-1]) if self._known else MIN_KEY_BYTES
        self._by_end = {}
        for known in self._known:
            self._by_end.setdefault(known[-MIN_SECRET_BYTES:], []).append(known)
        self._words.clear()
        self._innocent.clear()

    def text(self, text: str) -> str:
        """Return *text* with its secrets masked, for operators. Doing it again changes nothing."""
        return self.data(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def data(self, data: bytes, rest: Callable[[], None] = lambda: None) -> bytes:
        """Return *data*, in any encoding that holds ASCII, with its secrets masked.

        *rest* is called now and then where there is much to do: a thread lets the others run.
        """
        data = self.redacted_data(data)
        lower = data.lower()
        for cue, rule in _NAMES:
            if cue in lower:
                data = _apply(cue, rule, data, lower, rest)
                lower = data.lower()
        return data

    def redacted(self, text: str) -> str:
        """Return *text* without what is a secret beyond doubt, for clients."""
        return self._words[text]

    def _redacted_word(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        if len(data) < min(self._shortest, MIN_KEY_BYTES):
            return text
        return self.redacted_data(data).decode("utf-8", "surrogatepass")

    def holds_secret(self, text: str) -> bool:
        """Whether there is in *text* what is a secret beyond doubt."""
        data = text.encode("utf-8", "surrogatepass")
        return self.redacted_data(data) != data

    def redacted_data(self, data: bytes) -> bytes:
        """Return *data* with known values and keys of an unmistakable shape masked, for clients."""
        data = self._without_known(data)
        for cue, rule in _SHAPES:
            if cue in data:
                data = rule.sub(MASK, data)
        return data

    def redacted_headers(self, headers: Headers) -> Headers:
        """Return *headers* with known values masked, and without those that have one in their names.

        Called for every answer: what was seen before, or is too short, costs next to nothing.
        """
        shortest, innocent = self._shortest, self._innocent
        fresh = [value for _, value in headers if len(value) >= shortest and value not in innocent]
        names = [name for name, _ in headers if len(name) >= shortest and name not in innocent]
        if not fresh and not names:
            return headers
        if names and self._are_in(b"\n".join(names)):
            headers = [pair for pair in headers if not self._are_in(pair[0])]
            names = []
        values = b"\n".join(fresh)
        if self._without_known(values) != values:
            return [(name, self._without_known(value)) for name, value in headers]
        if len(innocent) + len(fresh) + len(names) > MAX_WORDS:
            innocent.clear()
        innocent.update(each for each in (*fresh, *names) if len(each) <= MAX_WORD_LENGTH)
        return headers

    def _are_in(self, names: bytes) -> bool:
        """Whether *names* of headers, which lose their capitals, have one of the known values in them."""
        return any(known.lower() in names for known in self._known)

    def _without_known(self, data: bytes) -> bytes:
        size = len(data)
        if size < self._shortest:
            return data
        # Measured: looking for each costs 0.6 µs, and 0.1 ms a megabyte; looking at each end, 0.15 µs a byte.
        few = len(self._known) * (4 + size / 1500) < size
        for known in self._known if few else self._near(data):
            if known in data:
                data = data.replace(known, MASK)
        return data

    def _near(self, data: bytes) -> list[bytes]:
        """Return the known values whose end is in *data*, the longest first: it may hold them."""
        ends: set[bytes] = set()
        for start in range(0, len(data), PIECE_BYTES):
            stop = min(start + PIECE_BYTES, len(data) - MIN_SECRET_BYTES + 1)
            ends |= self._by_end.keys() & {data[at : at + MIN_SECRET_BYTES] for at in range(start, stop)}
        return sorted((known for end in ends for known in self._by_end[end]), key=len, reverse=True)


def forms(values: Iterable[str]) -> list[bytes]:
    """Return how each value is written in plain text, JSON of several makes, a URL and HTML, but for short ones."""
    known = []
    for value in values:
        in_json = json.dumps(value)[1:-1]
        written = (
            value,
            in_json,
            in_json.replace("/", "\\/"),
            json.dumps(value, ensure_ascii=False)[1:-1],
            quote(value, safe="", errors="replace"),
            escape(value),
        )
        known += [form.encode("utf-8", "surrogatepass") for form in dict.fromkeys(written)]
    return [form for form in known if len(form) >= MIN_SECRET_BYTES]


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
        if not seen % CUES_BETWEEN_RESTS:
            rest()
        at = lower.find(cue, max(at + 1, done))
    parts.append(data[done:])
    return b"".join(parts)


_daemon = Scrubber()
configure = _daemon.configure
configure_forms = _daemon.configure_forms
remember = _daemon.remember
scrub = _daemon.text
scrub_bytes = _daemon.data
redact = _daemon.redacted
redact_bytes = _daemon.redacted_data
redact_headers = _daemon.redacted_headers
holds_secret = _daemon.holds_secret
