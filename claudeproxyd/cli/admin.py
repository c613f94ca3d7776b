"""Asks the admin listener, over TCP, TLS or a unix socket."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

import msgspec
from treq.client import HTTPClient
from twisted.internet.defer import TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionRefusedError
from twisted.web.client import Agent, ResponseNeverReceived
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from claudeproxyd.cli.command import (
    DONE,
    INTERRUPTED,
    REFUSED,
    UNREACHABLE,
    CommandFailed,
    ConfiguredCommand,
    on_reactor,
    say,
)
from claudeproxyd.cli.figures import plain_json, plain_lines
from claudeproxyd.cli.place import ELSEWHERE, KEY_VARIABLE, PLACE_VARIABLE, AdminPlace, find_place
from claudeproxyd.upstream.tls import connection_creator

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
    from twisted.web.client import URI

#: Seconds to connect.
CONNECT_TIMEOUT = 10.0
#: Seconds for a whole answer, where nothing else is said.
PATIENCE = 60.0

Told = TypeVar("Told")


@implementer(IAgentEndpointFactory)
class AdminEndpoints:
    """Makes the endpoints of one place."""

    def __init__(self, reactor: Any, place: AdminPlace) -> None:
        self._reactor = reactor
        self._place = place

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """See the interface."""
        if self._place.socket:
            socket: IStreamClientEndpoint = UNIXClientEndpoint(
                self._reactor, self._place.socket, timeout=CONNECT_TIMEOUT
            )
            return socket
        host = uri.host.decode("ascii").strip("[]")
        way: IStreamClientEndpoint = HostnameEndpoint(self._reactor, host, uri.port, timeout=CONNECT_TIMEOUT)
        return wrapClientTLS(connection_creator(host), way, clock=self._reactor) if uri.scheme == b"https" else way


class _Error(msgspec.Struct):
    message: str


class _Refusal(msgspec.Struct):
    error: _Error


class Admin:
    """An admin listener that can be asked. Its failures are :class:`CommandFailed`, in words for the operator."""

    def __init__(self, http: HTTPClient, place: AdminPlace, clock: IReactorTime) -> None:
        self._http = http
        self._place = place
        self._clock = clock

    async def get(self, path: str, query: Mapping[str, str], kind: type[Told]) -> Told:
        """Return what it tells, as that type."""
        return self.read(await self.raw("GET", path, query), kind)

    async def post(self, path: str, body: object, kind: type[Told], patience: float = PATIENCE) -> Told:
        """Have it do something, and return what it tells of it."""
        return self.read(await self.raw("POST", path, {}, msgspec.json.encode(body), patience), kind)

    async def raw(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None = None, patience: float = PATIENCE
    ) -> bytes:
        """Return the body of a 200."""
        headers: dict[bytes | str, bytes | str] = {"content-type": "application/json"}
        if self._place.key:
            headers["authorization"] = f"Bearer {self._place.key}"
        base = "http://localhost" if self._place.socket else self._place.url
        asked = self._http.request(
            method, f"{base}{path}", params=dict(query), data=body, headers=headers, allow_redirects=False
        )
        try:
            response = await asked.addTimeout(patience, self._clock, _late)
            answer: bytes = await response.content().addTimeout(patience, self._clock, _late)
        except Exception as error:
            raise CommandFailed(UNREACHABLE, self._unreached(error, patience)) from error
        if response.code != 200:
            raise CommandFailed(REFUSED, self._refused(path, response.code, answer))
        return answer

    def read(self, answer: bytes, kind: type[Told]) -> Told:
        """Return an *answer* as that type."""
        try:
            return msgspec.json.decode(answer, type=kind)
        except msgspec.DecodeError:
            raise CommandFailed(REFUSED, self._stranger()) from None

    def _unreached(self, error: Exception, patience: float) -> str:
        where = self._place.url
        if isinstance(error, TimeoutError):
            return f"{where} does not answer within {patience:g} s: look at the daemon's log"
        if isinstance(error, ConnectionRefusedError):
            return f"nobody listens at {where}: start claudeproxyd, or {ELSEWHERE}"
        if isinstance(error, ResponseNeverReceived):
            error = error.reasons[0].value
        return f"{where} cannot be reached: {error or type(error).__name__}; {ELSEWHERE}"

    def _refused(self, path: str, status: int, answer: bytes) -> str:
        try:
            message = msgspec.json.decode(answer, type=_Refusal).error.message
        except msgspec.DecodeError:
            return self._stranger(f", and says {status}")
        if message == f"There is no {path} here":
            return self._stranger()
        if status != 401:
            return message
        if self._place.key:
            return f"{self._place.url} does not know the key: look at ${KEY_VARIABLE}, or at server.admin_key"
        if self._place.keyless:
            return f"{self._place.url} wants a key: set ${KEY_VARIABLE}, for {self._place.keyless}"
        why = f"set ${KEY_VARIABLE}, or name the file with server.admin_key by --config"
        return f"{self._place.url} wants a key: {why}"

    def _stranger(self, more: str = "") -> str:
        return f"{self._place.url} is no admin listener of this version of claudeproxyd{more}; {ELSEWHERE}"


class AdminCommand(ConfiguredCommand):
    """The base of a subcommand that asks a running daemon."""

    optParameters: ClassVar = [
        [
            "admin",
            None,
            None,
            f"Where the daemon's admin listener is: http://HOST:PORT or unix:/PATH; without it ${PLACE_VARIABLE},"
            f" or server.admin of the configuration. The key is ${KEY_VARIABLE}, or server.admin_key.",
        ],
    ]
    interrupted_code = INTERRUPTED
    """The exit code where a signal ends it."""

    def perform(self) -> int:
        """Find the listener, and ask it."""
        place = find_place(self["admin"], self["config"], os.environ)

        async def do(reactor: Any) -> int:
            return await self.ask(admin_at(reactor, place), reactor)

        return on_reactor(do, self.interrupted_code)

    @abstractmethod
    async def ask(self, admin: Admin, clock: IReactorTime) -> int:
        """Ask, and print what comes of it; return the exit code. *clock* is the reactor's."""

    def show(self, json: bytes, text: str) -> int:
        """Print *json* where that was asked for, and else *text*."""
        say(plain_json(msgspec.json.format(json).decode()) if self.get("json") else plain_lines(text))
        return DONE


def _late(_: object, seconds: float) -> NoReturn:
    """Of whatever a request fails by that is cancelled."""
    raise TimeoutError(seconds)


def admin_at(reactor: Any, place: AdminPlace) -> Admin:
    """Return the admin listener at that place."""
    agent = Agent.usingEndpointFactory(reactor, AdminEndpoints(reactor, place))
    return Admin(HTTPClient(agent), place, reactor)
