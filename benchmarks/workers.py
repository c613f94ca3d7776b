"""Measure the daemon with one, two and four workers, each on a core of its own where there are so many.

python benchmarks/workers.py [--workers 1,2,4] [--limits] [--share 0.2] [--rounds 3] [--seconds 6] [--kinds unary,burst]

The load and the upstream have the last core, which they can fill; a line says so where a worker had to share it.
``--share`` gives each worker so much of a core and no more, by a control group of its own: so a machine with few cores
shows how throughput grows with workers. It takes root. ``--limits`` keeps the ``[[limits]]`` of ``bench.toml``, for
which each request asks the parent.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import urllib.request
from pathlib import Path
from statistics import median

from accounts import SECTION
from rig import HERE, BenchError, Process, Rig, machine, new_parser, new_rig, raise_file_limit, said_of
from run import EVENTS, KINDS, Row, kinds, load, measure

NAME = "claudeproxyd"
ADMIN = 9401
CONTROL = Path("/sys/fs/cgroup")
PERIOD = 20_000
"""Microseconds within which a process gets its share: short, for it has nothing at all when that is used up; the kernel
gives no less than 1,000 of them."""


def numbers(text: str) -> list[int]:
    """Of workers."""
    return [int(each) for each in text.split(",")]


def configuration(rig: Rig, workers: int, limits: bool) -> Path:
    """``bench.toml`` with so many."""
    text = (HERE / "bench.toml").read_text()
    if not limits:
        text = SECTION.sub(lambda section: "" if section[1] == "limits" else section[0], text)
    path = rig.folder / f"workers-{workers}.toml"
    path.write_text(text.replace("[server]\n", f"[server]\nworkers = {workers}\n", 1))
    return path


class Shares:
    """Control groups that let the processes in them have so much of a core each."""

    def __init__(self, share: float) -> None:
        self._quota = round(share * PERIOD)
        self._is_old = (CONTROL / "cpu").is_dir()
        self._top = CONTROL / "cpu" if self._is_old else CONTROL
        self._groups: list[Path] = []

    def give(self, *pids: int) -> None:
        """Put each process into a group of its own."""
        if not self._is_old:
            (self._top / "cgroup.subtree_control").write_text("+cpu")
        for pid in pids:
            group = self._top / f"claudeproxyd-bench-{pid}"
            group.mkdir()
            self._groups.append(group)
            if self._is_old:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD))
                (group / "cpu.cfs_quota_us").write_text(str(self._quota))
            else:
                (group / "cpu.max").write_text(f"{self._quota} {PERIOD}")
            (group / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Remove the groups, whose processes have ended."""
        while self._groups:
            self._groups.pop().rmdir()


def started(rig: Rig, workers: int, options: argparse.Namespace) -> Process:
    """The daemon, when all of them serve."""
    cores = sorted(os.sched_getaffinity(0))
    rig.load_core = cores[-1]
    rig.gateway_cores = set(cores[:-1] if options.share else cores[:workers])
    daemon = rig.gateway(NAME, configuration=configuration(rig, workers, options.limits))
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/readyz"):
                return daemon
        except OSError:
            time.sleep(0.1)
    raise BenchError(f"not all workers serve:\n{daemon.last_words()}")


def one_round(rig: Rig, options: argparse.Namespace) -> list[Row]:
    """Each kind of load on each number of workers, in turn."""
    rows: list[Row] = []
    for kind in options.kinds:
        rig.upstream(EVENTS, KINDS[kind].gap_us)
        for workers in options.workers:
            daemon, shares = started(rig, workers, options), Shares(options.share)
            try:
                if options.share:
                    shares.give(*daemon.tree()[-workers:])
                load(rig, KINDS[kind], daemon.port, options.body, options.warm)
                rows.append({**measure(rig, daemon, kind, options), "workers": workers})
            finally:
                rig.stop(daemon)
                shares.remove()
        rig.stop()
    return rows


def main() -> None:
    """Measure, and show medians."""
    parser = new_parser(__doc__)
    parser.add_argument("--workers", type=numbers, default=[1, 2, 4], help="how many (default: 1,2,4)")
    parser.add_argument("--limits", action="store_true", help="with [[limits]] that each request is under")
    parser.add_argument("--share", type=float, default=0.0, help="of a core that each worker has (default: all of it)")
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured (default: 3)")
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement (default: 6)")
    parser.add_argument("--warm", type=float, default=2, help="seconds of load ahead of each (default: 2)")
    parser.add_argument("--kinds", type=kinds, default=["unary", "burst"], help="kinds of load (default: unary,burst)")
    options = parser.parse_args()
    with new_rig() as rig:
        raise_file_limit(1024)
        rows = [row for _ in range(options.rounds) for row in one_round(rig, options)]
    print(f"{said_of(machine())}; `{options.body}` body, medians of {options.rounds} rounds.\n")
    if options.share:
        print(f"Each worker had {options.share:g} of a core.\n")
    elif max(options.workers) >= len(os.sched_getaffinity(0)):
        print("Workers had to share cores with each other, or with the load: throughput is less than it could be.\n")
    print("| load | workers | requests a second | to one | CPU a request, µs | first byte p99, ms | MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kind in options.kinds:
        one = 0.0
        for workers in options.workers:
            found = [row for row in rows if (row["kind"], row["workers"]) == (kind, workers)]
            rate, cpu, first, mb = (
                median(row[figure] for row in found)
                for figure in ("requests_per_second", "cpu_us_per_request", "first_byte_p99_ms", "rss_mb")
            )
            one = one or rate
            print(f"| {kind} | {workers} | {rate:.0f} | {rate / one:.2f} | {cpu:.0f} | {first:.1f} | {mb:.0f} |")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
