"""Python programs forked off a process that has their modules, where each would import them: that takes seconds of CPU.

What runs is the program itself, with the arguments, environment, folder and pipes that it is given. What is to see an
environment at its very start, such as modules of the test's, is executed.
"""

from __future__ import annotations

import ctypes
import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.process import Process
from twisted.internet.protocol import ProcessProtocol

from tests.integration.support.process import clean_environment

PROGRAM = Path(__file__).parents[1] / "programs/forkserver.py"
PR_SET_CHILD_SUBREAPER = 36
"""Of ``prctl(2)``: a child whose parent is gone becomes ours."""


class ForkServer:
    """The process that is forked, and how to talk to it."""

    def __init__(self, python: str | Path, *modules: str, path: str = "") -> None:
        """*path*: where modules are beside the interpreter's own."""
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = clean_environment({"PYTHONPATH": path})
        command = [python, "-P", PROGRAM, *modules]
        with theirs:
            subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, env=environment, cwd="/")
        # What it starts are this process's children in the end, so that it hears how they end.
        assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

    def fork(self, program: Sequence[str], environment: Mapping[str, str], folder: str, pipes: Sequence[int]) -> int:
        """Run *program*, a file and its arguments, with these pipes; its process id. Blocks until there is one."""
        what = {"program": program, "environment": environment, "folder": folder}
        socket.send_fds(self._orders, [json.dumps(what).encode()], pipes)
        told = self._orders.recv(20)
        assert told, "the fork server has ended; its last words are on this process's standard error"
        return int(told)

    def spawn(
        self,
        protocol: ProcessProtocol,
        program: str,
        args: Sequence[str],
        env: Mapping[str, str],
        path: str,
        childFDs: Mapping[int, int | str],
    ) -> Process:
        """Start a program in the place of ``reactor.spawnProcess``; its first argument is its file."""
        return _Forked(self, reactor, program, args, env, path, protocol, childFDs=childFDs)


#: The server of an interpreter and modules.
fork_server = cache(ForkServer)


class _Forked(Process):
    """A process of Twisted's, but for how it comes about."""

    def __init__(self, server: ForkServer, *args: Any, **named: Any) -> None:
        self._server = server
        super().__init__(*args, **named)

    def _fork(self, path: str, uid: None, gid: None, executable: str, args: Any, environment: Any, fdmap: Any) -> None:
        self.pid = self._server.fork(args, environment, path, [fdmap[number] for number in sorted(fdmap)])
