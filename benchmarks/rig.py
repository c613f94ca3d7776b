"""What the benchmarks share: the gateways, the scripted upstream, and what the kernel says of a process.

Linux alone (``/proc``, CPU affinity). Everything listens on loopback, lives in a temporary folder and is stopped by its
process id.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
TWISTD = Path(sys.executable).with_name("twistd")

UPSTREAM_PORT = 9100
KEYS = ("bench-client-1", "bench-client-2", "bench-client-3")
"""The clients of ``bench.toml``, which take turns."""
BODIES = ("small", "claude-code")
PORTS = {"nginx": 9402, "bare relay": 9403, "claudeproxyd": 9400, "to Gemini": 9404}
VARIANTS = 9410
"""The port of the first of several daemons that differ in their configuration; see :meth:`Rig.variants`."""
CONFIGURATIONS = {"claudeproxyd": "bench.toml", "to Gemini": "gemini.toml"}
"""The daemons: one passes what the upstream says, the other translates it."""


class BenchError(Exception):
    """The run cannot go on, or its figures would mean nothing."""


class Process:
    """A program that runs on some cores, until it is stopped."""

    def __init__(self, name: str, command: Sequence[str | Path], cores: set[int], folder: Path, port: int) -> None:
        """Its working directory is *folder*, and its output goes to a log there. *port*: that it listens on."""
        self.name = name
        self.port = port
        self.output = folder / f"{name.replace(' ', '-')}.out"
        with self.output.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(HERE.parent)},  # this tree's code, whatever is installed
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: os.sched_setaffinity(0, cores),
            )

    def wait(self) -> None:
        """Until it accepts connections; raises :class:`BenchError` after 60 s, or when it ends before."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._popen.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise BenchError(f"{self.name} does not listen on port {self.port}:\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its output."""
        return self.output.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """Ask it to stop; make it, if it has not after 15 s."""
        self._popen.terminate()
        try:
            self._popen.wait(15)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def cpu(self) -> float:
        """Seconds of CPU that it and its children have used so far, by the scheduler's clock: threads that ended are
        left out."""
        nanoseconds = 0
        for pid in self.tree():
            for task in Path(f"/proc/{pid}/task").iterdir():
                nanoseconds += int((task / "schedstat").read_text().split()[0])
        return nanoseconds / 1e9

    def rss(self) -> float:
        """MB of memory that it and its children hold."""
        kilobytes = 0
        for pid in self.tree():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    kilobytes += int(line.split()[1])
        return kilobytes / 1024

    def tree(self) -> list[int]:
        """The ids of its process and of all below it."""
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
                except (FileNotFoundError, ProcessLookupError):
                    continue
        found = [self._popen.pid]
        for pid in found:
            found += children.get(pid, [])
        return found


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the state on: what stands before may hold blanks."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Rig:
    """A temporary folder with the built programs in it, and the processes that run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        first, self.load_core = sorted(os.sched_getaffinity(0))[:2]
        self.gateway_cores = {first}
        self._running: list[Process] = []
        for program in ("upstream", "load"):
            source = HERE / f"{program}.c"
            subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", folder / program, source], check=True)

    def gateway(self, name: str, twistd_options: Sequence[str] = (), configuration: Path | None = None) -> Process:
        """Start one of :data:`PORTS`, on a core of its own. *configuration*: another than its usual one."""
        if name == "nginx":
            command: list[str | Path] = ["nginx", "-e", "stderr", "-p", self.folder, "-c", HERE / "nginx.conf"]
        elif name == "bare relay":
            command = [sys.executable, HERE / "bare_relay.py"]
        else:
            configuration = configuration or HERE / CONFIGURATIONS[name]
            command = [TWISTD, "-n", "--pidfile=", *twistd_options, "claudeproxyd", "--config", configuration]
        return self._start(name, command, self.gateway_cores, PORTS[name])

    def variants(self, texts: Mapping[str, str], twistd: Path = TWISTD) -> list[Process]:
        """Start a daemon for each variant of ``bench.toml``, by its name, with files and ports of its own.

        *twistd*: of the interpreter that runs it.
        """
        started = []
        for port, (name, text) in enumerate(texts.items(), VARIANTS):
            folder = self.folder / str(port)
            folder.mkdir()
            configuration = folder / "variant.toml"
            configuration.write_text(
                text.replace("tcp:9400:", f"tcp:{port}:").replace("tcp:9401:", f"tcp:{port + 10}:")
            )
            command = [twistd, "-n", "--pidfile=", "--rundir", folder, "claudeproxyd", "--config", configuration]
            started.append(self._start(name, command, self.gateway_cores, port))
        return started

    def upstream(self, events: int, gap_us: int, silent_after: int | None = None) -> Process:
        """Start the scripted upstream on the load's core; ``upstream.c`` has its arguments."""
        command: list[str | Path] = [self.folder / "upstream", str(UPSTREAM_PORT), str(events), str(gap_us)]
        if silent_after is not None:
            command.append(str(silent_after))
        return self._start("upstream", command, {self.load_core}, UPSTREAM_PORT)

    def _start(self, name: str, command: Sequence[str | Path], cores: set[int], port: int) -> Process:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as e:
                raise BenchError(f"port {port} of {name} is not free: {e}") from None
        process = Process(name, command, cores, self.folder, port)
        self._running.append(process)
        process.wait()
        return process

    def stop(self, *processes: Process) -> None:
        """Stop these, or all."""
        for process in processes or tuple(reversed(self._running)):
            self._running.remove(process)
            process.stop()


