"""Restarts daemons under load, many times, and says what their clients noticed: ``make rolling``.

It ends with 1 where a request or a stream was lost. The wait for an answer's head is told and judged by whoever reads
it: on a machine that does nothing else no client waits for a second.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.integration.support.rolling import FARMS, rolling


async def roll(names: list[str], restarts: int) -> int:
    """Return how many were lost."""
    lost = 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            begun = reactor.seconds()
            tally = await rolling(FARMS[name](Path(folder)), restarts)
        sys.stdout.write(f"{name}: {restarts} restarts in {reactor.seconds() - begun:.0f} s: {tally}\n")
        for each in tally.lost:
            sys.stdout.write(f"    {each}\n")
        sys.stdout.flush()
        lost += len(tally.lost)
    return lost


def main() -> None:
    parser = argparse.ArgumentParser(prog="make rolling", description=__doc__)
    parser.add_argument("--restarts", type=int, default=200)
    parser.add_argument("farms", nargs="*", choices=[*FARMS, []], help="of these; all by default")
    told = parser.parse_args()

    async def run() -> None:
        if await roll(told.farms or list(FARMS), told.restarts):
            raise SystemExit(1)

    react(lambda _: Deferred.fromCoroutine(run()))


if __name__ == "__main__":
    main()
