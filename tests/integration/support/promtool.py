"""Prometheus' own tool, which says what alert rules make of given series."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.integration.support.daemon import ROOT
from tests.integration.support.needs import lacking
from tests.integration.support.process import Result, run

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
#: Seconds between two scrapes, as rules see them.
INTERVAL = 15
#: What is asked of the rules: which alerts fire.
FIRING = 'group by (alertname) (ALERTS{alertstate="firing"})'

Samples = Mapping[str, float]
"""What one scrape has, by names with labels."""


def promtool() -> str:
    """The program; see :func:`~tests.integration.support.needs.needs`."""
    program = shutil.which("promtool")
    if program is None:
        lacking("promtool is not installed")
    return program


async def ask(*arguments: str | Path) -> Result:
    """What it says to these arguments."""
    return await run([promtool(), *map(str, arguments)], cwd=RULES.parent)


class History:
    """What Prometheus has scraped of one daemon, as a test goes on: each scrape stands for as long as it is said to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scrapes: list[Samples] = []
        self._asked: list[tuple[int, Sequence[str]]] = []

    def add(self, samples: Samples, minutes: float) -> None:
        """It was like that for so long. What is not the daemon's own is left out."""
        own = {name: value for name, value in samples.items() if name.startswith(("claudeproxyd_", "process_start"))}
        self._scrapes += [{**own, "up{}": 1.0}] * round(60 * minutes / INTERVAL)

    def expect(self, *alerts: str) -> None:
        """By now these fire, and no other."""
        self._asked.append((INTERVAL * (len(self._scrapes) - 1), alerts))

    async def check(self) -> None:
        """Have the rules evaluated over all of it."""
        names = sorted({name for each in self._scrapes for name in each})
        test = {
            "interval": f"{INTERVAL}s",
            "input_series": [{"series": _labelled(name), "values": self._values(name)} for name in names],
            "promql_expr_test": [
                {
                    "expr": FIRING,
                    "eval_time": f"{seconds}s",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts],
                }
                for seconds, alerts in self._asked
            ],
        }
        path = self._folder / "history.yml"  # JSON is YAML
        path.write_text(
            json.dumps({"rule_files": [str(RULES)], "evaluation_interval": f"{INTERVAL}s", "tests": [test]})
        )
        result = await ask("test", "rules", path)
        assert result.code == 0, result.out + result.err

    def _values(self, name: str) -> str:
        return " ".join("_" if (value := each.get(name)) is None else repr(value) for each in self._scrapes)


def _labelled(name: str) -> str:
    """The series of a sample, with what Prometheus adds."""
    metric, _, labels = name.partition("{")
    more = labels.rstrip("}")
    return f'{metric}{{job="claudeproxyd",instance="gateway"{"," + more if more else ""}}}'


def expressions(board: str) -> list[str]:
    """The queries of a dashboard, with its variables replaced."""
    return [re.sub(r"\[\$\w+\]", "[5m]", each) for each in json.loads(f"[{','.join(_QUERY.findall(board))}]")]


_QUERY = re.compile(r'"expr": ("(?:[^"\\]|\\.)*")')
