"""Which headers travel: from the client to an Anthropic upstream, and from an upstream to the client.

Header lists hold (lower-case name, value) pairs. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from claudeproxyd.headers import Headers
from claudeproxyd.remembered import Remembered

#: Of a client's headers these go up, besides those of ``_UP_PREFIXES``; never its key, cookies, forwarding headers.
_UP = frozenset({b"x-app", b"x-client-request-id", b"user-agent", b"accept", b"idempotency-key"})
_UP_PREFIXES = (b"anthropic-", b"x-claude-", b"x-stainless-")

#: RFC 9110, 7.6.1, and what is older than it.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"trailers",
        b"transfer-encoding",
        b"upgrade",
    }
)
#: What holds a secret by its name: never passed on, never written down.
SECRET = frozenset(
    {
        b"authorization",
        b"proxy-authorization",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"x-amz-security-token",
        b"x-auth-token",
        b"x-access-token",
        b"cookie",
        b"set-cookie",
        b"set-cookie2",
    }
)
#: What says whose account it is.
_ACCOUNTS = frozenset({b"x-goog-user-project", b"openai-organization", b"openai-project"})
#: Of an upstream's headers these stay behind too: they are about its connection, its host, or a body that we decoded.
_NOT_DOWN = {
    *_HOP_BY_HOP,
    *SECRET,
    *_ACCOUNTS,
    b"content-length",
    b"content-encoding",
    b"server",
    b"via",
    b"date",
    b"alt-svc",
    b"strict-transport-security",
}
_NOT_DOWN_PREFIXES = (b"access-control-", b"cf-", b"x-claudeproxyd-")
_NO_MORE_HOPS = (b"keep-alive", b"close")

_goes_up = Remembered[bytes, bool](lambda name: name in _UP or name.startswith(_UP_PREFIXES))
_goes_down = Remembered[bytes, bool](lambda name: not (name in _NOT_DOWN or name.startswith(_NOT_DOWN_PREFIXES)))
_tells_limits = Remembered[bytes, bool](lambda name: name.startswith(b"anthropic-ratelimit-"))

#: What a request without ``anthropic-version`` means.
DEFAULT_VERSION = b"2023-06-01"


def upstream_lines(
    headers: Headers,
    *,
    add_betas: Sequence[bytes] = (),
    drop_betas: Collection[bytes] = (),
    without: Collection[bytes] = (),
) -> bytes:
    """Return a client's headers for an Anthropic upstream, as header lines; always with an ``anthropic-version``.

    Those named in *without* are left out: the operator has a value of their own for them.
    """
    named = _named_in_connection(headers)
    lines = []
    version = b"anthropic-version" in without
    betas = []
    for name, value in headers:
        if not _goes_up[name] or name in named or name in without:
            continue
        if name == b"anthropic-version":
            version = True
        elif name == b"anthropic-beta" and (add_betas or drop_betas):
            betas.append(value)
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    if not version:
        lines.append(b"anthropic-version: " + DEFAULT_VERSION + b"\r\n")
    if betas or add_betas:
        kept = [beta.strip() for beta in b",".join(betas).split(b",") if beta.strip() not in drop_betas]
        kept += [beta for beta in add_betas if beta not in kept]
        value = b",".join(beta for beta in kept if beta)
        if value:
            lines.append(b"anthropic-beta: %b\r\n" % value)
    return _without_smuggled_lines(lines)


def client_headers(headers: Headers, *, strip_rate_limits: bool = False) -> list[tuple[bytes, bytes]]:
    """Return the headers of an upstream that its client gets."""
    named = _named_in_connection(headers)
    passing = []
    for pair in headers:
        name = pair[0]
        if _goes_down[name] and name not in named and not (strip_rate_limits and _tells_limits[name]):
            passing.append(pair)
    return passing


def without_rate_limits(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return *headers* without what an upstream says of its own limits."""
    return [pair for pair in headers if not _tells_limits[pair[0]]]


def value_of(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    """Return the first value under that name, or b''."""
    for name, value in headers:
        if name == wanted:
            return value
    return b""


def _named_in_connection(headers: Headers) -> Collection[bytes]:
    values = []
    for name, value in headers:
        if name == b"connection" and value.lower() not in _NO_MORE_HOPS:
            values.append(value)
    return {token.strip().lower() for token in b",".join(values).split(b",")} if values else ()


def _without_smuggled_lines(lines: list[bytes]) -> bytes:
    """Drop lines with a bare CR, LF or NUL, which would end them early at some server. Return the rest."""
    joined = b"".join(lines)
    if joined.count(b"\n") == joined.count(b"\r") == len(lines) and b"\0" not in joined:
        return joined
    return b"".join(line for line in lines if not any(byte in line[:-2] for byte in b"\r\n\0"))
