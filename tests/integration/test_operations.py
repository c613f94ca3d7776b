"""What an operator does: start, check, look, reload, drain, stop."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from ssl import get_server_certificate

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest_twisted import ensureDeferred
from twisted.internet.error import ConnectError
from twisted.internet.threads import deferToThread

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import ADMIN_KEY, SANDBOX, TWISTD, environment, free_port, provider
from tests.integration.support.process import Child, Result, eventually, run
from tests.integration.support.ready import until_ready
from tests.integration.support.upstream import Upstream

STREAMED = wire.Message(stream=True).encode()


async def check(path: Path) -> Result:
    command = [TWISTD, "claudeproxyd", "--config", path, "--check"]
    return await run(command, environment(path), cwd=path.parent)


@ensureDeferred
async def test_check_tells_what_it_amounts_to(tmp_path: Path) -> None:
    """`--check` of a good file exits with 0, names the providers, shows no secret, and listens nowhere."""
    path = tmp_path / "good.toml"
    path.write_text(provider("http://127.0.0.1:1", "key-a").replace('api_key = "key-a"', 'api_key = "sk-secret-123"'))
    result = await check(path)
    assert result.code == 0, result.err
    assert "up" in result.out
    assert "secret-123" not in result.out + result.err


@ensureDeferred
async def test_check_tells_every_mistake(tmp_path: Path) -> None:
    """`--check` of a bad file exits with 1 and names each mistake with its place."""
    path = tmp_path / "bad.toml"
    path.write_text('[server]\nlisten = "tcp:1"\ndrian = 1\n' + provider("http://127.0.0.1:1", kind="antropic"))
    result = await check(path)
    assert result.code == 1
    told = result.out + result.err
    assert "Traceback" not in told
    for mistake in ("bad.toml", "listen", "drian", "antropic"):
        assert mistake in told


@ensureDeferred
async def test_bad_configuration_does_not_start(tmp_path: Path) -> None:
    """A daemon with a mistake in its file ends with 1 and the mistake, before it listens."""
    path = tmp_path / "bad.toml"
    path.write_text("[pool]\nstrategy = 'best'\n")
    command = [TWISTD, "-n", "--pidfile=", "claudeproxyd", "--config", path]
    result = await run(command, environment(path), cwd=tmp_path)
    assert result.code == 1
    assert "strategy" in result.out + result.err
    assert "Traceback" not in result.out + result.err


@pytest.mark.parametrize("tac", [False, True], ids=["plugin", "tac"])
@ensureDeferred
async def test_probes(start_daemon: StartDaemon, tac: bool) -> None:
    """The daemon, from the plugin or the .tac, answers the probes of balancers and of Claude Code without a key."""
    daemon = await start_daemon('[[clients]]\nname = "tests"\nkey = "client-key"\n' + SANDBOX, tac=tac)
    for path in ("/healthz", "/readyz", "/"):
        assert (await wire.get(daemon.port, path)).status == 200
    for path in ("/", "/api/hello"):
        assert (await wire.get(daemon.port, path, method="HEAD")).status == 200
    answer = await wire.get(daemon.port, "/v1/nothing")
    assert (answer.status, answer.json["error"]["type"]) == (404, "not_found_error")
    for path in ("/healthz", "/readyz"):
        assert (await wire.get(daemon.admin, path)).status == 200
    assert (await wire.get(daemon.admin, "/admin/v1/pool")).status == 401


@ensureDeferred
async def test_admin_shows_no_secret(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """The pool's page and the metrics name credentials and never show what they hold; neither does the log."""
    upstream.script(answers.usual())
    section = provider(upstream, "key-a").replace('api_key = "key-a"', 'api_key = "sk-the-secret-itself"')
    daemon = await start_daemon(section)
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
    pool = await daemon.admin_get("/admin/v1/pool")
    metrics = await daemon.admin_get("/metrics")
    assert b"key-a" in pool.body
    for shown in (pool.body, metrics.body, daemon.log.encode()):
        assert b"the-secret-itself" not in shown
        assert ADMIN_KEY.encode() not in shown


