"""Work in steps, so that who does it can let others have a turn between two. Pure.

Large conversations take a second to translate, large answers half of one to decompress. What does that is a generator
that yields wherever it may be interrupted, and returns what it came to.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")
#: Yields after each step, of a few milliseconds as a rule.
Steps = Generator[None, None, Result]

#: Parts of a conversation in a step: some take 10 µs.
STEP = 256


def at_once(steps: Steps[Result]) -> Result:
    """What *steps* come to, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Result = done.value
            return result
