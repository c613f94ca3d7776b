"""How many cores this process may use: those that it may run on, or fewer where its control group has a quota."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from math import ceil
from pathlib import Path

#: Workers that there may be: more would be a slip of the pen.
MAX_WORKERS = 256


@cache
def usable_cores() -> int:
    """Return what "auto" stands for, as it was when it was asked first: it is the same as long as the process lives."""
    return min(cores_within(len(os.sched_getaffinity(0)), Path("/")), MAX_WORKERS)


def cores_within(cores: int, root: Path) -> int:
    """Return *cores*, or what quotas leave of them, rounded up. *root* has ``proc`` and ``sys``.

    A container with half a core sees all of its machine's.
    """
    return min([cores, *(ceil(quota) for quota in _quotas(root))])


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas of this process's control groups and of all above them, in cores."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            # In a container the group may be the mount's root, and its path one of the machine's that is not there.
            top = root / "sys/fs/cgroup" / controllers
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                with suppress(OSError, ValueError, ZeroDivisionError):
                    quota = _quota(folder, of_first_version=bool(controllers))
                    if quota > 0:
                        yield quota
                if folder == top:
                    break


def _quota(folder: Path, *, of_first_version: bool) -> float:
    """Return the quota of one group in cores. Raises ValueError where it has none ("max"), or OSError."""
    if of_first_version:
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    else:
        quota, period = (folder / "cpu.max").read_text().split()
    return int(quota) / int(period)
