"""Who answers what: the paths of a listener, their methods, and who may come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from twisted.python.compat import nativeString

from claudeproxyd.errors import ClaudeError

if TYPE_CHECKING:
    from claudeproxyd.web.request import GatewayRequest


class Endpoint:
    """One path. Its ``render_METHOD`` answers through the request, or raises ClaudeError, and returns nothing.

    Who calls, and whether the method fits, has been asked before the body was read.
    """

    methods: tuple[bytes, ...] = (b"GET", b"HEAD")
    is_open = False
    """Answered without a key."""

    def render(self, request: GatewayRequest) -> None:
        """Call the method's own."""
        name = b"GET" if request.method == b"HEAD" else request.method
        getattr(self, "render_" + nativeString(name))(request)


class Root:
    """A listener's paths. The tree is flat, so nothing is gained by Twisted's walk from segment to segment."""

    def __init__(self, endpoints: Mapping[bytes, Endpoint]) -> None:
        self._endpoints = endpoints

    def find(self, path: bytes) -> Endpoint | None:
        """Who answers *path*."""
        return self._endpoints.get(path)

    def receive(self, request: GatewayRequest) -> Endpoint:
        """Who answers this request, of which the head is known. Raises ClaudeError if nobody does, or will."""
        gateway = request.gateway
        request.cors = gateway.guard.check(request)
        endpoint = self.find(request.path)
        if endpoint is None:
            raise ClaudeError(404, f"There is no {request.path.decode('latin-1')[:200]} here")
        if request.method not in endpoint.methods:
            if request.method == b"OPTIONS" and request.cors:
                return _Preflight(endpoint.methods)
            allowed = b", ".join(endpoint.methods)
            raise ClaudeError(405, f"Only {allowed.decode()} will do here", headers=[(b"allow", allowed)])
        if not endpoint.is_open:
            request.principal = gateway.authenticator.authenticate(request.headers)
        return endpoint


class _Preflight(Endpoint):
    """A browser asks whether a page may do what it wants to."""

    def __init__(self, methods: tuple[bytes, ...]) -> None:
        self._methods = methods

    def render_OPTIONS(self, request: GatewayRequest) -> None:
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
        request.answer_json(b'{"status":"ok"}')


class Ready(Endpoint):
    """``/readyz``: configured, and not draining. Cooling credentials are no reason to be taken out of a balancer."""

    is_open = True

    def render_GET(self, request: GatewayRequest) -> None:
        if request.gateway.ready() and not request.site.draining:
            request.answer_json(b'{"status":"ready"}')
        else:
            raise ClaudeError(503, "Not ready: starting or draining", headers=[(b"retry-after", b"1")])
