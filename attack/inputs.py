"""The attacks: what each sends, over how many connections, and which answers are fine."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

REFUSED = frozenset({400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 429, 431, 500, 501, 502, 503, 529})
"""What hostile requests may be told. 500 is an upstream's alone, and is Claude-shaped, which is looked at."""
SERVED = REFUSED | {200}


@dataclass(frozen=True)
class Attack:
    """What one connection after the other sends."""

    name: str
    requests: Iterable[bytes]
    """One for each connection; for as long as the attack lasts."""
    statuses: frozenset[int] = REFUSED
    drips: bytes = b""
    """What follows each request, twice a second, until the connection is closed …"""
    at_once: int = 4
    """… and over how many connections at a time."""
    quick: bool = True
    """It is among those that the test suite runs."""
    slow_reader: bool = field(default=False)
    """It takes nothing of its answers."""


def attacks(key: str, model: str) -> Iterator[Attack]:
    """All of them, with that client's *key*, which may be '' where none is asked for."""
    known = f"x-api-key: {key}\r\n" if key else ""

    def post(body: bytes, more: str = "", who: str = known, path: str = "/v1/messages") -> bytes:
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{who}{more}"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    def get(path: str, more: str = "") -> bytes:
        return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n".encode()

    def message(content: str = "hi", **more: object) -> bytes:
        said = [{"role": "user", "content": content}]
        return json.dumps({"model": model, "max_tokens": 9, "messages": said, **more}).encode()

    def chunked(chunk: bytes, number: int) -> bytes:
        head = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
        return head + chunk * number + b"0\r\n\r\n"

    half = post(b"x" * 60_000)[:-59_999]
    zeros, nothing = bytes(64_000_000), b"\x28\xb5\x2f\xfd\0\x58" + bytes(30_000_000) + b"\1\0\0"
    yield Attack("noise", (os.urandom(70_000) for _ in count()))
    yield Attack("shapes of HTTP", _cycle(_shapes()))
    yield Attack("paths of 60 KB", (get(f"/{number}{'x' * 60_000}") for number in count()))
    yield Attack("paths of 8 KB", (get(f"/{number}{'x' * 8_000}") for number in count()))
    yield Attack(
        "header names of 60 KB", (get("/healthz", f"{'x' * 60_000}{number}: 1\r\n") for number in count()), SERVED
    )
    yield Attack("wrong keys", (post(message(), who=f"x-api-key: {number}\r\n") for number in count()), SERVED)
    yield Attack("a bomb of gzip", _cycle([post(gzip.compress(zeros), "content-encoding: gzip\r\n")]))
    yield Attack(
        "a bomb of gzip in gzip",
        _cycle([post(gzip.compress(gzip.compress(zeros)), "content-encoding: gzip, gzip\r\n")]),
    )
    yield Attack("blocks of nothing", _cycle([post(gzip.compress(nothing), "content-encoding: zstd, gzip\r\n")]))
    yield Attack(
        "32 KB that are 4 MB", _cycle([post(zlib.compress(bytes(4_000_000)), "content-encoding: deflate\r\n")])
    )
    yield Attack("brackets", _cycle([post(b"[" * 1_000_000), post(message() + b"{" * 100_000)]))
    yield Attack(
        "members", _cycle([post(b'{"model":"m","max_tokens":1,%s"messages":[]}' % (b'"a":1,' * 1_000_000))]), at_once=2
    )
    yield Attack("chunks of a byte", _cycle([chunked(b"1\r\na\r\n", 20_000)]))
    yield Attack("chunk extensions", _cycle([chunked(b"1;a=%b\r\nb\r\n" % (b"c" * 900), 3000)]))
    yield Attack("requests ahead", _cycle([get("/v1/models", known) * 2000]), SERVED)
    yield Attack("large bodies", _cycle([post(message("x" * 8_000_000))]), SERVED, at_once=2)
    yield Attack("names of models", (post(message(model=f"{number}-{model}")) for number in count()), SERVED)
    yield Attack("half heads", _cycle([b"GET / HTTP/1.1\r\nhost: a\r\n"]), drips=b"x: 1\r\n", at_once=200)
    yield Attack("bodies by drops", _cycle([half]), drips=b"x", at_once=200)
    yield Attack("refused bodies by drops", _cycle([half.replace(b"messages", b"nowhere")]), drips=b"x", at_once=200)
    yield Attack(
        "clients that read nothing", _cycle([get("/v1/models", known) * 100]), SERVED, at_once=20, slow_reader=True
    )
    yield Attack("bodies of 31 MB", _cycle([post(message("x" * 31_000_000))]), SERVED, at_once=2, quick=False)


def _cycle(requests: Iterable[bytes]) -> Iterator[bytes]:
    kept = list(requests)
    while True:
        yield from kept


def _shapes() -> Iterator[bytes]:
    head = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\n"
    for lines in (
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: identity\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"transfer-encoding: chunked, identity\r\n\r\n",
        b"transfer-encoding: chunked\r\n\r\n-1\r\n",
        b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        b"content-length: 99999999999999999999\r\n\r\n",
        b"content-length: -1\r\n\r\n",
        b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"x: a\n\r\n\r\n",
        b"x: \0\r\n\r\n",
        b" folded\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"x: 1\r\n" * 600 + b"\r\n",
    ):
        yield head + lines
    yield from (
        b"\x16\x03\x01\x02\x00",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    )
