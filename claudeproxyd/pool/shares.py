"""The part of limits of attempts at once that this process may use, where others use the same credentials."""

from __future__ import annotations

from typing import Protocol


class Shares(Protocol):
    """Asked by the pool. A limit has the names of its provider and its credential, or "" for all of the provider's."""

    def allowed(self, provider: str, credential: str, whole: int) -> int:
        """Return how many of *whole* there may be."""

    def short(self, provider: str, credential: str, whole: int) -> None:
        """A request waits, and all that there may be are under way."""

    def came_back(self, provider: str, credential: str, *, needed: bool) -> None:
        """An attempt with that credential is over. *needed*: requests that wait for it have not been served yet."""
