"""The ids and signatures that this daemon puts into answers of its own making.

What another provider's answer needs to carry through a client and back (a thought signature, encrypted reasoning)
travels inside a *minted* signature: ``cpxd1.<family>.<base64url>``. Each family takes back only its own, and an
Anthropic upstream never sees one.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: How everything minted begins.
MARK = "cpxd1."

_PAYLOAD = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_FITS = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)


class _Drawn:
    """``os.urandom`` in larger draws: a request must not pay for a system call of its own."""

    SIZE = 4096

    def __init__(self) -> None:
        self._drawn = b""
        self._at = 0

    def __call__(self, size: int) -> bytes:
        if self._at + size > len(self._drawn):
            self._drawn = os.urandom(self.SIZE)
            self._at = 0
        self._at += size
        return self._drawn[self._at - size : self._at]


class Ids:
    """Makes ids in the API's own forms, each with 24 characters behind its prefix."""

    def __init__(self, random: Callable[[int], bytes] | None = None) -> None:
        """*random* gives that many bytes; a test hands in one of its own and knows every id beforehand."""
        self._random = random or _Drawn()

    def _random24(self) -> str:
        return self._random(12).hex()

    def message(self) -> str:
        """Return ``msg_…``, the id of an answer."""
        return "msg_" + self._random24()

    def request(self, time: float) -> str:
        """Return ``req_…``, the id of a request that came at *time*, in seconds since the epoch.

        Its first half is the time, in milliseconds: by their ids requests are in order, and what is kept of them lies
        together.
        """
        return f"req_{int(time * 1000):012x}{self._random(6).hex()}"

    def tool_use(self) -> str:
        """Return ``toolu_…``, the id of a tool call."""
        return "toolu_" + self._random24()

    def server_tool_use(self, family: str) -> str:
        """Return the id of a server tool's call that *family* has made; marked, as the next turn may go elsewhere."""
        return f"{MARK}{family}.{self._random24()}"


def fits_client(tool_use_id: str) -> bool:
    """Whether an upstream's id of a tool call can be shown to clients as it is: at most 40 of ``[A-Za-z0-9_-]``."""
    return _FITS.fullmatch(tool_use_id) is not None


def mint_signature(family: str, payload: bytes) -> str:
    """Return *payload* as a signature that clients send back unread.

    *family* is one word of letters, digits and dashes.
    """
    return f"{MARK}{family}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}"


def read_signature(family: str, text: str) -> bytes | None:
    """Return what :func:`mint_signature` put in; None when *text* is another family's, not minted, or damaged."""
    start = f"{MARK}{family}."
    if not text.startswith(start):
        return None
    payload = text[len(start) :]
    if not _PAYLOAD.fullmatch(payload):
        return None
    try:
        return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    except binascii.Error:
        return None


def is_minted(text: str) -> bool:
    """Whether this daemon made that signature or id, for whichever family."""
    return text.startswith(MARK)
