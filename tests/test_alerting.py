"""The alert rules, the dashboard and the runbook, held against one another and against what the daemon tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.observe.test_metrics import registered

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
CASES = ROOT / "deploy" / "prometheus" / "rules_test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "claudeproxyd.json"
RUNBOOK = ROOT / "docs" / "runbook"

SECTIONS = ["What you see", "What it is", "What to do"]
#: Labels that look like metrics.
LABELS = {"gen_ai_request_model"}
#: Of Prometheus itself, and of the client library.
OTHERS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "up",
}


def alerts(text: str) -> list[str]:
    """The alerts of a file of rules."""
    return re.findall(r"^ +- alert: (\w+)$", text, re.MULTILINE)


@cache
def exposed() -> Set[str]:
    """The names of all series that there may be."""
    names = set(OTHERS)
    for kind, name in registered():
        names |= {f"{name}_{part}" for part in ("bucket", "count", "sum")} if kind == "histogram" else {name}
    return frozenset(names)


def named(text: str) -> set[str]:
    """The metrics that expressions name."""
    words = re.findall(r"\b(?:(?:claudeproxyd|gen_ai|process|python)_[a-z0-9_]+|up)(?=[\[{ ),])", text)
    return set(words) - LABELS


def within(value: Any, key: str) -> Iterator[Any]:
    """What stands under *key*, anywhere in a document."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name == key:
                yield each
            yield from within(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from within(each, key)


class Rules(SynchronousTestCase):
    """``deploy/prometheus``. What the rules fire on is tried by promtool: see ``tests/integration``."""

    def test_metrics(self) -> None:
        """They go by what the daemon tells, and by nothing else."""
        used = named(RULES.read_text())
        self.assertGreater(len(used), 10)
        self.assertEqual(used - exposed(), set())

    def test_cases(self) -> None:
        """Each has a case in which it fires."""
        fires = re.findall(r"alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n", CASES.read_text())
        self.assertEqual(set(fires), set(alerts(RULES.read_text())))

    def test_metrics_of_cases(self) -> None:
        """The cases are made of series that there are."""
        used = set(re.findall(r"series: '(\w+)\{", CASES.read_text()))
        self.assertEqual(used - exposed(), set())


class Runbook(SynchronousTestCase):
    """``docs/runbook``."""

    def test_page_for_each_rule(self) -> None:
        """Each rule leads to its page, which has what somebody needs who was woken; no page is left over."""
        text = RULES.read_text()
        names = alerts(text)
        linked = re.findall(r"runbook_url: (\S+)$", text, re.MULTILINE)
        self.assertEqual(linked, [f"docs/runbook/{name}.md" for name in names])
        self.assertEqual({page.stem for page in RUNBOOK.glob("*.md")}, {"README", *names})
        for name in names:
            page = (RUNBOOK / f"{name}.md").read_text()
            self.assertTrue(page.startswith(f"# {name}\n"), name)
            self.assertEqual(re.findall(r"^## (.+)$", page, re.MULTILINE), SECTIONS, name)

    def test_index(self) -> None:
        """The list has each with its severity."""
        text = RULES.read_text()
        severities = re.findall(r"severity: (\w+)", text)
        listed = re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|$", (RUNBOOK / "README.md").read_text(), re.MULTILINE)
        self.assertEqual(listed, list(zip(alerts(text), severities, strict=True)))

    def test_metrics(self) -> None:
        """The queries that it names can be asked."""
        for page in RUNBOOK.glob("*.md"):
            asked = re.findall(r"`([^`]*(?:\[\d+m\]|topk)[^`]*)`", page.read_text())
            self.assertEqual(named(" ".join(asked)) - exposed(), set(), page.name)


class Dashboard(SynchronousTestCase):
    """``deploy/grafana``."""

    def setUp(self) -> None:
        self.board = json.loads(DASHBOARD.read_text())

    def test_metrics(self) -> None:
        """It shows what the daemon tells, and nothing else."""
        used = named(" ".join(within(self.board, "expr")))
        self.assertGreater(len(used), 20)
        self.assertEqual(used - exposed(), set())

    def test_panels(self) -> None:
        """Each has an id and a place of its own, goes by the chosen data source, and leads to pages that there are."""
        panels = self.board["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        self.assertEqual(len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}), len(panels))
        for panel in panels:
            if panel["type"] != "row":
                self.assertEqual(panel["datasource"], {"type": "prometheus", "uid": "${datasource}"})
                self.assertNotEqual(panel["targets"], [])
        for name in re.findall(r"\bClaudeproxyd\w+", " ".join(map(str, within(self.board, "description")))):
            self.assertTrue((RUNBOOK / f"{name}.md").exists(), name)

    def test_choices(self) -> None:
        """Every query is of the jobs and instances that were chosen."""
        for expression in within(self.board["panels"], "expr"):
            self.assertEqual(expression.count("instance=~"), len(re.findall(r"\{job=~", expression)), expression)
            self.assertIn("$instance", expression)
