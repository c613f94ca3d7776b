"""Tokens by a refresh token: RFC 6749 section 6."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treq.client import HTTPClient
from twisted.logger import Logger

from claudeproxyd.observe.scrub import remember
from claudeproxyd.secrets.endpoint import ask
from claudeproxyd.secrets.refreshed import Token

if TYPE_CHECKING:
    from claudeproxyd.config.schema import OAuth


class OAuthRefresh:
    """The client's own secret travels in the form, which more servers take than HTTP Basic."""

    _log = Logger()

    def __init__(self, settings: OAuth, http: HTTPClient) -> None:
        self._settings = settings
        self._http = http
        self._refresh_token = settings.refresh_token.reveal()
        self._warned = False

    async def fetch(self) -> Token:
        """See :class:`~claudeproxyd.secrets.refreshed.RefreshedSecret`."""
        settings = self._settings
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._refresh_token,
            "client_id": settings.client_id,
        }
        if settings.client_secret is not None:
            form["client_secret"] = settings.client_secret.reveal()
        answer = await ask(self._http, settings.token_url, form)
        token = answer.token()
        if answer.refresh_token not in ("", self._refresh_token):
            self._replace(answer.refresh_token)
        return token

    def _replace(self, refresh_token: str) -> None:
        """The server gave another one, and may take the old one no more."""
        remember([refresh_token])
        self._refresh_token = refresh_token
        if not self._warned:
            self._warned = True
            self._log.warn(
                "{url} gives a new refresh token each time: it lives in memory alone, and the configured one may be of"
                " no use after a restart",
                url=self._settings.token_url,
            )
