"""URLs that a client has an upstream fetch: which ones it may name, and which ones a request names.

Whoever fetches is the upstream, from its own network and, where it knows the operator, with the operator's rights: a
bucket's objects, a metadata server's tokens, what stands behind a firewall. So a client may name what anybody can read.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import msgspec

GOOGLES = ("googleapis.com", "google.com")
"""Domains that Google may read with its caller's rights."""

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)(?:[/?#].*)?", re.IGNORECASE)
_HOST = re.compile(r"((?:[a-z0-9_-]{1,63}\.)+([a-z0-9_-]{1,63}))\.?(?::\d{1,5})?")
_PLACE = re.compile(r"(?:gs|s3)://[a-z0-9._-]+|https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?")
#: What different readers of URLs make different things of.
_TREACHEROUS = re.compile(r"[\x00-\x20\x7f\\]")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")
#: Top-level domains that are nobody's in public: RFC 6761, 6762, 7686, 8375, and those that ICANN gives to nobody.
_NOT_PUBLIC = re.compile(
    "arpa|corp|home|internal|intranet|invalid|lan|local|localdomain|localhost|mail|onion|private|test"
)


def is_place(text: str) -> bool:
    """Whether *text* names a bucket or a host as :func:`objection` wants them, such as ``gs://bucket``."""
    return _PLACE.fullmatch(text) is not None


def objection(url: str, places: Collection[str] = (), withheld: Collection[str] = ()) -> str | None:
    """Why an upstream is not asked to fetch *url*; None: it may be.

    *places*: buckets and hosts that the operator lets clients name (``gs://bucket``, ``https://host``). *withheld*:
    domains that the upstream reads with other rights than everybody's.
    """
    parts = _URL.fullmatch(url)
    if parts is None or _TREACHEROUS.search(url):
        return "is no URL with a host"
    scheme, authority = parts[1].lower(), parts[2].lower()
    if f"{scheme}://{authority}" in places:
        return None
    if scheme != "https":
        return "is not https"
    host = _HOST.fullmatch(authority)
    if host is None or _NUMBER.fullmatch(host[2]) or _NOT_PUBLIC.fullmatch(host[2]):
        return "is not at a public name"
    if any(host[1] == domain or host[1].endswith("." + domain) for domain in withheld):
        return "is at a host that may read it with the gateway's rights"
    return None


def refusal(why: str) -> str:
    """The sentence that the client is told. It does not quote the URL, which may be signed, and is logged."""
    return f"messages: a source's url {why}; sources are fetched by https from public hosts alone"


# What a request names.


def forbidden(body: bytes, places: Collection[str]) -> str | None:
    """Why a Messages request cannot go up as it is; None: it names nothing that :func:`objection` is made to."""
    try:
        for url in named_in(body):
            if (why := objection(url, places)) is not None:
                return refusal(why)
    except ValueError:
        return "messages: the request has sources by url, and cannot be read"
    return None


class _Part(msgspec.Struct):
    """A request, a message, a block or a source: whatever may be or hold a source, at any depth."""

    type: Any = None
    url: Any = None
    messages: _Parts = None
    mcp_servers: _Parts = None
    content: _Parts = None
    source: _Parts = None


_Other = str | int | float | bool | None
_Parts = _Part | list[_Part | list[Any] | _Other] | _Other

_decode = msgspec.json.Decoder(_Part).decode
#: A member whose value is ``url``, however that is written. No string's inside looks so: a quote in there is escaped.
_BY_URL = re.compile(rb':[ \t\r\n]*"(?:u|\\u0075)(?:r|\\u0072)(?:l|\\u006[cC])"')


def named_in(body: bytes) -> Iterator[str]:
    """The URLs that a Messages request has its upstream fetch, those of MCP servers included.

    Raises ValueError where it has some and cannot be read, which is no request that anybody answers. Of a member
    that is given twice the last one counts, as it does for whoever takes such a body at all.
    """
    if (b'"url"' not in body and b"\\u00" not in body) or _BY_URL.search(body) is None:
        return
    try:
        waiting: list[Any] = [_decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise ValueError(str(e)) from None
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, _Part):
            if part.type == "url" and isinstance(part.url, str):
                yield part.url
            waiting += (part.messages, part.mcp_servers, part.content, part.source)
