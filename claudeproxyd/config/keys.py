"""The keys that clients and operators show: none that can be guessed, none that is good for something else too."""

from __future__ import annotations

from claudeproxyd.config.merging import Origins
from claudeproxyd.config.mistakes import Findings
from claudeproxyd.config.places import Place
from claudeproxyd.config.schema import Config
from claudeproxyd.config.secret import Secret, secrets_within

SHORTEST = 16
"""Characters; a shorter one draws a warning."""


def check_keys(config: Config, origins: Origins, findings: Findings) -> None:
    """Add to *findings* what is wrong with the keys of ``[[clients]]`` and ``server.admin_key`` beside their form."""
    admin = config.server.admin_key
    upstream = {
        secret.digest: f"{provider.name}/{credential.name}"
        for provider in config.providers
        for credential in provider.credentials
        for secret in secrets_within(credential)
    }
    keys: dict[str, str] = {}
    for index, client in enumerate(config.clients):
        place = origins.at("clients", index) / "key"
        first = keys.setdefault(client.key.digest, client.name)
        if first != client.name:
            findings.mistake(place, f'is the key of client "{first}" too', "give each client its own")
        if admin is not None and client.key.digest == admin.digest:
            findings.mistake(place, "is server.admin_key too: this client could administrate", "give it its own")
        _check(client.key, place, upstream, findings)
    if admin is not None:
        _check(admin, origins.at("server", "admin_key"), upstream, findings)


def _check(key: Secret, place: Place, upstream: dict[str, str], findings: Findings) -> None:
    if key.digest in upstream:
        mend = "who holds it can go around this gateway"
        findings.warn(place, f"is the secret of credential {upstream[key.digest]} too", mend)
    if key.known and len(key.reveal()) < SHORTEST:
        findings.warn(place, f"has fewer than {SHORTEST} characters: it can be guessed", "such as openssl rand -hex 32")
