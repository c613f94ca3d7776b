"""Stop sequences in text that arrives in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class StopWatch:
    """Lets text through up to the first stop sequence. Used by :class:`~claudeproxyd.messages.blocks.BlockMachine`.

    It holds back as many characters as the longest sequence has, less one, since they may be the beginning of one.
    What comes out is the same however the text was cut into pieces: the sequence that is complete first counts, of
    several that end at the same character the longest.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = [sequence for sequence in sequences if sequence]
        self._reach = max(map(len, self._sequences), default=1) - 1
        self._pending = ""
        self.met: str | None = None
        """The sequence at which the text ended, or None while it goes on."""

    def feed(self, text: str) -> str:
        """Return the text that can be shown after *text* has come; '' once a sequence was met."""
        if self.met is not None:
            return ""
        begun = len(self._pending)
        text = self._pending + text
        found = []
        for sequence in self._sequences:
            # What was pending has none of them whole: each is looked for from where it might end in what is new.
            at = text.find(sequence, max(0, begun - len(sequence) + 1))
            if at >= 0:
                found.append((at + len(sequence), -len(sequence), sequence))
        if found:
            end, length, self.met = min(found)
            self._pending = ""
            return text[: end + length]
        shown = max(0, len(text) - self._reach)
        self._pending = text[shown:]
        return text[:shown]

    def flush(self) -> str:
        """Return what was pending, when no more text follows: what comes next is no continuation of it."""
        pending, self._pending = self._pending, ""
        return pending
