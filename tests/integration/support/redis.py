"""A real Redis on a port of its own, without a file: what it forgets when it is killed is forgotten."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol

from tests.integration.support.daemon import free_port
from tests.integration.support.needs import lacking
from tests.integration.support.process import Child, sleep


def redis_server() -> str:
    """The program, where the daemon has what it needs to talk to it; see
    :func:`~tests.integration.support.needs.needs`."""
    program = shutil.which("redis-server")
    if program is None:
        lacking("redis-server is not installed")
    if find_spec("hiredis") is None:
        lacking("the extra claudeproxyd[redis] is not installed")
    return program


class Redis:
    """One that can be killed and started again."""

    def __init__(self) -> None:
        self._program = redis_server()
        self.port = free_port()
        self._folder = tempfile.mkdtemp()
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """For ``server.state``."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder]
        self._child = Child([self._program, *options])
        for _ in range(100):
            try:
                wire = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), Protocol())
            except ConnectError:
                await sleep(0.05)
            else:
                wire.transport.abortConnection()
                return
        raise AssertionError(f"Redis does not listen:\n{self._child.output}")

    async def kill(self) -> None:
        """As a crash would."""
        if self._child is not None and self._child.result is None:
            self._child.signal("KILL")
            await self._child.ended(10)
        shutil.rmtree(self._folder, ignore_errors=True)
        os.makedirs(self._folder, exist_ok=True)

    async def stop(self) -> None:
        """Leave nothing."""
        await self.kill()
        shutil.rmtree(self._folder)
