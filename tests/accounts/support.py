"""Records of attempts, as tests of the ledger want them."""

from __future__ import annotations

from typing import Any

from claudeproxyd.messages.ids import Ids
from claudeproxyd.observe.usage import UsageRecord

#: 2026-12-01, 12:00 UTC.
NOON = 1_796_126_400.0
DAY = 20_788
"""The same in days."""

_ids = Ids(lambda size: b"\7" * size)


def record(number: float = 0, **fields: Any) -> UsageRecord:
    """One of the attempts of a busy noon; each *number* is another request."""
    usual: dict[str, Any] = {
        "time": NOON + number,
        "request_id": _ids.request(NOON + number),
        "client": "laptop",
        "labels": {"team": "ads"},
        "session": "s",
        "model_asked": "claude-a",
        "model_served": "claude-a-1",
        "provider": "p",
        "credential": "c",
        "outcome": "ok",
        "status": 200,
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_read_tokens": 30,
        "cache_write_tokens": 40,
        "thinking_tokens": 5,
        "nano_usd": 1_000,
    }
    return UsageRecord(**{**usual, **fields})
