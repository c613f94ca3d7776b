"""File descriptors: for how many connections there are enough, and how a lack of them shows."""

from __future__ import annotations

import errno
import os
import resource

#: Descriptors that are for files, listeners, the state, and idle connections to upstreams.
RESERVED = 50
#: What a lack of ours is called; that of local ports is one, too.
_LACKS = frozenset((errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM))


def raise_limit() -> None:
    """Have as many as the hard limit allows: the soft one is often 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_allowed() -> int:
    """How many clients' connections there are enough for: each takes one, and one to an upstream."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return 1_000_000
    return max((hard - RESERVED) // 2, 1)


def is_lack(error: BaseException | None) -> bool:
    """Whether *error*, of a connection that was to be made, says that something was lacking here."""
    return (getattr(error, "osError", None) or getattr(error, "errno", None)) in _LACKS


def are_out() -> bool:
    """Whether there is none left now. Who looks up a name is told nothing of why it was not found."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return is_lack(error)
    return False
