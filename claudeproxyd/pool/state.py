"""The part of the pool that outlives the daemon, as keys and values. Times are wall-clock seconds since the epoch.

A key is a JSON list, so that no name can be mistaken for another:

``["cooldown", "messages" or "count_tokens", provider, credential or null, model or null]``
    → ``{"kind", "reason", "level", "until", "before", "named"}``
``["affinity", session, model]``
    → ``{"provider", "credential", "used"}``
``["disabled", provider, credential]``
    → ``true``

Among changes, None stands for a value that is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

import msgspec

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.affinity import Affinity, SessionAffinities
from claudeproxyd.pool.candidates import Candidates
from claudeproxyd.pool.scopes import CooldownScope, PooledCredential, ScopeCooldown
from claudeproxyd.slices import batches

#: Seconds for which a cooldown is restored at most, whatever a store says.
MAX_RESTORED_SECONDS = 86_400.0

#: The second part of a cooldown's key: which candidates it is of.
_CANDIDATES = ("messages", "count_tokens")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[str | None]).decode


def key(*parts: str | None) -> str:
    """Return the key of these parts."""
    return _encode(parts).decode()


def affinity_key(session: str, model: str) -> str:
    """Return the key of a session's affinity."""
    return key("affinity", session, model)


def stale_at(value: object) -> float:
    """Return when a value need not be kept any more, in wall-clock seconds.

    A cooldown's level is of use for a while after its end.
    """
    if not isinstance(value, Mapping):
        return math.inf
    moment = value.get("until", value.get("used"))
    return moment + MAX_RESTORED_SECONDS if isinstance(moment, float | int) else 0.0


def scope_key(scope: CooldownScope) -> str:
    """Return the key of the cooldown of *scope*."""
    return key("cooldown", _CANDIDATES[not scope.provider.limited], *scope.names)


class _SavedCooldown(msgspec.Struct):
    """A cooldown's value."""

    kind: str
    until: float
    reason: str = ""
    level: Annotated[int, msgspec.Meta(ge=0)] = 1
    before: int = 0
    named: bool = False


class _SavedAffinity(msgspec.Struct):
    """An affinity's value."""

    provider: str
    credential: str
    used: float


def save_cooldown(cooldown: ScopeCooldown, ahead: float) -> Mapping[str, object] | None:
    """Return the value of *cooldown*; None where it need not be kept. *ahead*: wall clock less reactor's clock."""
    if cooldown.kind is None:
        return None
    until = cooldown.until + ahead
    saved = _SavedCooldown(cooldown.kind.value, until, cooldown.reason, cooldown.level, cooldown.before, cooldown.named)
    return msgspec.structs.asdict(saved)


def save_affinity(affinity: Affinity[PooledCredential], ahead: float) -> Mapping[str, object]:
    """Return the value of *affinity*. *ahead*: wall clock less reactor's clock."""
    return msgspec.structs.asdict(_SavedAffinity(*affinity.target.key, affinity.used + ahead))


def export(
    messages: Candidates, count_tokens: Candidates, affinities: SessionAffinities[PooledCredential], ahead: float
) -> Iterator[dict[str, object]]:
    """Yield the whole state, in parts for one turn each, affinities last. *ahead*: wall clock less reactor's clock."""
    saved: dict[str, object] = {}
    for candidates in (messages, count_tokens):
        for cooldown in candidates.cooldowns():
            value = save_cooldown(cooldown, ahead)
            if value is not None and cooldown.scope.is_known:
                saved[scope_key(cooldown.scope)] = value
    for provider in messages.providers.values():
        saved.update((key("disabled", *pooled.key), True) for pooled in provider.credentials if pooled.switched_off)
    yield saved
    for batch in batches(list(affinities)):
        yield {
            affinity_key(session, model): save_affinity(affinity, ahead)
            for (session, model), affinity in batch
            if messages.knows(model) and affinities.is_current(session, model, affinity)
        }


def restore(
    saved: Mapping[str, object],
    both: tuple[Candidates, Candidates],
    affinities: SessionAffinities[PooledCredential],
    now: float,
    ahead: float,
    cooled: Callable[[str, str, Kind | None], None],
) -> list[str]:
    """Restore saved state, or merge a peer's. Return the keys that could not be applied.

    Such a key is damaged, outlived, or of no credential here. *both*: the candidates for messages and for count_tokens.
    *cooled* is called with each credential, and why it cools for every model; None: it did, and does no more.
    The later end of two cooldowns holds, and the later use of two affinities. None ends a cooldown or a disabling, but
    no affinity: each daemon ends its own.
    """
    rejected = []
    newer = []
    for name, value in saved.items():
        try:
            match _decode(name):
                case ["cooldown", str() as use, str() as provider, credential, model]:
                    candidates = both[_CANDIDATES.index(use)]
                    scope = _find_scope(candidates, provider, credential, model)
                    did_cool = scope.cooldown is not None
                    kind = _restore_cooldown(candidates, scope, value, now, ahead)
                    if credential is not None and model is None and (did_cool or kind is not None):
                        cooled(provider, credential, kind)
                case ["affinity", str() as session, str() as model]:
                    if value is None:
                        continue
                    affinity = msgspec.convert(value, _SavedAffinity)
                    target = both[0].find(affinity.provider, affinity.credential)
                    used = affinity.used - ahead
                    if target is None or not 0 <= now - used <= affinities.ttl:
                        raise KeyError(name)
                    known = affinities.find(session, model, now)
                    if known is None or known.used < used:
                        newer.append((used, session, model, target))
                case ["disabled", str() as provider, str() as credential]:
                    if not all(candidates.enable(provider, credential, value is None) for candidates in both):
                        raise KeyError(name)
                case _:
                    raise KeyError(name)
        except (KeyError, ValueError):
            rejected.append(name)
    for used, session, model, target in sorted(newer, key=lambda each: each[0]):
        affinities.bind(session, model, target, used)
    return rejected


def _find_scope(candidates: Candidates, provider: str, credential: str | None, model: str | None) -> CooldownScope:
    """Return the scope of these names. Raises KeyError where there is no such provider or credential."""
    credentials = candidates.providers[provider]
    if credential is None:
        return credentials if model is None else credentials.model(model)
    pooled = credentials.find(credential)
    if pooled is None:
        raise KeyError(credential)
    # No question whether anybody knows the model: it was known when it was stored, or it would not have been, and those
    # that a provider lists are not discovered yet when a daemon starts.
    return pooled if model is None else credentials.model(model).pair(pooled)


def _restore_cooldown(
    candidates: Candidates, scope: CooldownScope, value: object, now: float, ahead: float
) -> Kind | None:
    """Impose one cooldown, or lift it. Return what it is due to, or None. Raises ValueError for a damaged value."""
    cooldown = scope.cooldown
    if value is None:
        if cooldown is not None:
            candidates.lift(cooldown)
        return None
    saved = msgspec.convert(value, _SavedCooldown)
    kind = Kind(saved.kind)
    until = min(saved.until - ahead, now + MAX_RESTORED_SECONDS)
    if math.isnan(until):
        raise ValueError(until)
    if cooldown is None:
        cooldown = ScopeCooldown(scope)
    elif until <= max(now, cooldown.until):
        return kind
    cooldown.kind = kind
    cooldown.reason = saved.reason
    cooldown.level = saved.level
    cooldown.until = until
    cooldown.named = saved.named
    cooldown.before = max(cooldown.before, saved.before)
    cooldown.began = candidates.newest
    cooldown.limit = 1
    cooldown.running = until > now
    candidates.impose(cooldown)
    return kind
