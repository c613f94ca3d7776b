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
    """The longest turn of a daemon's reactor, in seconds of CPU; of several processes, the longest of any."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "stalls"
        self._folder.mkdir()
        self.env = {"PYTHONPATH": f"{METER}:{ROOT}", "STALLS": str(self._folder)}

    def begin(self) -> None:
        for told in self._folder.iterdir():
            told.unlink()

    @property
    def longest(self) -> float:
        return self.longest_of(*(int(told.name) for told in self._folder.iterdir()))

    def longest_of(self, *pids: int) -> float:
        """That of some of them."""
        there = (told for pid in pids if (told := self._folder / str(pid)).exists())
        return max((float(told.read_text() or 0) for told in there), default=0.0)


def told(what: str, longest: float, bound: float) -> None:
    """*longest* is below *bound*, on a machine as fast as that of the bounds; printed for benchmarks/RESULTS.md."""
    print(f"{what}: {longest * 1000:.0f} ms")
    assert longest < bound * ALLOWANCE or longest < bound * ALLOWANCE * slowness(), f"{what}: {longest * 1000:.0f} ms"
