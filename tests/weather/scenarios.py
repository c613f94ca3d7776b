"""The weathers that the pool is held to."""

from __future__ import annotations

from random import Random

from tests.weather.simulation import Scenario
from tests.weather.upstream import (
    Ask,
    Buckets,
    Caps,
    Hanging,
    Latency,
    Metastable,
    Mishaps,
    Outages,
    Weather,
    Windows,
    at_random,
    every,
    once,
)

#: Seconds of answers, where slow and fast ones are mixed.
MIXED = (0.3, 1.0, 3.0, 10.0, 25.0)


class Brownout(Mishaps):
    """More and more fails, and then less again."""

    def __init__(self, random: Random, latency: Latency) -> None:
        super().__init__(random, latency, 0.0, 503)

    def share(self, key: int, now: float) -> float:
        return 0.6 * (1 - abs(now - 15.0) / 15.0) if now < 30 else 0.0


class SlowStart(Caps):
    """An upstream that comes back from an outage carries little at first."""

    def __init__(self, random: Random, latency: Latency) -> None:
        super().__init__(random, latency, self.carried, 503)

    def refuses(self, ask: Ask, now: float) -> float:
        return 0.05 if super().refuses(ask, now) else 0.0

    @staticmethod
    def carried(now: float) -> int:
        """At once."""
        return 1000 if now < 8 else 0 if now < 13 else int(4 + (now - 13) * 8)


def uneven(random: Random) -> int:
    """Input tokens: mostly small requests, some a hundred times as large."""
    return 20_000 if random.random() < 0.1 else 200


def mishaps(share: float, status: int, **more: object) -> object:
    return lambda random, latency: Mishaps(random, latency, share, status, **more)  # type: ignore[arg-type]


def outage(spans: object, status: int = 529, **more: object) -> object:
    return lambda random, latency: Outages(random, latency, spans, status, **more)  # type: ignore[arg-type]


def cap(number: int, status: int = 429, **more: object) -> object:
    return lambda random, latency: Caps(random, latency, lambda now: number, status, **more)  # type: ignore[arg-type]


def bucket(rate: float, depth: float, **more: object) -> object:
    return lambda random, latency: Buckets(random, latency, rate, depth, **more)  # type: ignore[arg-type]


def bursts(status: int, share: float = 0.95) -> object:
    def weather(random: Random, latency: Latency) -> Weather:
        return Outages(random, latency, at_random(random, 4.0, 1.0, 400.0), status, share=share)

    return weather


def scenario(name: str, weather: object, **more: object) -> Scenario:
    return Scenario(name=name, weather=weather, **more)  # type: ignore[arg-type]


GB = every(6.0, 1.5)
OUTAGE = once(5.0, 25.0)
TWO = ("preferred", "other")
#: Seconds that a prompt takes which is not cached.
COLD = 1.0

