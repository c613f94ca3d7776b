"""Restarts daemons under load, many times, and says what their clients noticed: ``make rolling``.

It says how far it is every twenty, and ends with 1 where something was lost. The wait for an answer's head is
told and judged by whoever reads it: on a machine that does nothing else no client waits for a second. How late the
clients themselves were is told beside it: by so much the machine let nobody run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.integration.support.rolling import FARMS, Tally, rolling

#: Restarts between two lines.
EVERY = 20


async def roll(names: list[str], restarts: int) -> int:
    """Return how many were lost."""
    lost = 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            begun = reactor.seconds()

            def say(number: int, tally: Tally, name: str = name, begun: float = begun) -> None:
                if number % EVERY == 0 or number == restarts:
                    print(f"{name}: {number} restarts in {reactor.seconds() - begun:.0f} s: {tally}", flush=True)

            tally = await rolling(FARMS[name](Path(folder)), restarts, say)
        for each in tally.lost:
            print(f"    {each}", flush=True)
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
