"""One upstream request made with one lease."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.dispatch.input_estimate import InputEstimate
from claudeproxyd.messages.corrections import Corrections

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.interfaces import ICapture, IPrepared, ITranscript
    from claudeproxyd.leases import Credential, Route
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.observe.tracing import AttemptTrace


class Attempt:
    """What an executor needs to know, and the few things that it notes down. Made by dispatch for each try."""

    __slots__ = (
        "abandon",
        "body",
        "bytes_out",
        "capture",
        "credential",
        "estimate",
        "head_at",
        "last",
        "model",
        "number",
        "paid",
        "prepared",
        "request",
        "route",
        "secret",
        "stale_at",
        "started",
        "status",
        "trace",
        "transcript",
        "usage",
    )

    def __init__(
        self,
        request: ApiRequest,
        credential: Credential,
        secret: Mapping[str, str],
        route: Route,
        number: int,
        *,
        prepared: IPrepared | None = None,
        capture: ICapture | None = None,
        estimate: InputEstimate | None = None,
    ) -> None:
        self.request = request
        self.credential = credential
        self.secret = secret
        """The credential's present secret: ``api_key`` or whatever its kind has."""
        self.route = route
        self.model = route.model
        """The upstream's name for the model."""
        self.number = number
        """From 1, for logs."""
        self.prepared = prepared
        """What ``prepare`` made of the request for this route; if a reload came between, that of another kind did."""
        self.estimate = estimate or InputEstimate(lambda: request.envelope.body, Corrections())
        """What the input comes to, for executors that must say it before the upstream has."""
        self.body: bytes | None = None
        """What to send instead of the client's own body: set after the upstream refused that."""
        self.last = False
        """No other try follows where the model fails: what can be shown of its answer is better than none."""
        self.started = 0.0
        """On the reactor's clock, like ``head_at``."""
        self.head_at: float | None = None
        """When the head of the upstream's answer came."""
        self.stale_at: float | None = None
        """When it went out once more, since the connection of the first time was closed already."""
        self.status = 0
        """The upstream's; 0 where no head came."""
        self.capture = capture
        """Where the request is recorded, if it is."""
        self.transcript: ITranscript | None = None
        """Where the executor shows what it sent and got, when the request is recorded."""
        self.trace: AttemptTrace | None = None
        """Its span, if the request is traced: the executor sends ``trace.lines`` along."""
        self.bytes_out = 0
        """Bytes of body sent up."""
        self.abandon: Callable[[], None] | None = None
        """Closes the upstream's connection unless its answer is whole. Set by the executor when the head is in; called
        by dispatch when the executor then fails by a fault of its own, and nobody else would."""
        self.paid = False
        """The upstream's 200 came, and no answer that could be used: it may have been paid for in vain."""
        self.usage: Usage | None = None
        """What the upstream has counted, if it has, of a whole answer that could not be used."""

    def went_stale(self, now: float) -> None:
        """Count it once more: it met a closed connection, and goes out again on a fresh one."""
        self.stale_at = now
        self.number += 1
