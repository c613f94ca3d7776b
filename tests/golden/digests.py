"""Data and signatures, told apart whatever their base64 looks like."""

from __future__ import annotations

import base64
import hashlib


def digest(data: str) -> str:
    """Of base64, however it is padded or spelt."""
    plain = data.replace("-", "+").replace("_", "/").rstrip("=")
    return hashlib.sha256(base64.b64decode(plain + "=" * (-len(plain) % 4))).hexdigest()[:16]
