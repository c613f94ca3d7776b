"""A real PostgreSQL, for daemons."""

from __future__ import annotations

from importlib.util import find_spec

from twisted.internet.threads import deferToThread

from tests.accounts.real_postgresql import BIN, RealPostgres
from tests.integration.support.needs import lacking


def postgres_server() -> None:
    """Have one, and what the daemon needs to talk to it; see :func:`~tests.integration.support.needs.needs`."""
    if BIN is None:
        lacking("PostgreSQL is not installed")
    if find_spec("psycopg") is None:
        lacking("the extra claudeproxyd[postgresql] is not installed")


class Postgres:
    """One that can be killed and started again. What takes a while is done in a thread: the tests' reactor goes on."""

    def __init__(self, server: RealPostgres) -> None:
        self._server = server

    @classmethod
    async def make(cls) -> Postgres:
        """A new one, which runs."""
        return cls(await deferToThread(RealPostgres))

    @property
    def url(self) -> str:
        """For ``accounts.database``."""
        return self._server.url

    @property
    def config(self) -> str:
        """What a daemon is told of it."""
        return f'[accounts]\ndatabase = "{self.url}"\n'

    async def entered(self) -> set[str]:
        """The ids of all requests in the ledger."""
        return await deferToThread(self._entered)

    def _entered(self) -> set[str]:
        import psycopg  # an extra

        with psycopg.connect(self.url) as connection:
            return {row[0] for row in connection.execute("SELECT request_id FROM claudeproxyd.attempts")}

    async def away(self) -> None:
        """Kill it."""
        await deferToThread(self._server.kill)

    async def back(self) -> None:
        """Start it again."""
        await deferToThread(self._server.start)

    async def stop(self) -> None:
        """Leave nothing."""
        await deferToThread(self._server.stop)
