"""Which keys an operator may mint who may not do everything: those of a label, and nothing that goes beyond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from claudeproxyd.errors import DO_NOT_RETRY, ClaudeError
from claudeproxyd.globs import covers, matches
from claudeproxyd.principals import Principal

if TYPE_CHECKING:
    from claudeproxyd.accounts.key_file import StoredKey


_NONE = "There is no such key, or it is over"


class BeyondBounds(ClaudeError):
    """What an operator tried with a key that is not theirs, or cannot be. It is written down."""


@dataclass(frozen=True)
class Minting:
    """The bounds of what an operator mints. Whoever has somebody's key spends in their name: others' stay others'."""

    labels: Mapping[str, str]
    """Exactly those that their keys have: another one could spend from another's limit."""
    names: tuple[str, ...] = ("*",)
    """Globs of names: limits may go by them."""
    models: tuple[str, ...] = ("*",)
    max_concurrency: int = 0
    """0: no bound."""
    longest: float = 0.0
    """Seconds that a key may be valid; 0: no bound."""

    def sees(self, labels: Mapping[str, str]) -> bool:
        """Whether a key with these labels is theirs to see, and to revoke: it may have others beside."""
        return all(labels.get(name) == value for name, value in self.labels.items())

    def granted(
        self, wanted: Principal, models: Sequence[str] | None, expires_in: float | None
    ) -> tuple[Principal, float | None]:
        """Return what is minted where *wanted* is asked for, with what is left out filled in. Raises BeyondBounds.

        *models*: None where nothing is said of them.
        """
        if self.longest and expires_in is None:
            expires_in = self.longest
        holder = replace(
            wanted,
            labels={**self.labels, **wanted.labels},
            models=self.models if models is None else tuple(models),
            max_concurrency=wanted.max_concurrency or self.max_concurrency,
        )
        if why := self._objection(holder, expires_in):
            raise _forbidden(why)
        return holder, expires_in

    def judge_name(self, before: StoredKey) -> None:
        """Check that the name of a key that is over is theirs: figures and limits know it. Raises BeyondBounds."""
        if not self.sees(before.principal.labels):
            raise _forbidden(f"name: {before.principal.name} was the name of another's key")

    def judge(self, key: StoredKey) -> None:
        """Check that a key is theirs. Raises BeyondBounds: of others' they are told nothing."""
        if not self.sees(key.principal.labels):
            raise BeyondBounds(404, _NONE, logged=f"{key.principal.name} is another's key")

    def judge_secret(self, key: StoredKey) -> None:
        """Check that they may have a secret of a key: it can do no more than they may give. Raises BeyondBounds."""
        self.judge(key)
        if why := self._objection(key.principal, None if key.expires is None else round(key.expires - key.created)):
            raise _forbidden(f"this key goes beyond what you may mint: {why}")

    def _objection(self, holder: Principal, expires_in: float | None) -> str:
        """Return in which way a key would go beyond; '' if it does not."""
        if dict(holder.labels) != dict(self.labels):
            return (
                f"labels: you may mint for {' and '.join(f'{name} = {value}' for name, value in self.labels.items())}"
            )
        if not matches(holder.name, self.names):
            return f"name: has to be {' or '.join(self.names)}"
        beyond = [glob for glob in holder.models if not any(covers(mine, glob) for mine in self.models)]
        if beyond:
            return f"models: {beyond[0]} is not within {' '.join(self.models)}"
        if self.max_concurrency and not 0 < holder.max_concurrency <= self.max_concurrency:
            return f"max_concurrency: at most {self.max_concurrency}"
        if self.longest and (expires_in is None or expires_in > self.longest):
            return f"expires_in: at most {self.longest:.0f} seconds"
        return ""


def no_such_key() -> ClaudeError:
    """Return what is told of a key that is not there, and of one that is none of whoever asks."""
    return ClaudeError(404, _NONE)


def _forbidden(why: str) -> BeyondBounds:
    return BeyondBounds(403, why, headers=[DO_NOT_RETRY])
