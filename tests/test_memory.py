"""What becomes of memory that is free."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import claudeproxyd
from claudeproxyd import memory

_FAULTS = """
import resource, sys
from claudeproxyd import memory
if sys.argv[1] == "keep":
    memory.keep_pages()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def bodies(times):
    for _ in range(times):
        [b"x" * 200_000 for _ in range(4)]
bodies(20)
before = faults()
bodies(100)
print(faults() - before)
memory.give_back()
before = faults()
bodies(1)
print(faults() - before)
"""


def faults(what: str) -> list[int]:
    """How often a process has a page faulted in, with bodies that come and go, and once more after all was given back.

    In a process of its own: an allocator's settings are for its lifetime, and what it does hangs on what it did.
    """
    here = {**os.environ, "PYTHONPATH": str(Path(claudeproxyd.__file__).parents[1])}
    command = [sys.executable, "-c", _FAULTS, what]
    said = subprocess.run(command, capture_output=True, check=True, text=True, env=here).stdout
    return [int(line) for line in said.split()]


class MemoryTests(SynchronousTestCase):
    """Of glibc."""

    def test_kept(self) -> None:
        """Pages that requests leave free are there for the next; and the kernel has them once they are given back."""
        usual, _ = faults("")
        kept, after = faults("keep")
        self.assertGreater(usual, 1000)
        self.assertLess(kept, usual / 20)
        self.assertGreater(after, 100)


class OldGarbageTests(SynchronousTestCase):
    """How seldom all is looked at."""

    def setUp(self) -> None:
        self.collected: list[None] = []
        self.patch(gc, "collect", lambda: self.collected.append(None))
        self.old = memory.OldGarbage()

    def test_few(self) -> None:
        """With few objects it takes no time worth naming."""
        self.patch(memory, "FEW_OBJECTS", len(gc.get_objects()) + 1_000_000)
        self.old.look()
        self.old.look()
        self.assertEqual(len(self.collected), 2)

    def test_many(self) -> None:
        """With many it is put off for an hour, but not for good."""
        self.patch(memory, "FEW_OBJECTS", 0)
        self.patch(gc, "get_objects", lambda generation: [None] * (generation == 2))
        for _ in range(2 * (memory.MOST_PUT_OFF + 1) - 1):
            self.old.look()
        self.assertEqual(len(self.collected), 1)
        self.old.look()
        self.assertEqual(len(self.collected), 2)
