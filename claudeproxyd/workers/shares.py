"""What each worker may have of what the configuration allows all of them. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Config


def share(whole: int, count: int, slot: int) -> int:
    """Return one of *count* parts of *whole* that differ by one at most, and add up to it."""
    return whole // count + (slot < whole % count)


def share_of(config: Config, count: int, slot: int) -> Config:
    """Return a worker's part of the configuration.

    It has no admin listener, and no lame duck's time, which is the parent's; and its share of what is bounded for the
    whole process: connections, buffers, the queue. Limits of attempts and requests at once are not divided here: see
    :mod:`claudeproxyd.workers.permits`.
    """

    def part(whole: int) -> int:
        return max(share(whole, count, slot), 1)

    server = replace(
        config.server,
        admin="",
        lame_duck=0.0,
        max_connections=part(config.server.max_connections),
        max_buffered_bytes=max(part(config.server.max_buffered_bytes), config.server.max_request_bytes),
    )
    providers = [
        replace(provider, max_connections=part(provider.max_connections)) if provider.max_connections else provider
        for provider in config.providers
    ]
    pool = replace(config.pool, queue=part(config.pool.queue) if config.pool.queue else 0)
    return replace(config, server=server, providers=providers, pool=pool)
