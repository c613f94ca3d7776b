"""The requests of real clients in ``tests/data/captures``."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "data" / "captures" / "requests.jsonl.gz"


@dataclass(frozen=True)
class Captured:
    """One request as a client sent it."""

    name: str
    path: str
    headers: list[list[str]]
    body: dict[str, Any]


def captured() -> list[Captured]:
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        return [Captured(**json.loads(line)) for line in lines]
