"""Requests an access token of a token endpoint (RFC 6749)."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as BodyProtocol
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer

from claudeproxyd.descriptors import is_lack
from claudeproxyd.outcomes.types import AttemptFailed
from claudeproxyd.secrets.failures import lacking, refused, unavailable
from claudeproxyd.secrets.refreshed import Token
from claudeproxyd.upstream.proxy import TunnelEndpoint, proxy_for
from claudeproxyd.upstream.tls import TLSSettings, connection_creator

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol, IProtocolFactory
    from twisted.python.failure import Failure
    from twisted.web.client import URI
    from twisted.web.iweb import IBodyProducer, IResponse

MAX_RESPONSE_BYTES = 65_536
#: Seconds to connect.
CONNECT_TIMEOUT = 10.0
#: Seconds that a token lives, where the response does not say.
DEFAULT_LIFETIME = 3600.0
#: Errors that say nothing against the credential; RFC 6749 section 5.2 has them all with status 400.
_TEMPORARY_ERRORS = ("server_error", "temporarily_unavailable")


class _Response(Protocol):
    """What there is to a response of treq's."""

    code: int

    def deliverBody(self, protocol: IProtocol) -> None:
        """Have *protocol* get the body, and lose its connection at its end."""


class Answer(msgspec.Struct):
    """A token endpoint's response, good or bad."""

    access_token: str = ""
    expires_in: float | str | None = None
    """Seconds; some send them as a string."""
    refresh_token: str = ""
    """The one to use from now on, where it is another."""
    error: Any = ""
    error_description: str = ""

    def token(self) -> Token:
        """Return the token. Raises AttemptFailed if there is none that can be used."""
        try:
            lifetime = DEFAULT_LIFETIME if self.expires_in is None else float(self.expires_in)
        except ValueError:
            lifetime = DEFAULT_LIFETIME
        if not self.access_token or not self.access_token.isascii() or not self.access_token.isprintable():
            raise unavailable("the token endpoint's answer holds no token")
        if not 0 < lifetime < 366 * 86_400:
            lifetime = DEFAULT_LIFETIME
        return Token(self.access_token, lifetime)


@implementer(IAgentEndpointFactory)
class EndpointFactory:
    """Makes endpoints that connect directly, or through the provider's proxy by CONNECT."""

    def __init__(
        self,
        reactor: Any,
        proxy: str = "",
        environ: Mapping[str, str] = os.environ,
        tls: TLSSettings = TLSSettings(),  # noqa: B008  # immutable
    ) -> None:
        """*proxy* and *environ* as :func:`~claudeproxyd.upstream.proxy.proxy_for` has them."""
        self._reactor = reactor
        self._proxy = proxy
        self._environ = environ
        self._tls = tls

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See the interface."""
        scheme, host = uri.scheme.decode("ascii"), uri.host.decode("ascii")
        via = proxy_for(self._proxy, scheme, host, uri.port, self._environ) if scheme == "https" else None
        way: IStreamClientEndpoint
        if via is None:
            way = HostnameEndpoint(self._reactor, host, uri.port, timeout=CONNECT_TIMEOUT)
        else:
            proxy = HostnameEndpoint(self._reactor, via.host, via.port, timeout=CONNECT_TIMEOUT)
            way = TunnelEndpoint(proxy, f"{host}:{uri.port}".encode("ascii"), via.authorization)
        if scheme == "https":
            way = wrapClientTLS(connection_creator(host, self._tls), way, clock=self._reactor)
        return _QuietEndpoint(way)


@implementer(IStreamClientEndpoint)
class _QuietEndpoint:
    """Connects without a line in the log for the beginning and the end of each connection."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803
        """See the interface."""
        if isinstance(protocolFactory, Factory):
            protocolFactory.noisy = False
        return self._endpoint.connect(protocolFactory)


