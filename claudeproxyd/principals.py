"""Who holds a client key, and what the key may be used for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from claudeproxyd.globs import matches

DIGEST_CHARS = 12
"""Hexadecimal digits of a key's digest that operators see: enough to find a key by, and the key cannot be found."""

_ANSWERS_KEPT = 100
"""Of each, and of the holders of tokens there are many."""


@dataclass(frozen=True)
class Principal:
    """Whoever holds one client key."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ("*",)
    """Globs of model names that it may ask for."""
    max_concurrency: int = 0
    """Requests at once; 0: no limit."""
    _answers: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def may_use(self, model: str) -> bool:
        """Whether it may ask for *model*."""
        if "*" in self.models:
            return True
        answer = self._answers.get(model)
        if answer is None:
            if len(self._answers) >= _ANSWERS_KEPT:
                self._answers.clear()
            answer = self._answers[model] = matches(model, self.models)
        return answer
