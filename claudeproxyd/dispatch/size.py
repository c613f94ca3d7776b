"""How large a request is beside the context windows that routes name: guessed, until an upstream has counted. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from claudeproxyd.leases import Route
from claudeproxyd.outcomes.types import AttemptFailed

#: By how much the estimate may be too high: a route is passed over unasked only beyond that.
_ESTIMATE_MARGIN = 1.25
#: The message that executors make of an overflow in any family's words.
_OVERFLOW = re.compile(r"(prompt|input) is too long(: (?P<tokens>\d{1,12}) tokens)?", re.IGNORECASE | re.ASCII)


class Size:
    """The size of one request in tokens. Made by dispatch."""

    def __init__(self, estimate: Callable[[Route], int]) -> None:
        """*estimate* gives the request's tokens for a route's model; called when its window is to be compared."""
        self._estimate = estimate
        self._counted: int | None = None
        """As an upstream has it, for which the request was too large."""
        self.too_large_for: list[Route] = []
        """The routes that were passed over as the request is too large for them."""

    def fits(self, route: Route) -> bool:
        """Return whether the request may fit into the route's window; True where the window is not known."""
        if not route.context:
            return True
        if route in self.too_large_for:
            return False
        if self._counted is not None:
            fits = self._counted <= route.context
        else:
            fits = self._estimate(route) <= route.context * _ESTIMATE_MARGIN
        if fits:
            return True
        self.too_large_for.append(route)
        return False

    def overflowed(self, route: Route, failure: AttemptFailed) -> bool:
        """Return whether *failure* says that the request is too large for the window that *route* names.

        The upstream's count, or what is just beyond the window where it gives none, replaces the estimate.
        """
        found = _OVERFLOW.match(failure.answer.message) if failure.answer is not None else None
        if found is None or not route.context:
            return False
        self._counted = int(found["tokens"] or route.context + 1)
        return True

    @property
    def refusal(self) -> str:
        """The message for a client that no route is left for: the words by which it compacts, and the model."""
        widest = max(self.too_large_for, key=lambda route: route.context or 0)
        tokens = self._estimate(widest) if self._counted is None else self._counted
        return f"prompt is too long: {tokens} tokens > {widest.context} maximum for {widest.model}"

    @property
    def passed_over(self) -> str:
        """The text to add to an error of other routes; '' where no route was passed over."""
        models = ", ".join(dict.fromkeys(route.model for route in self.too_large_for))
        return f"; not asked, as the request is too large for it: {models}" if models else ""
