"""The data plane's client beside treq, over real sockets: one table of answers, and what each makes of them.

Where an answer is well formed both must agree on status, headers, body, and whether it is whole or cut. Where it is
not, ours may be the stricter; STRICTER names each such case and why.
"""

from __future__ import annotations

import datetime
import ipaddress
import random
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest
import pytest_twisted
import treq
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import ClientCreator, Factory, Protocol
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool

from claudeproxyd.upstream.client import Origin, TLSSettings
from claudeproxyd.upstream.errors import Cut, Malformed, ProxyRefused, TLSFailed, UpstreamError
from tests.upstream.fakes import Sink

reactor: Any = global_reactor

KEEP, FIN, RST = "keep", "fin", "rst"

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"

#: The answer's bytes, how the connection goes on after them, and the request's method.
Case = tuple[bytes, str, str]


def post(data: bytes, end: str = KEEP) -> Case:
    """An answer to POST."""
    return data, end, "POST"


#: Both clients must agree on these.
AGREED: dict[str, Case] = {
    "by length": post(HELLO),
    "by length, then closed": post(HELLO, FIN),
    "an empty body": post(OK + b"Content-Length: 0\r\n\r\n"),
    "a large body": post(OK + b"Content-Length: 300000\r\n\r\n" + b"0123456789" * 30_000),
    "an error status": post(b"HTTP/1.1 529 Overloaded\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\n{}"),
    "a redirect, not followed": post(
        b"HTTP/1.1 307 Away\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    ),
    "no reason phrase but a blank": post(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nhi"),
    "chunked": post(CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
    "chunked, nothing in it": post(CHUNKED + b"0\r\n\r\n"),
    "chunked, one byte each": post(CHUNKED + b"".join(b"1\r\n%c\r\n" % c for c in b"hello") + b"0\r\n\r\n"),
    "chunk sizes in capitals and with zeros": post(CHUNKED + b"00A\r\n0123456789\r\n0\r\n\r\n"),
    "chunk extensions": post(CHUNKED + b"5;a=b;c\r\nhello\r\n0;last=1\r\n\r\n"),
    "trailers": post(CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nY: z\r\n\r\n"),
    "chunked, in capitals": post(OK + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    "chunked, then closed": post(CHUNKED + b"2\r\nhi\r\n0\r\n\r\n", FIN),
    "until close": post(OK + b"\r\nhello", FIN),
    "until close, empty": post(OK + b"\r\n", FIN),
    "until close, announced": post(OK + b"Connection: close\r\n\r\nhello", FIN),
    "Connection: close with a length": post(OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi", FIN),
    "Connection: Close in capitals": post(OK + b"Connection: Close\r\nContent-Length: 2\r\n\r\nhi", FIN),
    "HTTP/1.0": post(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", FIN),
    "HTTP/1.0 until close": post(b"HTTP/1.0 200 OK\r\n\r\nhi", FIN),
    "100 first": post(b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO),
    "103 with headers, then 102": post(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + HELLO
    ),
    "204": post(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": post(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
    "304 with a length": post(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
    "HEAD": (OK + b"Content-Length: 5\r\n\r\n", KEEP, "HEAD"),
    "HEAD, chunked": (CHUNKED, KEEP, "HEAD"),
    "GET": (HELLO, KEEP, "GET"),
    "a header twice, blanks around values": post(
        OK + b"A:  1 \r\nB:\t2\t\r\na: 3\r\nC:\r\nContent-Length: 2\r\n\r\nhi"
    ),
    "bytes above ASCII in a header": post(OK + b"X: caf\xe9\r\nContent-Length: 2\r\n\r\nhi"),
    "a long header line": post(OK + b"X: " + b"x" * 16_000 + b"\r\nContent-Length: 2\r\n\r\nhi"),
    "two hundred headers": post(OK + b"".join(b"X-%d: y\r\n" % i for i in range(200)) + b"Content-Length: 2\r\n\r\nhi"),
    "another answer behind it": post(HELLO + OK + b"Content-Length: 3\r\n\r\nbad"),
    "nothing, then closed": post(b"", FIN),
    "nothing, then reset": post(b"", RST),
    "cut in the version": post(b"HTT", FIN),
    "cut in the status line": post(b"HTTP/1.1 20", FIN),
    "cut in a header": post(OK + b"Content-Le", FIN),
    "cut between headers": post(OK + b"Content-Length: 5\r\n", FIN),
    "cut before the blank line's end": post(OK + b"Content-Length: 5\r\n\r", FIN),
    "cut after 100": post(b"HTTP/1.1 100 Continue\r\n\r\n", FIN),
    "cut after the head": post(HELLO[:-5], FIN),
    "cut in the body": post(HELLO[:-1], FIN),
    "reset in the body": post(HELLO[:-1], RST),
    "cut in a chunk size": post(CHUNKED + b"5\r\nhello\r\n5", FIN),
    "cut in a chunk": post(CHUNKED + b"5\r\nhel", FIN),
    "cut after a chunk": post(CHUNKED + b"5\r\nhello\r\n", FIN),
    "cut in the last chunk": post(CHUNKED + b"5\r\nhello\r\n0\r\n", FIN),
    "reset in chunks": post(CHUNKED + b"5\r\nhello\r\n", RST),
    "garbage": post(b"hello there\r\n\r\n", FIN),
    "a bad status": post(b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n", FIN),
    "a length that is none": post(OK + b"Content-Length: five\r\n\r\nhello", FIN),
    "different lengths": post(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", FIN),
    "a chunk size that is none": post(CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n", FIN),
    "a negative chunk size": post(CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", FIN),
    "a chunk longer than its size": post(CHUNKED + b"5\r\nhellooo\r\n0\r\n\r\n", FIN),
}

#: Ours must refuse these as malformed, whatever treq says; and why.
STRICTER: dict[str, tuple[Case, str]] = {
    "both lengths": (
        post(OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", FIN),
        "a proxy on the way may have believed the other one",
    ),
    "the same length twice": (
        post(OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", FIN),
        "nobody sends it in good faith, and llhttp has no way to allow it",
    ),
    "obs-fold": (
        post(OK + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nhi", FIN),
        "one reader's folded value is another's header",
    ),
    "bare LF": (
        post(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", FIN),
        "the same: where a line ends must not depend on the reader",
    ),
    "bare LF after a chunk size": (
        post(CHUNKED + b"2\nhi\r\n0\r\n\r\n", FIN),
        "the same, in a body",
    ),
    "gzip, chunked": (
        post(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", FIN),
        "we did not ask for it, and the body would be passed on as it is",
    ),
    "an unknown transfer coding": (
        post(OK + b"Transfer-Encoding: xchunked\r\n\r\nhi", FIN),
        "where the body ends is anyone's guess",
    ),
    "chunked in HTTP/1.0": (
        post(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", FIN),
        "RFC 9112, 6.1: treat the framing as faulty",
    ),
    "101": (
        post(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", FIN),
        "we asked for no other protocol",
    ),
    "NUL in a header": (
        post(OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\nhi", FIN),
        "what comes after it is lost on some readers, and headers are passed on",
    ),
    "a blank before the colon": (
        post(OK + b"Content-Length : 2\r\n\r\nhi", FIN),
        "RFC 9112, 5.1: some take the name with the blank, and miss the length",
    ),
    "a line without a colon": (
        post(OK + b"nonsense\r\nContent-Length: 2\r\n\r\nhi", FIN),
        "it is no header",
    ),
    "a blank after a chunk size": (
        post(CHUNKED + b"2 \r\nhi\r\n0\r\n\r\n", FIN),
        "it is no part of the grammar",
    ),
    "HTTP/2.0 on a status line": (
        post(b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", FIN),
        "HTTP/2 has no status lines",
    ),
    "three hundred headers": (
        post(OK + b"X: y\r\n" * 300 + b"Content-Length: 2\r\n\r\nhi", FIN),
        "a bound on what one head may cost",
    ),
    "a length among the trailers": (
        post(CHUNKED + b"2\r\nhi\r\n0\r\nContent-Length: 9\r\n\r\n", FIN),
        "framing does not belong there",
    ),
}


class Script(Protocol):
    """Answers each whole request with the case's bytes, in pieces, and ends as it says."""

    def __init__(self, case: Case, pieces: int) -> None:
        self._case = case
        self._pieces = pieces
        self._heard = b""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self._heard += data
        head, end, body = self._heard.partition(b"\r\n\r\n")
        if not end or (b"POST" in head and len(body) < 2):
            return
        self._heard = b""
        answer = self._case[0]
        random.seed(len(answer))
        at = sorted(random.sample(range(1, len(answer)), min(self._pieces, len(answer) - 1))) if answer else []
        self._say([answer[a:b] for a, b in zip([0, *at], [*at, len(answer)], strict=True)])

    def _say(self, pieces: list[bytes]) -> None:
        if pieces and self.connected:
            self.transport.write(pieces[0])
            reactor.callLater(0, self._say, pieces[1:])
        elif self._case[1] == RST:
            # What was written must be read by the other side first: a reset takes it away.
            reactor.callLater(0.05, self._reset)
        elif self._case[1] == FIN:
            self.transport.loseConnection()

    def _reset(self) -> None:
        self.transport.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abortConnection()


@asynccontextmanager
async def listening(make: Callable[[], Protocol], context: Any = None) -> AsyncIterator[int]:
    """A port on loopback, TLS with *context*; gone at the end, with all its connections."""
    made: list[tuple[Protocol, Deferred[None]]] = []

    class Listener(Factory):
        noisy = False

        def buildProtocol(self, addr: Any) -> Protocol:
            protocol, gone = make(), Deferred[None]()
            lost = protocol.connectionLost

            def connection_lost(reason: Failure) -> None:
                lost(reason)
                gone.callback(None)

            protocol.connectionLost = connection_lost  # type: ignore[assignment,method-assign]
            made.append((protocol, gone))
            return protocol

    if context is None:
        port = reactor.listenTCP(0, Listener(), interface="127.0.0.1")
    else:
        port = reactor.listenSSL(0, Listener(), context, interface="127.0.0.1")
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()
        for protocol, gone in made:
            if not gone.called:
                protocol.transport.abortConnection()
        await gatherResults([gone for _, gone in made])


#: status, headers, body, and how it ended: whole, cut, or no answer at all.
Verdict = tuple[int, list[tuple[bytes, bytes]], bytes, str]
NOTHING: Verdict = (0, [], b"", "none")


async def by_ours(url: str, method: str, errors: list[Exception]) -> Verdict:
    """What our client makes of it; *errors* takes what it says."""
    origin = Origin(reactor, url, connect_timeout=5.0, environ={})
    body = b"{}" if method == "POST" else b""
    try:
        response = await origin.request(method.encode(), b"/", b"", body, first_byte=5.0, idle=5.0)
        done: Deferred[None] = Deferred()

        class Noting(Sink):
            def ended(self) -> None:
                super().ended()
                done.callback(None)

            def broken(self, reason: Exception) -> None:
                super().broken(reason)
                errors.append(reason)
                done.callback(None)

        sink = Noting()
        response.deliver(sink)
        await done
        return response.status, response.headers, sink.body, "whole" if sink.end == "whole" else "cut"
    except UpstreamError as error:
        errors.append(error)
        return NOTHING
    finally:
        await origin.close()


async def by_treq(url: str, method: str) -> Verdict:
    """What treq makes of it."""
    pool = HTTPConnectionPool(reactor, persistent=False)
    pool.retryAutomatically = False
    client = treq.client.HTTPClient(Agent(reactor, connectTimeout=5.0, pool=pool))
    pieces: list[bytes] = []
    status, headers = 0, []
    try:
        response = await client.request(
            method,
            url,
            data=b"{}" if method == "POST" else None,
            allow_redirects=False,
            unbuffered=True,
            timeout=5.0,
        )
        status = response.code
        headers = [(name.lower(), value) for name, values in response.headers.getAllRawHeaders() for value in values]
        await response.collect(pieces.append)
        return status, headers, b"".join(pieces), "whole"
    except Exception:
        return (status, headers, b"".join(pieces), "cut") if status else NOTHING


def comparable(verdict: Verdict) -> Verdict:
    """Without what treq keeps differently: the order of names, headers about the connection, an empty coding added."""
    status, headers, body, end = verdict
    dropped = (b"connection", b"content-length", b"transfer-encoding", b"content-encoding")
    kept = [(name, value) for name, value in headers if name not in dropped]
    return status, sorted(kept, key=lambda header: header[0]), body, end


@pytest.mark.parametrize("pieces", [0, 7])
@pytest.mark.parametrize("name", AGREED)
@pytest_twisted.ensureDeferred
async def test_agreed(name: str, pieces: int) -> None:
    """Both clients see the same answer and the same end of it, in one piece and in several."""
    case = AGREED[name]
    async with listening(lambda: Script(case, pieces)) as port:
        url = f"http://127.0.0.1:{port}/"
        ours, theirs = await by_ours(url, case[2], []), await by_treq(url, case[2])
    assert comparable(ours) == comparable(theirs)


@pytest.mark.parametrize("name", STRICTER)
@pytest_twisted.ensureDeferred
async def test_stricter(name: str) -> None:
    """Ours refuses what could be read in two ways, and says that it is malformed."""
    case, why = STRICTER[name]
    errors: list[Exception] = []
    async with listening(lambda: Script(case, 0)) as port:
        verdict = await by_ours(f"http://127.0.0.1:{port}/", case[2], errors)
    assert verdict[3] != "whole", why
    assert [type(error) for error in errors] == [Malformed], why


@pytest_twisted.ensureDeferred
async def test_reuse_and_stale() -> None:
    """A kept connection serves again; one that the upstream closed meanwhile is replaced without a word."""
    made: list[Script] = []

    def make() -> Script:
        made.append(Script(post(HELLO), 0))
        return made[-1]

    async with listening(make) as port:
        origin = Origin(reactor, f"http://127.0.0.1:{port}", connect_timeout=5.0, environ={})

        repeats: list[None] = []

        async def ask() -> bool:
            response = await origin.request(
                b"POST", b"/", b"", b"{}", first_byte=5.0, idle=5.0, stale=lambda: repeats.append(None)
            )
            assert await response.read(100) == b"hello"
            return response.reused

        assert [await ask(), await ask(), len(made)] == [False, True, 1]
        # Both ends in one turn of the reactor: the request is out before the close is noticed.
        made[0].transport.loseConnection()
        assert await ask() is False
        assert (len(repeats), len(made)) == (1, 2)
        await origin.close()


class Swallow(Protocol):
    """Reads a large upload slowly, and answers with how much it was."""

    def __init__(self) -> None:
        self._left = 0
        self._total = 0

    def dataReceived(self, data: bytes) -> None:
        if not self._total:
            head, _, data = data.partition(b"\r\n\r\n")
            self._total = self._left = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        self._left -= len(data)
        if self._left:
            self.transport.pauseProducing()
            reactor.callLater(0.0005, self.transport.resumeProducing)
        else:
            self.transport.write(OK + b"Content-Length: 2\r\n\r\nok")


@pytest.mark.parametrize("secure", [False, True])
@pytest_twisted.ensureDeferred
async def test_large_upload(secure: bool, tmp_path: Path) -> None:
    """A body of some megabytes arrives whole at an upstream that reads slowly, plain and over TLS."""
    context = Authority(tmp_path).server() if secure else None
    async with listening(Swallow, context) as port:
        scheme = "https" if secure else "http"
        origin = Origin(
            reactor,
            f"{scheme}://127.0.0.1:{port}",
            connect_timeout=5.0,
            tls=TLSSettings(ca_file=str(tmp_path / "ca.pem") if secure else ""),
            environ={},
        )
        response = await origin.request(b"POST", b"/", b"", b"x" * 3_000_000, first_byte=5.0, idle=5.0)
        assert await response.read(10) == b"ok"
        assert origin.idle == 1
        await origin.close()


class Authority:
    """A certificate authority that lives as long as a test; its certificate is ``ca.pem``."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        certificate = self._build(
            self._name, self._key.public_key(), 30, x509.BasicConstraints(ca=True, path_length=None)
        )
        (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _build(self, subject: x509.Name, key: Any, days: int, *extensions: x509.ExtensionType) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=60))
        builder = builder.not_valid_after(now + datetime.timedelta(days=days))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())

    def server(self, address: str = "127.0.0.1", days: int = 30) -> CertificateOptions:
        """What a server at *address* needs, valid for so many days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        certificate = self._build(x509.Name([]), key.public_key(), days, names)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        private = PrivateCertificate.loadPEM(certificate.public_bytes(serialization.Encoding.PEM) + pem)
        # A server of Twisted's that names no protocol refuses a client that does.
        return CertificateOptions(
            privateKey=private.privateKey.original,
            certificate=private.original,
            acceptableProtocols=[b"http/1.1"],
        )


async def over_tls(port: int, tls: TLSSettings, proxy: str = "") -> bytes:
    """One request over TLS, and what came back."""
    origin = Origin(reactor, f"https://127.0.0.1:{port}", connect_timeout=5.0, tls=tls, proxy=proxy, environ={})
    try:
        response = await origin.request(b"POST", b"/", b"", b"{}", first_byte=5.0, idle=5.0)
        body: bytes = await response.read(100)
        return body
    finally:
        await origin.close()
        assert origin.connections == 0


@pytest_twisted.ensureDeferred
async def test_tls_trusted(tmp_path: Path) -> None:
    """A certificate of the configured authority is taken, and so is any where checking is off."""
    context = Authority(tmp_path).server()
    async with listening(lambda: Script(post(HELLO), 0), context) as port:
        assert await over_tls(port, TLSSettings(ca_file=str(tmp_path / "ca.pem"))) == b"hello"
        assert await over_tls(port, TLSSettings(verify=False)) == b"hello"


@pytest.mark.parametrize(
    ("address", "days", "trusted"), [("127.0.0.9", 30, True), ("127.0.0.1", -1, True), ("127.0.0.1", 30, False)]
)
@pytest_twisted.ensureDeferred
async def test_tls_refused(address: str, days: int, trusted: bool, tmp_path: Path) -> None:
    """A certificate for another name, an expired and an untrusted one are matters of TLS, not lost answers."""
    context = Authority(tmp_path).server(address, days)
    settings = TLSSettings(ca_file=str(tmp_path / "ca.pem")) if trusted else TLSSettings()
    async with listening(lambda: Script(post(HELLO), 0), context) as port:
        with pytest.raises(TLSFailed):
            await over_tls(port, settings)


@pytest_twisted.ensureDeferred
async def test_tls_to_a_plain_server() -> None:
    """A server that does not speak TLS is told from one that is not there."""

    class Plain(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(Plain) as port:
        with pytest.raises(TLSFailed):
            await over_tls(port, TLSSettings())


@pytest_twisted.ensureDeferred
async def test_tls_truncated(tmp_path: Path) -> None:
    """An answer without a length that ends without TLS saying so has been cut."""

    class Truncating(Script):
        def _say(self, pieces: list[bytes]) -> None:
            self.transport.write(b"".join(pieces))
            reactor.callLater(0.05, lambda: self.transport.transport.loseConnection())

    context = Authority(tmp_path).server()
    settings = TLSSettings(ca_file=str(tmp_path / "ca.pem"))
    async with listening(lambda: Truncating(post(OK + b"\r\nhello"), 0), context) as port:
        with pytest.raises(Cut):
            await over_tls(port, settings)
    async with listening(lambda: Script(post(OK + b"\r\nhello", FIN), 0), context) as port:
        assert await over_tls(port, settings) == b"hello"


class Relay(Protocol):
    """A proxy: takes CONNECT and passes bytes both ways."""

    other: Protocol | None = None
    heard = b""

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
            return
        self.heard += data
        if b"Proxy-Authorization: Basic dTpw\r\n" not in self.heard:
            self.transport.write(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n")
            return
        port = int(self.heard.split(b" ")[1].split(b":")[1])
        relay = self

        class Far(Protocol):
            def connectionMade(self) -> None:
                relay.other = self
                relay.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

            def dataReceived(self, data: bytes) -> None:
                relay.transport.write(data)

            def connectionLost(self, reason: Any = None) -> None:
                relay.transport.loseConnection()

        ClientCreator(reactor, Far).connectTCP("127.0.0.1", port)

    def connectionLost(self, reason: Any = None) -> None:
        if self.other is not None:
            self.other.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_tls_through_a_proxy(tmp_path: Path) -> None:
    """CONNECT opens a tunnel in which TLS is checked as ever; without the password it is the proxy that refuses."""
    context = Authority(tmp_path).server()
    settings = TLSSettings(ca_file=str(tmp_path / "ca.pem"))
    async with listening(lambda: Script(post(HELLO), 0), context) as port, listening(Relay) as proxy:
        assert await over_tls(port, settings, f"http://u:p@127.0.0.1:{proxy}") == b"hello"
        with pytest.raises(TLSFailed):
            await over_tls(port, TLSSettings(), f"http://u:p@127.0.0.1:{proxy}")
        with pytest.raises(ProxyRefused):
            await over_tls(port, settings, f"http://127.0.0.1:{proxy}")
