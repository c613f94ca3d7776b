"""A link to Redis: one connection, logged in, watched, and made again whenever it is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from claudeproxyd.store.resp import RedisConnection
from claudeproxyd.upstream.tls import connection_creator

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure

    from claudeproxyd.config.state import InRedis

#: Seconds for a new connection to log in, and for what its user does with it first.
HANDSHAKE_TIMEOUT = 10.0


def endpoint_of(reactor: Any, place: InRedis) -> IStreamClientEndpoint:
    """Return the endpoint of the Redis at *place*, with TLS if it has it."""
    plain = HostnameEndpoint(reactor, place.host, place.port)
    if not place.tls:
        return plain
    return wrapClientTLS(connection_creator(place.host, protocols=()), plain, clock=reactor)


class RedisLink:
    """Holds a connection to one Redis for as long as it runs."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        place: InRedis,
        what: str,
        begin: Callable[[RedisConnection], Awaitable[None]],
        ready: Callable[[RedisConnection], None],
        lost: Callable[[], None],
        heartbeat: float,
        received: Callable[[bytes], None] = lambda message: None,
        ping: Callable[[RedisConnection], Deferred[object]] = lambda connection: connection.command("PING"),
    ) -> None:
        """*what* is shared, in a word for the log.

        Each new connection goes through *begin*, and is :attr:`connection` from *ready* until *lost*. *received* gets
        what is published. Every *heartbeat* seconds a *ping* goes out; one that is not answered by the next ends the
        connection.
        """
        self._place = place
        self._what = what
        self._begin = begin
        self._ready = ready
        self._was_lost = lost
        self._clock = clock
        self.connection: RedisConnection | None = None
        """None while there is none, or it is not through *begin*."""
        self._complained = False
        self._interval = heartbeat
        self._send_ping = ping
        self._heartbeat = LoopingCall(self._check_heartbeat)
        self._heartbeat.clock = clock
        self._ping: Deferred[object] | None = None
        factory = Factory.forProtocol(lambda: RedisConnection(self._handshake, received, self._lost))
        factory.noisy = False
        self._client = ClientService(
            endpoint,
            factory,
            retryPolicy=backoffPolicy(initialDelay=0.5, maxDelay=10.0),
            clock=clock,
        )

    def start(self) -> None:
        """Connect, however long that takes."""
        self._client.startService()

    async def stop(self) -> None:
        """Let go of it."""
        await self._client.stopService()

    def complain(self, failure: Failure) -> None:
        """Log *failure*, once until the next success: Redis will be tried again and again."""
        if not self._complained:
            self._complained = True
            self._log.warn(
                "{what} cannot be shared through Redis at {host}:{port}: {why}",
                what=self._what,
                host=self._place.host,
                port=self._place.port,
                why=failure.getErrorMessage(),
            )

    def _handshake(self, connection: RedisConnection) -> None:
        """Log in and begin, or abort. ClientService's own prepareConnection does not survive a link that is cut."""
        ready = Deferred.fromCoroutine(self._log_in(connection))
        ready.addTimeout(HANDSHAKE_TIMEOUT, self._clock)
        ready.addErrback(self._refused, connection)

    def _refused(self, failure: Failure, connection: RedisConnection) -> None:
        connection.abort()
        if self._client.running:
            self.complain(failure)

    async def _log_in(self, connection: RedisConnection) -> None:
        place = self._place
        login = ("AUTH", place.user or "default", place.password) if place.password else ()
        await connection.command("HELLO", "3", *login, "SETNAME", "claudeproxyd")
        if place.database:
            await connection.command("SELECT", str(place.database))
        await self._begin(connection)
        self.connection = connection
        self._complained = False
        self._log.info(
            "{what} is shared through Redis at {host}:{port}", what=self._what, host=place.host, port=place.port
        )
        self._ready(connection)
        self._heartbeat.start(self._interval)

    def _lost(self) -> None:
        if self.connection is None:
            return
        self.connection = None
        self._heartbeat.stop()
        self._ping = None
        if self._client.running:
            self._log.warn(
                "Redis at {host}:{port} is gone; this daemon goes on by itself with {what} until it is back",
                what=self._what,
                host=self._place.host,
                port=self._place.port,
            )
        self._was_lost()

    def _check_heartbeat(self) -> None:
        """Abort the connection if the last ping was not answered: a dead link looks like a Redis without changes."""
        assert self.connection is not None
        if self._ping is not None:
            self.connection.abort()
            return

        def answered(_: object) -> None:
            self._ping = None

        self._ping = self._send_ping(self.connection)
        self._ping.addBoth(answered)
