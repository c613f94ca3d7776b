"""One client's request, as web hands it to dispatch, and what dispatch notes down about it on the way."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claudeproxyd.interfaces import ICapture, IDownlink
    from claudeproxyd.leases import Route
    from claudeproxyd.messages.envelope import Envelope
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.principals import Principal


class CancelReason(Enum):
    """Why a call was ended from outside; kept beside the Deferred, since Twisted hands a cancellation back wrapped."""

    CLIENT_GONE = "client_gone"
    """It closed its connection."""
    STALLED = "stalled"
    """It took nothing for ``streaming.stall`` seconds."""
    DRAIN = "drain"
    """The daemon ends, and the time for finishing is over."""
    TOTAL = "total"
    """``timeouts.total`` is over."""


class Prepared(Protocol):
    """A request in the words of one route's upstream; only its executor knows more of it."""

    @property
    def body(self) -> bytes:
        """What goes up."""

    @property
    def warnings(self) -> Sequence[str]:
        """What of the request is lost on that route, each in words that name it."""


class Call:
    """One request from its body's last byte to its answer's.

    Made by web, filled in by dispatch, read by the access log.
    """

    __slots__ = (
        "_hold",
        "_kept",
        "attempts",
        "cancelled",
        "capture",
        "count_tokens",
        "credential",
        "downlink",
        "envelope",
        "error",
        "events",
        "first_byte",
        "first_content",
        "headers",
        "model_served",
        "outcome",
        "prepared",
        "principal",
        "provider",
        "query",
        "request_id",
        "session",
        "started",
        "stop_reason",
        "upstream_time",
        "usage",
    )

    def __init__(
        self,
        *,
        request_id: str,
        principal: Principal,
        envelope: Envelope,
        headers: list[tuple[bytes, bytes]],
        query: bytes,
        count_tokens: bool,
        started: float,
        downlink: IDownlink,
        capture: ICapture | None = None,
        hold: Callable[[int], None] = lambda change: None,
    ) -> None:
        """*hold* is told of changes in the bytes that are kept beside the body."""
        self.request_id = request_id
        """Ours: ``req_…``."""
        self.principal = principal
        """Who asks."""
        self.envelope = envelope
        self.headers = headers
        """The client's, lower-case names, in order; its key is among them and goes no further."""
        self.query = query
        """Raw, without the question mark; goes up unchanged."""
        self.count_tokens = count_tokens
        self.started = started
        """When the request's head was in, on the reactor's clock."""
        self.downlink = downlink
        self.capture = capture
        """Where it is recorded; None where it is not."""
        self.cancelled: CancelReason | None = None
        self.prepared: dict[Route, Any] = {}
        """By route, where that route's executor translates: a :class:`Prepared`, of the kind that it knows.

        See :meth:`prepare`."""
        self._hold = hold
        self._kept = 0
        self.session = ""
        """What its affinity goes by."""
        self.attempts = 0
        self.upstream_time = 0.0
        """Seconds that attempts took, and waiting for leases: what is left of the whole is our own doing."""
        self.events = 0
        """Events of a message that the client was sent."""
        self.provider = ""
        """Of the last attempt, like ``credential`` and ``model_served``."""
        self.credential = ""
        self.model_served = ""
        self.outcome = ""
        """What the whole request came to: an outcome's name."""
        self.error = ""
        """What the client was told, shortened, or ''."""
        self.stop_reason: str | None = None
        self.usage: Usage | None = None
        self.first_byte: float | None = None
        """When the upstream's head came, on the reactor's clock."""
        self.first_content: float | None = None
        """When the first content event came."""

    def prepare(self, route: Route, prepared: Prepared) -> None:
        """Keep what an executor has translated the request to, for its attempts on *route*."""
        self.prepared[route] = prepared
        self._kept += len(prepared.body)
        self._hold(len(prepared.body))

    def forget_body(self) -> None:
        """Let go of the body and of all that was made of it: nobody will send it again."""
        self.envelope.forget()
        self.prepared.clear()
        self._hold(-self._kept)
        self._kept = 0
