"""The public listener's endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

from claudeproxyd.dispatch.request import ApiRequest
from claudeproxyd.errors import ClaudeError
from claudeproxyd.web.downlink import Downlink
from claudeproxyd.web.gateway import PublicGateway
from claudeproxyd.web.models import ModelList
from claudeproxyd.web.record import record
from claudeproxyd.web.root import Alive, Endpoint, Health, Node, Ready, mount

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from claudeproxyd.web.request import GatewayRequest

_log = Logger()


class PublicRoot(Node):
    """What clients see."""

    def __init__(self) -> None:
        super().__init__()
        alive = Alive()
        for path, endpoint in (
            (b"/", alive),
            (b"/api/hello", alive),
            (b"/healthz", Health()),
            (b"/readyz", Ready()),
            (b"/v1/messages", Messages(count_tokens=False)),
            (b"/v1/messages/count_tokens", Messages(count_tokens=True)),
            (b"/v1/models", ModelList()),
        ):
            mount(self, path, endpoint)


class Messages(Endpoint):
    """``/v1/messages`` and ``/v1/messages/count_tokens``: handed to dispatch."""

    allowedMethods = (b"POST",)

    def __init__(self, *, count_tokens: bool) -> None:
        super().__init__()
        self._count_tokens = count_tokens

    def render_POST(self, request: GatewayRequest) -> None:
        """Read the envelope, and let dispatch answer."""
        gateway, principal = request.gateway, request.principal
        assert isinstance(gateway, PublicGateway)
        assert principal is not None
        body = request.take_body()
        envelope = body.envelope(count_tokens=self._count_tokens)
        request.model = envelope.model
        if not principal.may_use(envelope.model):
            raise ClaudeError(400, f"model: {envelope.model} is not among the models of this key")
        capture = gateway.captures.begin(request.request_id)
        if capture is not None:
            path = request.uri.decode("latin-1")
            capture.client.request("POST", path, request.headers, body.data)
        downlink = Downlink(request, request.site.clock, request.cors, None if capture is None else capture.client)
        asked = ApiRequest(
            request_id=request.request_id,
            principal=principal,
            envelope=envelope,
            headers=request.headers,
            query=request.query,
            count_tokens=self._count_tokens,
            started=request.started,
        )
        request.dispatched = True
        running = gateway.dispatcher.serve(asked, body, downlink, capture)

        def done(failure: Failure | None) -> None:
            request.cancel = None
            if failure is not None:
                _log.failure("Request {request_id} failed", failure, request_id=request.request_id)
                request.fault()
            if capture is not None:
                capture.finish(downlink.status, broken=bool(running.log.error))
            record(request, running.log, downlink, stream=envelope.stream)

        request.cancel = running.cancel
        running.done.addBoth(done)
