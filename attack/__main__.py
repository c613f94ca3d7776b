"""Runs the attacks and says what came of each; ends with 1 where one harmed somebody."""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from attack.inputs import Attack, attacks

MOST_REQUESTS = 1000
"""Of one attack."""


class Target:
    """The daemon."""

    def __init__(self, url: str, pid: int) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.pid = parts.hostname or "127.0.0.1", parts.port or 80, pid
        if not ip_address(socket.gethostbyname(self.host)).is_loopback:
            raise SystemExit("attack: loopback alone")

    @property
    def memory(self) -> float:
        """Resident, in MB; 0 where its process is not known."""
        if not self.pid:
            return 0.0
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0


class Run:
    """One attack under way."""

    def __init__(self, target: Target, attack: Attack, seconds: float) -> None:
        self._target = target
        self._attack = attack
        self._end = time.monotonic() + seconds
        self._requests = _bounded(attack)
        self._lock = threading.Lock()
        self.answers: Counter[int] = Counter()
        """By status; 0: closed without one, -1: no Claude error, -2: nothing in time."""

    def go(self) -> None:
        """Attack, to the end."""
        threads = [threading.Thread(target=self._connect) for _ in range(self._attack.at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _connect(self) -> None:
        while time.monotonic() < self._end:
            with self._lock:
                request = next(self._requests, None)
            if request is None:
                return
            status = self._one(request)
            with self._lock:
                self.answers[status] += 1

    def _one(self, request: bytes) -> int:
        attack = self._attack
        data = b""
        try:
            with socket.create_connection((self._target.host, self._target.port), timeout=5) as client:
                try:
                    client.sendall(request)
                    while attack.drips and time.monotonic() < self._end:
                        client.sendall(attack.drips)
                        time.sleep(0.5)
                    if attack.slow_reader:
                        time.sleep(max(0.0, self._end - time.monotonic()))
                    if not attack.drips:
                        client.settimeout(15)
                except OSError:
                    pass  # it has answered already
                while not _whole(data) and (more := client.recv(65_536)):
                    data += more
        except TimeoutError:
            return 0 if attack.drips else -2
        except OSError:
            pass
        return _status(data)


def _bounded(attack: Attack) -> Iterator[bytes]:
    for number, request in enumerate(attack.requests):
        if number >= MOST_REQUESTS:
            return
        yield request


def _whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end and length and len(body) >= int(length[1]))


def _status(data: bytes) -> int:
    if not data:
        return 0
    status = int(data[9:12])
    if status >= 400:
        try:
            told = json.loads(data.partition(b"\r\n\r\n")[2])
            if told["type"] != "error":
                return -1
        except (ValueError, KeyError):
            return -1
    return status


def main() -> int:
    """See the package."""
    parser = argparse.ArgumentParser(prog="attack", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--key", default="", help="a client's")
    parser.add_argument("--model", default="claude-opus-5-5", help="one that is served")
    parser.add_argument("--pid", type=int, default=0, help="the daemon's process, for its memory")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each attack")
    parser.add_argument("--quick", action="store_true", help="without those that take much memory")
    parser.add_argument("--p99", type=float, default=100.0, help="milliseconds that healthy requests may take")
    parser.add_argument("--growth", type=float, default=150.0, help="MB that memory may grow by, all in all")
    options = parser.parse_args()
    target = Target(options.url, options.pid)
    began = target.memory
    harmed = []
    for attack in attacks(options.key, options.model):
        if options.quick and not attack.quick:
            continue
        before = target.memory
        command = [sys.executable, "-m", "attack.meter", target.host, str(target.port), str(options.seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as meter:  # noqa: S603  # it is ours
            run = Run(target, attack, options.seconds)
            run.go()
            count, p99, longest, failed = map(float, meter.communicate()[0].split())
        answers = " ".join(f"{status}:{times}" for status, times in sorted(run.answers.items()))
        print(
            f"{attack.name:26} healthy p99 {p99:6.1f} ms, longest {longest:6.1f} of {count:.0f};"
            f" memory {before:.0f} to {target.memory:.0f} MB; {answers}",
            flush=True,
        )
        odd = {status for status in run.answers if status and status not in attack.statuses}
        if failed or odd or p99 > options.p99:
            harmed.append(
                f"{attack.name}: p99 {p99:.0f} ms, {failed:.0f} healthy requests failed, answers {odd or 'fine'}"
            )
    if target.memory - began > options.growth:
        harmed.append(f"memory grew from {began:.0f} to {target.memory:.0f} MB")
    print("\n".join(harmed) or "nobody was harmed")
    return 1 if harmed else 0


if __name__ == "__main__":
    sys.exit(main())
