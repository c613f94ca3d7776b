"""URLs that a client has an upstream fetch: which ones it may name, and which ones a request names.

Whoever fetches is the upstream, from its own network and, where it knows the operator, with the operator's rights: a
bucket's objects, a metadata server's tokens, what stands behind a firewall. So a client may name what anybody can read.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.search import find, holds

#: Domains that Google may read with its caller's rights.
GOOGLE_DOMAINS = ("googleapis.com", "google.com")

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)(?:[/?#].*)?", re.IGNORECASE | re.ASCII)
_HOST = re.compile(r"((?:[a-z0-9_-]{1,63}\.)+([a-z0-9_-]{1,63}))\.?(?::[0-9]{1,5})?")
_PLACE = re.compile(r"(?:gs|s3)://[a-z0-9._-]+|https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_MAX_URL_CHARS = 8_192
#: More than the API takes images in a request.
_MAX_SOURCES = 1_000
#: What different readers of URLs make different things of.
_TREACHEROUS = re.compile(r"[\x00-\x20\x7f\\]")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
#: Top-level domains that are nobody's in public: RFC 6761, 6762, 7686, 8375, and those that ICANN gives to nobody.
_NOT_PUBLIC = re.compile(
    "arpa|corp|home|internal|intranet|invalid|lan|local|localdomain|localhost|mail|onion|private|test"
)


def is_place(text: str) -> bool:
    """Whether *text* names a bucket or a host as :func:`objection` wants them, such as ``gs://bucket``."""
    return _PLACE.fullmatch(text) is not None


def objection(url: str, places: Collection[str] = (), withheld: Collection[str] = ()) -> str | None:
    """Return why an upstream is not asked to fetch *url*; None if it may be.

    *places*: buckets and hosts that the operator lets clients name (``gs://bucket``, ``https://host``). *withheld*:
    domains that the upstream reads with other rights than everybody's.
    """
    if len(url) > _MAX_URL_CHARS:
        return "is too long"
    parts = _URL.fullmatch(url)
    if parts is None or _TREACHEROUS.search(url) or not parts[2].isascii():
        return "is no URL with a host in plain letters"
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
    """Return the sentence that the client is told. It does not quote the URL, which may be signed, and is logged."""
    return f"messages: a source's url {why}; sources are fetched by https from public hosts alone"


# What a request names.


def forbidden(body: bytes, places: Collection[str]) -> str | None:
    """Return why a Messages request cannot go up as it is; None if :func:`objection` has none to its URLs."""
    try:
        for number, url in enumerate(named_in(body)):
            if number == _MAX_SOURCES:
                return f"messages: more than {_MAX_SOURCES} sources are by url"
            if (why := objection(url, places)) is not None:
                return refusal(why)
    except ValueError:
        return "messages: the request has sources by url, and cannot be read"
    return None


class _Part(msgspec.Struct, gc=False):
    """A message, a block, a source or a server: whatever may be or hold a source, at any depth.

    A list holds such parts alone, and a type or a URL is a text: a request that is not so cannot be read. Whoever made
    values of anything else would make them by the million.
    """

    type: str | None = None
    url: str | None = None
    content: _Parts = None
    source: _Parts = None


_Parts = _Part | list[_Part] | str | int | float | bool | None


class _Request(msgspec.Struct, gc=False):
    messages: _Parts = None
    mcp_servers: _Parts = None


_decode = msgspec.json.Decoder(_Request).decode
#: Objects in a request with sources by URL: as many as are read within a blink.
_MAX_OBJECTS = 100_000
_BLANKS = b" \t\r\n"
#: Searching costs a millisecond for some hundred kilobytes, so it is done where a few looks do not tell.
_MAX_LOOKS = 64
_MAX_BLANKS = 64
#: A member whose value is ``url``, however that is written. No string's inside looks so: a quote in there is escaped.
_BY_URL = re.compile(rb':[ \t\r\n]*"(?:u|\\u0075)(?:r|\\u0072)(?:l|\\u006[cC])"')


def _may_name_some(body: bytes) -> bool:
    """Whether a member's value is ``url``. Schemas of tools have members of that name in nearly every request."""
    if holds(body, b"\\u00") and (b"\\u006" in body or b"\\u007" in body):
        return _BY_URL.search(body) is not None
    at = -1
    for _ in range(_MAX_LOOKS):
        at = find(body, b'"url"', at + 1)
        if at < 0:
            return False
        before = body[max(0, at - _MAX_BLANKS) : at].rstrip(_BLANKS)
        if not before or before.endswith(b":"):
            return True
    return _BY_URL.search(body) is not None


def named_in(body: bytes) -> Iterator[str]:
    """Return the URLs that a Messages request has its upstream fetch, those of MCP servers included.

    Raises ValueError where it has some and cannot be read, which is no request that anybody answers. Of a member that
    is given twice the last one counts, as it does for whoever takes such a body at all.
    """
    if not _may_name_some(body):
        return
    # A brace before a backslash stands in a text, as those of code and of JSON in there do as a rule.
    if body.count(b"{") > _MAX_OBJECTS and body.count(b"{") - body.count(b"{\\") > _MAX_OBJECTS:
        raise ValueError(f"more than {_MAX_OBJECTS} objects")
    try:
        request = _decode(body)
    except UNREADABLE as e:
        raise ValueError(str(e)) from None
    waiting: list[object] = [request.mcp_servers, request.messages]
    while waiting:
        parts = waiting.pop()
        for part in parts if isinstance(parts, list) else (parts,):
            if not isinstance(part, _Part):
                continue
            if part.type == "url" and isinstance(part.url, str):
                yield part.url
            if part.content is not None:
                waiting.append(part.content)
            if part.source is not None:
                waiting.append(part.source)
