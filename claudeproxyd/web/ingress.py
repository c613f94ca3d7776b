"""What is checked of a request before its body is read: loops, web pages, path, method and key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.errors import DO_NOT_RETRY, ClaudeError
from claudeproxyd.messages import hops
from claudeproxyd.observe.usage import foreign
from claudeproxyd.principals import Principal
from claudeproxyd.web.audit import audit_refusal
from claudeproxyd.web.gateway import AdminGateway
from claudeproxyd.web.roles import check_role
from claudeproxyd.web.root import Endpoint, Node, NotFound

if TYPE_CHECKING:
    from claudeproxyd.web.request import GatewayRequest

_LOOP = "This request has been here before: the base_url of a provider leads back to this gateway"


def authorize(request: GatewayRequest, endpoint: Endpoint) -> Endpoint:
    """Return the endpoint that answers a request whose head is in, and note whose request it is.

    *endpoint* is what its path leads to. Called by the site. Raises ClaudeError: 508, 503, 403, 415, 404, 405 or 401.
    """
    try:
        return _authorized(request, endpoint)
    except ClaudeError as error:
        if isinstance(request.gateway, AdminGateway) and error.status in (401, 403):
            audit_refusal(request, error)
        raise


def _authorized(request: GatewayRequest, endpoint: Endpoint) -> Endpoint:
    gateway = request.gateway
    if hops.goes_round(gateway.own_hop, request.headers):
        # Before the key: what comes back has an upstream's, and must not look like one that was refused.
        raise ClaudeError(508, _LOOP, headers=[DO_NOT_RETRY])
    probing = endpoint.is_probe and request.method in endpoint.allowedMethods
    if request.over_limit and not probing:
        raise ClaudeError(503, "Too many connections", headers=[(b"retry-after", b"1")])
    try:
        request.cors = gateway.guard.check(request.method, request.headers)
    except ClaudeError:
        if not probing:
            raise
    if isinstance(endpoint, (NotFound, Node)):
        raise ClaudeError(404, f"There is no {foreign(request.path.decode('latin-1'))} here")
    if request.method not in endpoint.allowedMethods:
        if request.method == b"OPTIONS" and request.cors:
            return _Preflight(endpoint.allowedMethods)
        allowed = b", ".join(endpoint.allowedMethods)
        raise ClaudeError(405, f"The method must be one of: {allowed.decode()}", headers=[(b"allow", allowed)])
    if not endpoint.is_open:
        found = gateway.authenticator.authenticate(request.headers)
        if isinstance(found, Principal):
            request.principal = found
        else:
            request.wait_for(found)
        if isinstance(gateway, AdminGateway):
            check_role(request.principal, request.method, endpoint.seen_by, for_minters=endpoint.for_minters)
    return endpoint


class _Preflight(Endpoint):
    """The answer to a browser that asks whether a page may send a request."""

    def __init__(self, methods: tuple[bytes, ...]) -> None:
        super().__init__()
        self._methods = methods

    def render_OPTIONS(self, request: GatewayRequest) -> None:
        """Answer with the allowed methods and headers."""
        wanted = request.header(b"access-control-request-headers") or b"content-type"
        request.answer(
            204,
            (
                (b"access-control-allow-methods", b", ".join(self._methods)),
                (b"access-control-allow-headers", wanted),
                (b"access-control-max-age", b"600"),
            ),
            b"",
        )
