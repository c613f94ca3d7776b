"""What is in ``deploy/``: the image's root, built and entered without Docker, the objects for Kubernetes, the units."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred

from tests.integration.support import wire
from tests.integration.support.daemon import NOISE, ROOT, SANDBOX, free_port
from tests.integration.support.dockerfile import LEFT_OUT, Image, build, entering, instructions, may_unshare
from tests.integration.support.needs import needs
from tests.integration.support.process import Child, Result, eventually, run
from tests.integration.support.ready import until_ready
from tests.test_packaging import OPTIONAL

DEPLOY = ROOT / "deploy"
ANYBODY = "12345"
"""A user that no passwd knows."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, built once."""
    return build(DEPLOY / "Dockerfile", ROOT, tmp_path_factory.mktemp("image"))


class Container:
    """The image's command as its first process: read-only, as *user*, without capabilities and HOME."""

    def __init__(self, image: Image, port: int, user: str) -> None:
        self.port = port
        command = entering(image, [*image.entry, *image.command], mounts=[], user=user, sealed=True)
        self._unshare = Child(command)

    @property
    def log(self) -> str:
        return self._unshare.output

    @property
    def pid(self) -> int:
        """Of the first process in there, as it is called out here."""
        parent = self._unshare.pid
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text())

    def status(self, name: str) -> str:
        """A line of the kernel's about the process."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))

    async def ready(self) -> None:
        await until_ready(self._unshare, self.port, "/readyz")

    async def stop(self) -> Result:
        if self._unshare.result is None:
            os.kill(self.pid, signal.SIGTERM)
        return await self._unshare.ended(60)


def _empty(folder: Path) -> None:
    """What an earlier test's user left there is not for this one's."""
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()


StartContainer = Callable[..., Awaitable[Container]]


@pytest_twisted.async_yield_fixture
async def start_container(image: Image) -> AsyncIterator[StartContainer]:
    """``await start_container(image)``: a container that listens, and is stopped after the test."""
    started: list[Container] = []

    async def start(image: Image, user: str = ANYBODY) -> Container:
        _empty(image.inside("/var/lib/claudeproxyd"))
        port = free_port()
        listen = f'[server]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\nadmin = ""\n'
        image.inside("claudeproxyd.toml").write_text(listen + SANDBOX)
        container = Container(image, port, user)
        started.append(container)
        await container.ready()
        return container

    yield start
    for container in started:
        await container.stop()


@needs(may_unshare)
@ensureDeferred
async def test_container(image: Image, start_container: StartContainer) -> None:
    """A user that nobody knows, and that may do nothing, is served from a read-only root; what is kept is in a volume.

    SIGTERM, to the first process, lets the stream that runs come to its end.
    """
    container = await start_container(image)
    assert container.status("CapBnd") == container.status("CapEff") == "0" * 16
    assert container.status("Uid").split() == [ANYBODY] * 4
    assert container.status("NSpid").split()[1:] == ["1"]
    for line in ("state        /var/lib/claudeproxyd/state.db", "accounts     /var/lib/claudeproxyd/accounts.db"):
        assert line in container.log

    stream = await wire.stream(container.port, wire.Message(model="sandbox-words-100+pace-0.02", stream=True))
    begun = await stream.until(b"content_block_delta")
    os.kill(container.pid, signal.SIGTERM)
    await eventually("it drains", lambda: "draining: 1 connection" in container.log)
    assert b"message_stop" in begun + await stream.rest()
    result = await container.stop()
    assert (result.code, NOISE.findall(container.log), "dropin.cache" in container.log) == (0, [], False)

    folder = image.inside("/var/lib/claudeproxyd")
    assert {path.stat().st_uid for path in folder.iterdir()} == {int(ANYBODY)}
    with sqlite3.connect(folder / "accounts.db") as ledger:
        assert ledger.execute("SELECT count(*) FROM attempts").fetchone() == (1,)


@needs(may_unshare)
@ensureDeferred
async def test_container_without_a_volume(image: Image, start_container: StartContainer) -> None:
    """Where nothing at all may be written it serves all the same, and says what is not kept and what would mend it."""
    container = await start_container(replace(image, volumes=[]), image.user)
    answer = await wire.post(container.port, wire.Message().encode())
    assert (answer.status, answer.json["type"]) == (200, "message")
    for setting in ("server.state is in memory", "accounts.database is none"):
        (line,) = [line for line in container.log.splitlines() if setting in line]
        assert "#warn" in line
        assert "/var/lib/claudeproxyd cannot be written (mount or make a folder" in line
    result = await container.stop()
    assert (result.code, NOISE.findall(container.log)) == (0, [])


@needs(may_unshare)
@ensureDeferred
async def test_image(image: Image) -> None:
    """It is for nobody in particular, keeps state in a volume, and has neither pip nor a compiler's cache."""
    assert (image.user, image.volumes, image.ports) == ("10001", ["/var/lib/claudeproxyd"], [8765, 8766])
    assert not list(image.root.glob("opt/claudeproxyd/bin/pip*"))
    assert not (image.root / "wheels").is_dir() or not any((image.root / "wheels").iterdir())
    version = await run(entering(image, [*image.entry, "version"], mounts=[], user=image.user, sealed=True))
    assert (version.code, version.out.split()[0]) == (0, "claudeproxyd"), version.err


def test_extras() -> None:
    """Whatever may be configured works, since all that it takes is installed."""
    named = re.findall(r"\[([\w,]+)\]'", (DEPLOY / "Dockerfile").read_text())
    assert named == [",".join(OPTIONAL)] * 2


def test_what_docker_is_sent() -> None:
    """Everything that the Dockerfile copies is let through by its ``.dockerignore``, and nothing else is."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    sources: list[str] = []
    for name, rest in instructions((DEPLOY / "Dockerfile").read_text()):
        if name == "COPY":
            sources += rest.split()[:-1]
    assert ignored == ["*", *(f"!{source}" for source in sources), *(f"**/{name}" for name in LEFT_OUT)]
