"""Streams that are open and silent cost little: the benchmark of that, in small."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "idle_streams.py"
STREAMS = 200
MOST_KB_A_STREAM = 50
"""With 5,000 of them that is what 250 MB, the target, come to."""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the scripted upstream is built with gcc")
def test_silent_streams_are_small(tmp_path: Path) -> None:
    """Hundreds of answers that pause in the middle stay open, and each holds some kilobytes."""
    figures = tmp_path / "figures.json"
    ran = subprocess.run(
        [sys.executable, BENCHMARK, "--streams", str(STREAMS), "--hold", "1", "--json", figures],
        capture_output=True,
        text=True,
        timeout=900,  # it waits for other benchmarks to end
    )
    assert ran.returncode == 0, ran.stderr
    daemon = json.loads(figures.read_text())["gateways"][-1]
    assert daemon["gateway"] == "claudeproxyd"
    assert 0 < daemon["kb_a_stream"] < MOST_KB_A_STREAM
