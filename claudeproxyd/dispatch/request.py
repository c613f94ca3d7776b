"""One client's request, as web hands it to dispatch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from claudeproxyd.errors import ClaudeError
from claudeproxyd.messages.envelope import read_envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claudeproxyd.messages.envelope import Envelope
    from claudeproxyd.principals import Principal


class CancelReason(Enum):
    """Why a request was ended from outside; kept beside the Deferred, as Twisted hands a cancellation back wrapped."""

    CLIENT_GONE = "client_gone"
    """It closed its connection."""
    STALLED = "stalled"
    """It took nothing for ``streaming.stall`` seconds."""
    DRAIN = "drain"
    """The daemon ends, and the time for finishing is over."""
    TOTAL = "total"
    """``timeouts.total`` is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """What a client asked. Made by web; nobody changes it, and hooks that want it otherwise return a copy."""

    request_id: str
    """Ours: ``req_…``."""
    principal: Principal
    """Who asks."""
    envelope: Envelope
    """Its ``body`` is empty once the request's :class:`~claudeproxyd.dispatch.body.Body` is released."""
    headers: Sequence[tuple[bytes, bytes]]
    """The client's, lower-case names, in order; its key is among them and goes no further."""
    query: bytes
    """Raw, without the question mark; goes up unchanged."""
    count_tokens: bool
    started: float
    """When the request's head was in, on the reactor's clock."""

    def with_body(self, body: bytes) -> ApiRequest:
        """Return a copy whose JSON is *body*; ``envelope.with_model`` makes one with another model.

        Raises ValueError where it is no request, in words that name the member which is wrong.
        """
        try:
            envelope = read_envelope(body, count_tokens=self.count_tokens)
        except ClaudeError as error:
            raise ValueError(f"the body that was to take the client's place is none: {error.message}") from None
        return replace(self, envelope=envelope)

    def with_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> ApiRequest:
        """Return a copy with these headers, and no others; their names are put in lower case."""
        return replace(self, headers=[(name.lower(), value) for name, value in headers])
