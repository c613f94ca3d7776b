"""AWS's Signature Version 4, by which a request shows who sends it. Pure.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html, as all services but S3 have
it: paths are normalized, and escaped once more than they go on the wire.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256
from time import gmtime, strftime
from urllib.parse import parse_qsl, quote, quote_from_bytes

_ALGORITHM = "AWS4-HMAC-SHA256"
#: Signing keys that are kept: one a credential and day.
_MAX_KEPT = 256


class Signer:
    """Signs requests to one service in one region."""

    def __init__(self, region: str, service: str) -> None:
        self._region = region
        self._service = service
        self._kept: dict[tuple[str, str], bytes] = {}

    def lines(
        self,
        secret: Mapping[str, str],
        method: str,
        host: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        body: bytes,
        now: float,
    ) -> bytes:
        """Return the header lines that sign a request, to be sent beside *headers*, which are signed as well.

        *secret*: ``access_key_id``, ``secret_access_key``, perhaps ``session_token``. *host*: as the ``Host`` header
        has it. *target*: path and query as they go on the wire. *now*: wall clock; AWS takes 5 minutes of difference.
        """
        moment = strftime("%Y%m%dT%H%M%SZ", gmtime(now))
        added = [("x-amz-date", moment)]
        if token := secret.get("session_token"):
            added.append(("x-amz-security-token", token))
        names, request = canonical_request(method, target, [("host", host), *added, *headers], body)
        scope = f"{moment[:8]}/{self._region}/{self._service}/aws4_request"
        told = f"{_ALGORITHM}\n{moment}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key(secret["secret_access_key"], moment[:8]), told.encode(), "sha256").hex()
        credential = f"{secret['access_key_id']}/{scope}"
        added.append(
            ("authorization", f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}")
        )
        return "".join(f"{name}: {value}\r\n" for name, value in added).encode()

    def _key(self, secret: str, day: str) -> bytes:
        key = self._kept.get((secret, day))
        if key is None:
            key = b"AWS4" + secret.encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[secret, day] = key
        return key


def canonical_request(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes) -> tuple[str, str]:
    """Return the names of the headers that are signed, and the text that is."""
    path, _, query = target.partition("?")
    merged: dict[str, str] = {}
    for name, value in headers:
        lower, trimmed = name.lower(), " ".join(value.split())
        merged[lower] = f"{merged[lower]},{trimmed}" if lower in merged else trimmed
    names = ";".join(sorted(merged))
    lines = "".join(f"{name}:{merged[name]}\n" for name in sorted(merged))
    asked = _canonical_query(query) if query else ""
    return names, f"{method}\n{_canonical_path(path)}\n{asked}\n{lines}\n{names}\n{sha256(body).hexdigest()}"


def _canonical_path(path: str) -> str:
    if "/." in path or "//" in path:
        kept: list[str] = []
        for segment in path.split("/"):
            if segment == "..":
                del kept[-1:]
            elif segment not in ("", "."):
                kept.append(segment)
        ends_open = path.endswith(("/", "/.", "/..")) and kept
        path = f"/{'/'.join(kept)}{'/' if ends_open else ''}"
    return quote(path or "/", safe="/~")


def _canonical_query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    escaped = sorted((_escaped(name), _escaped(value)) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in escaped)


def _escaped(text: str) -> str:
    return quote_from_bytes(text.encode("utf-8", "surrogateescape"), safe="~")
