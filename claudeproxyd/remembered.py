"""What a function made of the words that come again with every request: names of headers, of models, of paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Word = TypeVar("Word", str, bytes)
Made = TypeVar("Made")

MAX_WORDS = 1000
"""Words of which what was made is remembered. Clients choose them, so there is a bound: all are forgotten at it."""
MAX_WORD_LENGTH = 100
"""Bytes or characters of a word that is remembered."""


class Remembered(dict[Word, Made]):
    """Gives what *make* returns for a word, by ``remembered[word]``: a look into a dictionary, but for the first time.

    Where *make* raises, nothing is remembered.
    """

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[Word], Made]) -> None:
        super().__init__()
        self._make: Callable[[Word], Made] = make

    def __missing__(self, word: Word) -> Made:
        made = self._make(word)
        if len(word) <= MAX_WORD_LENGTH:
            if len(self) >= MAX_WORDS:
                self.clear()
            self[word] = made
        return made