ALL = [
    scenario("529-2x1", mishaps(0.02, 529)),
    scenario("529-20x1", mishaps(0.2, 529)),
    scenario("529-20x3", mishaps(0.2, 529), keys=3),
    scenario("500-5x1", mishaps(0.05, 500)),
    scenario("500-10x1", mishaps(0.1, 500)),
    scenario("500-10x3", mishaps(0.1, 500), keys=3),
    scenario("500-50x1", mishaps(0.5, 500)),
    scenario("500-50x3", mishaps(0.5, 500), keys=3),
    scenario("429-20x1 by chance", mishaps(0.2, 429)),
    scenario("cut-5x1", mishaps(0.05, 0)),
    scenario("connect-5x3", mishaps(0.05, -1), keys=3),
    scenario("bursts-529x1", bursts(529), seconds=60.0),
    scenario("bursts-500x3", bursts(500), keys=3, seconds=60.0),
    scenario("gb-25x1", outage(GB), seconds=60.0),
    scenario("gb-25x3", outage(GB, 500), keys=3, seconds=60.0),
    scenario("gb-25x1, failures of 1 s", outage(GB, 502, after=1.0), seconds=60.0),
    scenario("gb-25x1, failures of 3 s", outage(GB, 502, after=3.0), seconds=60.0),
    scenario("outages of 5 s, failures of 2 s", outage(every(16.0, 5.0), 502, after=2.0), keys=3, seconds=100.0),
    scenario("connect-gb", outage(GB, -1), seconds=60.0),
    scenario("outage-20s", outage(OUTAGE), seconds=60.0, bad=(5.0, 25.0)),
    scenario("outage-20s, long answers", outage(OUTAGE), latency=MIXED, seconds=200.0, bad=(5.0, 25.0)),
    scenario("outage-20s x50", outage(OUTAGE, 500), keys=50, seconds=60.0, bad=(5.0, 25.0)),
    scenario("outage-20s, slow failures", outage(OUTAGE, 502, after=5.0), seconds=60.0, bad=(5.0, 25.0)),
    scenario(
        "outage-20s, retry-after 10",
        outage(OUTAGE, 529, headers=((b"retry-after", b"10"),)),
        seconds=60.0,
        settings={"max_wait": 40.0},
    ),
    scenario("bad1-80x3", mishaps(0.8, 500, keys=(0,)), keys=3),
    scenario("bad1-100x3", mishaps(1.0, 500, keys=(0,)), keys=3),
    scenario("bad9of10", mishaps(1.0, 500, keys=tuple(range(9))), keys=10),
    scenario("bad1-30x3", mishaps(0.3, 500, keys=(0,)), keys=3),
    scenario("one ill model of two", mishaps(0.5, 500, models=("ill",)), models=("m", "ill"), keys=2),
    scenario("one poisonous client", mishaps(1.0, 500, clients=(0,)), keys=3),
    scenario("hang1x2", lambda random, latency: Hanging(random, latency, (0,)), keys=2, first_byte=5.0, seconds=60.0),
    scenario("hang1x5", lambda random, latency: Hanging(random, latency, (0,)), keys=5, first_byte=5.0, seconds=60.0),
    scenario("rl-60x1", bucket(60, 60, hint=b"1")),
    scenario("rl-30x3", bucket(30, 30, hint=b"1"), keys=3),
    scenario("rl-60x1, no hint", bucket(60, 60, hint=b"-")),
    scenario("rl-60x1, shallow", bucket(60, 5, hint=b"1")),
    scenario("rl-60x1, told", bucket(60, 60, told=True)),
    scenario("rl-20x1, true hints", bucket(20, 120)),
    scenario("rl-20x1, hint 6", bucket(20, 120, hint=b"6"), seconds=240.0),
    scenario("rl-300 of 15 s", lambda random, latency: Windows(random, latency, 300, 15.0), seconds=60.0),
    scenario("tokens-60x1", bucket(130_000, 130_000, tokens=True, hint=b"1"), tokens=uneven),
    scenario("tokens-60x1, told", bucket(130_000, 130_000, tokens=True, told=True), tokens=uneven),
    scenario("cc-10x1", cap(10)),
    scenario("cc-5x3", cap(5), keys=3),
    scenario("cc-2x5", cap(2), keys=5),
    scenario("cc-10x1, hint 1", cap(10, hint=b"1")),
    scenario("cc-1x1", cap(1), settings={"max_wait": 40.0}),
    scenario(
        "cc 10<->25",
        lambda random, latency: Caps(random, latency, lambda now: 10 if now % 20 < 10 else 25),
        seconds=60.0,
    ),
    scenario("cc-10x1, 529", cap(10, 529)),
    scenario("brown-out", Brownout),
    scenario("slow start", SlowStart, seconds=60.0, bad=(8.0, 13.0)),
    scenario("metastable", lambda random, latency: Metastable(random, latency, 150.0, once(5.0, 8.0)), seconds=60.0),
    scenario("mix 500-20", mishaps(0.2, 500), latency=MIXED, seconds=200.0),
    scenario("mix cc-10", cap(10), latency=MIXED, seconds=200.0, settings={"max_wait": 300.0}),
    scenario("mix gb-25", outage(GB), latency=MIXED, seconds=200.0),
    scenario("open-30 500-10", mishaps(0.1, 500), rate=30.0),
    scenario("open-30 gb-25", outage(GB), rate=30.0, seconds=60.0),
    scenario("open-30 cc-12", cap(12), rate=30.0),
    scenario("5 clients, 529-20", mishaps(0.2, 529), clients=5),
    scenario("5 clients, gb-25", outage(GB), clients=5, seconds=60.0),
    scenario("1 client, 500-20", mishaps(0.2, 500), clients=1, seconds=120.0),
    scenario("1 client, gb-25", outage(GB), clients=1, seconds=120.0),
    scenario("1000 clients, cc-50", cap(50), clients=1000, seconds=15.0, settings={"queue": 2000, "max_wait": 60.0}),
    scenario("1000 clients, 529-20x10", mishaps(0.2, 529), clients=1000, keys=10, seconds=3.0),
    scenario("400 clients, cc-2x100", cap(2), clients=400, keys=100, seconds=6.0),
    scenario("two routes, outage", outage(OUTAGE, 500, keys=(0,)), providers=TWO, seconds=60.0, bad=(5.0, 25.0)),
    scenario("two routes, 529-20", mishaps(0.2, 529, keys=(0,)), providers=TWO),
    scenario("two routes, cc-10", cap(10, keys=(0,)), providers=TWO),
    scenario("caches, 500-10x3", mishaps(0.1, 500), cache=COLD, keys=3),
    scenario("caches, one ill key", mishaps(0.6, 500, keys=(0,)), cache=COLD, keys=3),
    scenario("caches, one capped key", cap(8, keys=(0,)), cache=COLD, keys=3),
    scenario("caches, outage of one key", outage(OUTAGE, 500, keys=(0,)), cache=COLD, keys=3, seconds=60.0),
    scenario("caches, outage of all", outage(OUTAGE, 500), cache=COLD, keys=3, seconds=60.0, bad=(5.0, 25.0)),
    scenario("two daemons, cc-10", cap(10), daemons=2, stagger=5.0),
    scenario("two daemons, rl-60", bucket(60, 60, hint=b"1"), daemons=2, stagger=5.0),
    scenario("two daemons, 529-20", mishaps(0.2, 529), daemons=2, stagger=5.0),
    scenario("500 clients, outage", outage(once(3.0, 8.0)), clients=500, seconds=15.0, bad=(3.0, 8.0)),
]
BY_NAME = {each.name: each for each in ALL}
