"""As much of a Redis as the store uses, in memory, with RESP3 on its connections."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import hiredis
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyClass


class Connection(StringTransport):
    """The transport of one client. What it writes is understood at once, and answered in the next turn."""

    def __init__(self, redis: FakeRedis, clock: Clock) -> None:
        super().__init__(lenient=True)
        self.redis = redis
        self.clock = clock
        self.protocol: Any = None
        self.channels: set[bytes] = set()
        self.database = 0
        self.lost = False
        self._reader = hiredis.Reader()

    def write(self, data: bytes) -> None:
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            self.redis.commands.append(command)
            if not self.redis.silent:
                self.say(self.redis.answer(self, command))

    def say(self, data: bytes) -> None:
        self.clock.callLater(0, self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        if not self.lost:
            self.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        self.clock.callLater(0, self.end, ConnectionDone())

    def abortConnection(self) -> None:
        self.clock.callLater(0, self.end, ConnectionAborted())

    def end(self, reason: Exception) -> None:
        if not self.lost:
            self.lost = True
            self.redis.connections.remove(self)
            self.protocol.connectionLost(Failure(reason))


@implementer(IStreamClientEndpoint)
class Endpoint:
    """The way to it."""

    def __init__(self, redis: FakeRedis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self._redis.asked += 1
        if not self._redis.there:
            return fail(ConnectionRefusedError())
        connection = Connection(self._redis, self._clock)
        self._redis.connections.append(connection)
        connection.protocol = protocolFactory.buildProtocol(None)
        connection.protocol.makeConnection(connection)
        return succeed(connection.protocol)


verifyClass(IStreamClientEndpoint, Endpoint)


class FakeRedis:
    """The server."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.lives: dict[bytes, int] = {}
        """Milliseconds that each key was given."""
        self.connections: list[Connection] = []
        self.commands: list[Any] = []
        self.there = True
        self.silent = False
        self.asked = 0
        self.errors: dict[bytes, bytes] = {}
        """What to say instead, by command."""

    def die(self, forget: bool = True) -> None:
        """As if killed; without persistence."""
        self.there = False
        for connection in list(self.connections):
            connection.end(ConnectionDone())
        if forget:
            self.data.clear()

    def publish(self, channel: bytes, message: bytes) -> None:
        """Tell all who subscribed."""
        for each in self.connections:
            if channel in each.channels:
                each.say(b">3\r\n" + _bulk(b"message") + _bulk(channel) + _bulk(message))

    def answer(self, connection: Connection, command: list[bytes]) -> bytes:
        """One command's answer."""
        name, *words = command
        if name in self.errors:
            return b"-%b\r\n" % self.errors[name]
        if name == b"SUBSCRIBE":
            connection.channels.add(words[0])
            return b">3\r\n" + _bulk(b"subscribe") + _bulk(words[0]) + b":1\r\n"
        if name == b"SET":
            self.data[words[0]] = words[1]
            self.lives[words[0]] = int(words[3])
        elif name == b"DEL":
            self.data.pop(words[0], None)
        elif name == b"SCAN":
            keys = [key for key in self.data if fnmatchcase(key.decode("latin-1"), words[2].decode().replace("\\", ""))]
            return b"*2\r\n" + _bulk(b"0") + b"*%d\r\n" % len(keys) + b"".join(map(_bulk, keys))
        elif name == b"MGET":
            return b"*%d\r\n" % len(words) + b"".join(_bulk(self.data[key]) for key in words)
        elif name == b"PUBLISH":
            self.publish(*words)
            return b":1\r\n"
        return b"+OK\r\n"


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)
