"""Goodput in bad weather: python benchmarks/weather.py [--only NAME] [--seeds 11,12,13] [--chance 100] [--write]

Each weather of ``tests/weather/scenarios.py`` is run on a clock of its own, with the real pool and the real dispatch,
and then once more with a pool that knows the weather, the oracle. Prints a table; ``--write`` makes docs/weather.md and
its picture of it. ``--chance`` runs so many weathers instead whose parameters nobody chose, with one seed each, the
worst first. Minutes of traffic take seconds, and the same seed gives the same figures on every machine.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.weather.chance import by_chance  # noqa: E402
from tests.weather.scenarios import ALL, BY_NAME  # noqa: E402
from tests.weather.simulation import BIN, Result, Scenario, Simulation  # noqa: E402

#: The bars.
GOODPUT, FAILED, ATTEMPTS, LATE, PLACED = 0.95, 0.001, 1.15, 1.5, 0.95
#: Seconds after an outage that are looked at.
AFTER = 3.0

PAGE = """<!-- Written by `python benchmarks/weather.py --write`; change that, not this page. -->

# Goodput in bad weather

How much of what an upstream could have given reaches the clients, when it fails in one way or another. Each row is a
simulation of the real pool and the real dispatch, on a clock of its own; [the pool's page](pool.md) says how it works.

*Oracle*: successes a second of a pool that knows the weather: it sends nothing that will be refused for sure, and picks
the key that fails least; of an outage it hears with the first failure, like anybody. The other columns are ours beside
it: the goodput, the share of requests that failed beyond the oracle's, upstream attempts for each success, and what is
added to a request at the 99th percentile beyond its last attempt (ours / the oracle's, in seconds). Means over the
seeds {seeds}; **bold** is what misses the bars ({bars}).
For outages: *probes* a second after the first half second, and how many seconds of the full rate were *lost* in the
three seconds after it (of the preferred route, where there are two). *In place*: the share that was served by the
preferred route, or where its session's prompt was cached, ours / the oracle's.

Clients are 40 in a closed loop where nothing else is said, each with a session of its own; they retry as the SDKs do.
Good answers take 0.3 s on average, exponentially; failures 20 ms. `x3`: three keys. `rl-60`: a bucket of 60 requests a
second; `cc-10`: ten at once are taken; `gb-25`: everything fails for a quarter of every six seconds; `mix`: answers of
0.3 to 25 s; `caches`: an answer takes a second longer at a key that served none of its session's last eight requests.

{table}

{notes}

![Goodput over time, for each weather](weather.svg)
"""

NOTES = """## What is missed, and why

- **Outages of a second and a half with few clients or long answers** (`gb-25`, `mix gb-25`, `open-30 gb-25`):
  attempts. Some ten probes in an outage is what being back within a quarter of a second costs; with one client that
  is as many as it has successes. With long answers a failure is told from an answer by its time alone.
- **Probes**: three a second over an outage of twenty seconds, where two are asked. From its fifth second on it is two,
  and fewer after a minute; twenty of the sixty are of its first four, where one of a second and a half would cost more.
- **Outages whose failures are slow** (`failures of 1 s`, `of 3 s`, `slow failures`): probes are half a second apart,
  and the first answer to one takes a third of a second. That is lost in each of ten outages a minute; after the one of
  `slow failures` all may go 0.6 s after its end, with each of the seeds.
- **`caches, 500-10x3`**: a request that failed at its key is tried again on another, where its prompt is cold; the
  oracle picks one that has it. Sessions themselves stay.
- **Bursts in which 95 % fail** (`bursts`): the one in twenty that passes looks like the end of it.
- **Small caps** (`cc-1`, `cc-2`, `mix cc-10`, 400 and 1,000 clients): attempts. The first burst is refused as a
  whole, and a cap of one or two is asked now and then whether it has become larger; both weigh where there are few
  successes.
- **`metastable`**: a second or two until it is understood that less load helps, and a saw-tooth near the edge.
- **Added time** where the oracle has next to none (few clients, `metastable`), or where a bucket of many seconds is
  shared by forty (`rl-20`): requests that were refused go to the end of their client's line. Two daemons on one key:
  who came later waits.
"""


@dataclass
class Row:
    """One weather: ours and the oracle's, by seed."""

    scenario: Scenario
    pairs: list[tuple[Result, Result]]

    @property
    def oracle(self) -> float:
        return mean(best.rate for _, best in self.pairs)

    @property
    def goodput(self) -> float:
        return mean(ours.rate / max(best.rate, 1e-9) for ours, best in self.pairs)

    @property
    def failed(self) -> float:
        return mean(max(0.0, ours.failures - best.failures) for ours, best in self.pairs)

    @property
    def attempts(self) -> float:
        return mean(
            ours.attempts / max(1, ours.succeeded) / (best.attempts / max(1, best.succeeded))
            for ours, best in self.pairs
        )

    def late(self, number: int) -> float:
        """Added seconds at the 99th percentile; 0: ours, 1: the oracle's."""
        return mean(pair[number].late(0.99) for pair in self.pairs)

    def placed(self, number: int) -> float:
        """The share that was served where it should be."""
        return mean(pair[number].well_placed for pair in self.pairs)

    @property
    def recovery(self) -> str:
        """Probes a second, and seconds of the full rate that were lost after it, of an outage."""
        if self.scenario.bad is None:
            return ""
        start, end = self.scenario.bad
        probes = mean(
            sum(start + 0.5 <= when < end for when in ours.sent) / (end - start - 0.5) for ours, _ in self.pairs
        )
        routes = len(self.scenario.providers) > 1
        lost = mean(lost_after(ours.at_best if routes else ours.goodput, start, end) for ours, _ in self.pairs)
        return f"{probes:.1f}, {max(0.0, lost):.2f}"

    def misses(self) -> list[str]:
        """The bars that it does not reach."""
        late = self.late(0) > LATE * self.late(1) + 0.25
        said = {
            "goodput": round(self.goodput, 2) < GOODPUT,
            "failed": self.failed > FAILED,
            "attempts": round(self.attempts, 2) > ATTEMPTS,
            "late": late,
            "placed": self.scenario.bound and self.placed(0) < PLACED * self.placed(1),
        }
        return [name for name, missed in said.items() if missed]

    def cells(self) -> list[str]:
        missed = self.misses()

        def cell(name: str, text: str) -> str:
            return f"**{text}**" if name in missed else text

        return [
            self.scenario.name,
            f"{self.oracle:.1f}",
            cell("goodput", f"{self.goodput:.2f}"),
            cell("failed", f"{self.failed:.2%}"),
            cell("attempts", f"{self.attempts:.2f}"),
            cell("late", f"{self.late(0):.2f} / {self.late(1):.2f}"),
            self.recovery,
            cell("placed", f"{self.placed(0):.2f} / {self.placed(1):.2f}") if self.scenario.bound else "",
        ]


def lost_after(served: list[int], start: float, end: float) -> float:
    """Seconds of the full rate that were lost in :data:`AFTER` seconds after an outage.

    In one second by itself chance makes a tenth of the rate more or less.
    """
    first, last, again = (int(when / BIN) for when in (start, end, end + AFTER))
    full = mean(served[:first] + served[again:])
    return AFTER - BIN * sum(served[last:again]) / full


def run(job: tuple[str, int]) -> tuple[Result, Result]:
    """One weather, one seed."""
    scenario = by_chance(int(job[0])) if job[0].isdigit() else BY_NAME[job[0]]
    return Simulation(scenario, job[1]).run(), Simulation(scenario, job[1], oracle=True).run()


def run_all(jobs: list[tuple[str, int]]) -> list[tuple[Result, Result]]:
    """As many at once as the machine has processors."""
    with ProcessPoolExecutor() as processes:
        return list(processes.map(run, jobs))


def say(rows: list[Row]) -> None:
    """The table in plain text."""
    for row in rows:
        print(f"{row.cells()[0]:28}", *(f"{cell:>15}" for cell in row.cells()[1:]), " ".join(row.misses()), sep=" ")
    missed = [row for row in rows if row.misses()]
    print(f"{len(rows) - len(missed)} of {len(rows)} weathers hold all bars")


def by_lot(number: int) -> int:
    """Run that many weathers by chance; say the worst first, and how all are spread. How many miss a bar."""
    results = run_all([(str(lot), lot) for lot in range(number)])
    rows = [Row(by_chance(lot), [pair]) for lot, pair in enumerate(results)]
    say(sorted(rows, key=lambda row: row.goodput))
    for name, values in (("goodput", [row.goodput for row in rows]), ("attempts", [row.attempts for row in rows])):
        ordered = sorted(values, reverse=name == "attempts")
        spread = ", ".join(
            f"{share:.0%} {ordered[int(share * (number - 1))]:.2f}" for share in (0, 0.05, 0.1, 0.25, 0.5)
        )
        print(f"{name}, the worst first: {spread}; mean {mean(values):.3f}")
    return sum(bool(row.misses()) for row in rows)


def picture(rows: list[Row]) -> str:
    """Goodput over time as a sheet of small charts: ours in front of the oracle's."""
    columns, width, height = 4, 250, 86
    parts = []
    for number, row in enumerate(rows):
        ours, best = row.pairs[0]
        size = max(1, len(ours.goodput) // 120)
        lines = [
            [sum(result.goodput[at : at + size]) for at in range(0, len(result.goodput), size)]
            for result in (best, ours)
        ]
        top = max(max(line) for line in lines) or 1
        x, y = number % columns * width, number // columns * height
        parts.append(f'<g transform="translate({x + 10},{y + 18})"><text y="-5">{escaped(row.scenario.name)}</text>')
        for line, style in zip(lines, ("best", "ours"), strict=True):
            points = " ".join(
                f"{at * (width - 24) / max(1, len(line) - 1):.1f},{56 - 52 * value / top:.1f}"
                for at, value in enumerate(line)
            )
            parts.append(f'<polyline class="{style}" points="{points}"/>')
        parts.append(f'<path d="M0 57H{width - 24}"/></g>')
    rows_needed = -(-len(rows) // columns)
    style = (
        "text{font:11px sans-serif;fill:#444}polyline{fill:none;stroke-width:1.2}"
        ".best{stroke:#bbb}.ours{stroke:#0b6e99}path{stroke:#ddd}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * width} {rows_needed * height}">'
        f'<rect width="100%" height="100%" fill="white"/><style>{style}</style>{"".join(parts)}</svg>\n'
    )


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


HEAD = ("weather", "oracle /s", "goodput", "failed", "attempts", "added p99, s", "probes /s, lost s", "in place")


def main() -> int:
    """Print the table; how many weathers miss a bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="weathers whose name has this in it")
    parser.add_argument("--seeds", default="11,12,13")
    parser.add_argument("--chance", type=int, default=0, help="so many weathers whose parameters nobody chose")
    parser.add_argument("--write", action="store_true", help="docs/weather.md and docs/weather.svg")
    options = parser.parse_args()
    if options.chance:
        return by_lot(options.chance)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    scenarios = [each for each in ALL if options.only in each.name]
    jobs = [(each.name, seed) for each in scenarios for seed in seeds]
    results = run_all(jobs)
    rows = [
        Row(each, results[number * len(seeds) : (number + 1) * len(seeds)]) for number, each in enumerate(scenarios)
    ]
    say(rows)
    if options.write:
        lines = [
            f"| {' | '.join(HEAD)} |",
            "|---" * len(HEAD) + "|",
            *(f"| {' | '.join(row.cells())} |" for row in rows),
        ]
        bars = (
            f"goodput {GOODPUT}, {FAILED:.1%} failed, {ATTEMPTS} times the attempts, {LATE} times the added time and a "
            "quarter of a second"
        )
        page = PAGE.format(seeds=options.seeds, bars=bars, table="\n".join(lines), notes=NOTES.strip())
        (ROOT / "docs/weather.md").write_text(page)
        (ROOT / "docs/weather.svg").write_text(picture(rows))
    return sum(bool(row.misses()) for row in rows)


if __name__ == "__main__":
    main()
