"""Tokens by a refresh token: RFC 6749 section 6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treq.client import HTTPClient
from twisted.logger import Logger

from claudeproxyd.outcomes.types import AttemptFailed, Kind
from claudeproxyd.secrets.endpoint import Answer, ask
from claudeproxyd.secrets.refreshed import Token

if TYPE_CHECKING:
    from claudeproxyd.config.schema import OAuth
    from claudeproxyd.secrets.grants import Grants


class OAuthRefresh:
    """Fetches tokens. The client's own secret goes in the form, which more servers accept than HTTP Basic."""

    _log = Logger()

    def __init__(self, settings: OAuth, http: HTTPClient, grants: Grants) -> None:
        self._settings = settings
        self._http = http
        self._grants = grants
        self._grant = grants.grant(settings)
        self._warned = False

    async def fetch(self) -> Token:
        """See :class:`~claudeproxyd.secrets.refreshed.RefreshedSecret`."""
        await self._grants.settled()
        grant = self._grant
        async with grant.lock:
            try:
                answer = await self._ask(grant.newest)
            except AttemptFailed as failed:
                # What was kept may be of another life: the one that is configured is worth a try before it counts.
                if failed.outcome.kind is not Kind.AUTH or grant.newest == grant.configured:
                    raise
                answer = await self._ask(grant.configured)
                self._grants.replace(grant, grant.configured)
            token = answer.token()
            if answer.refresh_token not in ("", grant.newest):
                self._replace(answer.refresh_token)
            return token

    async def _ask(self, refresh_token: str) -> Answer:
        settings = self._settings
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": settings.client_id}
        if settings.client_secret is not None:
            form["client_secret"] = settings.client_secret.reveal()
        return await ask(self._http, settings.token_url, form)

    def _replace(self, refresh_token: str) -> None:
        self._grants.replace(self._grant, refresh_token)
        if not self._grants.outlive and not self._warned:
            self._warned = True
            self._log.warn(
                "{url} gives a new refresh token each time: without a state that is kept the configured one may be of"
                " no use after a restart",
                url=self._settings.token_url,
            )
