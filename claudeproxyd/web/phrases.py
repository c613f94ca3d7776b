"""Reason phrases of HTTP, for every status that clients may be told."""

from __future__ import annotations

from http import HTTPStatus

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    413: b"Content Too Large",
    529: b"Overloaded",
}
