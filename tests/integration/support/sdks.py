"""The official SDKs, each in an environment of its own, driven by the programs beside this folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.integration.support.clients import PYTHON_SDK, PYTHON_SDK_0, TYPESCRIPT_SDK, Client, need
from tests.integration.support.process import run

PROGRAMS = Path(__file__).parents[1] / "programs"
PYTHON = (PYTHON_SDK, PYTHON_SDK_0)
ALL = (*PYTHON, TYPESCRIPT_SDK)
HELLO = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "say hi"}]}
Call = tuple[str, dict[str, Any]]


async def use(sdk: Client, url: str, calls: Sequence[Call], key: str = "client-key") -> list[dict[str, Any]]:
    """Make these calls, one after another and without retries; what each brought, see ``programs/sdk.py``."""
    entry = need(sdk)
    if sdk is TYPESCRIPT_SDK:
        command = [shutil.which("node") or "node", PROGRAMS / "sdk.mjs", entry]
    else:
        command = [entry, PROGRAMS / "sdk.py"]
    result = await run([*command, url, key, json.dumps(calls)], within=120)
    assert result.code == 0, result.err
    return json.loads(result.out)