@ensureDeferred
async def test_reload_with_a_good_file(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """SIGHUP brings new credentials into force; a stream in flight goes on as if nothing had been."""
    go_on = answers.long_stream(upstream)
    daemon = await start_daemon(provider(upstream, "key-a"))
    client = await wire.stream(daemon.port)
    answer = await client.head()
    daemon.rewrite(provider(upstream, "key-b"))
    daemon.signal("HUP")
    await eventually("the log tells of the reload", lambda: "reloaded" in daemon.log)
    upstream.script(answers.usual())
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
    assert upstream.requests[-1].key == "key-b"
    go_on.callback(None)
    assert (await client.body(answer)).text.split() == [str(number) for number in range(10)]
    client.reset()


@ensureDeferred
async def test_reload_with_a_bad_file(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """SIGHUP with a mistake in the file leaves everything as it was, and the log says why."""
    upstream.script(answers.usual())
    daemon = await start_daemon(provider(upstream, "key-a"))
    daemon.rewrite(provider(upstream, "key-b") + "[pool]\nstrategy = 'best'\n")
    daemon.signal("HUP")
    await eventually("the log names the mistake", lambda: "strategy" in daemon.log)
    assert (await wire.post(daemon.port, wire.Message().encode())).status == 200
    assert upstream.requests[-1].key == "key-a"


def new_certificate(path: Path) -> None:
    """Write a certificate that there never was before, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    number = x509.random_serial_number()
    unsigned = x509.CertificateBuilder(name, name, key.public_key(), number, now, now + timedelta(days=1))
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(unsigned.sign(key, hashes.SHA256()).public_bytes(pem) + secret)


@ensureDeferred
async def test_reload_of_certificates(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """SIGHUP brings a renewed certificate into force without closing the port; a damaged one changes nothing."""
    pem, port = tmp_path / "server.pem", free_port()
    new_certificate(pem)
    daemon = await start_daemon(SANDBOX, listen_too=f"ssl:{port}:interface=127.0.0.1:privateKey={pem}")

    async def shown() -> str:
        return await deferToThread(get_server_certificate, ("127.0.0.1", port))

    first = await shown()
    new_certificate(pem)
    daemon.signal("HUP")
    await eventually("the log tells of the reload", lambda: "reloaded" in daemon.log)
    second = await shown()
    assert first != second
    pem.write_text("no certificate")
    daemon.signal("HUP")
    await eventually("the log tells of the certificate", lambda: "keeps its certificate" in daemon.log)
    assert await shown() == second
    assert f"Port {port} Closed" not in daemon.log


@ensureDeferred
async def test_drain(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """SIGTERM lets a stream in flight finish, takes no new connection meanwhile, tells probes, then ends the daemon."""
    go_on = answers.long_stream(upstream)
    daemon = await start_daemon(provider(upstream), server="drain = 600.0")
    client = await wire.stream(daemon.port)
    answer = await client.head()
    daemon.signal("TERM")
    await eventually("it drains", lambda: "draining: " in daemon.log)
    assert daemon.running
    with pytest.raises(ConnectError):
        await wire.get(daemon.port, "/healthz")
    assert (await wire.get(daemon.admin, "/readyz")).status == 503
    go_on.callback(None)
    assert (await client.body(answer)).whole
    assert answer.text.split() == [str(number) for number in range(10)]
    await daemon.ended()


@ensureDeferred
async def test_lame_duck(start_daemon: StartDaemon) -> None:
    """After SIGTERM a daemon says that it is not ready, and serves who is there and who comes; only then it closes."""
    daemon = await start_daemon(SANDBOX, server="lame_duck = 3.0")
    kept = await wire.Wire.connect(daemon.port)
    kept.request("GET", "/readyz")
    assert (await kept.body(await kept.head())).status == 200
    daemon.signal("TERM")
    await eventually("it says so", lambda: "leaving: not ready any more" in daemon.log)
    assert (await wire.get(daemon.port, "/readyz")).status == 503
    assert (await wire.get(daemon.admin, "/readyz")).status == 503
    kept.request("POST", "/v1/messages", wire.Message().encode())
    for answer in (await kept.body(await kept.head()), await wire.post(daemon.port, wire.Message().encode())):
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    await daemon.ended()


@ensureDeferred
async def test_crowd_at_the_door(start_daemon: StartDaemon) -> None:
    """Six hundred connections at once wait in the queue of a daemon that has no time just now: none knocks again."""
    port = free_port()
    daemon = await start_daemon(SANDBOX, listen_too=f"tcp:{port}:interface=127.0.0.1")
    os.kill(daemon.pid, signal.SIGSTOP)
    crowd = [socket.socket() for _ in range(600)]
    try:
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        let_in = select.poll()
        for each in crowd:
            let_in.register(each, select.POLLOUT)
        assert len(let_in.poll(0)) == len(crowd)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
        for each in crowd:
            each.close()


@ensureDeferred
async def test_early_hang_up(tmp_path: Path) -> None:
    """SIGHUP while the daemon is starting does not end it; the reload is done when it serves."""
    path = tmp_path / "early.toml"
    port = free_port()
    server = f'[server]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\nadmin = ""\nstate = "memory:"\n'
    path.write_text(server + '[accounts]\ndatabase = ""\n' + SANDBOX)
    child = Child([sys.executable, "-m", "claudeproxyd", "run", "--config", path], environment(path), cwd=tmp_path)
    await eventually("it holds SIGHUP back", lambda: holds_back(child.pid, signal.SIGHUP))
    child.signal("HUP")
    await eventually("it has reloaded", lambda: child.result or "reloaded: nothing changed" in child.output)
    await until_ready(child, port, "/readyz")
    child.signal("TERM")
    await child.ended(60)


def holds_back(pid: int, number: int) -> bool:
    """Whether a process has the kernel keep that signal."""
    found = re.search(r"^SigBlk:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


@ensureDeferred
async def test_readyz_while_draining(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A balancer that kept its connection learns from `/readyz` that the daemon is leaving."""
    go_on = answers.long_stream(upstream)
    daemon = await start_daemon(provider(upstream), server="drain = 600.0")
    client = await wire.stream(daemon.port)
    answer = await client.head()
    daemon.signal("TERM")
    await eventually("it drains", lambda: "draining: " in daemon.log)
    assert (await wire.get(daemon.admin, "/readyz")).status == 503
    assert (await wire.get(daemon.admin, "/healthz")).status == 200
    go_on.callback(None)
    assert (await client.body(answer)).whole


@ensureDeferred
async def test_drain_has_an_end(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A stream that outlasts `drain` is told with an error event, and the daemon ends."""
    answers.long_stream(upstream)
    daemon = await start_daemon(provider(upstream), server="drain = 1.0")
    client = await wire.stream(daemon.port)
    answer = await client.head()
    daemon.signal("TERM")
    assert wire.types((await client.body(answer)).events)[-1] == "error"
    await daemon.ended()


@ensureDeferred
async def test_drain_ends_an_upload(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A client that is still sending its body when `drain` is over reads why it gets no answer."""
    daemon = await start_daemon(provider(upstream), server="drain = 1.0")
    client = await wire.Wire.connect(daemon.port)
    client.send(b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    client.send(b'Content-Length: 1000\r\n\r\n{"model":')

    async def begun() -> bool:
        return (await daemon.metrics())["claudeproxyd_buffered_bytes{}"] > 0

    await eventually("some of the body is there", begun)
    daemon.signal("TERM")
    answer = await client.body(await client.head())
    assert (answer.status, answer.json["error"]["type"]) == (529, "overloaded_error")
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["connection"] == "close"
    await daemon.ended()


@ensureDeferred
async def test_second_signal_stops_at_once(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A second SIGTERM does not wait for anybody."""
    answers.long_stream(upstream)
    daemon = await start_daemon(provider(upstream), server="drain = 600.0")
    client = await wire.stream(daemon.port)
    await client.head()
    daemon.signal("TERM")
    await eventually("it drains", lambda: "draining: " in daemon.log)
    daemon.signal("TERM")
    await daemon.ended()
