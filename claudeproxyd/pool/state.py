"""What of the pool outlives the daemon, as plain keys and values. Times are wall-clock seconds since the epoch.

A key is a JSON list, so that no name can be mistaken for another:

``["cooldown", "messages" or "count_tokens", provider, credential or null, model or null]``
    → ``{"kind", "reason", "level", "until", "before", "named"}``
``["affinity", session, model]``
    → ``{"provider", "credential", "used"}``
``["disabled", provider, credential]``
    → ``true``

Where changes are told, None stands for what is no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from claudeproxyd.outcomes.types import Kind
from claudeproxyd.pool.affinity import Affinity, SessionAffinities
from claudeproxyd.pool.candidates import Candidates
from claudeproxyd.pool.places import Member, Place, PlaceCooldown

#: No cooldown is taken over for longer than this, whatever a store says.
LONGEST = 86_400.0

_USES = ("messages", "count_tokens")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[str | None]).decode


def key(*parts: str | None) -> str:
    """A key of these parts."""
    return _encode(parts).decode()


def affinity_key(session: str, model: str) -> str:
    """Return the key of a session's affinity."""
    return key("affinity", session, model)


def stale_at(value: Any) -> float:
    """From when a value need not be kept, in wall-clock seconds: a cooldown's level is of use for a while after it."""
    if not isinstance(value, Mapping):
        return math.inf
    moment = value.get("until", value.get("used"))
    return moment + LONGEST if isinstance(moment, float | int) else 0.0


def place_key(place: Place) -> str:
    """The key of a place's cooldown."""
    return key(
        "cooldown",
        _USES[not place.roster.limited],
        place.roster.provider,
        None if place.member is None else place.member.credential.name,
        place.model,
    )


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


def save_cooldown(cooldown: PlaceCooldown, ahead: float) -> Mapping[str, Any] | None:
    """The value of *cooldown*; None where there is nothing to keep. *ahead*: wall clock less reactor's clock."""
    if cooldown.kind is None:
        return None
    until = cooldown.until + ahead
    saved = _SavedCooldown(cooldown.kind.value, until, cooldown.reason, cooldown.level, cooldown.before, cooldown.named)
    return msgspec.structs.asdict(saved)


def save_affinity(affinity: Affinity[Member], ahead: float) -> Mapping[str, Any]:
    """The value of an affinity."""
    return msgspec.structs.asdict(_SavedAffinity(*affinity.target.key, affinity.used + ahead))


def export(
    messages: Candidates, count_tokens: Candidates, affinities: SessionAffinities[Member], ahead: float
) -> dict[str, Any]:
    """Everything at once."""
    saved: dict[str, Any] = {}
    for candidates in (messages, count_tokens):
        for cooldown in candidates.cooldowns():
            value = save_cooldown(cooldown, ahead)
            place = cooldown.place
            if value is not None and (place.model is None or place.roster.knows(place.model)):
                saved[place_key(place)] = value
    for roster in messages.rosters.values():
        saved.update((key("disabled", *member.key), True) for member in roster.members if member.switched_off)
    for (session, model), affinity in affinities:
        if messages.knows(model):
            saved[affinity_key(session, model)] = save_affinity(affinity, ahead)
    return saved


def take_over(
    saved: Mapping[str, Any],
    both: tuple[Candidates, Candidates],
    affinities: SessionAffinities[Member],
    now: float,
    ahead: float,
) -> list[str]:
    """Bring it back, or take another daemon's word. Which keys meant nothing: damaged, outlived, of no credential here.

    *both*: the candidates for messages and for count_tokens. Of two cooldowns the later end holds, of two affinities
    the later use. None ends a cooldown or a disabling; an affinity it does not, that is each daemon's own affair.
    """
    useless = []
    newer = []
    for name, value in saved.items():
        try:
            match _decode(name):
                case ["cooldown", str() as use, str() as provider, credential, model]:
                    _restore(both[_USES.index(use)], provider, credential, model, value, now, ahead)
                case ["affinity", str() as session, str() as model]:
                    if value is None:
                        continue
                    saved_affinity = msgspec.convert(value, _SavedAffinity)
                    target = both[0].rosters[saved_affinity.provider].member(saved_affinity.credential)
                    used = saved_affinity.used - ahead
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
            useless.append(name)
    for used, session, model, target in sorted(newer, key=lambda each: each[0]):
        affinities.bind(session, model, target, used)
    return useless


def _restore(
    candidates: Candidates,
    provider: str,
    credential: str | None,
    model: str | None,
    value: Any,
    now: float,
    ahead: float,
) -> None:
    """Impose one cooldown, or lift it. Raises ValueError or KeyError for what makes no sense."""
    roster = candidates.rosters[provider]
    member = None if credential is None else roster.member(credential)
    if credential is not None and member is None:
        raise KeyError(credential)
    # No question whether anybody knows the model: it was known when it was stored, or it would not have been, and those
    # that a provider lists are not discovered yet when a daemon starts.
    place = Place(roster, None if model is None else roster.lane(model), member)
    cooldown = place.cooldown
    if value is None:
        if cooldown is not None:
            candidates.lift(cooldown)
        return
    saved = msgspec.convert(value, _SavedCooldown)
    until = min(saved.until - ahead, now + LONGEST)
    if math.isnan(until):
        raise ValueError(until)
    if cooldown is None:
        cooldown = PlaceCooldown(place)
    elif until <= max(now, cooldown.until):
        return
    cooldown.kind = Kind(saved.kind)
    cooldown.reason = saved.reason
    cooldown.level = saved.level
    cooldown.until = until
    cooldown.named = saved.named
    cooldown.before = max(cooldown.before, saved.before)
    cooldown.began = candidates.newest
    cooldown.limit = 1
    cooldown.running = until > now
    candidates.impose(cooldown)
