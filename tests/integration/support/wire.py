"""A raw HTTP client: exact bytes out, exact bytes in, and a socket that can stop reading."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure


@dataclass
class Answer:
    """One HTTP answer as it came."""

    status: int
    headers: dict[str, str]
    """By lower-case name; of one that came twice, the last."""
    body: bytes = b""
    whole: bool = False
    """The body ended as its framing promised: it was not cut."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The data of each event of a stream's body."""
        return [json.loads(line[6:]) for line in self.body.splitlines() if line.startswith(b"data: ")]

    @property
    def text(self) -> str:
        """What a stream's text deltas say."""
        return "".join(event["delta"].get("text", "") for event in self.events if "delta" in event)


class Wire(Protocol):
    """One connection to the daemon."""

    transport: ITransport

    def __init__(self) -> None:
        self.received = b""
        self.closed: Failure | None = None
        self.bytes_in = 0
        self._waiting: Deferred[None] | None = None

    @classmethod
    async def connect(cls, port: int) -> Wire:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout=10)
        return await connectProtocol(endpoint, cls())

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.bytes_in += len(data)
        self._wake()

    def connectionLost(self, reason: Failure) -> None:
        self.closed = reason
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send a whole request, *body* as it is."""
        lines = {"host": "127.0.0.1", **(headers or {})}
        if method == "POST":
            lines = {"content-type": "application/json", "content-length": str(len(body)), **lines}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)

    def stop_reading(self) -> None:
        """From now on take nothing: the daemon's socket fills up."""
        self.transport.pauseProducing()

    def read_on(self) -> None:
        self.transport.resumeProducing()

    def reset(self) -> None:
        """Leave at once."""
        self.transport.abortConnection()

    async def until(self, mark: bytes, within: float = 30.0) -> bytes:
        """Take what came up to and with *mark*. Raises :class:`EOFError` where the connection ends before."""
        while mark not in self.received:
            await self._more(within)
        taken, _, self.received = self.received.partition(mark)
        return taken + mark

    async def take(self, count: int, within: float = 30.0) -> bytes:
        """Take exactly *count* bytes, or raise :class:`EOFError`."""
        parts, missing = [], count
        while missing > 0:
            if not self.received:
                await self._more(within)
            part, self.received = self.received[:missing], self.received[missing:]
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    async def rest(self, within: float = 30.0) -> bytes:
        """Take everything to the end of the connection."""
        while self.closed is None:
            await self._more(within)
        taken, self.received = self.received, b""
        return taken

    async def _more(self, within: float) -> None:
        if self.closed is not None:
            raise EOFError(f"closed; left over: {self.received[:200]!r}")
        self._waiting = Deferred()
        self._waiting.addTimeout(within, reactor)
        await self._waiting

    async def head(self, within: float = 30.0) -> Answer:
        """The next answer's status and headers."""
        first, *lines = (await self.until(b"\r\n\r\n", within)).decode("latin-1").rstrip().split("\r\n")
        pairs = (line.split(":", 1) for line in lines)
        return Answer(int(first.split()[1]), {name.lower(): value.strip() for name, value in pairs})

    async def chunk(self, within: float = 30.0) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        size = int((await self.until(b"\r\n", within)).split(b";")[0], 16)
        data = await self.take(size + 2, within)
        return data[:-2]

    async def body(self, answer: Answer, within: float = 30.0) -> Answer:
        """Read *answer*'s body to its end, whole or cut."""
        parts: list[bytes] = []
        try:
            if answer.headers.get("transfer-encoding") == "chunked":
                while part := await self.chunk(within):
                    parts.append(part)
                answer.whole = True
            elif "content-length" in answer.headers:
                parts.append(await self.take(int(answer.headers["content-length"]), within))
                answer.whole = True
            else:
                parts.append(await self.rest(within))
        except EOFError:
            pass
        answer.body = b"".join(parts)
        return answer


@dataclass
class Message:
    """The smallest request that is one, and what to change in it."""

    model: str = "claude-opus-5-5"
    prompt: str = "say hi"
    stream: bool = False
    max_tokens: int = 100
    more: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        fields = {"model": self.model, "max_tokens": self.max_tokens, "stream": self.stream}
        messages = [{"role": "user", "content": self.prompt}]
        return json.dumps({**fields, "messages": messages, **self.more}).encode()


VERSION = {"anthropic-version": "2023-06-01"}


async def post(
    port: int, body: bytes, path: str = "/v1/messages", headers: Mapping[str, str] | None = None, within: float = 30.0
) -> Answer:
    """One request on a connection of its own, and its whole answer. *within* bounds each wait for bytes."""
    return await _once(port, "POST", path, body, {**VERSION, **(headers or {})}, within)


async def get(
    port: int, path: str, headers: Mapping[str, str] | None = None, method: str = "GET", within: float = 30.0
) -> Answer:
    return await _once(port, method, path, b"", headers or {}, within)


async def _once(port: int, method: str, path: str, body: bytes, headers: Mapping[str, str], within: float) -> Answer:
    wire = await Wire.connect(port)
    try:
        wire.request(method, path, body, headers)
        answer = await wire.head(within)
        if method == "HEAD":
            return answer
        return await wire.body(answer, within)
    finally:
        wire.reset()


async def stream(port: int, message: Message | None = None, headers: Mapping[str, str] | None = None) -> Wire:
    """Start a streamed message and give back its connection, the answer unread."""
    wire = await Wire.connect(port)
    message = message or Message(stream=True)
    wire.request("POST", "/v1/messages", message.encode(), {**VERSION, **(headers or {})})
    return wire


def types(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """The events' types in their order, pings left out."""
    return [event["type"] for event in events if event["type"] != "ping"]
