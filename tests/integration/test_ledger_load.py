"""For how long the ledger's thread holds the reactor."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.support.daemon import ROOT
from tests.integration.support.needs import needs
from tests.integration.support.postgresql import Postgres, postgres_server
from tests.integration.support.process import Child
from tests.speed import slowness

pytestmark = pytest.mark.alone

LONGEST = 0.005
ENTERED = 5
"""How often the thread enters what has come, once a second: what it holds up it holds up each time."""


async def check(database: str, folder: Path) -> None:
    """Hold the reactor's longest waits to the bound, but for fewer than there are enterings: disk and machine may have
    made these."""
    program = ROOT / "tests/integration/programs/ledger_load.py"
    child = Child([sys.executable, program, database, folder / "waiting"], {"PYTHONPATH": str(ROOT)})
    result = await child.ended(60)
    assert result.code == 0, child.output
    told = json.loads(result.out.splitlines()[-1])
    assert told["written"] == told["entered"] >= 7000
    bound = LONGEST * slowness()
    too_long = [held for held in told["held"] if held > bound]
    print(f"{database.partition(':')[0]}: {max(told['held'], default=0.0) * 1000:.1f} ms, {len(too_long)} above")
    assert len(too_long) < ENTERED, told


@ensureDeferred
async def test_in_a_file(tmp_path: Path) -> None:
    """A thousand records a second go into SQLite, and no turn of the reactor is held for 5 ms by it."""
    await check(f"sqlite:{tmp_path}/accounts.db", tmp_path)


@needs(postgres_server)
@ensureDeferred
async def test_in_postgresql(tmp_path: Path) -> None:
    """So they do into PostgreSQL."""
    postgres = await Postgres.make()
    try:
        await check(postgres.url, tmp_path)
    finally:
        await postgres.stop()
