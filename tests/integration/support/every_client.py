"""The official clients, each of which is to find the API as it knows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.support import sdks
from tests.integration.support.claude_code import prompt
from tests.integration.support.clients import CLAUDE_CODE, Client

each_client = pytest.mark.parametrize("client", [*sdks.ALL, CLAUDE_CODE], ids=lambda client: client.name)


async def greet(client: Client, url: str, folder: Path) -> None:
    """Say hi by the client, in both ways that an SDK has: it gets the "hello" of the daemon at *url*."""
    if client is CLAUDE_CODE:
        result = await prompt(url, "say hi", folder)
        assert (result.code, result.out.strip()) == (0, "hello"), result
    else:
        told = await sdks.use(client, url, [("create", sdks.HELLO), ("stream", sdks.HELLO)])
        assert [each.get("text") for each in told] == ["hello"] * 2, told
