"""How many tokens a text comes to, by what it is made of: words, letters, digits, marks and scripts.

No tokenizer is run: each thing that is counted has a weight, which was fitted to what real tokenizers make of prose in
thirty languages, code, JSON, logs and listings. There are two sets of weights, as there are two kinds of vocabulary.
Those of today's large models hold 100,000 words of many languages and up; those of small and older ones hold some
30,000 to 50,000, of English above all, and cut anything else into twice or four times as many pieces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import AnyStr as Text
from typing import NamedTuple

#: Characters that are looked at, in blocks from all over the text: they stand for the rest of it.
MAX_SAMPLE = 8_192
_BLOCK = 256

_ENGLISH = (b" the ", b" of ", b" and ", b" to ", b" in ", b" is ", b" that ", b" for ")
_NOT_ENGLISH = tuple(
    b" %b " % word for word in b"der und die zu den de la que en di e van het een yang dan och det i w na".split()
)
"""Short words of languages that are written with the same letters, and cost more."""


def _classes(*ranges: tuple[int, int, bytes]) -> bytes:
    """Return a table for ``bytes.translate``; bytes that no range names are punctuation and symbols."""
    table = bytearray(b"." * 256)
    for first, last, name in ranges:
        table[first : last + 1] = name * (last + 1 - first)
    return bytes(table)


_CLASSES = _classes(
    (0x09, 0x09, b" "),
    (0x0A, 0x0D, b"n"),
    (0x20, 0x20, b" "),
    (0x30, 0x39, b"0"),
    (0x41, 0x5A, b"A"),
    (0x61, 0x7A, b"a"),
    (0x80, 0xBF, b"c"),  # continues a character
    (0xC0, 0xC3, b"L"),  # Latin letters of Western Europe
    (0xC4, 0xCD, b"E"),  # Latin letters of Central Europe and beyond
    (0xCE, 0xCF, b"G"),  # Greek
    (0xD0, 0xD4, b"R"),  # Cyrillic
    (0xD5, 0xDF, b"H"),  # Hebrew and Arabic
    (0xE0, 0xE0, b"I"),  # of India, Thai
    (0xE1, 0xE1, b"V"),  # Latin letters of Vietnamese
    (0xE2, 0xE2, b"P"),  # typographic marks, arrows
    (0xE3, 0xE3, b"K"),  # kana
    (0xE4, 0xE9, b"C"),  # Chinese characters
    (0xEA, 0xEE, b"N"),  # Hangul
    (0xEF, 0xEF, b"F"),  # full-width marks
    (0xF0, 0xFF, b"X"),  # emoji
)
"""What a byte of UTF-8 is; of a character with several the first one tells."""
_FOREIGN = b"LEGRHIVPKCNFX"


def _alone(*classes: int) -> bytes:
    """Return a table that keeps of the classes these, as one, and makes ``-`` of all others."""
    return bytes(0x61 if byte in classes else 0x2D for byte in range(256))


_WORD = _alone(*b"aA")
_NUMBER = _alone(*b"0")
_MARK = _alone(*b".")
_BEGINS = b"-a"


class Vocabulary(NamedTuple):
    """What each thing that is counted weighs, in tokens."""

    plain: Sequence[float]
    """Of what ASCII text is made of, as :func:`counted` has it."""
    foreign: Sequence[float]
    """Of what is found in other texts."""


class TextCounts(NamedTuple):
    """What a text is made of."""

    plain: Sequence[float]
    """Words, letters, small letters before capitals, capitals, digits, numbers, marks, runs of marks, line ends,
    blanks, and the English words that are the most common."""
    foreign: Sequence[float]
    """Characters by script, and short words of other languages; empty where there are none."""


#: Fitted to o200k_base.
LARGE = Vocabulary(
    plain=(0.37, 0.13, 0.11, 0.07, 0.26, 1.33, 0.37, 0.24, 0.47, 0.15, -0.41),
    foreign=(0.58, 0.05, 1.48, 0.39, 0.25, 0.38, 0.36, 0.15, 0.76, 0.73, 0.8, 0.7, 0.74, 1.81),
)
#: Fitted to SmolLM2's.
SMALL = Vocabulary(
    plain=(0.95, 0.1, 0.45, 0.13, 0.83, 0.81, 0.05, 0.85, 0.62, 0.04, -1.81),
    foreign=(3.78, 0.42, 3.71, 1.0, 0.87, 1.23, 1.69, 1.63, 0.82, 1.71, 1.81, 2.81, 1.33, 2.82),
)

_SMALL = re.compile(
    r"smollm|gpt-?2(?![\d.])|tinyllama|llama-?2(?!\d)|codellama|vicuna|starcoder|phi-?[123](?!\d)|mi[sx]tral-(7b|8x)"
    r"|pythia|olmo-?1b",
    re.IGNORECASE,
)
"""Models with a vocabulary of the smaller kind, as servers name them."""


def vocabulary_of(model: str) -> Vocabulary:
    """Return the vocabulary that a model of that name has; the large one where the name tells nothing."""
    return SMALL if _SMALL.search(model) else LARGE


def sampled(text: Text) -> tuple[Text, float]:
    """Return blocks from all over a long text, and how many times that the whole is; a short one as it is."""
    if len(text) <= MAX_SAMPLE:
        return text, 1.0
    blocks = MAX_SAMPLE // _BLOCK
    step = (len(text) - _BLOCK) / (blocks - 1)
    starts = [int(block * step) for block in range(blocks)]
    return text[:0].join([text[start : start + _BLOCK] for start in starts]), len(text) / MAX_SAMPLE


def counted(text: str, scale: float = 1.0) -> TextCounts:
    """Return what *text* is made of: of a long one what its sample has, in proportion.

    *scale*: how many times *text* the whole is, of which it is a sample already. Takes half a millisecond at most.
    """
    text, larger = sampled(text)
    scale *= larger
    data = text.encode("utf-8", "replace")
    classes = data.translate(_CLASSES)
    count = classes.count
    plain: list[float] = [
        _runs(classes, _WORD),
        count(b"a") + count(b"A"),
        count(b"aA"),
        count(b"A"),
        count(b"0"),
        _runs(classes, _NUMBER),
        count(b"."),
        _runs(classes, _MARK),
        count(b"n"),
        count(b" "),
        sum(map(data.count, _ENGLISH)),
    ]
    foreign: list[float] = [sum(map(data.count, _NOT_ENGLISH))]
    if not text.isascii():
        foreign += [classes.count(script) for script in _FOREIGN]
    if scale != 1.0:
        plain = [scale * number for number in plain]
        foreign = [scale * number for number in foreign]
    return TextCounts(plain, foreign)


def _runs(classes: bytes, table: bytes) -> int:
    """Return how many runs there are of what *table* keeps."""
    kept = classes.translate(table)
    return kept.count(_BEGINS) + kept.startswith(b"a")


def weighed(counts: TextCounts, vocabulary: Vocabulary) -> tuple[float, float]:
    """Return the tokens of what is plain, and of what is foreign."""
    return (
        max(0.0, sum(map(float.__mul__, map(float, counts.plain), vocabulary.plain))),
        sum(map(float.__mul__, map(float, counts.foreign), vocabulary.foreign)),
    )
