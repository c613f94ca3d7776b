"""Measure what translation to Gemini costs end to end: a daemon whose upstream is Google's, beside one that passes.

python benchmarks/gemini.py [--turns 8] [--seconds 1] [--kinds unary,burst,paced] [--body small|claude-code]
python benchmarks/gemini.py --profile burst

The requests are the same, and so is the text of the answers, and its pieces. Ends with an error as ``run.py`` does.
"""

from __future__ import annotations

from rig import new_rig, raise_file_limit
from run import Row, in_turn, profile, read_options, show, typical

PASSING, TRANSLATING = GATEWAYS = ("claudeproxyd", "to Gemini")
MOST = 2.5
"""What a translated one may cost in multiples of a passed one."""

MEASURES = (
    ("unary", "cpu_us_per_request", "CPU a request, µs"),
    ("burst", "cpu_us_per_event", "CPU an event, µs"),
    ("paced", "cpu_us_per_event", "CPU an event, µs"),
)


def summary(rows: list[Row], kinds: list[str]) -> list[Row]:
    """What is typical of each measure for both, and their ratio."""
    lines = []
    for kind, figure, name in MEASURES:
        if kind in kinds:
            passed, translated = (typical(rows, gateway, kind, figure) for gateway in GATEWAYS)
            lines.append({"kind": kind, "measure": name, "figures": (passed, translated), "ratio": translated / passed})
    return lines


def table(lines: list[Row]) -> str:
    """The summary as a Markdown table; what misses its target stands in bold."""
    text = f"| load | measure | passed | translated | ratio, ≤ {MOST:g} |\n|---|---|---:|---:|---:|\n"
    for line in lines:
        passed, translated = line["figures"]
        ratio = f"**{line['ratio']:.2f}**" if line["ratio"] > MOST else f"{line['ratio']:.2f}"
        text += f"| {line['kind']} | {line['measure']} | {passed:.1f} | {translated:.1f} | {ratio} |\n"
    return text


def main() -> None:
    """Read the command line, and do what it says."""
    options = read_options(__doc__)
    with new_rig() as rig:
        raise_file_limit(1024)
        if options.profile:
            profile(rig, options, TRANSLATING)
        else:
            rows = in_turn(rig, options, [rig.gateway(name) for name in GATEWAYS])
            lines = summary(rows, options.kinds)
            show(options, rows, lines, table(lines))


if __name__ == "__main__":
    main()
