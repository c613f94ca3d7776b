"""Tokens that expire: the parent fetches them, once for all workers. A refresh token may be good for one use."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, cast

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from claudeproxyd.outcomes.types import AttemptFailed, Outcome
from claudeproxyd.secrets.failures import unavailable
from claudeproxyd.secrets.refreshed import Fetch, RefreshedSecret
from claudeproxyd.workers.channel import Refused

if TYPE_CHECKING:
    from claudeproxyd.interfaces import ISecretSource
    from claudeproxyd.workers.channel import ControlChannel

_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True)
class SharedToken:
    """A secret as the parent has it."""

    of_requests: Mapping[str, str] = field(repr=False)
    masked: Sequence[str] = field(repr=False)
    lifetime: float
    """Seconds."""

    def members(self) -> Mapping[str, str]:
        """See :class:`~claudeproxyd.secrets.refreshed.Fetched`."""
        return self.of_requests

    def secrets(self) -> Sequence[str]:
        """See :class:`~claudeproxyd.secrets.refreshed.Fetched`."""
        return self.masked


def fetched_by_parent(channel: ControlChannel) -> Callable[[str, str], Fetch]:
    """Return what makes a worker's fetches, by provider and credential."""

    def fetch_of(provider: str, credential: str) -> Fetch:
        held = ""

        async def fetch() -> SharedToken:
            nonlocal held
            try:
                told = await channel.ask("token", (provider, credential, held))
            except (ConnectionDone, Refused) as error:
                raise unavailable(f"the token cannot be had: {error}") from None
            if isinstance(told, bytes):
                raise AttemptFailed(cast("Outcome", pickle.loads(told)))  # noqa: S301 - the parent's
            members, masked, lifetime = cast("tuple[dict[str, str], list[str], float]", told)
            held = _digest(members)
            return SharedToken(members, masked, lifetime)

        return fetch

    return fetch_of


def answered(source: ISecretSource, held: str) -> Deferred[object]:
    """Return a token that is another than the one *held*: the present one, or else one that is fetched now."""
    return Deferred.fromCoroutine(_answer(source, held))


async def _answer(source: ISecretSource, held: str) -> object:
    assert isinstance(source, RefreshedSecret)
    members = source.present()
    if members is None or _digest(members) == held:
        try:
            members = await source.refresh()
        except AttemptFailed as failed:
            return pickle.dumps(failed.outcome)
    return dict(members), list(source.secrets), source.left


def _digest(members: Mapping[str, str]) -> str:
    """Return what tells one token from another, and not what it is."""
    return sha256(_encode(members)).hexdigest()
