"""A listener's resource tree: who answers what, by which methods, and who may come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.web.resource import Resource

from claudeproxyd.errors import DO_NOT_RETRY, ClaudeError
from claudeproxyd.messages import hops

if TYPE_CHECKING:
    from claudeproxyd.web.request import GatewayRequest


_CIRCLE = "This request has been here before: the base_url of a provider leads back to this gateway"


class Endpoint(Resource):
    """A place in the tree. Its ``render_METHOD`` answers through the request, or raises ClaudeError.

    Who calls, and whether the method fits, has been asked by :func:`receive` before the body was read.
    """

    allowedMethods: tuple[bytes, ...] = (b"GET", b"HEAD")
    is_open = False
    """Answered without a key."""

    def getChild(self, path: bytes, request: GatewayRequest) -> Resource:
        """What is not in the tree."""
        return Nothing()

    def render(self, request: GatewayRequest) -> None:
        """Call the method's own."""
        method = b"GET" if request.method == b"HEAD" else request.method
        getattr(self, f"render_{method.decode()}")(request)


class Nothing(Endpoint):
    """A path that leads nowhere."""

    isLeaf = True


class Branch(Endpoint):
    """A part of a path that is nothing by itself."""

    allowedMethods = ()


def receive(request: GatewayRequest, endpoint: Endpoint) -> Endpoint:
    """Who answers this request, of which the head is known. Raises ClaudeError if nobody does, or will."""
    gateway = request.gateway
    if hops.goes_round(gateway.own_hop, request.headers):
        # Before the key: what comes back has an upstream's, and must not look like one that was refused.
        raise ClaudeError(508, _CIRCLE, headers=[DO_NOT_RETRY])
    request.cors = gateway.guard.check(request)
    if isinstance(endpoint, (Nothing, Branch)):
        raise ClaudeError(404, f"There is no {request.path.decode('latin-1')[:200]} here")
    if request.method not in endpoint.allowedMethods:
        if request.method == b"OPTIONS" and request.cors:
            return _Preflight(endpoint.allowedMethods)
        allowed = b", ".join(endpoint.allowedMethods)
        raise ClaudeError(405, f"Only {allowed.decode()} will do here", headers=[(b"allow", allowed)])
    if not endpoint.is_open:
        request.principal = gateway.authenticator.authenticate(request.headers)
    return endpoint


def grow(root: Resource, path: bytes, endpoint: Resource) -> None:
    """Put *endpoint* where *path* leads, and branches on the way to it."""
    *branches, last = path.removeprefix(b"/").split(b"/")
    for segment in branches:
        child = root.children.get(segment)
        if child is None:
            child = Branch()
            root.putChild(segment, child)
        root = child
    root.putChild(last, endpoint)


class _Preflight(Endpoint):
    """A browser asks whether a page may do what it wants to."""

    def __init__(self, methods: tuple[bytes, ...]) -> None:
        super().__init__()
        self._methods = methods

    def render_OPTIONS(self, request: GatewayRequest) -> None:
        """Say what is allowed."""
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


class Alive(Endpoint):
    """``/healthz`` and what Claude Code probes: the process lives."""

    is_open = True

    def render_GET(self, request: GatewayRequest) -> None:
        """Say so."""
        request.answer_json(b'{"status":"ok"}')


class Ready(Endpoint):
    """``/readyz``: configured, and not draining. Cooling credentials are no reason to be taken out of a balancer."""

    is_open = True

    def render_GET(self, request: GatewayRequest) -> None:
        """Say so, or 503."""
        if request.gateway.ready() and not request.site.draining:
            request.answer_json(b'{"status":"ready"}')
        else:
            raise ClaudeError(503, "Not ready: starting or draining", headers=[(b"retry-after", b"1")])
