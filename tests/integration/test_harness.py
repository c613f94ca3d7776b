"""The harness itself: a scripted upstream that lies would make every other test worthless."""

from __future__ import annotations

import gzip
import re
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import SANDBOX, Daemon, free_port
from tests.integration.support.process import eventually, run
from tests.integration.support.upstream import Upstream

BODY = wire.Message().encode()


def port_of(upstream: Upstream) -> int:
    return urlsplit(upstream.url).port


@ensureDeferred
async def test_records_and_answers_in_turn(upstream: Upstream) -> None:
    """Requests are kept exactly, and the script is followed with its last answer staying in force."""
    upstream.script(answers.error(429, "rate_limit_error", retry_after="1"), answers.whole())
    first = await wire.post(port_of(upstream), BODY, headers={"x-api-key": "key-a"})
    assert (first.status, first.headers["retry-after"]) == (429, "1")
    for _ in range(2):
        assert (await wire.post(port_of(upstream), BODY)).json["content"][0]["text"] == "hello"
    assert [each.body for each in upstream.requests] == [BODY] * 3
    assert upstream.requests[0].key == "key-a"


@ensureDeferred
async def test_streams_whole_and_cut(upstream: Upstream) -> None:
    """A stream that ended and one that was cut look different to the raw client."""
    cut = answers.cut_stream(answers.start_frames())
    reset = answers.cut_stream(answers.start_frames(), reset=True)
    upstream.script(answers.stream(answers.frames("a", "b"), pace=0.01), cut, reset, answers.cut(b"HTTP/1.1 200"))
    whole = await wire.post(port_of(upstream), BODY)
    assert (whole.whole, whole.text) == (True, "ab")
    for _ in range(2):
        broken = await wire.post(port_of(upstream), BODY)
        assert (broken.whole, wire.types(broken.events)) == (False, ["message_start", "content_block_start"])
    connection = await wire.Wire.connect(port_of(upstream))
    connection.request("POST", "/v1/messages", BODY)
    assert await connection.rest() == b"HTTP/1.1 200"


@ensureDeferred
async def test_packed_informed_and_kept_alive(upstream: Upstream) -> None:
    """Packed bodies, early heads and a connection that closes on its second request are what they say."""
    usual = answers.closing_kept_alive(answers.whole(b"{}"))
    upstream.script(answers.packed(b"{}"), answers.informed(answers.whole()), usual)
    packed = await wire.post(port_of(upstream), BODY)
    assert gzip.decompress(packed.body) == b"{}"
    assert packed.headers["content-encoding"] == "gzip"
    connection = await wire.Wire.connect(port_of(upstream))
    connection.request("POST", "/v1/messages", BODY)
    assert (await connection.head()).status == 103
    assert (await connection.head()).status == 200
    connection.reset()
    connection = await wire.Wire.connect(port_of(upstream))
    connection.request("POST", "/v1/messages", BODY)
    assert (await connection.body(await connection.head())).body == b"{}"
    connection.request("POST", "/v1/messages", BODY)
    assert await connection.rest() == b""


@ensureDeferred
async def test_flood_waits_for_the_reader(upstream: Upstream) -> None:
    """A flood stops when its reader does, counts what it got rid of, and is whole once the reader goes on."""
    upstream.script(answers.flood(16_000_000))
    client = await wire.stream(port_of(upstream))
    answer = await client.head()
    client.stop_reading()
    await eventually("the flood is blocked", lambda: upstream.exchanges[0].blocked)
    assert 0 < upstream.exchanges[0].written < 14_000_000
    client.read_on()
    assert (await client.body(answer)).whole
    assert len(answer.text) > 15_000_000
    client.reset()


@ensureDeferred
async def test_stop_leaves_no_timer() -> None:
    """An upstream that is stopped in mid answer leaves nothing of it on the reactor."""
    before = set(reactor.getDelayedCalls())
    upstream = await Upstream().start()
    upstream.script(answers.pings(30.0, 2))
    client = await wire.stream(port_of(upstream))
    await client.head()
    await upstream.stop()
    assert not [call for call in reactor.getDelayedCalls() if call not in before and call.getTime() > reactor.seconds()]
    client.reset()


def test_port_is_kept() -> None:
    """A free port is nobody else's until the server that is told of it listens there."""
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        server.listen()
        socket.create_connection(("127.0.0.1", port)).close()


def seen_from_outside(daemon: Daemon) -> list[str]:
    """What the start of its process decides: its parent, signals, first descriptors, folder, and what it prints."""
    of = Path(f"/proc/{daemon.pid}")
    status = (of / "status").read_text().splitlines()
    pipes = [(of / f"fd/{number}").readlink().name.partition(":")[0] for number in range(3)]
    printed = re.sub(r"\S+T\S+\+0000|\(/.+\)|0x\w+|\d{4,}", "…", daemon.log.partition("/v1/models")[0])
    kept = ("PPid", "Uid", "Groups", "Umask", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs")
    return [line for line in status if line.startswith(kept)] + [*pipes, str((of / "cwd").readlink()), printed]


@ensureDeferred
async def test_forked_as_executed(start_daemon: StartDaemon) -> None:
    """A daemon that is forked off a process with its modules is otherwise like one that was executed."""
    forked, executed = await start_daemon(SANDBOX), await start_daemon(SANDBOX, env={"ANY": "thing"})
    programs = [Path(f"/proc/{each.pid}/cmdline").read_text() for each in (forked, executed)]
    assert ["/forkserver.py\0" in each for each in programs] == [True, False]
    assert seen_from_outside(forked) == seen_from_outside(executed)


@pytest.mark.parametrize(("required", "code"), [("0", 0), ("1", 1)])
@ensureDeferred
async def test_programs_that_are_missing(tmp_path: Path, required: str, code: int) -> None:
    """On a machine without them their tests are skipped, each with the reason, and harm no others; CI fails for it."""
    chosen = (
        "test_pool_page.py",
        "test_state.py::test_starts_without_redis",
        "test_harness.py::test_records_and_answers_in_turn",
    )
    here = Path(__file__).parent
    environment = {"PATH": str(tmp_path), "CI_REQUIRE_CLIENTS": required}
    result = await run([sys.executable, "-m", "pytest", "-q", *(here / each for each in chosen)], environment)
    assert result.code == code, result
    assert "chromium is not installed" in result.out
    assert "redis-server is not installed" in result.out
    ends = result.out.strip().split("\n")[-1]
    assert re.match(rf"1 passed, \d+ {'errors' if code else 'skipped'} in ", ends), result
