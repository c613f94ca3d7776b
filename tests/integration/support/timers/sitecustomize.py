"""A count of timers inside a daemon: this folder on its ``PYTHONPATH`` tells how many its reactor has.

Whoever removes the file that ``$TIMERS`` names finds the number in it a turn later.
"""

import os
from pathlib import Path

from twisted.internet.epollreactor import EPollReactor

_told = Path(os.environ["TIMERS"])
_poll = EPollReactor.doPoll


def _told_poll(self, timeout):
    if not _told.exists():
        unfinished = _told.with_suffix(".new")
        unfinished.write_text(str(len(self.getDelayedCalls())))
        unfinished.rename(_told)
    return _poll(self, timeout)


EPollReactor.doPoll = EPollReactor.doIteration = _told_poll
