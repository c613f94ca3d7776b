"""Measure the daemon between its two yardsticks, nginx and a bare Twisted relay, under the same load.

python benchmarks/run.py [--turns 8] [--seconds 1] [--kinds unary,burst,paced] [--body small|claude-code]
python benchmarks/run.py --beside OTHER/bin/twistd
python benchmarks/run.py --profile burst

Ends with an error when an answer was lost, failed or cut short: such figures mean nothing. A target that is missed is
shown, and no error.
"""

from __future__ import annotations

import argparse
import json
import os
import pstats
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from rig import (
    CONFIGURATIONS,
    HERE,
    KEYS,
    PORTS,
    BenchError,
    Process,
    Rig,
    body_file,
    machine,
    new_parser,
    new_rig,
    raise_file_limit,
    said_of,
)

GATEWAYS = ("nginx", "bare relay", "claudeproxyd")
BESIDE = "the same beside"
"""The daemon on another interpreter."""
EVENTS = 50
"""Text deltas of each stream."""


@dataclass(frozen=True)
class Kind:
    """One kind of load."""

    connections: int
    stream: bool
    gap_us: int
    """Between two events of a stream; 0: they come all at once."""

    @property
    def least_seconds(self) -> float:
        """Of a turn, for streams to end in it."""
        return 2.2 * EVENTS * self.gap_us / 1e6


KINDS = {
    "unary": Kind(connections=32, stream=False, gap_us=0),
    "burst": Kind(connections=32, stream=True, gap_us=0),
    "paced": Kind(connections=200, stream=True, gap_us=20_000),
}


@dataclass(frozen=True)
class Measure:
    """One figure of one kind of load, and what it may be in multiples of the yardsticks' own; None: it may be any."""

    kind: str
    figure: str
    name: str
    nginx: float | None
    bare_relay: float | None


MEASURES = (
    Measure("unary", "cpu_us_per_request", "CPU a request, µs", 8.5, None),
    Measure("burst", "cpu_us_per_request", "CPU a stream, µs", 7, None),
    Measure("paced", "cpu_us_per_event", "CPU an event, µs", 2.3, None),
    Measure("paced", "first_byte_p99_ms", "first byte p99, ms", None, 1.2),
)

Row = dict[str, Any]


