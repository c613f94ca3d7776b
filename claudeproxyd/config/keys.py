"""Checks the keys of clients and operators: none that can be guessed, none that has another use too."""

from __future__ import annotations

from claudeproxyd.config.config_paths import ConfigPath
from claudeproxyd.config.diagnostics import Diagnostics
from claudeproxyd.config.merging import SourceMap
from claudeproxyd.config.schema import Config, OperatorSection
from claudeproxyd.config.secret import Secret, secrets_within
from claudeproxyd.globs import covers, oddity

#: The operator's name who has ``server.admin_key``.
ADMIN = "operator"
#: The role of those who may do everything.
OPERATE = "operate"
#: Characters; a shorter key draws a warning.
SHORTEST = 16


def check_keys(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Check the keys of ``[[clients]]``, ``[[operators]]`` and ``server.admin_key``, except for their form."""
    admin = config.server.admin_key
    operators: dict[str, str] = {} if admin is None else {admin.digest: "server.admin_key"}
    for index, operator in enumerate(config.operators):
        at = source_map.at("operators", index) / "key"
        whose = f'the key of operator "{operator.name}"'
        if admin is not None and operator.name == ADMIN:
            what = "is that of whoever has server.admin_key"
            diagnostics.error(source_map.at("operators", index) / "name", what, "name it otherwise")
        _check_minting(operator, config, source_map.at("operators", index), diagnostics)
        first = operators.setdefault(operator.key.digest, whose)
        if first != whose:
            diagnostics.error(at, f"is {first} too", "give each operator its own")
    if config.operators and admin is None and not any(operator.role == OPERATE for operator in config.operators):
        what = "has nobody who may operate: all actions of the page and the command are refused, reload too"
        diagnostics.warn(source_map.at("operators"), what, f'set server.admin_key, or give somebody role = "{OPERATE}"')
    upstream = {
        secret.digest: f"{provider.name}/{credential.name}"
        for provider in config.providers
        for credential in provider.credentials
        for secret in secrets_within(credential)
    }
    keys: dict[str, str] = {}
    for index, client in enumerate(config.clients):
        at = source_map.at("clients", index) / "key"
        first = keys.setdefault(client.key.digest, client.name)
        if first != client.name:
            diagnostics.error(at, f'is the key of client "{first}" too', "give each client its own")
        if client.key.digest in operators:
            what = f"is {operators[client.key.digest]} too: this client could administrate"
            diagnostics.error(at, what, "give it a key of its own")
        _check(client.key, at, upstream, diagnostics)
    for index, operator in enumerate(config.operators):
        _check(operator.key, source_map.at("operators", index) / "key", upstream, diagnostics)
    if admin is not None:
        _check(admin, source_map.at("server", "admin_key"), upstream, diagnostics)


def _check_minting(operator: OperatorSection, config: Config, at: ConfigPath, diagnostics: Diagnostics) -> None:
    mint = operator.mint
    if operator.role == OPERATE and mint is not None:
        diagnostics.error(at / "mint", "bounds nothing: who operates mints what they like", "give them another role")
    if operator.role == "mint" and mint is None:
        diagnostics.error(at / "mint", "is missing", 'such as { labels = { team = "ads" } }')
    if mint is None:
        return
    if not mint.labels or not all(mint.labels) or not all(mint.labels.values()):
        diagnostics.error(at / "mint" / "labels", "must name a label and its value", 'such as { team = "ads" }')
    for name in ("names", "models"):
        if not getattr(mint, name):
            diagnostics.error(at / "mint" / name, "must not be empty: no key could be minted")
    for index, glob in enumerate(mint.models):
        if why := oddity(glob):
            diagnostics.warn(
                at / "mint" / "models" / index, why, "globs know *, ? and [abc]; several are several strings"
            )
    for issuer in config.issuers:
        if any(covers(glob, f"{issuer.prefix}*") for glob in mint.names):
            what = f"lets it take the name of anybody whom {issuer.url} names, who is refused then"
            hint = 'name what its keys are called, such as ["ads-*"], and give the issuer a prefix'
            diagnostics.warn(at / "mint" / "names", what, hint)
    if not config.accounts.database:
        diagnostics.warn(at / "mint", "has no database to mint into: accounts.database is empty")


def _check(key: Secret, at: ConfigPath, upstream: dict[str, str], diagnostics: Diagnostics) -> None:
    if key.digest in upstream:
        hint = "who holds it can go around this gateway"
        diagnostics.warn(at, f"is the secret of credential {upstream[key.digest]} too", hint)
    if key.known and len(key.reveal()) < SHORTEST:
        diagnostics.warn(at, f"has fewer than {SHORTEST} characters: it can be guessed", "such as openssl rand -hex 32")