@implementer(IAgent)
class PlainAgent:
    """Asks for answers as they are, without a content coding and without cookies.

    A few bytes of gzip are many megabytes, all in one turn of the reactor; and treq keeps cookies for ever.
    """

    def __init__(self, agent: IAgent) -> None:
        self._agent = agent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803
    ) -> Deferred[IResponse]:
        """See the interface."""
        asked = Headers() if headers is None else headers.copy()
        asked.setRawHeaders(b"accept-encoding", [b"identity"])
        answered: Deferred[IResponse] = self._agent.request(method, uri, asked, bodyProducer)
        return answered.addCallback(_as_it_is)


def _as_it_is(response: IResponse) -> IResponse:
    for name in (b"content-encoding", b"set-cookie"):
        response.headers.removeHeader(name)
    return response


def http_client(reactor: Any, proxy: str = "", ca_file: str = "") -> HTTPClient:
    """Return an HTTP client for token endpoints and the like. It keeps no connections: requests are far apart.

    *ca_file* has authorities in the place of the system's.
    """
    ways = EndpointFactory(reactor, proxy, tls=TLSSettings(ca_file))
    return HTTPClient(PlainAgent(Agent.usingEndpointFactory(reactor, ways)))


async def ask(http: HTTPClient, url: str, form: Mapping[str, str]) -> Answer:
    """POST *form* and return the response. Raises AttemptFailed where it is an error or none comes."""
    return await answer_of(
        http.post(url, data=dict(form), allow_redirects=False, headers=Headers({"accept": ["application/json"]}))
    )


async def answer_of(asked: Awaitable[_Response]) -> Answer:
    """Return the response that *asked* brings, with its body read. Raises as :func:`ask` does."""
    status, body = await response_of(asked, "the token endpoint")
    try:
        answer = msgspec.json.decode(body, type=Answer)
    except ValueError:
        answer = Answer()
    if status == 200:
        return answer
    said = f"the token endpoint says {status} {answer.error} {answer.error_description}"
    if status in (400, 401, 403) and answer.error not in _TEMPORARY_ERRORS:
        raise refused(said)
    raise unavailable(said)


async def response_of(asked: Awaitable[_Response], who: str) -> tuple[int, bytes]:
    """Return the status and the body that *asked* brings. Raises AttemptFailed, which names *who*, if none comes."""
    body = bytearray()

    def more(data: bytes) -> None:
        body.extend(data)
        if len(body) > MAX_RESPONSE_BYTES:
            raise unavailable(f"{who}'s answer has no end")

    try:
        response = await asked
        await collected(response, more)
    except AttemptFailed:
        raise
    except Exception as error:
        reason = cause_of(error)
        if is_lack(error):
            raise lacking() from error
        if isinstance(reason, CancelledError):
            raise unavailable(f"{who} did not answer in time") from None
        raise unavailable(f"{who} cannot be reached: {str(reason) or type(reason).__name__}") from error
    return response.code, bytes(body)


def cause_of(error: BaseException) -> BaseException:
    """Return what a request failed by: Twisted wraps what happens after the connection is made in lists of failures."""
    reasons = getattr(error, "reasons", None)
    return cause_of(reasons[0].value) if reasons else error


def collected(response: _Response, take: Callable[[bytes], None]) -> Deferred[None]:
    """Fire when *take* was called with all of the body. Cancelled, it closes the connection: treq's own leaves it open.

    Fails with what *take* raises, which closes it too, or with what the connection was lost by.
    """
    collector = _Collector(take)
    response.deliverBody(collector)
    return collector.done


class _Collector(BodyProtocol):
    """Takes the body of one response."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self.done: Deferred[None] = Deferred(lambda _: self._close())

    def dataReceived(self, data: bytes) -> None:
        """Pass on a piece."""
        if not self.done.called:
            try:
                self._take(data)
            except Exception:
                self._close()
                self.done.errback()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There is no more."""
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(None)
        else:
            self.done.errback(reason)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
