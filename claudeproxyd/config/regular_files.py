"""Reads a file that an operator named: only a regular one, and within a limit."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

#: Bytes of a secret, and of certificates.
LARGEST_SECRET = 1_048_576
#: Bytes of one file of a configuration: room for some 20,000 clients.
LARGEST_CONFIGURATION = 4_194_304


def identity_of(path: str) -> tuple[int, int] | None:
    """Return what tells the file at *path* from all others, None if there is none: it may be replaced while in use."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class NotRegular(ValueError):
    """It is no regular file, or too large: reading a pipe or a device might never end."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a file."""

    data: bytes
    seen_by_all: bool
    """Everyone on this machine may read it."""


def read_regular(path: str, largest: int) -> Contents:
    """Return the contents of a regular file of at most *largest* bytes.

    Raises OSError as ``open`` does, :class:`NotRegular`, and ValueError where *path* can be no name.
    """
    # Not blocking, so that a pipe is seen for what it is.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
        status = os.fstat(file.fileno())
        data = file.read(largest + 1) if stat.S_ISREG(status.st_mode) else None
    if data is None or len(data) > largest:
        size = f"{largest // 1_048_576} MiB"
        raise NotRegular(f"is no ordinary file of at most {size}")
    return Contents(data, bool(status.st_mode & stat.S_IROTH))
