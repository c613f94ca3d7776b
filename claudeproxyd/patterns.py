"""Regular expressions that are searched for in time which grows as the text does, whatever the text and the pattern.

Python's own try one way after the other: ``.*quota.*exceeded.*`` on 5 KB of the wrong text takes five seconds, and
nothing else happens meanwhile. Here all ways are followed at once (Thompson's construction), by Python's own reading of
the pattern: its parser and its tests of single characters are ``re``'s, and tests/test_patterns.py compares the two.
Pure.
"""

from __future__ import annotations

import re
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]  # what sre_parse and its like are called now
from typing import Any

#: Of a pattern's machine: an operator's pattern has some dozens.
MOST_STATES = 500

_CHARACTERS = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)


class Pattern:
    """A pattern that texts can be searched for."""

    def __init__(self, source: str) -> None:
        """*source* as ``re`` has it. Raises ValueError, which says why it is none, or cannot be followed so."""
        self.source = source
        self._states: list[tuple[re.Pattern[str] | None, bool, list[int]]] = []
        """What each tests, whether that takes a character, and where it leads."""
        self._end = self._add(None, False, [])
        try:
            parsed = _parser.parse(source)
            self._start = self._sequence(parsed, self._end, parsed.state.flags)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"is not a regular expression: {error}") from None

    def __repr__(self) -> str:
        return f"Pattern({self.source!r})"

    def found_in(self, text: str) -> bool:
        """Whether any part of *text* matches."""
        states, end = self._states, self._end
        here: set[int] = set()
        for at in range(len(text) + 1):
            then: set[int] = set()
            seen: set[int] = set()
            open_ = [self._start, *here]
            while open_:
                state = open_.pop()
                if state in seen:
                    continue
                if state == end:
                    return True
                seen.add(state)
                test, takes, targets = states[state]
                if test is None or test.match(text, at):
                    if takes:
                        then.update(targets)
                    else:
                        open_ += targets
            here = then
        return False

    def _add(self, test: re.Pattern[str] | None, takes: bool, targets: list[int]) -> int:
        if len(self._states) >= MOST_STATES:
            raise ValueError("is too long for a regular expression, or repeats too much")
        self._states.append((test, takes, targets))
        return len(self._states) - 1

    def _sequence(self, items: Any, after: int, flags: int) -> int:
        """States for these, one after the other, and then *after*; the first of them."""
        for item in reversed(list(items)):
            after = self._one(items.state, item, after, flags)
        return after

    def _one(self, parser_state: object, item: Any, after: int, flags: int) -> int:
        what, how = item
        if what in _CHARACTERS or what is _constants.AT:
            test = _compiler.compile(_parser.SubPattern(parser_state, [item]), flags & ~re.DEBUG)
            return self._add(test, what is not _constants.AT, [after])
        if what is _constants.BRANCH:
            return self._add(None, False, [self._sequence(branch, after, flags) for branch in how[1]])
        if what is _constants.SUBPATTERN:
            _, more, fewer, inner = how
            return self._sequence(inner, after, (flags | more) & ~fewer)
        if what in _REPEATS:
            least, most, inner = how
            return self._repeat(least, most, inner, after, flags)
        raise ValueError(f"cannot be searched for in bounded time: {str(what).lower()}")

    def _repeat(self, least: int, most: int, inner: Any, after: int, flags: int) -> int:
        if most is _constants.MAXREPEAT:
            first = self._add(None, False, [after])
            self._states[first][2].append(self._sequence(inner, first, flags))
        else:
            first = after
            for _ in range(most - least):
                first = self._add(None, False, [self._sequence(inner, first, flags), after])
        for _ in range(least):
            first = self._sequence(inner, first, flags)
        return first
