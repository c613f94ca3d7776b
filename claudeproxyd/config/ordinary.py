"""Reading a file that an operator named: an ordinary one, and not for ever."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

LARGEST_SECRET = 1_048_576
"""Of a secret, and of certificates."""
LARGEST_CONFIGURATION = 4_194_304
"""Of one file of a configuration: room for some 20,000 clients."""


class NotOrdinary(ValueError):
    """There is something of that name, and reading it might never end: a pipe, a device, or far too much."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds."""

    data: bytes
    seen_by_all: bool
    """Everyone on this machine may read it."""


def read_ordinary(path: str, largest: int) -> Contents:
    """All of an ordinary file of at most *largest* bytes.

    Raises OSError as ``open`` does, :class:`NotOrdinary`, and ValueError where *path* can be no name.
    """
    # Not blocking, so that a pipe is seen for what it is.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
        status = os.fstat(file.fileno())
        data = file.read(largest + 1) if stat.S_ISREG(status.st_mode) else None
    if data is None or len(data) > largest:
        size = f"{largest // 1_048_576} MiB"
        raise NotOrdinary(f"is no ordinary file of at most {size}")
    return Contents(data, bool(status.st_mode & stat.S_IROTH))
