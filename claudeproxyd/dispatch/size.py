"""How large a request is beside the context windows that routes name: guessed, until an upstream has counted. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from claudeproxyd.leases import Route
from claudeproxyd.outcomes.types import AttemptFailed

#: The estimate may be so much too high: only beyond it a route is passed over unasked.
_UNSURE = 1.25
#: What executors make of every family's words for it.
_OVERFLOW = re.compile(r"(prompt|input) is too long(: (?P<tokens>\d{1,12}) tokens)?", re.IGNORECASE | re.ASCII)


class Size:
    """That of one request. Made by dispatch."""

    def __init__(self, estimate: Callable[[], int]) -> None:
        """*estimate* gives its tokens; asked once, when a window is to be compared."""
        self._estimate = estimate
        self._tokens: int | None = None
        self._counted = False
        self.too_large_for: list[Route] = []
        """Routes that were passed over for it."""

    def fits(self, route: Route) -> bool:
        """Whether it may go into the route's window; into one that nobody knows it may."""
        if not route.context:
            return True
        if route in self.too_large_for:
            return False
        if self._tokens is None:
            self._tokens = self._estimate()
        if self._tokens <= route.context * (1 if self._counted else _UNSURE):
            return True
        self.too_large_for.append(route)
        return False

    def overflowed(self, route: Route, failure: AttemptFailed) -> bool:
        """Whether the upstream found it too large for a window that the route names; takes over its count, or that it
        is larger than that."""
        found = _OVERFLOW.match(failure.answer.message) if failure.answer is not None else None
        if found is None or not route.context:
            return False
        self._tokens, self._counted = int(found["tokens"] or route.context + 1), True
        return True

    @property
    def refusal(self) -> str:
        """What to tell a client whom no route is left for: the words by which it compacts, and where they come from."""
        widest = max(self.too_large_for, key=lambda route: route.context or 0)
        return f"prompt is too long: {self._tokens} tokens > {widest.context} maximum for {widest.model}"

    @property
    def passed_over(self) -> str:
        """What to add to an error of other routes; '' where it would have fitted into all."""
        models = ", ".join(dict.fromkeys(route.model for route in self.too_large_for))
        return f"; not asked, as the request is too large for it: {models}" if models else ""
