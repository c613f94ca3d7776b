"""Refresh tokens that are good for one use: the newest of each outlives a reload and a restart.

A part of the persistent state (:class:`claudeproxyd.interfaces.IPersistent`). The key of an entry is

``["grant", id]``
    → ``{"token": …, "until": …}``

with the token encrypted. Key and id are derived from what was configured, the first refresh token above all: whoever
reads the state and not the configuration learns nothing, and another first token is another entry.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from twisted.internet.defer import Deferred, DeferredLock, succeed
from zope.interface import implementer

from claudeproxyd.config.schema import OAuth
from claudeproxyd.interfaces import IPersistent
from claudeproxyd.observe.scrub import remember

#: Seconds for which an entry is kept after it was written: some servers' refresh tokens live for a year.
ENTRY_LIFETIME = 400 * 86_400.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[str]).decode


class Entry(msgspec.Struct):
    """A refresh token as it is saved."""

    token: str
    until: float


class Grant:
    """A configured refresh token, and the newest token that came of it.

    A token may be used once, so a fetch holds the lock, which all credentials and all configurations share.
    """

    def __init__(self, settings: OAuth) -> None:
        self.configured = settings.refresh_token.reveal()
        self.newest = self.configured
        self.lock = DeferredLock()
        self._until = 0.0
        self.id, self._cipher = _derived(settings)

    def __repr__(self) -> str:
        return f"<Grant {self.id}>"

    def update(self, entry: Entry) -> None:
        """Use the saved token, unless a newer one is here or another configuration has encrypted it."""
        if entry.until <= self._until:
            return
        try:
            newest = self._cipher.decrypt(entry.token.encode()).decode()
        except (InvalidToken, ValueError):
            return
        remember([newest])
        self.newest, self._until = newest, entry.until

    def entry(self, token: str, until: float) -> Entry:
        """Make *token* the newest one. Return the entry to save."""
        remember([token])
        self.newest, self._until = token, until
        return Entry(self._cipher.encrypt(token.encode()).decode(), until)


@implementer(IPersistent)
class Grants:
    """All grants. The daemon has it, and the sources of credentials get theirs from it."""

    def __init__(
        self,
        wall_clock: Callable[[], float],
        *,
        outlive: bool = False,
        changed: Callable[[Mapping[str, object]], None] = lambda changes: None,
    ) -> None:
        """*outlive*: entries are kept over a restart, and saved ones may be still to come: see :meth:`settled`.

        *changed* is called with changes to be stored; it neither blocks nor raises.
        """
        self.outlive = outlive
        self._changed = changed
        self._wall_clock = wall_clock
        self._grants: dict[str, Grant] = {}
        self._kept: dict[str, Entry] = {}
        self._waiting: list[Deferred[None]] | None = [] if outlive else None

    def grant(self, settings: OAuth) -> Grant:
        """Return the grant of the refresh token in *settings*, the same one for all that have it configured."""
        grant = Grant(settings)
        if grant.id in self._grants:
            return self._grants[grant.id]
        self._grants[grant.id] = grant
        if grant.id in self._kept:
            grant.update(self._kept[grant.id])
        return grant

    def replace(self, grant: Grant, token: str) -> None:
        """Save *token*, which the server gave; it may accept the one before no more."""
        entry = self._kept[grant.id] = grant.entry(token, self._wall_clock() + ENTRY_LIFETIME)
        self._changed({_key(grant.id): msgspec.structs.asdict(entry)})

    # -- what outlives the daemon

    def settled(self) -> Deferred[None]:
        """Fires once the saved entries are here or not waited for any more: before that a used token might be sent."""
        if self._waiting is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def settle(self) -> None:
        """Fire :meth:`settled`: the saved entries are here, or cannot be had. Called by the daemon."""
        waiting, self._waiting = self._waiting or [], None
        for each in waiting:
            if not each.called:
                each.callback(None)

    def export_state(self) -> Iterator[Mapping[str, object]]:
        """See :class:`~claudeproxyd.interfaces.IPersistent`."""
        yield {_key(name): msgspec.structs.asdict(entry) for name, entry in self._kept.items()}

    def import_state(self, saved: Mapping[str, object]) -> None:
        """See :class:`~claudeproxyd.interfaces.IPersistent`.

        An entry that no credential has now may be one's after a reload, and stays until it is old.
        """
        useless = [key for key, value in saved.items() if not self._merge_entry(key, value)]
        if useless:
            self._changed(dict.fromkeys(useless))

    def merge(self, changes: Mapping[str, object]) -> None:
        """See :class:`~claudeproxyd.interfaces.IPersistent`. Another daemon's newer token replaces ours."""
        for key, value in changes.items():
            self._merge_entry(key, value)

    def _merge_entry(self, key: str, value: object) -> bool:
        """Take an entry if it is newer. Return whether it was one at all."""
        try:
            _, name = _decode(key)
            entry = msgspec.convert(value, Entry)
        except ValueError:
            return False
        known = self._kept.get(name)
        if known is None or known.until < entry.until:
            self._kept[name] = entry
            if name in self._grants:
                self._grants[name].update(entry)
        return True


def _key(name: str) -> str:
    return _encode(["grant", name]).decode()


def _derived(settings: OAuth) -> tuple[str, Fernet]:
    """Return the id of the grant's entry, and the cipher for it."""
    secret = settings.client_secret
    parts = (
        settings.refresh_token.reveal(),
        settings.token_url,
        settings.client_id,
        secret.reveal() if secret is not None else "",
    )
    material = HKDF(SHA256(), 48, salt=None, info=b"claudeproxyd grant").derive(_encode(parts))
    return material[:16].hex(), Fernet(urlsafe_b64encode(material[16:]))
