"""claudeproxyd as operators run it: a ``twistd`` process with a configuration file, stopped by a signal."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from tests.integration.support import wire
from tests.integration.support.forkserver import fork_server
from tests.integration.support.process import Child, Result
from tests.integration.support.ready import until_ready
from tests.integration.support.upstream import Upstream

ROOT = Path(__file__).parents[3]
TWISTD = Path(sys.prefix) / "bin" / "twistd"
#: What a daemon imports.
MODULES = ("twisted.scripts.twistd", "claudeproxyd.tap")
NOISE = re.compile(r"Traceback|Unhandled|\[critical\]|AlreadyCalledError")
ADMIN_KEY = "admin-key-of-the-tests"


_reserved: deque[socket.socket] = deque()
RESERVED = 64
"""Ports at once: more than a test needs."""


def free_port() -> int:
    """A port of loopback that is nobody else's until a server listens there that was told to.

    It stays bound, without being listened on. The system then gives it to nobody who asks for any port, as all tests on
    this machine do all the time, and servers, which say ``SO_REUSEADDR``, may listen on it.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    _reserved.append(held)
    if len(_reserved) > RESERVED:
        _reserved.popleft().close()
    return held.getsockname()[1]


def provider(upstream: Upstream | str, *keys: str, name: str = "up", kind: str = "anthropic", more: str = "") -> str:
    """A ``[[providers]]`` section; each key becomes a credential of that name. *more* are further lines of it."""
    url = upstream if isinstance(upstream, str) else upstream.url
    section = f'[[providers]]\nname = "{name}"\nkind = "{kind}"\nbase_url = "{url}"\n{more}\n'
    for key in keys or ("key-a",):
        section += f'[[providers.credentials]]\nname = "{key}"\napi_key = "{key}"\n'
    return section


SANDBOX = '[[providers]]\nname = "sandbox"\nkind = "sandbox"\n'


def environment(config: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the daemon's process gets to see: the checkout's package, a home of its own, no key of the developer's."""
    return {"PYTHONPATH": str(ROOT), "HOME": str(config.parent), **(env or {})}


def _target(link: str) -> str:
    """What a link of /proc leads to; '' where that was closed meanwhile."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""


class Daemon:
    """One running daemon."""

    def __init__(self, child: Child, port: int, admin: int, config: Path, server: str) -> None:
        self._child = child
        self.port = port
        self.admin = admin
        self.config = config
        self._server = server
        self._killed = False
        self._told_to_end = False
        self.faults = 0
        """How many tracebacks its log is to have in the end."""

    @classmethod
    async def start(
        cls,
        config: str,
        folder: Path,
        server: str = "",
        env: Mapping[str, str] | None = None,
        tac: bool = False,
        state: str = "memory:",
        listen_too: str = "",
    ) -> Daemon:
        """Start it and wait until it is ready. *config* is TOML without ``[server]``; *server* goes into that table.

        *listen_too*: another endpoint that it listens on.
        """
        port, admin = free_port(), free_port()
        endpoints = [f"tcp:{port}:interface=127.0.0.1:backlog=1024", *([listen_too] if listen_too else [])]
        listen = f'[server]\nlisten = {endpoints}\nstate = "{state}"\n'
        listen += f'admin = "tcp:{admin}:interface=127.0.0.1"\nadmin_key = "{ADMIN_KEY}"\n{server}\n'
        path = folder / f"claudeproxyd-{port}.toml"
        path.write_text(listen + config)
        if tac:
            what = ["-ny", ROOT / "claudeproxyd.tac", "--pidfile="]
            env = {"CLAUDEPROXYD_CONFIG": str(path), **(env or {})}
        else:
            what = ["-n", "--pidfile=", "claudeproxyd", "--config", path]
        # Python itself may read an environment, which a fork comes too late for.
        spawn = reactor.spawnProcess if env else fork_server(sys.executable, *MODULES, path=str(ROOT)).spawn
        child = Child([TWISTD, *what], environment(path, env), cwd=folder, spawn=spawn)
        daemon = cls(child, port, admin, path, listen)
        await until_ready(child, port, "/readyz")
        return daemon

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything that it has printed so far."""
        return self._child.output

    @property
    def running(self) -> bool:
        return self._child.result is None

    def signal(self, name: str) -> None:
        self._told_to_end |= name == "TERM"
        self._child.signal(name)

    def rewrite(self, config: str) -> None:
        """Put another configuration into its file; the listeners stay."""
        self.config.write_text(self._server + config)

    async def ended(self, within: float = 60.0) -> Result:
        return await self._child.ended(within)

    async def kill(self) -> None:
        """End it as a crash would: SIGKILL."""
        self._killed = True
        self.signal("KILL")
        await self.ended()

    async def stop(self) -> None:
        """Stop it by its process id, and hold it to a clean end: status 0 or SIGTERM's own, and no other traceback."""
        if self.running and not self._told_to_end:
            self.signal("TERM")
        result = await self.ended()
        clean = ((0, None), (143, None), (None, 9 if self._killed else 15))
        assert (result.code, result.signal) in clean, f"{result.code}:\n{self.log}"
        assert len(NOISE.findall(self.log)) == self.faults, self.log

    def stop_reading(self) -> None:
        """Take no more of what it prints."""
        self._child.transport.pipes[1].pauseProducing()

    def read_on(self) -> None:
        self._child.transport.pipes[1].resumeProducing()

    async def admin_get(self, path: str) -> wire.Answer:
        return await wire.get(self.admin, path, {"authorization": f"Bearer {ADMIN_KEY}"})

    async def metrics(self) -> dict[str, float]:
        """Every sample of ``/metrics``, by its name with labels."""
        answer = await self.admin_get("/metrics")
        assert answer.status == 200, answer.body
        lines = (line.rpartition(" ") for line in answer.body.decode().splitlines() if line and line[0] != "#")
        return {name: float(value) for name, _, value in lines}

    async def pool(self) -> Any:
        return (await self.admin_get("/admin/v1/pool")).json

    @property
    def rss(self) -> int:
        """Its resident memory, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    @property
    def descriptors(self) -> int:
        """How many file descriptors it holds, but for the ledger's, a handful that come and go by the second."""
        folder = f"/proc/{self.pid}/fd"
        return sum("accounts.db" not in _target(f"{folder}/{name}") for name in os.listdir(folder))
