"""The stall meter beside an attack: healthy requests, one every few milliseconds, and how long they took."""

from __future__ import annotations

import sys
import time
from http.client import HTTPConnection, HTTPException

EVERY = 0.005
"""Seconds between two requests."""


def main(host: str, port: int, seconds: float) -> None:
    """Print the count, the 99th percentile and the longest, in milliseconds, and how many were not answered."""
    took: list[float] = []
    failed = 0
    connection = HTTPConnection(host, port, timeout=10)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        except (OSError, HTTPException):
            failed += 1
            connection.close()
        took.append(time.perf_counter() - began)
        time.sleep(EVERY)
    took.sort()
    print(len(took), took[int(len(took) * 0.99)] * 1000, took[-1] * 1000, failed)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
