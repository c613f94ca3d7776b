"""State in Redis, which several daemons share.

Theory of operation. Each daemon goes by its own pool; Redis is where they tell one another. A batch of changes becomes
one ``SET`` for each key, with its time to live, and one ``PUBLISH`` that carries them all; every daemon subscribes to
that one channel on the connection that it writes with, and ignores what it said itself. When a connection begins, after
an outage too, the daemon reads what is there, merges, and writes what Redis lacks. So it does not matter whether Redis
forgot everything, or the daemon was away.

Each value is ``[said, value]``: when it was said, in wall-clock seconds, and null for what is no more. Such an end
stays in Redis for a day, so that a daemon that was away hears of it. What is merged how:

- An end, and whether a credential is disabled: what was said last holds.
- Of two cooldowns the one that ends later holds, whoever said it when; of two affinities, and of two signatures, the
  later used one. The pool and the signatures see to that.
- That an affinity or a signature ended is not said: each daemon forgets by itself. A signature goes from Redis too, or
  there would be far more of them than a daemon keeps; whoever still uses it tells of it again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import hiredis
import msgspec
from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.interfaces import IStateStore
from claudeproxyd.pool.state import MAX_RESTORED_SECONDS, stale_at
from claudeproxyd.store.resp import RedisConnection
from claudeproxyd.store.waiting import Waiting
from claudeproxyd.upstream.tls import connection_creator

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure

    from claudeproxyd.config.state import InRedis
    from claudeproxyd.observe.metrics import Metrics

Said = tuple[float, Any]

#: Seconds that a change may wait for its fellows.
FLUSH_AFTER = 0.1
#: Changes in one message.
BATCH = 500
#: Seconds between two questions whether Redis is still there; the second one that is not answered ends the connection.
BEAT = 10.0
#: Seconds that a connection may take to become useful.
GREETING = 10.0
#: Seconds that a credential stays disabled in a Redis that no daemon talks to.
A_YEAR = 365 * 86_400.0
#: How the keys begin that each daemon forgets by itself.
_SIGNATURE = '["signature",'
_FADING = ('["affinity",', _SIGNATURE)
#: Keys whose last change is remembered, to know news from old news.
REMEMBERED = 20_000

_encode = msgspec.json.Encoder().encode
_said = msgspec.json.Decoder(Said).decode
_message = msgspec.json.Decoder(tuple[str, dict[str, Said]]).decode


def endpoint_of(reactor: Any, place: InRedis) -> IStreamClientEndpoint:
    """The way to that Redis."""
    plain = HostnameEndpoint(reactor, place.host, place.port)
    if not place.tls:
        return plain
    return wrapClientTLS(connection_creator(place.host, protocols=()), plain, clock=reactor)


@implementer(IStateStore)
class RedisStore:
    """See the module."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        place: InRedis,
        learned: Callable[[Mapping[str, Any]], None],
        everything: Callable[[], Mapping[str, Any]],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """*learned* gets what other daemons say; *everything* gives all that there is to tell."""
        self._clock = clock
        self._place = place
        self._learned = learned
        self._everything = everything
        self._wall_clock = wall_clock
        self._name = uuid4().hex
        self._channel = f"{place.prefix}{place.database}:changes"
        self._waiting = Waiting(self._flush_soon, wall_clock)
        self._last: OrderedDict[str, Said] = OrderedDict()
        """What was said last of each key that does not fade."""
        self._loading: Deferred[Mapping[str, Any]] | None = None
        self._connection: RedisConnection | None = None
        """None while there is none, or it is not of use yet."""
        self._timer: IDelayedCall | None = None
        self._complained = False
        self._beat = LoopingCall(self._still_there)
        self._beat.clock = clock
        self._beaten: Deferred[Any] | None = None
        factory = Factory.forProtocol(lambda: RedisConnection(self._greet, self._heard, self._lost))
        factory.noisy = False
        self._client = ClientService(
            endpoint,
            factory,
            retryPolicy=backoffPolicy(initialDelay=0.5, maxDelay=10.0),
            clock=clock,
        )

    def register(self, metrics: Metrics) -> None:
        """Have the metrics tell how the sharing fares."""
        metrics.gauge("claudeproxyd_state_waiting", "Changes of state not yet written.", lambda: len(self._waiting))
        metrics.counter("claudeproxyd_state_dropped_total", "Changes of state lost.", lambda: self._waiting.dropped)
        metrics.gauge(
            "claudeproxyd_state_connected", "Whether Redis is there.", lambda: int(self._connection is not None)
        )

    def load(self) -> Deferred[Mapping[str, Any]]:
        """See the interface. Fires when Redis was there and all of it was learned, whenever that is."""
        self._loading = Deferred()
        self._client.startService()
        return self._loading

    def save(self, changes: Mapping[str, Any]) -> None:
        """See the interface."""
        self._waiting.add(changes)

    def close(self) -> Deferred[None]:
        """See the interface."""
        while self._connection is not None and self._waiting:
            self._send(self._connection)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._client.stopService()

    # -- connections

    def _greet(self, connection: RedisConnection) -> None:
        """Make it useful, or end it. ClientService's own prepareConnection does not survive a link that is cut."""
        greeting = Deferred.fromCoroutine(self._catch_up(connection))
        greeting.addTimeout(GREETING, self._clock)
        greeting.addErrback(self._refused, connection)

    def _refused(self, failure: Failure, connection: RedisConnection) -> None:
        connection.abort()
        if self._client.running:
            self._complain(failure)

    async def _catch_up(self, connection: RedisConnection) -> None:
        place = self._place
        login = ("AUTH", place.user or "default", place.password) if place.password else ()
        await connection.command("HELLO", "3", *login, "SETNAME", "claudeproxyd")
        if place.database:
            await connection.command("SELECT", str(place.database))
        await connection.command("SUBSCRIBE", self._channel)
        there = await self._read(connection)
        self._waiting.put_back(
            {
                key: (self._last.get(key, (0.0, None))[0], value)
                for key, value in self._everything().items()
                if stale_at(value) > there.get(key, 0.0) + 1.0
            }
        )
        self._connection = connection
        self._complained = False
        self._log.info("the state is shared through Redis at {host}:{port}", host=place.host, port=place.port)
        self._beat.start(BEAT)
        self._flush()
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.callback({})

    async def _read(self, connection: RedisConnection) -> dict[str, float]:
        """Learn all that is there under our prefix, piece by piece; which keys have a value, and until when."""
        there: dict[str, float] = {}
        prefix = self._place.prefix.encode()
        pattern = b"".join(b"\\" + bytes((byte,)) if byte in b"*?[]\\" else bytes((byte,)) for byte in prefix) + b"[[]*"
        cursor = b"0"
        while True:
            cursor, keys = await connection.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            values = await connection.command("MGET", *keys) if keys else []
            told: dict[str, Said] = {}
            for key, value in zip(keys, values, strict=True):
                # What ended meanwhile is None, and what others wrote is none of ours.
                with suppress(ValueError, TypeError):
                    told[key.removeprefix(prefix).decode()] = _said(value)
            there |= {key: stale_at(value) for key, (_, value) in told.items() if value is not None}
            self._learned(self._news(told))
            if cursor == b"0":
                return there

    def _lost(self) -> None:
        if self._connection is None:
            return
        self._connection = None
        self._beat.stop()
        self._beaten = None
        if self._client.running:
            self._log.warn(
                "Redis at {host}:{port} is gone; this daemon goes on by itself until it is back",
                host=self._place.host,
                port=self._place.port,
            )

    def _still_there(self) -> None:
        """A link that was cut without a word must not look like a Redis with no news."""
        assert self._connection is not None
        if self._beaten is not None:
            self._connection.abort()
            return

        def answered(_: object) -> None:
            self._beaten = None

        self._beaten = self._connection.command("PING")
        self._beaten.addBoth(answered)

    def _complain(self, failure: Failure) -> None:
        """Once for each trouble: Redis will be tried again and again."""
        if not self._complained:
            self._complained = True
            self._log.warn(
                "the state cannot be shared through Redis at {host}:{port}: {why}",
                host=self._place.host,
                port=self._place.port,
                why=failure.getErrorMessage(),
            )

    # -- telling

    def _flush_soon(self) -> None:
        if self._timer is None and self._connection is not None:
            self._timer = self._clock.callLater(FLUSH_AFTER, self._flush)

    def _flush(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._connection is not None and self._waiting:
            self._send(self._connection)
            if self._waiting:
                self._flush_soon()

    def _send(self, connection: RedisConnection) -> None:
        """Write and publish one batch; what may not have arrived waits again."""
        taken = self._waiting.take(BATCH)
        now = self._wall_clock()
        told = {}
        for key, said in taken.items():
            until = now + MAX_RESTORED_SECONDS if said[1] is None else min(stale_at(said[1]), now + A_YEAR)
            if not key.startswith(_FADING):
                self._remember(key, said)
            elif said[1] is None:
                if key.startswith(_SIGNATURE):
                    connection.command("DEL", self._place.prefix + key).addErrback(self._not_written)
                continue
            if until <= now:
                continue
            told[key] = said
            life = int((until - now) * 1000)
            connection.command("SET", self._place.prefix + key, _encode(said), "PX", life).addErrback(self._not_written)
        if told:
            message = _encode((self._name, told))
            connection.command("PUBLISH", self._channel, message).addErrback(self._not_told, taken)

    def _not_written(self, failure: Failure) -> None:
        if failure.check(hiredis.ReplyError):
            self._complain(failure)

    def _not_told(self, failure: Failure, taken: Mapping[str, Said]) -> None:
        if failure.check(hiredis.ReplyError):
            self._complain(failure)
        else:
            self._waiting.put_back(taken)

    # -- learning

    def _heard(self, message: bytes) -> None:
        try:
            name, told = _message(message)
        except ValueError:
            self._log.debug("what was published on {channel} is not understood", channel=self._channel)
            return
        if name != self._name and (news := self._news(told)):
            self._learned(news)

    def _news(self, told: Mapping[str, Said]) -> dict[str, Any]:
        """What of it this daemon does not know better."""
        news = {}
        now = self._wall_clock()
        for key, (said, value) in told.items():
            if key.startswith(_FADING):
                news[key] = value
                continue
            # A clock that is ahead of ours must not have the last word for as long as it is.
            said = min(said, now)
            last, what = self._waiting.get(key) or self._last.get(key, (-1.0, None))
            later = said > last
            if later:
                self._remember(key, (said, value))
            if later or (isinstance(value, Mapping) and isinstance(what, Mapping)):
                news[key] = value
        return news

    def _remember(self, key: str, said: Said) -> None:
        self._last[key] = said
        self._last.move_to_end(key)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)
