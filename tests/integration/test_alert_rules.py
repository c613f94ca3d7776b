"""The alert rules, as Prometheus reads them; and the dashboard's queries."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.integration.support.daemon import ROOT
from tests.integration.support.needs import needs
from tests.integration.support.promtool import RULES, ask, expressions, promtool

pytestmark = needs(promtool)


@ensureDeferred
async def test_rules() -> None:
    """They are such that Prometheus takes them."""
    result = await ask("check", "rules", RULES)
    assert result.code == 0, result.out + result.err


@ensureDeferred
async def test_cases() -> None:
    """Each fires on what it is for, in its words, and on nothing else."""
    result = await ask("test", "rules", RULES.with_name("rules_test.yml"))
    assert result.code == 0, result.out + result.err


@ensureDeferred
async def test_queries_of_the_dashboard(tmp_path: Path) -> None:
    """They are such that Prometheus takes them."""
    queries = expressions((ROOT / "deploy" / "grafana" / "claudeproxyd.json").read_text())
    assert len(queries) > 30
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    result = await ask("check", "rules", path)
    assert result.code == 0, result.out + result.err
