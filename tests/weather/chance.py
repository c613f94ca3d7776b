"""Weathers whose parameters nobody chose: kind, strength, clients, keys and times are the same for each number."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log
from random import Random

from tests.weather.scenarios import bucket, cap, mishaps, outage, scenario, uneven
from tests.weather.simulation import Scenario
from tests.weather.upstream import REFUSAL, Outages, Spans, Weather, at_random, every

Made = tuple[str, object]
"""What it is called, and the weather."""

STATUSES = (429, 500, 503, 529)


def between(dice: Random, least: float, most: float) -> float:
    """A number, each order of magnitude as likely as the next; of two digits."""
    return float(f"{exp(dice.uniform(log(least), log(most))):.2g}")


def chance(dice: Random) -> Made:
    """A share fails, soon or late."""
    share, status, after = round(dice.uniform(0.02, 0.6), 2), dice.choice(STATUSES), between(dice, REFUSAL, 2.0)
    return f"{status} {share:.0%} after {after:g} s", mishaps(share, status, after=after)


def outages(dice: Random, after: float = REFUSAL) -> Made:
    """Everything fails from time to time."""
    period, status = between(dice, 4.0, 30.0), dice.choice((0, 500, 503, 529))
    bad = float(f"{period * dice.uniform(0.1, 0.5):.2g}")
    return f"{status} for {bad:g} of {period:g} s, after {after:g} s", outage(every(period, bad), status, after=after)


def slow_outages(dice: Random) -> Made:
    """The same, where failures take longer than answers."""
    return outages(dice, between(dice, 1.0, 5.0))


def bursts(dice: Random) -> Made:
    """Nearly everything fails, for spans that nobody can foresee."""
    good, bad, share = between(dice, 2.0, 20.0), between(dice, 0.5, 5.0), round(dice.uniform(0.85, 1.0), 2)

    def weather(random: Random, latency: object) -> Weather:
        spans: Spans = at_random(random, good, bad, 400.0)
        return Outages(random, latency, spans, 529, share=share)  # type: ignore[arg-type]

    return f"bursts of {bad:g} s in {good:g} s, {share:.0%}", weather


def caps(dice: Random) -> Made:
    """So many at once."""
    number, status = int(between(dice, 1, 40)), dice.choice((429, 529, 503))
    return f"cap {number}, {status}", cap(number, status)


def buckets(dice: Random) -> Made:
    """So many in a second."""
    rate, deep, hint = between(dice, 5, 200), between(dice, 0.1, 10), dice.choice((b"", b"1", b"-"))
    return f"bucket {rate:g}/s of {deep:g} s, hint {hint.decode() or 'true'}", bucket(rate, rate * deep, hint=hint)


def token_buckets(dice: Random) -> Made:
    """So many tokens in a second."""
    rate, deep = between(dice, 20_000, 400_000), between(dice, 0.5, 10)
    return f"tokens {rate:g}/s of {deep:g} s", bucket(rate, rate * deep, tokens=True, hint=b"1")


def ill_keys(dice: Random) -> Made:
    """The first of several keys is ill."""
    share = round(dice.uniform(0.3, 1.0), 2)
    return f"first key {share:.0%}", mishaps(share, 500, keys=(0,))


KINDS: tuple[Callable[[Random], Made], ...] = (
    chance,
    outages,
    slow_outages,
    bursts,
    caps,
    buckets,
    token_buckets,
    ill_keys,
)


def by_chance(number: int) -> Scenario:
    """That one of them."""
    dice = Random(f"weather {number}")
    kind = KINDS[number % len(KINDS)]
    name, weather = kind(dice)
    keys = dice.choice((2, 3, 10)) if kind is ill_keys else dice.choice((1, 1, 2, 5))
    clients = int(between(dice, 2, 200))
    latency = between(dice, 0.1, 5.0) if kind is not slow_outages else between(dice, 0.1, 1.0)
    return scenario(
        f"{number}: {name}; {clients} clients, {keys} keys, {latency:g} s",
        weather,
        keys=keys,
        clients=clients,
        latency=(latency,),
        # Long enough for several outages, and for as many answers.
        seconds=min(150.0, max(60.0, 60 * latency)),
        tokens=uneven if kind is token_buckets else lambda random: 100,
        settings={"max_wait": 60.0},
    )
