"""Reads a request's head; what is no HTTP, or whoever stands before us could read otherwise, is refused. Pure.

How a body is framed is what no two servers on a request's way may understand differently: by one length in digits, or
plainly chunked, and nothing beside it.
"""

from __future__ import annotations

import re

from claudeproxyd.errors import ClaudeError
from claudeproxyd.remembered import Remembered

MAX_HEADERS = 500

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_is_token = re.compile(_TOKEN).fullmatch
#: A target may hold bytes that are no ASCII, as some clients write them.
_request_line = re.compile(rb"(%b) ([!-\xb0]+) (HTTP/1\.[01])" % _TOKEN).fullmatch
_names = Remembered[bytes, bytes](lambda name: name.lower() if _is_token(name) else b"")
"""Names of headers in lower case; b'' for what is no name."""

#: The headers that say where the body ends, what becomes of the connection, and whose server is meant.
_OWN = frozenset({b"content-length", b"transfer-encoding", b"connection", b"expect", b"host"})


class RequestHead:
    """What a head says. Made by :func:`read_head`."""

    __slots__ = ("asks_first", "headers", "length", "method", "persistent", "target", "version")

    def __init__(self, method: bytes, target: bytes, version: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.target = target
        self.version = version
        """``HTTP/1.1`` or ``HTTP/1.0``."""
        self.headers = headers
        """In order, with lower-case names."""
        self.length: int | None = 0
        """Bytes of the body; None: it is chunked."""
        self.persistent = version == b"HTTP/1.1"
        """Whether the client may send another request after this one."""
        self.asks_first = False
        """Whether it waits to be told to go on before it sends the body."""


def not_http() -> ClaudeError:
    """Return the error for bytes that are no request."""
    return ClaudeError(400, "The request is not valid HTTP")


def read_head(head: bytes) -> RequestHead:
    """Read a head, which comes without the empty line at its end. Raises ClaudeError: 400, 413 or 431."""
    first, *lines = head.split(b"\r\n")
    breaks = len(lines)
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise ClaudeError(400, "The request's head holds a stray CR, LF or NUL")
    if breaks > MAX_HEADERS:
        raise ClaudeError(431, f"The request has more than {MAX_HEADERS} headers")
    found = _request_line(first)
    if found is None:
        raise not_http()
    method, target, version = found.groups()
    headers = []
    own = []
    for line in lines:
        name, colon, value = line.partition(b":")
        lower = _names[name]
        if not colon or not lower:
            raise ClaudeError(400, "The request has a malformed header")
        pair = (lower, value.strip(b" \t"))
        headers.append(pair)
        if lower in _OWN:
            own.append(pair)
    request = RequestHead(method, target, version, headers)
    _steer(request, own)
    return request


def _steer(request: RequestHead, own: list[tuple[bytes, bytes]]) -> None:
    """Note what HTTP's *own* headers say."""
    hosts = framings = 0
    for name, value in own:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            framings += 1
            if len(value) > 18:
                raise ClaudeError(413, "The request's content-length has more than 18 digits")
            if not value.isdigit():
                raise not_http()
            request.length = int(value)
        elif name == b"transfer-encoding":
            framings += 1
            if value.lower() != b"chunked":
                raise ClaudeError(400, "The request's transfer-encoding is not plainly chunked")
            request.length = None
        elif name == b"connection":
            if b"close" in [token.strip() for token in value.lower().split(b",")]:
                request.persistent = False
        elif value.lower() == b"100-continue":
            request.asks_first = request.version == b"HTTP/1.1"
    if hosts > 1:
        raise ClaudeError(400, "The request has more than one Host header")
    if framings > 1:
        raise ClaudeError(400, "The request says more than once where its body ends")
    if request.length is None and request.version == b"HTTP/1.0":
        raise ClaudeError(400, "HTTP/1.0 knows no transfer-encoding")
