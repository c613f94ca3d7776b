"""The least that a Twisted relay can do: twisted.web in front, an httptools client behind, no features, no care.

A yardstick, not an example. Listens on 127.0.0.1:9403, relays to 127.0.0.1:9100.
"""

from __future__ import annotations

from typing import Any

import httptools
from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

reactor: Any = _reactor


class Upstream(Protocol):
    """One upstream connection, which is its own parser's target."""

    def connectionMade(self) -> None:
        self.request: Any = None
        self.transport.setTcpNoDelay(True)

    def relay(self, request: Request, head: bytes, body: bytes) -> None:
        self.request = request
        self.parser = httptools.HttpResponseParser(self)
        self.headers: list[tuple[bytes, bytes]] = []
        self.transport.write(head + body)

    def dataReceived(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.request.setResponseCode(self.parser.get_status_code())
        for name, value in self.headers:
            if name.lower() in (b"content-type", b"content-length"):
                self.request.responseHeaders.setRawHeaders(name, [value])
        self.request.registerProducer(self.transport, True)

    def on_body(self, data: bytes) -> None:
        self.request.write(data)

    def on_message_complete(self) -> None:
        request, self.request = self.request, None
        request.unregisterProducer()
        request.finish()
        idle.append(self)

    def connectionLost(self, reason: object = None) -> None:
        if self in idle:
            idle.remove(self)


class PlainRequest(Request):
    """Reads no forms and no arguments."""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.content.seek(0, 0)
        self.args = {}
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.split(b"?", 1)[0]
        self.process()


class Relay(Resource):
    """Every POST goes to the upstream."""

    isLeaf = True

    def render_POST(self, request: Request) -> int:
        body = request.content.read()
        head = (
            b"POST %b HTTP/1.1\r\nHost: x\r\nx-api-key: sk\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % (request.uri, len(body))
        )
        if idle:
            idle.pop().relay(request, head, body)
        else:
            upstream.connect(factory).addCallback(lambda connection: connection.relay(request, head, body))
        return NOT_DONE_YET


class SilentSite(Site):
    """Writes no access log."""

    def log(self, request: Request) -> None:
        pass


idle: list[Upstream] = []
upstream = HostnameEndpoint(reactor, "127.0.0.1", 9100)
factory = Factory.forProtocol(Upstream)
site = SilentSite(Relay(), requestFactory=PlainRequest)
TCP4ServerEndpoint(reactor, 9403, backlog=4096, interface="127.0.0.1").listen(site)
reactor.run()
