"""When a server that was just started can be used."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.error import ConnectError

from tests.integration.support import wire
from tests.integration.support.process import Child, sleep


async def until_ready(child: Child, port: int, path: str, within: float = 60.0) -> None:
    """Wait until ``GET path`` is a 200. Fails with the program's output where it ends first, or takes too long."""
    deadline = reactor.seconds() + within
    while reactor.seconds() < deadline:
        assert child.result is None, f"it did not start:\n{child.output}"
        try:
            if (await wire.get(port, path)).status == 200:
                return
        except (ConnectError, EOFError):
            pass  # not listening yet, or not sure of it
        await sleep(0.02)
    child.signal("KILL")
    raise AssertionError(f"not ready within {within} s:\n{child.output}")