@contextmanager
def new_rig(*needs: str) -> Iterator[Rig]:
    """A :class:`Rig` whose processes and folder are gone afterwards. *needs* are programs, gcc aside.

    A :class:`BenchError`, here or inside, ends this program with its message.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("benchmark: stopped"))
    try:
        missing = [need for need in ("gcc", *needs) if shutil.which(need) is None]
        if missing:
            raise BenchError(f"please install {' and '.join(missing)}: the benchmarks need it")
        if len(os.sched_getaffinity(0)) < 2:
            raise BenchError("two cores are needed: one for the gateway, one for the load")
        with _alone(), tempfile.TemporaryDirectory(prefix="claudeproxyd-bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)  # nginx's worker is another user when all this is started by root
            made = Rig(folder)
            try:
                yield made
            finally:
                made.stop()
    except BenchError as e:
        sys.exit(f"benchmark: {e}")


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other benchmark of this user runs: the ports are the same, and the figures would be of both."""
    with open(os.path.join(tempfile.gettempdir(), f"claudeproxyd-bench-{os.getuid()}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def raise_file_limit(needed: int) -> None:
    """Let this process and what it starts open *needed* files; raises :class:`BenchError` where that is forbidden."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(f"{needed} open files are needed, the hard limit is {hard}: see ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else hard, hard))


def body_file(body: str, stream: bool) -> Path:
    """Where a request body of that size is kept."""
    return HERE / "bodies" / f"{body}{'-stream' if stream else ''}.json"


def machine() -> dict[str, str | int]:
    """What a reader has to know of the machine; not which one it is."""
    return {
        "date": date.today().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "python": f"{platform.python_implementation()} {platform.python_version()} ({_build()})",
        "twisted": version("twisted"),
        "httptools": version("httptools"),
    }


def _build() -> str:
    """How this interpreter was built: with profile-guided optimisation it is 10 to 20 % faster."""
    flags = str(sysconfig.get_config_var("CONFIG_ARGS"))
    return "with PGO" if "--enable-optimizations" in flags else "no PGO"


def said_of(where: dict[str, str | int]) -> str:
    """The machine in a line, for people."""
    return (
        f"{where['date']}, {where['cores']} cores, {where['python']}, Twisted {where['twisted']},"
        f" httptools {where['httptools']}"
    )


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with what all benchmarks take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--body", choices=BODIES, default="small", help="what the requests hold (default: small)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    return parser