def load(rig: Rig, kind: Kind, port: int, body: str, seconds: float) -> Row:
    """Put a gateway under load; what the load generator saw."""
    ran = subprocess.run(
        [
            *(rig.folder / "load", str(port), body_file(body, kind.stream), str(kind.connections), str(seconds)),
            *(f"x-api-key: {key}" for key in KEYS),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        preexec_fn=lambda: os.sched_setaffinity(0, {rig.load_core}),
    )
    if ran.returncode:
        raise BenchError(f"the load generator failed: {ran.stderr}")
    seen: Row = json.loads(ran.stdout)
    return seen


def measure(rig: Rig, gateway: Process, kind: str, options: argparse.Namespace) -> Row:
    """Figures of one gateway under one kind of load."""
    before = gateway.cpu()
    seen = load(rig, KINDS[kind], gateway.port, options.body, max(options.seconds, KINDS[kind].least_seconds))
    cpu = gateway.cpu() - before
    if seen["errors"] or seen["non200"] or seen["incomplete"]:
        raise BenchError(f"{gateway.name} failed under {kind}: {seen}\n{gateway.last_words()}")
    if not seen["done"]:
        raise BenchError(f"no answer of {gateway.name} under {kind} was whole within {options.seconds:g} s")
    return {
        "gateway": gateway.name,
        "kind": kind,
        "cpu_us_per_request": cpu * 1e6 / seen["done"],
        "cpu_us_per_event": cpu * 1e6 / seen["events"] if seen["events"] else None,
        "cpu_share": cpu / seen["seconds"],
        "requests_per_second": seen["done"] / seen["seconds"],
        "first_byte_p99_ms": seen["first_byte_us"]["p99"] / 1000,
        "rss_mb": gateway.rss(),
        "load": seen,
    }


def in_turn(rig: Rig, options: argparse.Namespace, gateways: Sequence[Process]) -> list[Row]:
    """Each kind of load on each gateway, in short turns whose order is reversed every other time: what another program
    on the machine takes, it takes from all of them."""
    rows = []
    for kind in options.kinds:
        upstream = rig.upstream(EVENTS, KINDS[kind].gap_us)
        for gateway in gateways:
            load(rig, KINDS[kind], gateway.port, options.body, options.warm)
        for turn in range(options.turns):
            for gateway in gateways if turn % 2 else reversed(gateways):
                rows.append(measure(rig, gateway, kind, options))
        rig.stop(upstream)
        for gateway in gateways:
            cpu = typical(rows, gateway.name, kind, "cpu_us_per_request")
            print(f"{kind:6} {gateway.name:20} {cpu:8.1f} µs each", file=sys.stderr, flush=True)
    return rows


def typical(rows: Iterable[Row], gateway: str, kind: str, figure: str) -> float:
    """Return the mean of the lowest third, which repeats within 3 % where medians move by 10: what disturbs a turn can
    only add to it."""
    lowest = sorted(row[figure] for row in rows if (row["gateway"], row["kind"]) == (gateway, kind))
    return mean(lowest[: max(1, len(lowest) // 3)])


def summary(rows: list[Row], kinds: list[str]) -> list[Row]:
    """What is typical of each measure for each gateway, and the daemon's ratios to the yardsticks."""
    lines = []
    for each in MEASURES:
        if each.kind not in kinds:
            continue
        figures = {name: typical(rows, name, each.kind, each.figure) for name in GATEWAYS}
        lines.append(
            {
                "kind": each.kind,
                "measure": each.name,
                "figures": figures,
                "to_nginx": figures["claudeproxyd"] / figures["nginx"],
                "to_bare_relay": figures["claudeproxyd"] / figures["bare relay"],
                "target_to_nginx": each.nginx,
                "target_to_bare_relay": each.bare_relay,
            }
        )
    return lines


def table(lines: list[Row]) -> str:
    """The summary as a Markdown table; what misses its target stands in bold."""

    def ratio(value: float, target: float | None) -> str:
        if target is None:
            return f"{value:.2f} |"
        shown = f"**{value:.2f}**" if value > target else f"{value:.2f}"
        return f"{shown} | ≤ {target:g}"

    text = "| load | measure | nginx | bare relay | claudeproxyd | ÷ nginx | target | ÷ bare relay | target |\n"
    text += "|---|---|---:|---:|---:|---:|---|---:|---|\n"
    for line in lines:
        figures = " | ".join(f"{line['figures'][name]:.1f}" for name in GATEWAYS)
        text += (
            f"| {line['kind']} | {line['measure']} | {figures}"
            f" | {ratio(line['to_nginx'], line['target_to_nginx'])}"
            f" | {ratio(line['to_bare_relay'], line['target_to_bare_relay'])} |\n"
        )
    return text


def show(options: argparse.Namespace, rows: list[Row], lines: list[Row], shown: str) -> None:
    """Print the summary's table, and keep all figures where that is asked for."""
    where = machine()
    done = f"`{options.body}` body, {options.turns} turns of {options.seconds:g} s"
    print(f"{said_of(where)}; {done}.\n\n{shown}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        found = {
            "machine": where,
            "body": options.body,
            "seconds": options.seconds,
            "summary": lines,
            "turns": rows,
        }
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def beside(rows: list[Row], kinds: list[str]) -> str:
    """What another interpreter makes of it, as a Markdown table."""
    text = "| load | measure | claudeproxyd, there | ÷ nginx | ÷ claudeproxyd, here |\n|---|---|---:|---:|---:|\n"
    for each in MEASURES:
        if each.kind in kinds:
            there, nginx, here = (
                typical(rows, name, each.kind, each.figure) for name in (BESIDE, "nginx", "claudeproxyd")
            )
            text += f"| {each.kind} | {each.name} | {there:.1f} | {there / nginx:.2f} | {there / here:.2f} |\n"
    return text


def profile(rig: Rig, options: argparse.Namespace, name: str) -> None:
    """Where a daemon's time goes under one kind of load: its functions by their own time."""
    kind = KINDS[options.profile]
    saved = rig.folder / "profile"
    rig.upstream(EVENTS, kind.gap_us)
    daemon = rig.gateway(name, ["--profile", str(saved), "--profiler", "cprofile", "--savestats"])
    seen = load(rig, kind, PORTS[name], options.body, options.seconds)
    rig.stop(daemon)
    if not saved.exists():
        raise BenchError(f"twistd left no profile:\n{daemon.last_words()}")
    print(f"{seen['done']} requests, {seen['events']} events in {seen['seconds']:.1f} s, slowed by the profiler")
    pstats.Stats(str(saved)).strip_dirs().sort_stats("tottime").print_stats(40)


def kinds(text: str) -> list[str]:
    """Of the command line."""
    names = text.split(",")
    if not set(names) <= set(KINDS):
        raise argparse.ArgumentTypeError(f"they are {', '.join(KINDS)}")
    return names


def read_options(doc: str | None) -> argparse.Namespace:
    """The command line's."""
    parser = new_parser(doc)
    parser.add_argument("--turns", type=int, default=8, help="of each gateway under each kind of load (default: 8)")
    parser.add_argument("--seconds", type=float, default=1, help="of a turn, 2.2 at least of paced (default: 1)")
    parser.add_argument("--warm", type=float, default=2, help="seconds of load ahead of the turns (default: 2)")
    parser.add_argument("--kinds", type=kinds, default=list(KINDS), help="kinds of load (default: unary,burst,paced)")
    parser.add_argument("--beside", type=Path, help="another interpreter's twistd, to run the daemon there as well")
    parser.add_argument("--profile", choices=KINDS, help="profile the daemon under that load instead")
    return parser.parse_args()


def main() -> None:
    """Read the command line, and do what it says."""
    options = read_options(__doc__)
    with new_rig(*([] if options.profile else ["nginx"])) as rig:
        raise_file_limit(1024)
        if options.profile:
            profile(rig, options, "claudeproxyd")
        else:
            gateways = [rig.gateway(name) for name in GATEWAYS]
            if options.beside:
                gateways += rig.variants({BESIDE: (HERE / CONFIGURATIONS["claudeproxyd"]).read_text()}, options.beside)
            rows = in_turn(rig, options, gateways)
            lines = summary(rows, options.kinds)
            shown = table(lines)
            if options.beside:
                shown += "\n" + beside(rows, options.kinds)
            show(options, rows, lines, shown)


if __name__ == "__main__":
    main()
