"""A stall meter inside a daemon: this folder on its ``PYTHONPATH`` measures each turn of its reactor.

What is measured is the CPU that the reactor's own thread takes from one poll to the next: the same on a busy machine.
The longest turn, in seconds, stands in a file of each process, in the folder that ``$STALLS`` names; whoever removes it
begins anew. The first turn is the start of the process, when it serves nobody, and does not count.
"""

import os
import time
from pathlib import Path

from twisted.internet.epollreactor import EPollReactor

_told = Path(os.environ["STALLS"]) / str(os.getpid())
_make = EPollReactor.__init__


class _Poller:
    """An epoll object that looks at the time."""

    def __init__(self, poller):
        self._poller = poller
        self._since = float("inf")
        self._worst = 0.0

    def __getattr__(self, name):
        return getattr(self._poller, name)

    def poll(self, *args):
        turn = time.thread_time() - self._since
        if not _told.exists():
            self._worst = 0.0
        if turn > max(self._worst, 0.001):
            self._worst = turn
            _told.write_text(str(turn))
        try:
            return self._poller.poll(*args)
        finally:
            self._since = time.thread_time()


def _made(self, *args, **options):
    _make(self, *args, **options)
    self._poller = _Poller(self._poller)


EPollReactor.__init__ = _made
