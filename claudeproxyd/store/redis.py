"""State in Redis, which several daemons share.

Theory of operation. Each daemon goes by its own pool, and Redis carries changes between them. A batch of changes
becomes one ``SET`` for each key, with its time to live, and one ``PUBLISH`` of them all; every daemon subscribes to
that one channel on the connection that it writes with, and ignores its own messages. When a connection begins, after an
outage too, the daemon reads what is in Redis, merges it, and writes what Redis lacks. So it does not matter whether
Redis lost everything, or the daemon was away.

Each value is ``[stamp, value]``: when it was set, in wall-clock seconds, and null for a deletion. A deletion stays in
Redis for a day, so that a daemon that was away hears of it. How values are merged:

- Deletions, and whether a credential is disabled: the newer stamp wins.
- Cooldowns: the one that ends later wins, whatever its stamp. Affinities and signatures: the one used later wins. The
  pool and the signatures see to that.
- The end of an affinity or a signature is not published: each daemon forgets by itself. A signature is deleted from
  Redis as well, or there would be far more of them than a daemon keeps; a daemon that still uses it sets it again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import hiredis
import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.interfaces import IStateStore
from claudeproxyd.pool.state import MAX_RESTORED_SECONDS, stale_at
from claudeproxyd.store.redis_link import RedisLink
from claudeproxyd.store.turns import by_turns
from claudeproxyd.store.write_behind import WriteBehind

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
    from twisted.python.failure import Failure

    from claudeproxyd.config.state import InRedis
    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.store.resp import RedisConnection

#: When a value was set, in wall-clock seconds, and the value; None for a deletion.
Stamped = tuple[float, Any]

#: Seconds that a change may wait for others to go with it.
FLUSH_DELAY = 0.1
#: Changes in one message.
BATCH_KEYS = 500
#: Seconds between two PINGs.
HEARTBEAT_INTERVAL = 10.0
#: Seconds that a credential stays disabled in a Redis that no daemon talks to.
MAX_TTL = 365 * 86_400.0
#: Keys whose last stamp is remembered, to tell newer changes from older ones.
MAX_REMEMBERED_KEYS = 20_000
_SIGNATURE = '["signature",'
#: How the keys begin that each daemon forgets by itself.
_EXPIRING = ('["affinity",', _SIGNATURE)

_encode = msgspec.json.Encoder().encode
_decode_stamped = msgspec.json.Decoder(Stamped).decode
_decode_message = msgspec.json.Decoder(tuple[str, dict[str, Stamped]]).decode


@implementer(IStateStore)
class RedisStore:
    """``redis:``: shares changes with other daemons, as the module says."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        place: InRedis,
        merge: Callable[[Mapping[str, object]], None],
        export: Callable[[], Iterator[Mapping[str, object]]],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """*merge* takes other daemons' changes; *export* yields all of this daemon's state."""
        self._clock = clock
        self._place = place
        self._merge = merge
        self._export = export
        self._wall_clock = wall_clock
        self._name = uuid4().hex
        self._channel = f"{place.prefix}{place.database}:changes"
        self._waiting = WriteBehind(self._flush_soon, wall_clock)
        self._last: OrderedDict[str, Stamped] = OrderedDict()
        """The last change of each key that does not expire by itself."""
        self._loading: Deferred[Mapping[str, object]] | None = None
        self._timer: IDelayedCall | None = None
        self._on_its_way = False
        """A batch, of which Redis has said nothing yet: a link that is lost fails no more than that in one turn."""
        self._link = RedisLink(
            clock,
            endpoint,
            place,
            "the state",
            self._catch_up,
            self._caught_up,
            lambda: None,
            HEARTBEAT_INTERVAL,
            self._receive,
        )

    def register(self, metrics: Registry) -> None:
        """Add the metrics of the sharing."""
        metrics.gauge("claudeproxyd_state_waiting", "Changes of state not yet written.", lambda: len(self._waiting))
        metrics.counter("claudeproxyd_state_dropped_total", "Changes of state lost.", lambda: self._waiting.dropped)
        metrics.gauge(
            "claudeproxyd_state_connected", "Whether Redis is there.", lambda: int(self._link.connection is not None)
        )

    def load(self) -> Deferred[Mapping[str, object]]:
        """See the interface. Fires once all that Redis has is merged, however long that takes."""
        self._loading = Deferred()
        self._link.start()
        return self._loading

    def save(self, changes: Mapping[str, object]) -> None:
        """See the interface."""
        self._waiting.add(changes)

    def close(self) -> Deferred[None]:
        """See the interface."""
        while self._link.connection is not None and self._waiting:
            self._send(self._link.connection)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return Deferred.fromCoroutine(self._link.stop())

    # -- connections

    async def _catch_up(self, connection: RedisConnection) -> None:
        await connection.command("SUBSCRIBE", self._channel)
        there = await self._read(connection)
        lacking: dict[str, Stamped] = {}
        async for part in by_turns(self._clock, self._export()):
            for key, value in part.items():
                if stale_at(value) > there.get(key, 0.0) + 1.0:
                    lacking[key] = (self._last.get(key, (0.0, None))[0], value)
        self._waiting.put_back(lacking)

    def _caught_up(self, connection: RedisConnection) -> None:
        self._flush()
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.callback({})

    async def _read(self, connection: RedisConnection) -> dict[str, float]:
        """Merge all that Redis has under our prefix. Return the keys that have a value, and until when they have it."""
        there: dict[str, float] = {}
        prefix = self._place.prefix.encode()
        pattern = b"".join(b"\\" + bytes((byte,)) if byte in b"*?[]\\" else bytes((byte,)) for byte in prefix) + b"[[]*"
        cursor = b"0"
        while True:
            cursor, keys = await connection.command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            values = await connection.command("MGET", *keys) if keys else []
            found: dict[str, Stamped] = {}
            for key, value in zip(keys, values, strict=True):
                # A key that expired meanwhile is None, and other programs' values are none of ours.
                with suppress(ValueError, TypeError):
                    found[key.removeprefix(prefix).decode()] = _decode_stamped(value)
            there |= {key: stale_at(value) for key, (_, value) in found.items() if value is not None}
            self._merge(self._newer(found))
            if cursor == b"0":
                return there

    # -- writing

    def _flush_soon(self) -> None:
        if self._link.connection is None:
            return
        if self._timer is None:
            self._timer = self._clock.callLater(FLUSH_DELAY, self._flush)
        if self._waiting.pressing:
            self._timer.reset(0)

    def _flush(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._link.connection is not None and self._waiting and not self._on_its_way:
            self._send(self._link.connection)

    def _send(self, connection: RedisConnection) -> None:
        """Write and publish one batch. Changes that may not have arrived wait again."""
        taken = self._waiting.take(BATCH_KEYS)
        now = self._wall_clock()
        published = {}
        for key, change in taken.items():
            until = now + MAX_RESTORED_SECONDS if change[1] is None else min(stale_at(change[1]), now + MAX_TTL)
            if not key.startswith(_EXPIRING):
                self._remember(key, change)
            elif change[1] is None:
                if key.startswith(_SIGNATURE):
                    connection.command("DEL", self._place.prefix + key).addErrback(self._not_written)
                continue
            if until <= now:
                continue
            published[key] = change
            ttl = int((until - now) * 1000)
            stored = connection.command("SET", self._place.prefix + key, _encode(change), "PX", ttl)
            stored.addErrback(self._not_written)
        if published:
            self._on_its_way = True
            told = connection.command("PUBLISH", self._channel, _encode((self._name, published)))
            told.addErrback(self._not_published, taken).addBoth(self._arrived, connection)
        elif self._waiting:
            self._flush_soon()

    def _arrived(self, _: object, connection: RedisConnection) -> None:
        self._on_its_way = False
        if self._waiting and connection.open:
            self._flush_soon()

    def _not_written(self, failure: Failure) -> None:
        if failure.check(hiredis.ReplyError):
            self._link.complain(failure)

    def _not_published(self, failure: Failure, taken: Mapping[str, Stamped]) -> None:
        if failure.check(hiredis.ReplyError):
            self._link.complain(failure)
        else:
            self._waiting.put_back(taken)

    # -- reading

    def _receive(self, message: bytes) -> None:
        try:
            name, changes = _decode_message(message)
        except ValueError:
            self._log.debug("what was published on {channel} is not understood", channel=self._channel)
            return
        if name != self._name and (newer := self._newer(changes)):
            self._merge(newer)

    def _newer(self, changes: Mapping[str, Stamped]) -> dict[str, object]:
        """Return the changes that are newer than this daemon's own, and those that merging decides upon."""
        newer = {}
        now = self._wall_clock()
        for key, (stamp, value) in changes.items():
            if key.startswith(_EXPIRING):
                newer[key] = value
                continue
            # A clock that is ahead of ours must not win for as long as it is.
            stamp = min(stamp, now)
            last_stamp, last_value = self._waiting.get(key) or self._last.get(key, (-1.0, None))
            is_newer = stamp > last_stamp
            if is_newer:
                self._remember(key, (stamp, value))
            if is_newer or (isinstance(value, Mapping) and isinstance(last_value, Mapping)):
                newer[key] = value
        return newer

    def _remember(self, key: str, change: Stamped) -> None:
        self._last[key] = change
        self._last.move_to_end(key)
        if len(self._last) > MAX_REMEMBERED_KEYS:
            self._last.popitem(last=False)
