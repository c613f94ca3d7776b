"""A real Redis, whose clock the test moves, and links to it that can be cut."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import hiredis
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.servers import wait_until_it_says


class RealRedis:
    """The server. One is enough for many tests, which empty it."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="redis")
        self.path = str(Path(self._folder) / "socket")
        options = ["--port", "0", "--unixsocket", self.path, "--save", "", "--dir", self._folder]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE)
        self._reader = hiredis.Reader()
        # "The server is now ready to …" or "Ready to …", by its version.
        wait_until_it_says(self._process, b"eady to accept connections")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(self.path)

    def ask(self, *words: Any) -> Any:
        """One command's answer."""
        self._socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65536))
        return reply

    def stop(self) -> None:
        """Leave nothing."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)


class Wire(StringTransport):
    """A connection: what is written is answered by the real server at once, and read when the clock says so."""

    def __init__(self, way: Way, clock: Clock) -> None:
        super().__init__(lenient=True)
        self._way, self._clock = way, clock
        self.protocol: Any = None
        self.lost = False
        self._counting, self._reader = hiredis.Reader(), hiredis.Reader()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(way.redis.path)

    def write(self, data: bytes) -> None:
        if self.lost or self._way.is_cut:
            return
        self._counting.feed(data)
        self._socket.sendall(data)
        while self._counting.gets() is not False:
            self._way.commands += 1
            answer = b""
            while self._reader.gets() is False:
                some = self._socket.recv(65536)
                answer += some
                self._reader.feed(some)
            if not self._way.is_deaf:
                self._clock.callLater(self._way.delay, self._arrive, answer)

    def _arrive(self, data: bytes) -> None:
        if not self.lost:
            self.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        self.end(ConnectionDone())

    def abortConnection(self) -> None:
        self.end(ConnectionAborted())

    def end(self, reason: Exception) -> None:
        """As the network may do at any time."""
        if not self.lost:
            self.lost = True
            self._socket.close()
            self._way.wires.remove(self)
            self._clock.callLater(0, self.protocol.connectionLost, Failure(reason))


@implementer(IStreamClientEndpoint)
class Way:
    """One daemon's way to the server."""

    def __init__(self, redis: RealRedis, clock: Clock) -> None:
        self.redis = redis
        self._clock = clock
        self.wires: list[Wire] = []
        self.there = True
        self.is_cut = False
        """Nothing that is written arrives."""
        self.is_deaf = False
        """What is written arrives, and no answer comes."""
        self.delay = 0.0
        self.commands = 0

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        if not self.there:
            return fail(ConnectionRefusedError())
        wire = Wire(self, self._clock)
        self.wires.append(wire)
        wire.protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        wire.protocol.makeConnection(wire)
        return succeed(wire.protocol)

    def break_off(self) -> None:
        """Lose it, and let nobody back in."""
        self.there = False
        for wire in list(self.wires):
            wire.end(ConnectionDone())
