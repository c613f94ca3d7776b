"""Count what ledger and limits add to a request: calls of functions on the reactor, which other programs do not change.

python benchmarks/accounts.py [--seconds 6] [--kinds unary,burst] [--body small|claude-code]

Each variant of ``bench.toml`` runs under the profiler twice, with the load and without it; what is shown is the
difference, for one request. The seconds of CPU beside it are those of the whole process, without the profiler.
"""

from __future__ import annotations

import argparse
import pstats
import re
import time
from pathlib import Path

from rig import HERE, PORTS, BenchError, Rig, machine, new_rig, raise_file_limit, said_of
from run import EVENTS, KINDS, load, read_options

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
        rig.upstream(EVENTS, 0)
        print(f"{said_of(machine())}; `{options.body}` body.\n")
        print("| on | " + " | ".join(f"{kind}: calls | CPU, µs" for kind in options.kinds) + " |")
        print("|---|" + "---:|---:|" * len(options.kinds))
        for name, text in variants().items():
            configuration = rig.folder / "variant.toml"
            configuration.write_text(text)
            idle, _ = calls(rig, options, "", configuration)
            figures = []
            for kind in options.kinds:
                busy, done = calls(rig, options, kind, configuration)
                daemon = rig.gateway(NAME, configuration=configuration)
                load(rig, KINDS[kind], PORTS[NAME], options.body, options.warm)
                before = daemon.cpu()
                served = load(rig, KINDS[kind], PORTS[NAME], options.body, options.seconds)["done"]
                cpu = daemon.cpu() - before
                rig.stop(daemon)
                figures.append(f"{(busy - idle) / done:.0f} | {cpu * 1e6 / served:.0f}")
            print(f"| {name} | " + " | ".join(figures) + " |", flush=True)


if __name__ == "__main__":
    main()
