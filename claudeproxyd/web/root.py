"""A listener's resource tree: which endpoint answers which path, by which methods."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes as unquote

from twisted.web.resource import Resource, getChildForRequest

from claudeproxyd.errors import ClaudeError
from claudeproxyd.web.roles import Role

if TYPE_CHECKING:
    from claudeproxyd.web.request import GatewayRequest


class Endpoint(Resource):
    """The base of all endpoints. Its ``render_METHOD`` answers through the request, or raises ClaudeError.

    Whether the client may call, and the method fits, was checked by :func:`claudeproxyd.web.ingress.authorize` before
    the body was read.
    """

    allowedMethods: tuple[bytes, ...] = (b"GET", b"HEAD")
    is_open = False
    """Answered without a key."""
    is_probe = False
    """Answered whoever asks, and however many there are: it is for balancers and supervisors, and tells little."""
    seen_by = Role.READ
    """Which operators may see it, on the admin listener."""
    for_minters = False
    """Who mints may use it too: it holds them to their bounds itself."""

    def getChild(self, path: bytes, walk: Walk) -> Resource:
        """Return the endpoint of a path that is not in the tree."""
        return NotFound()

    def render(self, request: GatewayRequest) -> None:
        """Call the ``render_METHOD`` of the request's method."""
        method = b"GET" if request.method == b"HEAD" else request.method
        getattr(self, f"render_{method.decode()}")(request)


class NotFound(Endpoint):
    """The endpoint of every path that does not exist: 404."""

    isLeaf = True


class Node(Endpoint):
    """An inner node of the tree: 404 by itself, with endpoints below it."""

    allowedMethods = ()


def mount(root: Resource, path: bytes, endpoint: Resource) -> None:
    """Mount *endpoint* at *path*, and make the nodes above it."""
    *above, last = path.removeprefix(b"/").split(b"/")
    for segment in above:
        child = root.children.get(segment)
        if child is None:
            child = Node()
            root.putChild(segment, child)
        root = child
    root.putChild(last, endpoint)


class Walk:
    """As much of a request as a tree of Resources looks at: what of a path is in front of a node, and behind it."""

    def __init__(self, path: bytes) -> None:
        self.prepath: list[bytes] = []
        self.postpath = [unquote(segment) for segment in path.split(b"/")]
        if not self.postpath[0]:
            del self.postpath[0]


def endpoint_at(root: Resource, path: bytes) -> Endpoint:
    """Return what *path*, as a client writes it, leads to."""
    endpoint: Endpoint = getChildForRequest(root, Walk(path))
    return endpoint


class Alive(Endpoint):
    """What Claude Code asks before it asks anything: 200 while the process runs."""

    is_open = True

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer that the process runs."""
        request.answer_json(b'{"status":"ok"}')


class Health(Alive):
    """``/healthz``: the same."""

    is_probe = True


class Ready(Endpoint):
    """``/readyz``: 200 while configured and not draining.

    Cooling credentials are no reason to be taken out of a load balancer.
    """

    is_open = is_probe = True

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer that requests are served, or 503."""
        if request.gateway.ready() and not request.site.draining:
            request.answer_json(b'{"status":"ready"}')
        else:
            raise ClaudeError(503, "Not ready: starting or draining", headers=[(b"retry-after", b"1")])
