"""Who asks, as OpenAI may know it."""

from __future__ import annotations

import hashlib


def safety_identifier(user_id: str) -> str:
    """Return the digest that stands for a client's ``metadata.user_id``: 64 characters, as many as OpenAI takes.

    Claude Code's have nearly 200, and name accounts and sessions.
    """
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()
