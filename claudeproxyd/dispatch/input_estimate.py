"""The tokens of one request's input by our own estimate, and what is learnt when an upstream has counted them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from claudeproxyd.messages.corrections import Corrections
from claudeproxyd.messages.estimate import Measure, measure

if TYPE_CHECKING:
    from claudeproxyd.leases import Route
    from claudeproxyd.messages.usage import Usage

#: A larger request is not measured for nothing but to learn from it.
_MAX_LESSON_BYTES = 262_144


class InputEstimate:
    """Measures the request once, when that is first needed. Made by dispatch for each request."""

    __slots__ = ("_body", "_corrections", "_measure", "_measured")

    def __init__(
        self,
        body: Callable[[], bytes],
        corrections: Corrections,
        measure: Callable[[bytes], Measure] = measure,
    ) -> None:
        """*body* gives the client's bytes while they are there."""
        self._body = body
        self._corrections = corrections
        self._measure = measure
        self._measured: Measure | None = None

    def tokens(self, route: Route) -> int:
        """Return the estimate for the route's model, corrected by what its provider counted before."""
        return self._corrections.corrected(route.provider, route.model, self._taken().parts(route.model))

    def take_lesson(self, route: Route) -> None:
        """Measure the request while its bytes are there, if it is one of the first of the route's model."""
        if self._corrections.lesson(route.provider, route.model) and len(self._body()) <= _MAX_LESSON_BYTES:
            self._taken()

    def counted(self, route: Route, usage: Usage) -> None:
        """Learn from what the upstream has counted, where the request was measured.

        Not where most of it is images and documents: their tokens say nothing about text.
        """
        tokens = usage.counted_input
        if tokens is None or self._measured is None:
            return
        parts = self._measured.parts(route.model)
        if 2 * self._measured.opaque < sum(parts):
            self._corrections.learn(route.provider, route.model, parts, tokens)

    def _taken(self) -> Measure:
        if self._measured is not None:
            return self._measured
        body = self._body()
        measured = self._measure(body)
        if body:  # else it is gone already, and teaches nothing
            self._measured = measured
        return measured
