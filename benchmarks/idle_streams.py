"""Memory of many open streams that are silent: each has begun its message, had one delta, and waits.

python benchmarks/idle_streams.py [--streams 5000] [--hold 15] [--body small|claude-code]

Measures the daemon and, as a yardstick, the bare relay. Ends with an error when a stream fails or ends early.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from rig import KEYS, PORTS, BenchError, Process, body_file, machine, new_parser, new_rig, raise_file_limit, said_of

OPENING = 100
"""Streams that are being opened at once."""
MOST_MB = 250
"""What the whole daemon may hold with 5,000 streams open."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def open_stream(port: int, key: str, body: bytes, turn: asyncio.Semaphore) -> Stream:
    """A stream whose first delta has come."""
    async with turn:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"x-api-key: {key}\r\nanthropic-version: 2023-06-01\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        try:
            begun = await asyncio.wait_for(reader.readuntil(b"text_delta"), 60)
        except (TimeoutError, asyncio.IncompleteReadError) as e:
            raise BenchError(f"a stream did not begin: {e!r}") from e
        if not begun.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"a stream was refused: {begun[:500]!r}")
        return reader, writer


async def hold_streams(gateway: Process, number: int, seconds: float, body: bytes) -> dict[str, Any]:
    """Open them all, wait, and see what that costs the gateway."""
    before = gateway.rss()
    turn = asyncio.Semaphore(OPENING)
    port = PORTS[gateway.name]
    streams = await asyncio.gather(*(open_stream(port, KEYS[index % len(KEYS)], body, turn) for index in range(number)))
    opened = gateway.rss()
    await asyncio.sleep(seconds)
    after = gateway.rss()
    lost = sum(reader.at_eof() for reader, _ in streams)
    for _, writer in streams:
        writer.transport.abort()
    if lost:
        raise BenchError(f"{gateway.name} lost {lost} of {number} streams:\n{gateway.last_words()}")
    await asyncio.sleep(0.1)  # for the connections to close
    most = max(opened, after)
    return {
        "gateway": gateway.name,
        "before_mb": before,
        "opened_mb": opened,
        "held_mb": after,
        "kb_a_stream": (most - before) * 1024 / number,
    }


def main() -> None:
    """Read the command line, measure, print a Markdown table."""
    parser = new_parser(__doc__)
    parser.add_argument("--streams", type=int, default=5000, help="how many (default: 5000)")
    parser.add_argument("--hold", type=float, default=15, help="seconds of silence; pings come after 10 (default: 15)")
    options = parser.parse_args()
    body = body_file(options.body, stream=True).read_bytes()
    rows = []
    with new_rig() as rig:
        raise_file_limit(2 * options.streams + 100)
        rig.upstream(events=2, gap_us=20_000, silent_after=1)
        for name in ("bare relay", "claudeproxyd"):
            print(f"{name}: opening {options.streams} streams", file=sys.stderr, flush=True)
            gateway = rig.gateway(name)
            rows.append(asyncio.run(hold_streams(gateway, options.streams, options.hold, body)))
            rig.stop(gateway)
    where = machine()
    print(f"{said_of(where)}; `{options.body}` body, {options.streams} streams silent for {options.hold:g} s.\n")
    print("| gateway | MB before | MB with all open | MB in the end | KB a stream |\n|---|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['gateway']} | {row['before_mb']:.1f} | {row['opened_mb']:.1f} | {row['held_mb']:.1f}"
            f" | {row['kb_a_stream']:.1f} |"
        )
    print(f"\nTarget: 5,000 streams in less than {MOST_MB} MB, the whole daemon.")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        found = {"machine": where, "body": options.body, "streams": options.streams, "gateways": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
