"""Restarts that nobody notices."""

from __future__ import annotations

from pathlib import Path

from pytest_twisted import ensureDeferred

from tests.integration.support.needs import needs
from tests.integration.support.rolling import BehindHAProxy, BehindNginx, Farm, OnOneSocket, haproxy, nginx, rolling


async def nothing_is_lost(farm: Farm, restarts: int) -> None:
    tally = await rolling(farm, restarts)
    assert tally.lost == []
    assert set(tally.answers) == {"streamed", "whole", "alone"}


@needs(nginx)
@ensureDeferred
async def test_behind_nginx(tmp_path: Path) -> None:
    """Two daemons behind nginx, as the page has it, are restarted in turn: each request and each stream ends well."""
    await nothing_is_lost(BehindNginx(tmp_path), 3)


@needs(haproxy)
@ensureDeferred
async def test_behind_haproxy(tmp_path: Path) -> None:
    """The same behind HAProxy, which asks whether they are ready."""
    await nothing_is_lost(BehindHAProxy(tmp_path), 3)


@ensureDeferred
async def test_on_one_socket(tmp_path: Path) -> None:
    """The same of two that share a socket, without a balancer: a new one is there before the old one leaves."""
    await nothing_is_lost(OnOneSocket(tmp_path), 4)
