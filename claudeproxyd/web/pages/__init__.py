"""Pages for people: HTML with all styles and scripts inside, and nothing from elsewhere.

The files here name their parts as any page would. They are put in their places as the page is read: a browser gets it
all in one answer, and runs what the policy has the digest of, and nothing else that this listener may ever send.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING

from claudeproxyd.web.root import Endpoint

if TYPE_CHECKING:
    from claudeproxyd.web.request import GatewayRequest


class Page(Endpoint):
    """A page. It holds no data, so it asks for no key; what it fetches does."""

    is_open = True

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self._html = html
        self._headers = (
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", _policy(html)),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-cache"),
        )

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer with it."""
        request.answer(200, self._headers, self._html)


def page(name: str) -> Page:
    """The page in that file of this folder, with the parts that it names."""
    return Page(_NAMED.sub(_inside, _read(name)))


_NAMED = re.compile(rb'<link rel="stylesheet" href="(?P<style>[a-z.]+)">|<script src="(?P<script>[a-z.]+)"></script>')


def _inside(named: re.Match[bytes]) -> bytes:
    """The element with its text in the place of its address."""
    tag = named.lastgroup or ""
    return b"<%b>\n%b</%b>" % (tag.encode(), _read(named[tag].decode()), tag.encode())


def _read(name: str) -> bytes:
    return (files(__package__) / name).read_bytes()


def _policy(html: bytes) -> bytes:
    """Only this very style and script, and what they fetch from where they came from."""
    allowed = [
        b"%b-src %b" % (kind, b" ".join(map(_source, re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), html, re.DOTALL))))
        for kind, tag in ((b"script", b"script"), (b"style", b"style"))
    ]
    rest = (b"default-src 'none'", b"connect-src 'self'", b"img-src data:", b"base-uri 'none'")
    return b"; ".join((*rest, *allowed, b"form-action 'none'", b"frame-ancestors 'none'"))


def _source(text: bytes) -> bytes:
    return b"'sha256-%b'" % b64encode(sha256(text).digest())
