"""How fast this machine is: what is asked of a time is asked of the machine that the bounds were measured on."""

from __future__ import annotations

import json
import time

#: Seconds of CPU that :func:`_work` takes on the machine that the bounds are of. Others, and virtual ones from one
#: hour to the next, take up to twice as long for everything.
_USUAL = 0.0019
_TURNS = json.dumps([{"role": "user", "content": [{"text": "word " * 20, "numbers": [1, 2.5, None]}]}] * 1000)


def slowness() -> float:
    """Return how many times slower this machine is just now than the one that the bounds are of; 1 at the least."""
    return max(1.0, min(_work() for _ in range(9)) / _USUAL)


def _work() -> float:
    """Do a little of what a daemon does, and return the seconds of CPU that it took."""
    began = time.thread_time()
    for turn in json.loads(_TURNS):
        for block in turn["content"]:
            block["text"].split(" ")
    return time.thread_time() - began
