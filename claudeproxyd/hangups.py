"""SIGHUP before the daemon listens for it: it waits, where it would end the process."""

from __future__ import annotations

import signal


def hold() -> None:
    """Have the kernel keep one from now on. Called as early as there is a line of ours that is run."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def let_come() -> None:
    """Have what was kept come now, to whoever listens for it: the daemon, or nobody, and the process ends."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
