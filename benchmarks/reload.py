"""How long a running stream waits while the daemon reloads: the longest gap between two of its events.

python benchmarks/reload.py [--clients 2000] [--reloads 10]

Each reload changes a provider and a label of every client. The upstream sends an event every 2 ms.
"""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

from rig import HERE, KEYS, PORTS, BenchError, body_file, machine, new_parser, new_rig, said_of

EVERY_MS = 2
MOST_MS = 20
"""What a reload may hold up a stream."""
ADMIN_PORT = 9401


class Stream:
    """A stream that is read as it comes, in a thread of its own."""

    def __init__(self, port: int, body: bytes) -> None:
        self._seen: list[float] = []
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        head = (
            f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"x-api-key: {KEYS[0]}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while self._socket.recv(65_536):
            self._seen.append(time.perf_counter())

    def longest(self, begin: float, end: float) -> float:
        """The longest gap between two reads of that time, in ms."""
        seen = [moment for moment in self._seen if begin <= moment <= end]
        if len(seen) < 2:
            return 1000 * (end - begin)
        return 1000 * max(later - earlier for earlier, later in pairwise(seen))


def write(path: Path, clients: int, version: int) -> None:
    """The benchmarks' configuration with so many more clients."""
    text = (HERE / "bench.toml").read_text()
    text = text.replace('kind = "anthropic"', f'kind = "anthropic"\nmax_connections = {100_000 + version}', 1)
    more = "".join(
        f'[[clients]]\nname = "user-{number}"\nkey = "a-key-of-user-{number}"\nlabels = {{ v = "{version}" }}\n'
        for number in range(clients)
    )
    path.write_text(text + more)
    path.chmod(0o600)


def reload() -> None:
    """Have the daemon reload, and wait for it."""
    connection = http.client.HTTPConnection("127.0.0.1", ADMIN_PORT, timeout=120)
    connection.request("POST", "/admin/v1/reload", b"", {"content-type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status != 200:
        raise BenchError(f"the reload was refused: {said!r}")


def main() -> None:
    """Read the command line, measure, print a line for RESULTS.md."""
    parser = new_parser(__doc__)
    parser.add_argument("--clients", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--reloads", type=int, default=10, help="how many (default: 10)")
    options = parser.parse_args()
    with new_rig() as rig:
        configuration = rig.folder / "reload.toml"
        write(configuration, options.clients, 0)
        rig.upstream(events=10_000_000, gap_us=1000 * EVERY_MS)
        rig.gateway("claudeproxyd", configuration=configuration)
        stream = Stream(PORTS["claudeproxyd"], body_file(options.body, stream=True).read_bytes())
        time.sleep(1)
        begin = time.perf_counter()
        time.sleep(5)
        quiet = stream.longest(begin, time.perf_counter())
        gaps, took = [], []
        for version in range(1, options.reloads + 1):
            write(configuration, options.clients, version)
            begin = time.perf_counter()
            reload()
            end = time.perf_counter()
            took.append(1000 * (end - begin))
            time.sleep(0.3)
            gaps.append(stream.longest(begin, end + 0.1))
            print(f"reload {version}: {took[-1]:.0f} ms, longest gap {gaps[-1]:.1f} ms", file=sys.stderr, flush=True)
    where = machine()
    found = {"quiet": quiet, "reload": statistics.median(took), "median": statistics.median(gaps), "most": max(gaps)}
    print(f"{said_of(where)}; {options.clients} clients, {options.reloads} reloads, an event every {EVERY_MS} ms.\n")
    print("| a reload takes | longest gap, quiet | longest gap of a reload, median | of all |\n|---:|---:|---:|---:|")
    print(f"| {found['reload']:.0f} ms | {quiet:.1f} ms | {found['median']:.1f} ms | {found['most']:.1f} ms |")
    print(f"\nTarget: no gap above {MOST_MS} ms.")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": where, **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
