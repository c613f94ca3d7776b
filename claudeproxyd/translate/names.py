"""Names of tools, as a backend takes them and back.

Clients name tools as they like (MCP servers make names far longer than 64 characters), backends take fewer
characters. What does not fit is cut, cleaned and marked with a digest of the whole name, so that a name maps the same
way whatever other tools there are: prompts that are cached upstream stay cached when a tool comes or goes.
"""

from __future__ import annotations

import re
from hashlib import blake2s

_DIGEST_DIGITS = 12
_MARKED = re.compile(rf".*_[0-9a-f]{{{_DIGEST_DIGITS}}}", re.ASCII | re.DOTALL)


class ToolNames:
    """The names of one request's tools. Asked by a translator for each name it sends, and for each that comes back."""

    def __init__(self, limit: int = 64, allowed: str = "A-Za-z0-9_-", first: str = "") -> None:
        """Names of at most *limit* characters out of *allowed*, the first one out of *first* ('': as the others).

        Both are what stands between the brackets of a regular expression.
        """
        self._limit = limit
        self._fits = re.compile(f"[{first or allowed}][{allowed}]{{0,{limit - 1}}}", re.ASCII)
        self._foreign = re.compile(f"[^{allowed}]", re.ASCII)
        self._first = re.compile(f"[{first or allowed}]", re.ASCII)
        self._clients: dict[str, str] = {}
        self._folded: dict[str, str | None] = {}

    def upstream(self, name: str) -> str:
        """Return the name that the backend is sent for the client's *name*; remembered for :meth:`client`."""
        # A name that only looks marked is marked as well: no name stays as it is that another could be changed into.
        fits = self._fits.fullmatch(name) and not _MARKED.fullmatch(name)
        sent = name if fits else self._marked(name)
        if sent not in self._clients:
            self._clients[sent] = name
            folded = sent.casefold()
            self._folded[folded] = None if folded in self._folded else name
        return sent

    def client(self, name: str) -> str:
        """Return the client's name for what the backend calls *name*.

        Models misspell case: where only one tool differs by that alone, it is meant. A name that no tool has is given
        back as it is, for the client to refuse.
        """
        return self._clients.get(name) or self._folded.get(name.casefold()) or name

    def _marked(self, name: str) -> str:
        digest = blake2s(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_DIGITS]
        clean = self._foreign.sub("_", name)
        if not self._first.match(clean):
            clean = "_" + clean
        return f"{clean[: self._limit - _DIGEST_DIGITS - 1]}_{digest}"
