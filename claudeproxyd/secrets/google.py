"""Tokens for Google's APIs: of a service account, and application default credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.jwk import RSAKey
from treq.client import HTTPClient
from twisted.web.http_headers import Headers

from claudeproxyd.config.resolving import BadSecret, resolve
from claudeproxyd.config.secret import Secret
from claudeproxyd.observe.scrub import remember
from claudeproxyd.outcomes.types import AttemptFailed
from claudeproxyd.secrets.endpoint import answer_of, ask
from claudeproxyd.secrets.failures import refused
from claudeproxyd.secrets.refreshed import Token
from claudeproxyd.secrets.reread import reread

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105  # a place, no secret
#: Seconds; Google takes no assertion that is good for longer than an hour.
ASSERTION_LIFETIME = 3600

_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_METADATA = "/computeMetadata/v1/instance/service-accounts/default/token"
_PROJECT = re.compile(r"[\w.:-]*", re.ASCII)
_DEFAULT_FILE = "application_default_credentials.json"


class Key(msgspec.Struct):
    """A key file: of a service account, or of the user that ``gcloud`` logged in."""

    type: str
    client_email: str = ""
    private_key: str = ""
    private_key_id: str = ""
    token_uri: str = TOKEN_URL
    client_id: str = ""
    client_secret: str = ""
    refresh_token: str = ""
    project_id: str = ""
    quota_project_id: str = ""


def key_of(text: str) -> Key:
    """Return the key in *text*. Raises AttemptFailed, in words that do not quote it."""
    try:
        return msgspec.json.decode(text, type=Key)
    except ValueError:
        raise refused("the key file is no JSON of a service account") from None


def secrets_in(text: str) -> list[str]:
    """Return the secrets in a key file, to be masked wherever they are repeated; none if it is no key file."""
    try:
        key = key_of(text)
    except AttemptFailed:
        return []
    return [key.private_key, key.refresh_token, key.client_secret]


def assertion(key: Key, now: float) -> str:
    """Return a JWT by which the service account asks for a token. *now*: wall clock. Raises AttemptFailed."""
    try:
        # Proving that the primes are primes takes 40 ms of the reactor's time; a wrong key is refused by Google.
        private = load_pem_private_key(key.private_key.encode(), None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise refused("the key file's private_key cannot be read") from None
    if not isinstance(private, RSAPrivateKey):
        raise refused("the key file's private_key is no RSA key")
    claims = {
        "iss": key.client_email,
        "scope": SCOPE,
        "aud": key.token_uri,
        "iat": int(now),
        "exp": int(now) + ASSERTION_LIFETIME,
    }
    return jwt.encode({"alg": "RS256", "kid": key.private_key_id}, claims, RSAKey.import_key(private))


class ServiceAccount:
    """A key that was configured; its file is read anew for each token."""

    def __init__(self, secret: Secret, http: HTTPClient, wall_clock: Callable[[], float]) -> None:
        self._secret = secret
        self._http = http
        self._wall_clock = wall_clock

    async def fetch(self) -> Token:
        """See :class:`~claudeproxyd.secrets.refreshed.RefreshedSecret`."""
        text = reread(self._secret, "the key").reveal()
        remember(secrets_in(text))
        return await token_for(key_of(text), self._http, self._wall_clock())


async def token_for(key: Key, http: HTTPClient, now: float) -> Token:
    """Return a token for either kind of key."""
    form = _form(key, now)
    remember([form.get("assertion", "")])  # whoever has it has an hour of tokens
    token = (await ask(http, key.token_uri, form)).token()
    # A user is of no project; a service account is, and may not be allowed to use another's quota.
    return replace(token, quota_project=key.quota_project_id) if key.type == "authorized_user" else token


def _form(key: Key, now: float) -> dict[str, str]:
    """Return the form that asks for a token. Raises AttemptFailed."""
    if key.type == "authorized_user":
        if not _PROJECT.fullmatch(key.quota_project_id):
            raise refused("the key file's quota_project_id is no project")
        return {
            "grant_type": "refresh_token",
            "refresh_token": key.refresh_token,
            "client_id": key.client_id,
            "client_secret": key.client_secret,
        }
    if key.type == "service_account":
        return {"grant_type": _JWT_BEARER, "assertion": assertion(key, now)}
    raise refused(f"a key of the type {key.type!r} is not understood")


def default_file(environ: Mapping[str, str]) -> str:
    """Return the path of application default credentials: that which a variable names, else what ``gcloud`` left."""
    if named := environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return named
    home = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config", "gcloud")
    path = os.path.join(environ.get("CLOUDSDK_CONFIG") or home, _DEFAULT_FILE)
    return path if os.path.exists(path) else ""


def project_of(account: Secret | str | None, environ: Mapping[str, str]) -> str:
    """Return the project of a configured ``service_account`` where none is named beside it; '' if none is known.

    Reads a file for ``"adc"``: called while a configuration is read.
    """
    try:
        if isinstance(account, Secret):
            key = key_of(account.reveal())
        elif account is None:
            return ""
        elif named := environ.get("GOOGLE_CLOUD_PROJECT"):
            return named
        else:
            key = key_of(resolve({"file": default_file(environ)}, {}, "", digest=False)[0].reveal())
    except (AttemptFailed, BadSecret):
        return ""
    return key.project_id or key.quota_project_id


def mistake_in(account: Secret | str | None, environ: Mapping[str, str]) -> str:
    """Return why a ``service_account`` can bring no token, as far as its key file tells; '' if nothing is wrong.

    Reads a file for ``"adc"``: called while a configuration is read.
    """
    path = ""
    try:
        if isinstance(account, Secret):
            _form(key_of(account.reveal()), 0.0)
        elif account is not None and (path := default_file(environ)):
            _form(key_of(resolve({"file": path}, {}, "", digest=False)[0].reveal()), 0.0)
    except AttemptFailed as e:
        mistake = e.outcome.reason
    except BadSecret as e:
        mistake = e.message
    else:
        return ""
    return f"{mistake} ({path})" if path else mistake


class DefaultCredentials:
    """``"adc"``: the file that a variable names, else what ``gcloud`` left, else the machine's own account."""

    def __init__(self, http: HTTPClient, wall_clock: Callable[[], float], environ: Mapping[str, str]) -> None:
        self._http = http
        self._wall_clock = wall_clock
        self._environ = environ

    async def fetch(self) -> Token:
        """See :class:`~claudeproxyd.secrets.refreshed.RefreshedSecret`."""
        path = default_file(self._environ)
        if path:
            return await ServiceAccount(Secret(None, path=path), self._http, self._wall_clock).fetch()
        host = self._environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
        flavor = Headers({"metadata-flavor": ["Google"]})
        asked = self._http.get(f"http://{host}{_METADATA}", headers=flavor, allow_redirects=False)
        return (await answer_of(asked)).token()
