"""What a lease costs: python benchmarks/pool.py [--quick]

Each row is a pool in one condition; the columns are microseconds of one ``lease`` and its ``release`` together, with
affinity on and sessions of eight requests to each of 20 models, for one strategy. ``worst`` is the slowest single one,
with garbage collection off. Then come single operations, and memory.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tracemalloc
from pathlib import Path
from statistics import median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from twisted.internet.task import Clock

from claudeproxyd.config.schema import Pool as Settings
from claudeproxyd.leases import Credential, LeaseRequest, Route
from claudeproxyd.outcomes.types import OK, Kind, Outcome, Scope
from claudeproxyd.pool.lease import Lease
from claudeproxyd.pool.service import CredentialPool

MODELS = [f"model-{n}" for n in range(20)]
QUOTA = Outcome(Kind.QUOTA, Scope.MODEL, until_hint=3000.0, reason="quota")
AUTH = Outcome(Kind.AUTH, Scope.CREDENTIAL, base=1800.0, ceiling=1800.0, reason="bad key")


def pool_of(number: int, strategy: str, max_concurrency: int = 0) -> CredentialPool:
    """A pool of that many credentials of one provider."""
    credentials = [
        Credential("p", f"c{n}", None, weight=1 + n % 4, max_concurrency=max_concurrency)  # type: ignore[arg-type]  # no secret
        for n in range(number)
    ]
    return CredentialPool(Clock(), Settings(strategy=strategy, queue=20_000), credentials)


def taken(pool: CredentialPool, request: LeaseRequest) -> Lease:
    """A lease that is there at once."""
    return pool.lease(request).result  # type: ignore[return-value]  # it has fired


def condition(name: str, number: int, strategy: str) -> CredentialPool:
    """A pool with all but 10 of its credentials in that condition."""
    pool = pool_of(number, strategy, max_concurrency=1 if name == "busy" else 0)
    for _ in range(number - 10 if name != "ready" else 0):
        if name == "busy":
            taken(pool, LeaseRequest([Route("p", MODELS[0])]))
        elif name == "cooling":
            taken(pool, LeaseRequest([Route("p", MODELS[0])])).release(AUTH)
        else:
            for model in MODELS:
                taken(pool, LeaseRequest([Route("p", model)])).release(QUOTA)
    return pool


def measure(pool: CredentialPool, rounds: int) -> tuple[float, float, float]:
    """Median, 99th percentile and worst, in microseconds."""
    routes = [[Route("p", model)] for model in MODELS]
    wishes = [LeaseRequest(routes[n % 20], client="c", session=f"s{n // 160}") for n in range(rounds)]
    times = []
    gc.collect()
    gc.disable()
    try:
        for request in wishes:
            start = perf_counter()
            taken(pool, request).release(OK)
            times.append(perf_counter() - start)
    finally:
        gc.enable()
    times.sort()
    return median(times) * 1e6, times[len(times) * 99 // 100] * 1e6, times[-1] * 1e6


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rounds = 5_000 if quick else 50_000
    print(f"{'strategy':12} {'condition':15} {'credentials':>11} {'median':>8} {'p99':>8} {'worst':>8}")
    for strategy in ("round-robin", "weighted", "fill-first", "least-busy"):
        for name in ("ready", "cooling", "cooling models", "busy"):
            for number in (10, 1_000, 10_000):
                if name != "ready" and number == 10:
                    continue
                numbers = measure(condition(name, number, strategy), rounds)
                print(f"{strategy:12} {name:15} {number:11} {numbers[0]:8.2f} {numbers[1]:8.2f} {numbers[2]:8.0f}")

    pool = condition("cooling", 10_000, "round-robin")
    for wait in (False, True):
        if wait:
            for _ in range(10):
                taken(pool, LeaseRequest([Route("p", MODELS[0])])).release(AUTH)
        start = perf_counter()
        pool.lease(LeaseRequest([Route("p", MODELS[1])])).addErrback(lambda _: None)
        print(
            f"first lease of a model, 10,000 credentials, {'all' if wait else '9,990'} cooling: "
            f"{(perf_counter() - start) * 1e6:.0f} us"
        )
    start = perf_counter()
    snapshot = pool.snapshot()
    made = perf_counter()
    list(snapshot[:100])
    print(f"snapshot of 10,000: {(made - start) * 1e6:.0f} us, and {(perf_counter() - made) * 1e6:.0f} us a hundred")
    start = perf_counter()
    pool.gauges()
    print(f"gauges: {(perf_counter() - start) * 1e6:.0f} us")

    pool = pool_of(1, "round-robin", max_concurrency=1)
    lease = taken(pool, LeaseRequest([Route("p", "m")]))
    wishes = [LeaseRequest([Route("p", "m")], client=f"c{n % 50}") for n in range(10_000)]
    tracemalloc.start()
    for request in wishes:
        pool.lease(request).addErrback(lambda _: None)
    print(f"10,000 waiting: {tracemalloc.get_traced_memory()[0] / 1e6:.1f} MB")
    tracemalloc.stop()
    start = perf_counter()
    lease.release(OK)
    print(f"release with 10,000 waiting: {(perf_counter() - start) * 1e6:.0f} us")


if __name__ == "__main__":
    main()
