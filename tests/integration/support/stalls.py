"""How long a daemon's reactor is held, and for how long it may be."""

from __future__ import annotations

from pathlib import Path

from tests.integration.support.daemon import ROOT
from tests.speed import slowness

METER = Path(__file__).parent / "stall"
LONGEST = 0.050
LONGEST_OF_LARGE = 0.250
"""Where a body has more than 10 MB."""
#: What others do on the machine shows in these figures, though they are of CPU: of its caches and its cores' halves.
ALLOWANCE = 1.5


class Meter:
    """The longest turn of a daemon's reactor, in seconds of CPU."""

    def __init__(self, folder: Path) -> None:
        self._told = folder / "longest"
        self.env = {"PYTHONPATH": f"{METER}:{ROOT}", "STALLS": str(self._told)}

    def begin(self) -> None:
        self._told.unlink(missing_ok=True)

    @property
    def longest(self) -> float:
        return float(self._told.read_text() or 0) if self._told.exists() else 0.0


def told(what: str, longest: float, bound: float) -> None:
    """*longest* is below *bound*, on a machine as fast as that of the bounds; printed for benchmarks/RESULTS.md."""
    print(f"{what}: {longest * 1000:.0f} ms")
    assert longest < bound * ALLOWANCE or longest < bound * ALLOWANCE * slowness(), f"{what}: {longest * 1000:.0f} ms"
