"""Rolling restarts under load: two daemons behind a balancer, or on one socket, and clients that never rest.

Shared by ``tests/integration/test_restarts.py`` and ``python -m tests.integration.programs.rolling``.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError
from twisted.internet.protocol import DatagramProtocol

from tests.integration.support import wire
from tests.integration.support.daemon import NOISE, ROOT, SANDBOX, TWISTD, environment, free_port
from tests.integration.support.needs import lacking
from tests.integration.support.process import Child, eventually, sleep
from tests.integration.support.ready import until_ready

KEY = "client-key"
NO_ACCOUNTS = '[accounts]\ndatabase = ""\n'
CONFIG = f"""
[log]
access = "off"
[[clients]]
name = "tests"
key = "{KEY}"
"""
WORDS = 25
"""Of a stream, one each 20 ms."""
PAUSE = 0.05
"""Seconds of a client between two requests."""


#: Debian has servers where only root looks.
PROGRAMS = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"


def nginx() -> str:
    """The program; see :func:`~tests.integration.support.needs.needs`."""
    return shutil.which("nginx", path=PROGRAMS) or lacking("nginx is not installed")


def haproxy() -> str:
    """The same."""
    return shutil.which("haproxy", path=PROGRAMS) or lacking("haproxy is not installed")


def block_of(language: str) -> str:
    """The block in that language which docs/behind-a-proxy.md tells operators to use."""
    page = (ROOT / "docs/behind-a-proxy.md").read_text()
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return block


def changed(text: str, *changes: tuple[str, str]) -> str:
    """*text* with what must be another on this machine; fails where the page says something else."""
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    return text


CLIENTS = [("streamed", True, True)] * 4 + [("whole", False, True)] * 6 + [("alone", False, False)] * 2
"""What each is called; whether it asks for streams, and keeps its connection."""


@dataclass(frozen=True)
class Loss:
    """A request that was not answered as it should be."""

    begun: float
    """When, on the reactor's clock."""
    client: str
    why: str
    server: str = ""
    """Which one HAProxy says it was on; '' where it said nothing, but closed."""


class Tally:
    """What the clients saw."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.servers: dict[str, str] = {}
        """Of each request that was answered as it should be, by its id: which one HAProxy says it was on."""
        self.lost: list[Loss] = []
        self.longest = 0.0
        """Seconds that a client waited for the head of an answer, with its connection to be made."""
        self.waits = 0
        """Of these, above a second."""
        self.late = 0.0
        """Seconds that a client had to wait for its own turn, at most."""

    def __str__(self) -> str:
        answers = ", ".join(f"{count} {kind}" for kind, count in sorted(self.answers.items()))
        waits = f"the longest wait for a head: {self.longest:.2f} s, {self.waits} above a second"
        return f"{answers}; {len(self.lost)} lost; {waits}; clients were late by up to {self.late:.2f} s"


class Load:
    """Clients of all sorts, each with one request after the other, until they are told to stop."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.tally = Tally()
        self._going = True
        self._clients = [Deferred.fromCoroutine(self._client(*kind)) for kind in CLIENTS]

    async def until(self, more: int) -> None:
        """Wait until so many more answers are there."""
        enough = self.tally.answers.total() + more
        await eventually("the load goes on", lambda: self.tally.answers.total() >= enough)

    async def stop(self) -> Tally:
        """Let each finish what it does."""
        self._going = False
        await gatherResults(self._clients)
        return self.tally

    async def _client(self, kind: str, streamed: bool, kept: bool) -> None:
        connection: wire.Wire | None = None
        while self._going:
            begun = reactor.seconds()
            try:
                if connection is None or connection.closed is not None:
                    connection = await wire.Wire.connect(self._port)
                answer = await self._ask(connection, streamed, begun)
            except (ConnectError, EOFError) as error:
                self.tally.lost.append(Loss(begun, kind, f"after {reactor.seconds() - begun:.2f} s: {error}"))
                connection = None
                await sleep(0.1)
                continue
            server = answer.headers.get("x-server", "")
            if self._is_right(answer, streamed):
                self.tally.answers[kind] += 1
                self.tally.servers[answer.headers["x-claudeproxyd-request-id"]] = server
            else:
                why = f"{answer.status} {answer.headers} {answer.body[-300:]!r}"
                self.tally.lost.append(Loss(begun, kind, why, server))
            if not kept or answer.headers.get("connection") == "close" or not answer.whole:
                connection.transport.loseConnection()
                connection = None
            rested = reactor.seconds()
            await sleep(PAUSE)
            self.tally.late = max(self.tally.late, reactor.seconds() - rested - PAUSE)
        if connection is not None:
            connection.transport.loseConnection()

    async def _ask(self, connection: wire.Wire, streamed: bool, begun: float) -> wire.Answer:
        message = wire.Message(prompt=f"[sandbox:words={WORDS}]", stream=streamed, max_tokens=1000)
        connection.request("POST", "/v1/messages", message.encode(), {**wire.VERSION, "x-api-key": KEY})
        answer = await connection.head()
        waited = reactor.seconds() - begun
        self.tally.longest = max(self.tally.longest, waited)
        self.tally.waits += waited > 1
        return await connection.body(answer)

    @staticmethod
    def _is_right(answer: wire.Answer, streamed: bool) -> bool:
        if answer.status != 200 or not answer.whole:
            return False
        return len(answer.text.split()) == WORDS if streamed else answer.json["type"] == "message"


