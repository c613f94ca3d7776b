"""Claude Code as a child process, away from any real account, configuration or network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.integration.support.clients import CLAUDE_CODE, need
from tests.integration.support.process import Result, run

#: Options that have :func:`lines` find something.
AS_LINES = ("--output-format", "stream-json", "--verbose")


async def prompt(
    url: str, text: str, folder: Path, *options: str, key: str = "client-key", within: float = 120.0, **env: str
) -> Result:
    """``claude -p TEXT OPTIONS`` in *folder*, which is its home too, with *url* as its API."""
    program = need(CLAUDE_CODE)
    settings = {
        "HOME": str(folder),
        "CLAUDE_CONFIG_DIR": str(folder / ".claude"),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
        **env,
    }
    return await run([program, "-p", text, *options], settings, cwd=folder, within=within)


def lines(result: Result) -> list[dict[str, Any]]:
    """The objects of ``--output-format stream-json``."""
    return [json.loads(line) for line in result.out.splitlines() if line.startswith("{")]
