"""The body of one request, with what was made of it: one owner, who counts it and lets go of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.messages.envelope import Envelope, read_envelope

if TYPE_CHECKING:
    from claudeproxyd.interfaces import IBufferAccount, IPrepared
    from claudeproxyd.leases import Route


class Body:
    """Made by web once all of a body is in, handed on to dispatch. Counted in ``server.max_buffered_bytes``."""

    __slots__ = ("_account", "_client", "_envelope", "_prepared_size", "_reserved", "data", "prepared")

    def __init__(self, data: bytes, account: IBufferAccount, client: str = "", reserved: int = 0) -> None:
        """*reserved* bytes of *account* are *client*'s already; they are this body's from now on."""
        self.data = data
        """As the client sent it, its content coding undone; b'' once it is released."""
        self.prepared: dict[Route, IPrepared | None] = {}
        """By route, for those that can carry the request; see :meth:`IExecutor.prepare
        <claudeproxyd.interfaces.IExecutor.prepare>`."""
        self._account = account
        self._client = client
        self._reserved = reserved
        self._prepared_size = 0
        self._envelope: Envelope | None = None

    def envelope(self, *, count_tokens: bool) -> Envelope:
        """Read it. Raises :class:`~claudeproxyd.errors.ClaudeError` (400) that names the member which is wrong."""
        self._envelope = read_envelope(self.data, count_tokens=count_tokens)
        return self._envelope

    def replace(self, envelope: Envelope) -> None:
        """Hold the body of *envelope* in place of the one before, which is gone; ahead of all that is prepared.

        Raises :class:`~claudeproxyd.errors.ClaudeError` (529) where it is larger, and there is no room for it.
        """
        change = len(envelope.body) - self._reserved
        if change > 0:
            self._account.reserve(self._client, change)
        elif change < 0:
            self._account.release(self._client, -change)
        self._reserved += change
        if self._envelope is not None:
            self._envelope.forget()
        self.data, self._envelope = envelope.body, envelope

    def keep(self, route: Route, prepared: IPrepared | None) -> None:
        """Keep what an executor prepared for attempts on *route*."""
        self.prepared[route] = prepared
        if prepared is not None:
            size = len(prepared.body)
            self._prepared_size += size
            self._account.adjust(size)

    def release(self) -> None:
        """Let go of the bytes and of all that was made of them: nobody will send them again.

        Called as soon as that is so, by whoever knows first; only the first call does anything.
        """
        self.data = b""
        if self._envelope is not None:
            self._envelope.forget()
            self._envelope = None
        if self.prepared:
            self.prepared.clear()
            self._account.adjust(-self._prepared_size)
            self._prepared_size = 0
        if self._reserved:
            self._account.release(self._client, self._reserved)
            self._reserved = 0
