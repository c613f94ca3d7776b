"""Daemons that share their accounts in a real PostgreSQL."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.conftest import StartDaemon
from tests.integration.support import answers, wire
from tests.integration.support.daemon import Daemon, provider
from tests.integration.support.needs import needs
from tests.integration.support.postgresql import Postgres, postgres_server
from tests.integration.support.process import eventually
from tests.integration.support.upstream import Upstream
from tests.integration.test_keys import CLIENT, act, knows, mint, seconds_until_refused, status

LIMIT = '[[limits]]\nname = "three a day"\nrequests = 3\nper = "day"\neach = "client"\n'
PASSWORD = "hush-hush-hush"


@pytest.mark.alone
@needs(postgres_server)
@ensureDeferred
async def test_shared(start_daemon: StartDaemon, upstream: Upstream) -> None:
    """A key that is revoked at one is refused by the other within a second, away or not; and a third, that starts
    later, knows what they have used. Nobody tells the password."""
    upstream.script(answers.usual())
    postgres = await Postgres.make()
    try:
        config = CLIENT + provider(upstream) + LIMIT + postgres.config.replace("tests@", f"tests:{PASSWORD}@")
        daemons = [await start_daemon(config) for _ in range(2)]
        one, two = daemons
        key = await mint(one, "ann")
        await knows(two, key)
        for daemon in daemons:
            assert (await use(daemon, key)) == 200

        async def is_entered() -> bool:
            """By both."""
            (row,) = (await one.admin_get("/admin/v1/usage?by=client")).json or [{"requests": 0}]
            return row["requests"] == 2

        await eventually("all is entered", is_entered)
        third = await start_daemon(config)
        assert [await use(third, key) for _ in range(2)] == [200, 429]

        await postgres.away()
        assert await status(one, key) == 200
        assert (await act(one, "DELETE", "/admin/v1/keys/ann"))[0] == 503
        assert await status(two, key) == 200
        await postgres.back()
        assert (await act(one, "DELETE", "/admin/v1/keys/ann"))[0] == 200

        async def is_asked() -> bool:
            """Twice a second, as soon as it is back."""
            return await status(two, key) == 401

        await eventually("the other has asked", is_asked)
        again = await mint(two, "ann")
        await knows(one, again)
        assert (await act(two, "DELETE", "/admin/v1/keys/ann"))[0] == 200
        assert await seconds_until_refused(daemons, again) < 1.0
        told = [daemon.log for daemon in daemons] + [(await one.admin_get("/admin/v1/status")).body.decode()]
        assert not [each for each in told if PASSWORD in each]
        assert any("keys are read from postgresql:///" in each for each in told), told
    finally:
        await postgres.stop()


async def use(daemon: Daemon, key: str) -> int:
    """One request's status."""
    return (await wire.post(daemon.port, wire.Message().encode(), headers={"x-api-key": key})).status
