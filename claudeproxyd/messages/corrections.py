"""By how much estimates of tokens are off for each model of a provider, learnt from what its upstream has counted."""

from __future__ import annotations

import math
from collections import OrderedDict

#: Models that are remembered; clients choose names.
MAX_MODELS = 1_000
#: Requests of a model that are measured for nothing but to learn from them.
LESSONS = 20
#: How much a count changes at least, of what would be right for it alone.
_LEAST_STEP = 0.5
#: Tokens of a request that half its difference is learnt from: what is around a short one says nothing about text.
_HALF = 300.0
_LOWEST, _HIGHEST = 0.2, 5.0


class _Factors:
    """What an estimate's two parts are multiplied by."""

    __slots__ = ("counts", "foreign", "lessons", "plain")

    def __init__(self) -> None:
        self.plain = self.foreign = 1.0
        self.counts = self.lessons = 0


class Corrections:
    """The factors of all models; the process has one of these. Pure.

    There are two for each model, of what is plain and of foreign text: who writes Chinese would else spoil the figures
    of those who write English. Each count moves both towards what is right for it, in proportion to their share in the
    request (normalized least mean squares).
    """

    def __init__(self) -> None:
        self._factors: OrderedDict[tuple[str, str], _Factors] = OrderedDict()

    def __len__(self) -> int:
        return len(self._factors)

    def corrected(self, provider: str, model: str, parts: tuple[float, float]) -> int:
        """Return the tokens that an estimate of *parts* comes to, at least 1."""
        factors = self._factors.get((provider, model))
        if factors is None:
            return max(1, math.ceil(sum(parts)))
        return max(1, math.ceil(parts[0] * factors.plain + parts[1] * factors.foreign))

    def lesson(self, provider: str, model: str) -> bool:
        """Return whether a request is worth measuring to learn from it, and count that one."""
        factors = self._of(provider, model)
        factors.lessons += 1
        return factors.lessons <= LESSONS

    def learn(self, provider: str, model: str, parts: tuple[float, float], tokens: int) -> None:
        """Learn that what was estimated as *parts*, uncorrected, has been counted as *tokens*."""
        factors = self._of(provider, model)
        factors.counts += 1
        plain, foreign = parts
        wrong = tokens - (plain * factors.plain + foreign * factors.foreign)
        step = max(_LEAST_STEP, 1 / factors.counts) * wrong / (plain * plain + foreign * foreign + _HALF * _HALF)
        factors.plain = _bounded(factors.plain + step * plain)
        factors.foreign = _bounded(factors.foreign + step * foreign)

    def _of(self, provider: str, model: str) -> _Factors:
        """Return a model's factors; the model that was not asked for the longest makes way for a new one."""
        key = (provider, model)
        factors = self._factors.get(key)
        if factors is None:
            factors = self._factors[key] = _Factors()
            if len(self._factors) > MAX_MODELS:
                self._factors.popitem(last=False)
        self._factors.move_to_end(key)
        return factors


def _bounded(factor: float) -> float:
    return min(_HIGHEST, max(_LOWEST, factor))
