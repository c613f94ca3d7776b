"""Failures of parts that may not fail: the first of each is logged."""

from __future__ import annotations

from collections.abc import Hashable

from twisted.logger import Logger


class FirstFailures:
    """Logs the first failure of each of several objects; a thousand requests would make a thousand tracebacks of it."""

    _log = Logger()

    def __init__(self, message: str) -> None:
        """*message* is what is logged, with ``{who}`` for the name of the object's class."""
        self._message = message
        self._seen: set[Hashable] = set()

    def note(self, key: Hashable, who: object) -> None:
        """Log the exception that is being handled, unless *key* has failed before."""
        if key not in self._seen:
            self._seen.add(key)
            self._log.failure(self._message, who=type(who).__name__)
