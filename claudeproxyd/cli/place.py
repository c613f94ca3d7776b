"""Where the admin listener is, and the key to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from twisted.python.usage import UsageError

from claudeproxyd.cli.command import REFUSED, UNREACHABLE, CommandFailed
from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.config.endpoints import listener_of
from claudeproxyd.config.excerpt import Excerpt, excerpt

PLACE_VARIABLE = "CLAUDEPROXYD_ADMIN"
KEY_VARIABLE = "CLAUDEPROXYD_ADMIN_KEY"
ELSEWHERE = f"--admin or ${PLACE_VARIABLE} names another place"

#: What listens on every address is reached by this one of the same family.
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # to be called, not to listen on


@dataclass(frozen=True)
class AdminPlace:
    """An admin listener, as the command reaches it."""

    url: str
    """``http://host:port`` or ``https://…``; of a unix socket ``unix:/path``."""
    key: str = field(default="", repr=False)
    """'' for none."""
    keyless: str = ""
    """Where there should be a key and is none: why, for the one who is refused for it."""

    @property
    def socket(self) -> str:
        """Return the path of its unix socket, or ''."""
        return self.url.removeprefix("unix:") if self.url.startswith("unix:") else ""


def find_place(named: str | None, config: str | None, environ: Mapping[str, str]) -> AdminPlace:
    """Return the place that was *named*, else the one in the environment, else that of the configuration.

    *config* is a file, or None for the usual ones. Reads files, and blocks for it. Raises CommandFailed and UsageError.
    """
    asked = named or environ.get(PLACE_VARIABLE, "")
    read: Excerpt | None = None
    try:
        read = excerpt(config, environ)
    except ConfigError as error:
        # Of a file that nobody named only the key would be missed.
        if config or not asked:
            raise CommandFailed(REFUSED, str(error)) from None
    url = _named(asked) if asked else _configured(read)
    if key := environ.get(KEY_VARIABLE, ""):
        return AdminPlace(url, key)
    if read is None:
        return AdminPlace(url)
    if (mistake := read.error_at("server.admin_key")) is not None:
        return AdminPlace(url, keyless=str(mistake))
    secret = read.config.server.admin_key
    return AdminPlace(url, "" if secret is None else secret.reveal())


def _named(text: str) -> str:
    """Return what an operator calls the place. The page's address is one too. Raises UsageError."""
    if text.startswith("unix:"):
        return text
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        fine = False
    if not fine or parts.path.strip("/") not in ("", "admin") or parts.query:
        raise UsageError(f"--admin {text}: must be http://HOST:PORT, https://HOST:PORT or unix:/PATH")
    if "@" in parts.netloc:
        raise UsageError(f"--admin: others on this machine could read a key there: put it into ${KEY_VARIABLE}")
    return f"{parts.scheme}://{parts.netloc}"


def _configured(read: Excerpt | None) -> str:
    assert read is not None
    if (mistake := read.error_at("server.admin")) is not None:
        raise CommandFailed(REFUSED, str(mistake))
    described, file = read.config.server.admin, read.file or "the environment"
    if not described:
        raise CommandFailed(UNREACHABLE, f'{file}: server.admin is "": there is no admin listener to ask')
    try:
        address = listener_of(described)
    except ValueError as error:
        raise CommandFailed(REFUSED, f"{file}: server.admin is no endpoint: {error}") from None
    if address.path:
        return f"unix:{address.path}"
    if not address.port:
        raise CommandFailed(REFUSED, f'{file}: server.admin = "{described}" does not tell its port: {ELSEWHERE}')
    host = _LOOPBACK.get(address.interface, address.interface)
    scheme = "https" if described.startswith("ssl:") else "http"
    return f"{scheme}://[{host}]:{address.port}" if ":" in host else f"{scheme}://{host}:{address.port}"
