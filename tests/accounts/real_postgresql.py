"""A real PostgreSQL on a socket of its own, for the tests of one process: started when it is first needed."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.servers import wait_until_it_says

_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
BIN = _FOUND[-1] if _FOUND else None
MISSING = "" if BIN is not None or os.environ.get("CI_REQUIRE_CLIENTS") == "1" else "PostgreSQL is not installed"
"""Why tests are skipped."""


class RealPostgres:
    """The server. It may be killed, and started again with what it has."""

    def __init__(self) -> None:
        """Make its files, and start it."""
        assert BIN is not None, "PostgreSQL is not installed"
        self._bin = BIN
        self.folder = tempfile.mkdtemp(prefix="postgresql")
        self._user = _user()
        if self._user is not None:
            os.chown(self.folder, self._user, -1)
        self._data = os.path.join(self.folder, "data")
        subprocess.run(
            [BIN / "initdb", "-D", self._data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"],
            user=self._user,
            stdout=subprocess.DEVNULL,
            check=True,
            cwd=self.folder,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """For ``accounts.database``."""
        return f"postgresql://tests@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [
            "-k",
            self.folder,
            "-h",
            "",
            "-c",
            "fsync=off",
            "-c",
            "shared_buffers=16MB",
            "-c",
            "logging_collector=off",
        ]
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._data, *options],
            user=self._user,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            start_new_session=True,
        )
        wait_until_it_says(self._process, b"ready to accept connections")

    def kill(self) -> None:
        """As a crash would: all of its processes at once. Those that serve connections have groups of their own."""
        if self._process is not None:
            server = self._process.pid
            os.kill(server, signal.SIGSTOP)  # it makes no more of them
            for each in [*Path(f"/proc/{server}/task/{server}/children").read_text().split(), server]:
                with suppress(ProcessLookupError):
                    os.kill(int(each), signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Leave nothing."""
        self.kill()
        shutil.rmtree(self.folder)


def _user() -> int | None:
    """Return as whom it runs: it refuses to be root."""
    if os.getuid():
        return None
    names = {each.pw_name: each.pw_uid for each in pwd.getpwall()}
    return names.get("postgres", names["nobody"])


_server: RealPostgres | None = None


def server() -> RealPostgres:
    """Return the one that runs for this process's tests."""
    global _server
    if _server is None:
        _server = RealPostgres()
        atexit.register(_server.stop)  # a process of trial's tells the reactor of its end after each test
    return _server
