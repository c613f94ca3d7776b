"""Daemons forked off a process that has their modules, where each would import them: that takes a second of CPU.

What runs is twistd's own main function, with the arguments, environment, folder and pipes that it is given. What is
to see an environment at its very start, such as modules of the test's, is executed: see :meth:`Daemon.start`.
"""

from __future__ import annotations

import ctypes
import json
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.process import Process
from twisted.internet.protocol import ProcessProtocol

from tests.integration.support.process import clean_environment

PROGRAM = Path(__file__).parents[1] / "programs/forkserver.py"
ROOT = Path(__file__).parents[3]
PR_SET_CHILD_SUBREAPER = 36
"""Of ``prctl(2)``: a child whose parent is gone becomes ours."""


class ForkServer:
    """The process that is forked, and how to talk to it."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = clean_environment({"PYTHONPATH": str(ROOT)})
        with theirs:
            command = [sys.executable, "-P", PROGRAM]
            subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, env=environment, cwd="/")
        # The daemons are this process's children in the end, so that it hears how they end.
        assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], folder: str, pipes: Sequence[int]) -> int:
        """Start a daemon with these pipes as its first descriptors, and return its process id. Blocks for that."""
        what = {"arguments": arguments, "environment": environment, "folder": folder}
        socket.send_fds(self._orders, [json.dumps(what).encode()], pipes)
        return int(self._orders.recv(20))


_server = cache(ForkServer)


class _Forked(Process):
    """A process of Twisted's, but for how it comes about."""

    def _fork(self, path: str, uid: None, gid: None, executable: str, args: Any, environment: Any, fdmap: Any) -> None:
        self.pid = _server().fork(args, environment, path, [fdmap[number] for number in sorted(fdmap)])


def spawn(
    protocol: ProcessProtocol,
    executable: str,
    args: Sequence[str],
    env: Mapping[str, str],
    path: str,
    childFDs: Mapping[int, int | str],
) -> Process:
    """Start ``twistd`` in the place of ``reactor.spawnProcess``."""
    return _Forked(reactor, executable, args, env, path, protocol, childFDs=childFDs)
