"""The official TypeScript client puts the golden answers together as the cases say: ``tests/golden/README.md``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.golden import test_converse, test_gemini, test_openai_chat, test_openai_responses
from tests.golden.cases import Case, cases
from tests.golden.checks import Checks, answer_reads
from tests.integration.support.clients import TYPESCRIPT_SDK, need
from tests.integration.support.process import run
from tests.integration.support.sdks import PROGRAMS

FAMILIES: Mapping[str, Checks] = {
    "gemini": test_gemini.CHECKS,
    "converse": test_converse.CHECKS,
    "openai_chat": test_openai_chat.CHECKS,
    "openai_responses": test_openai_responses.CHECKS,
}


def stream_of(case: Case) -> str:
    """What the client is sent."""
    _, reads = answer_reads(case)[0]
    checks = FAMILIES[case.folder]
    batches, _ = checks.read_stream(case, reads, checks.remembering(case))
    return b"".join(batch.frames for batch in batches).decode()


def in_javascript(value: Any) -> Any:
    """JSON whose numbers are all floats."""
    return json.loads(json.dumps(value), parse_int=float)


def narrowed(value: Any, like: Any) -> Any:
    """*value* without the members that the SDK adds by itself."""
    if isinstance(value, dict) and isinstance(like, dict):
        return {name: narrowed(value.get(name), member) for name, member in like.items()}
    if isinstance(value, list) and isinstance(like, list) and len(value) == len(like):
        return [narrowed(*pair) for pair in zip(value, like, strict=True)]
    return value


@pytest.mark.parametrize("folder", FAMILIES)
@ensureDeferred
async def test_accumulated(tmp_path: Path, folder: str) -> None:
    """Each answer, as the SDK's MessageStream puts it together, is the case's."""
    answered = [case for case in cases(folder) if case.answer is not None]
    streams = tmp_path / "streams.json"
    streams.write_text(json.dumps([stream_of(case) for case in answered]))
    program = [shutil.which("node") or "node", PROGRAMS / "accumulate.mjs", need(TYPESCRIPT_SDK), streams]
    result = await run(program, within=60)
    assert result.code == 0, result.err
    for case, message in zip(answered, json.loads(result.out), strict=True):
        expected = in_javascript(case.matched(message, case.answer, {}))
        assert narrowed(in_javascript(message), expected) == expected, case.name
