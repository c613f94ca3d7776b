"""Count what ledger and limits add to a request: calls of functions on the reactor, which other programs do not change.

python benchmarks/accounts.py [--turns 8] [--seconds 1] [--kinds unary,burst] [--body small|claude-code]

Each variant of ``bench.toml`` runs under the profiler twice, with the load and without it; what is shown is the
difference, for one request. The CPU beside it is the whole process's, its threads included: without the profiler, all
variants in turn, and its ratio to the first.
"""

from __future__ import annotations

import argparse
import pstats
import re
import time
from pathlib import Path

from rig import HERE, PORTS, BenchError, Rig, machine, new_rig, raise_file_limit, said_of
from run import EVENTS, KINDS, in_turn, load, read_options, typical

SECTION = re.compile(r"^\[\[?(accounts|prices|limits)\]\]?\n(?:[^\[\n].*\n)*\n?", re.MULTILINE)
NAME = "claudeproxyd"


def variants() -> dict[str, str]:
    """The configurations by what is on."""
    usual = (HERE / "bench.toml").read_text()
    without = SECTION.sub("", usual)
    ledger = '[accounts]\ndatabase = "sqlite:accounts.db"\n\n'
    price = '[[prices]]\nmodel = "*"\ninput = 5.0\noutput = 25.0\n\n'

    def limits(others: int) -> str:
        hold = "".join(
            f'[[limits]]\nname = "{measure} {per}"\neach = "client"\n{measure} = 1000000000\nper = "{per}"\n\n'
            for measure, per in (("requests", "minute"), ("tokens", "hour"), ("usd", "day"), ("usd", "month"))
        )
        return hold + "".join(
            f'[[limits]]\nname = "other {number}"\nmatch = {{ client = "other-{number}" }}\nusd = 1.0\nper = "day"\n\n'
            for number in range(others)
        )

    return {
        "neither": '[accounts]\ndatabase = ""\n\n' + without,
        "ledger": ledger + price + without,
        "ledger, 2 limits": usual,
        "ledger, 5 limits": ledger + price + limits(1) + without,
        "ledger, 5,000 limits": ledger + price + limits(4_996) + without,
    }


def calls(rig: Rig, options: argparse.Namespace, kind: str, configuration: Path) -> tuple[int, int]:
    """Calls of functions that the profiler has seen, and requests that were served: without load none."""
    saved = rig.folder / "profile"
    saved.unlink(missing_ok=True)
    daemon = rig.gateway(NAME, ["--profile", str(saved), "--profiler", "cprofile", "--savestats"], configuration)
    if kind:
        done = load(rig, KINDS[kind], PORTS[NAME], options.body, options.seconds)["done"]
    else:
        time.sleep(options.seconds)
        done = 0
    rig.stop(daemon)
    if not saved.exists():
        raise BenchError(f"twistd left no profile:\n{daemon.last_words()}")
    return pstats.Stats(str(saved)).total_calls, done  # type: ignore[attr-defined]  # typeshed lacks it


def main() -> None:
    """Measure each variant."""
    options = read_options(__doc__)
    with new_rig() as rig:
        raise_file_limit(1024)
        started = rig.variants(variants())
        rows = in_turn(rig, options, started)
        rig.stop(*started)
        rig.upstream(EVENTS, 0)
        print(f"{said_of(machine())}; `{options.body}` body, {options.turns} turns of {options.seconds:g} s.\n")
        print("| on | " + " | ".join(f"{kind}: calls | CPU, µs | ratio" for kind in options.kinds) + " |")
        print("|---|" + "---:|---:|---:|" * len(options.kinds))
        least: dict[str, float] = {}
        for name, text in variants().items():
            configuration = rig.folder / "variant.toml"
            configuration.write_text(text)
            idle, _ = calls(rig, options, "", configuration)
            figures = []
            for kind in options.kinds:
                busy, done = calls(rig, options, kind, configuration)
                cpu = typical(rows, name, kind, "cpu_us_per_request")
                ratio = cpu / least.setdefault(kind, cpu)
                figures.append(f"{(busy - idle) / done:.0f} | {cpu:.0f} | {ratio:.2f}")
            print(f"| {name} | " + " | ".join(figures) + " |", flush=True)


if __name__ == "__main__":
    main()
