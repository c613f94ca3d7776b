"""Expands ``~`` at the beginning of a path that an operator wrote."""

from __future__ import annotations

import os


def expanded(path: str) -> str:
    """Return *path* in full. Raises ValueError where its home directory is unknown: no HOME, no such user."""
    whole = os.path.expanduser(path)
    if whole.startswith("~"):
        raise ValueError("lies in a home directory, and there is none")
    return whole


def has_home() -> bool:
    """Whether the user that this runs as has a home directory, be it there or not."""
    return not os.path.expanduser("~").startswith("~")
