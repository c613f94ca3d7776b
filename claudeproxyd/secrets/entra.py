"""Tokens of Microsoft Entra ID for an application: the client credentials grant, by a secret or a certificate."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import uuid4

from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import RSAKey
from joserfc.util import urlsafe_b64encode
from treq.client import HTTPClient

from claudeproxyd.config.pem import key_and_certificate
from claudeproxyd.observe.scrub import remember
from claudeproxyd.outcomes.types import AttemptFailed, Kind
from claudeproxyd.secrets.endpoint import ask
from claudeproxyd.secrets.failures import refused
from claudeproxyd.secrets.refreshed import Token
from claudeproxyd.secrets.reread import reread

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Entra

ASSERTION_LIFETIME = 600
"""Seconds that an assertion is good for: it is used at once."""

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CODE = re.compile(r"AADSTS\d+")
_MENDS = {
    "AADSTS7000215": "client_secret is wrong: it has to be the secret's value, and not its ID",
    "AADSTS7000222": "client_secret has expired: make a new one in the application's registration",
    "AADSTS700016": "the tenant has no application of that client_id",
    "AADSTS90002": "there is no tenant of that tenant_id",
    "AADSTS900023": "tenant_id is no name of a tenant",
    "AADSTS500011": "scope is of no resource that the tenant knows",
    "AADSTS70011": "scope is not valid: it has to end with /.default",
    "AADSTS1002012": "scope is not valid: it has to end with /.default",
    "AADSTS700027": "the application's registration does not have that certificate, or not any more",
    "AADSTS7000112": "the application is disabled in the tenant",
}
"""What mends what Entra ID refuses most often. Its own sentences name tenants, applications and traces."""


class EntraTokens:
    """Fetches tokens. A secret or a certificate that comes from a file is read anew for each."""

    def __init__(self, settings: Entra, http: HTTPClient, wall_clock: Callable[[], float]) -> None:
        self._settings = settings
        self._http = http
        self._wall_clock = wall_clock
        self._url = token_url(settings)

    async def fetch(self) -> Token:
        """See :class:`~claudeproxyd.secrets.refreshed.RefreshedSecret`."""
        settings = self._settings
        form = {"grant_type": "client_credentials", "client_id": settings.client_id, "scope": settings.scope}
        if settings.client_secret is not None:
            form["client_secret"] = reread(settings.client_secret, "client_secret").reveal()
            remember([form["client_secret"]])
        elif settings.certificate is not None:
            pem = reread(settings.certificate, "certificate").reveal()
            form["client_assertion_type"] = _ASSERTION_TYPE
            form["client_assertion"] = assertion(pem, settings.client_id, self._url, self._wall_clock())
            remember([form["client_assertion"]])
        try:
            return (await ask(self._http, self._url, form)).token()
        except AttemptFailed as failed:
            code = _CODE.search(failed.outcome.reason)
            if failed.outcome.kind is Kind.AUTH and code is not None and code[0] in _MENDS:
                raise refused(f"Entra ID says {code[0]}: {_MENDS[code[0]]}") from None
            raise


def token_url(settings: Entra) -> str:
    """Return the tenant's token endpoint."""
    return f"{settings.authority.rstrip('/')}/{settings.tenant_id}/oauth2/v2.0/token"


def assertion(pem: str, client_id: str, url: str, now: float) -> str:
    """Return a JWT by which an application asks at *url*, signed with its private key. *now*: wall clock.

    Raises AttemptFailed.
    """
    try:
        key, certificate = key_and_certificate(pem)
    except ValueError as mistake:
        raise refused(f"certificate {mistake}") from None
    thumbprint = urlsafe_b64encode(certificate.fingerprint(SHA256())).decode("ascii")
    claims = {
        "aud": url,
        "iss": client_id,
        "sub": client_id,
        "jti": str(uuid4()),
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + ASSERTION_LIFETIME,
    }
    return jwt.encode({"alg": "PS256", "x5t#S256": thumbprint}, claims, RSAKey.import_key(key), ["PS256"])