class _Manager(DatagramProtocol):
    """systemd's end of what daemons tell it."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        self._told += datagram.decode().split("\n")


class Unit:
    """One daemon of a pair: started and stopped as often as one likes, at the same place, as systemd would."""

    def __init__(
        self,
        folder: Path,
        name: str,
        listen: str,
        server: str = "",
        state: str = "memory:",
        providers: str = SANDBOX,
        accounts: str = NO_ACCOUNTS,
    ) -> None:
        self._folder = folder
        self._path = folder / f"{name}.toml"
        self._notify = folder / f"{name}.notify"
        admin = f'admin = "unix:{folder / name}.sock"'
        own = f'[server]\nlisten = ["{listen}"]\n{admin}\nstate = "{state}"\n{server}\n'
        self._path.write_text(own + accounts + CONFIG + providers)
        self._child: Child | None = None

    async def start(self, inherit: Sequence[socket.socket] = ()) -> None:
        """Start it and wait until it says that it is ready. It gets the sockets as systemd would give them."""
        command: list[str | Path] = [TWISTD, "-n", "--pidfile=", "claudeproxyd", "--config", self._path]
        env = {"NOTIFY_SOCKET": str(self._notify)}
        if inherit:
            command = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command]
            env |= {"LISTEN_FDS": str(len(inherit)), "LISTEN_FDNAMES": ":".join(["claudeproxyd"] * len(inherit))}
        told: list[str] = []
        manager = reactor.listenUNIXDatagram(str(self._notify), _Manager(told))
        try:
            fds = [each.fileno() for each in inherit]
            child = Child(command, environment(self._path, env), cwd=self._folder, inherit=fds)
            self._child = child
            await eventually("it says that it is ready", lambda: child.result is not None or "READY=1" in told)
            assert child.result is None, child.output
        finally:
            await manager.stopListening()
            self._notify.unlink()

    def leave(self) -> Child:
        """Tell it to end, and return it: it drains."""
        child, self._child = self._child, None
        assert child is not None
        child.signal("TERM")
        return child

    async def kill(self) -> None:
        """End it as a crash would."""
        child, self._child = self._child, None
        assert child is not None
        child.signal("KILL")
        await child.ended(60)

    async def stop(self) -> None:
        """End it, if it runs."""
        if self._child is not None and self._child.result is None:
            await gone(self.leave())


async def gone(child: Child) -> None:
    """Wait for the end of a daemon that was told to; it must be a clean one."""
    result = await child.ended(60)
    assert (result.code, result.signal) in ((0, None), (None, 15)), child.output
    assert not NOISE.search(child.output), child.output


class Farm(Protocol):
    """Two daemons, and where their clients go."""

    port: int

    async def start(self) -> None:
        """Have both serve."""

    async def restart(self) -> None:
        """Restart the one that was not restarted last."""

    async def stop(self) -> None:
        """Leave nothing."""


def _none(port: int) -> str:
    return NO_ACCOUNTS


class _Balanced:
    """Daemons with ports of their own, behind a balancer."""

    server = ""
    """What ``[server]`` says of it."""

    def __init__(
        self, folder: Path, daemons: int = 2, state: str = "memory:", accounts: Callable[[int], str] = _none
    ) -> None:
        """*accounts* returns that section of the daemon at a port."""
        self.folder = folder
        self.port = free_port()
        self.ports = [free_port() for _ in range(daemons)]
        self._units = [
            Unit(
                folder,
                f"daemon-{port}",
                f"tcp:{port}:interface=127.0.0.1",
                self.server,
                state,
                accounts=accounts(port),
            )
            for port in self.ports
        ]
        self._balancer: Child | None = None

    def balancer(self) -> list[str | Path]:
        """Write its configuration; return its command line."""
        raise NotImplementedError

    async def until_seen(self) -> None:
        """Wait until the balancer knows that all daemons are up."""

    async def start(self) -> None:
        await gatherResults([Deferred.fromCoroutine(unit.start()) for unit in self._units])
        self._balancer = Child(self.balancer(), cwd=self.folder)
        await until_ready(self._balancer, self.port, "/healthz")
        await self.until_seen()

    async def restart(self) -> None:
        unit = self._units.pop(0)
        self._units.append(unit)
        await gone(unit.leave())
        await unit.start()
        await self.until_seen()

    async def kill(self) -> None:
        """Have the first one end as by a crash."""
        await self._units[0].kill()

    async def start_again(self) -> None:
        """Have the one that was killed serve."""
        await self._units[0].start()
        await self.until_seen()

    async def stop(self) -> None:
        await gatherResults([Deferred.fromCoroutine(unit.stop()) for unit in self._units])
        if self._balancer is not None:
            self._balancer.signal("TERM")
            await self._balancer.ended(60)


class BehindNginx(_Balanced):
    """By nginx's block of the page."""

    def balancer(self) -> list[str | Path]:
        one, two = self.ports
        block = changed(
            block_of("nginx"),
            ("127.0.0.1:8765", f"127.0.0.1:{one}"),
            ("127.0.0.1:8767", f"127.0.0.1:{two}"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.port};"),
        )
        folders = "".join(
            f"{name}_temp_path {self.folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        path = self.folder / "nginx.conf"
        path.write_text(
            f"daemon off;\nworker_processes 1;\npid {self.folder}/nginx.pid;\nerror_log stderr;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{folders}{block}}}\n"
        )
        return [nginx(), "-p", self.folder, "-c", path]


class BehindHAProxy(_Balanced):
    """By HAProxy's block of the page; it looks more often than that says."""

    server = "lame_duck = 1.0"

    def balancer(self) -> list[str | Path]:
        self._told_at = free_port()
        one, two, *others = self.ports
        block = changed(
            block_of("haproxy"),
            ("127.0.0.1:8765", f"127.0.0.1:{one}"),
            ("127.0.0.1:8767", f"127.0.0.1:{two}"),
            ("bind :443 ssl crt /etc/haproxy/claude.pem", f"bind 127.0.0.1:{self.port}"),
            ("inter 1s", "inter 200ms"),
        )
        path = self.folder / "haproxy.cfg"
        more = "".join(f"    server {port} 127.0.0.1:{port}\n" for port in others)
        told = "    http-after-response set-header x-server %[srv_name]\n"
        page = f"frontend page\n    bind 127.0.0.1:{self._told_at}\n    stats enable\n    stats uri /\n"
        path.write_text(f"{block}{more}{told}\n{page}")
        return [haproxy(), "-db", "-f", path]

    async def until_seen(self) -> None:
        while (await self.states()) != ["UP"] * len(self.ports):
            await sleep(0.05)

    async def states(self) -> list[str]:
        """What HAProxy thinks of each daemon."""
        table = (await wire.get(self._told_at, "/;csv")).body.decode().splitlines()
        names = table[0].lstrip("# ").split(",")
        rows = [dict(zip(names, line.split(","), strict=False)) for line in table[1:]]
        servers = [row for row in rows if row["pxname"] == "claudeproxyd" and row["svname"] != "BACKEND"]
        return [row["status"] for row in servers]


class OnOneSocket:
    """Blue and green on one socket that somebody else opened: the new one is there before the old one leaves."""

    def __init__(self, folder: Path, providers: str = SANDBOX) -> None:
        self._held = socket.socket()
        self._held.bind(("127.0.0.1", 0))
        self._held.listen(1024)
        self.port = self._held.getsockname()[1]
        listen = "systemd:domain=INET:name=claudeproxyd"
        self._units = [Unit(folder, name, listen, providers=providers) for name in ("blue", "green")]
        self._leaving: list[Deferred[None]] = []

    @property
    def is_draining(self) -> bool:
        """Whether the old one still has something to do."""
        return not self._leaving[-1].called

    async def start(self) -> None:
        await self._units[0].start([self._held])

    async def restart(self) -> None:
        await gatherResults(self._leaving[-1:])  # the one before the last has the new one's place
        old, new = self._units
        self._units = [new, old]
        await new.start([self._held])
        self._leaving.append(Deferred.fromCoroutine(gone(old.leave())))

    async def stop(self) -> None:
        await gatherResults(self._leaving)
        for unit in self._units:
            await unit.stop()
        self._held.close()


FARMS = {"nginx": BehindNginx, "haproxy": BehindHAProxy, "socket": OnOneSocket}


async def rolling(
    farm: Farm, restarts: int, done: Callable[[int, Tally], object] = lambda restarts, tally: None
) -> Tally:
    """Restart so many times under load, and return what the clients saw. *done* is told of each."""
    await farm.start()
    try:
        load = Load(farm.port)
        for number in range(restarts):
            await farm.restart()
            done(number + 1, load.tally)
        return await load.stop()
    finally:
        await farm.stop()
