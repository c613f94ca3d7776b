"""Counts calls of functions: they say what something costs where times on a busy machine say little."""

from __future__ import annotations

import sys
from collections.abc import Callable


def calls_of(do: Callable[[], object]) -> int:
    """Return how many functions are called, those in C included."""
    count = 0

    def profile(frame: object, what: str, arg: object) -> None:
        nonlocal count
        count += what in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        do()
    finally:
        sys.setprofile(before)
    return count
