"""Writes what a configuration amounts to, for ``--check``. Secrets are named by where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass

from claudeproxyd.config.accounts import accounts_in_words, prices_in_words
from claudeproxyd.config.loading import Loaded
from claudeproxyd.config.reading import default_of, settings_of
from claudeproxyd.config.reporting import traces_url
from claudeproxyd.config.schema import (
    Aws,
    Config,
    CredentialSection,
    Entra,
    OAuth,
    Plugin,
    Provider,
    RouteTo,
    TracesSettings,
    WebhookSection,
)
from claudeproxyd.config.secret import Secret
from claudeproxyd.config.state import place_in_words
from claudeproxyd.interfaces import IExecutorMaker

_MASK = "****"


def report(loaded: Loaded, makers: Mapping[str, IExecutorMaker]) -> str:
    """Return the whole text, without a line end."""
    config = loaded.config
    lines = [f"configuration: {', '.join(loaded.files) or 'the environment alone'}"]
    lines += [f"listens on {endpoint}" for endpoint in config.server.listen]
    if config.server.processes > 1:
        lines.append(f"serves by {config.server.processes} workers")
    lines.append(f"administration on {config.server.admin}" if config.server.admin else "no administration")
    lines.append(f"state: {place_in_words(config.server.state)}")
    lines.append(f"accounts: {accounts_in_words(config.accounts)}")
    lines.append(f"limits: {len(config.limits) or 'none'}")
    lines.append(f"prices: {prices_in_words(config.prices)}")
    if config.operators:
        lines += ["", "operators:", *_indented(_operators(config))]
    lines += ["", "clients:", *_indented(_clients(config))]
    lines += ["", "providers:", *_indented(_providers(config, makers))]
    lines += ["", "models:", *_indented(_models(config))]
    if config.plugins:
        lines += ["", "plugins:", *_indented(_plugin(plugin) for plugin in config.plugins)]
    if config.traces.endpoint:
        lines += ["", "traces:", *_indented(_traces(config.traces))]
    if config.webhooks:
        lines += ["", "webhooks:", *_indented(_webhook(hook) for hook in config.webhooks)]
    if loaded.warnings:
        lines += ["", "warnings:", *_indented(str(warning) for warning in loaded.warnings)]
    return "\n".join(lines)


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _clients(config: Config) -> Iterator[str]:
    for plugin in config.plugins:
        if plugin.authenticates:
            yield f"whom the plugin {plugin.kind} lets in"
    if not config.is_keyed:
        who = "anyone who reaches a listener" if config.server.open else "anyone on this machine"
        yield f"{who}, without a key" + (", until one is minted" if config.accounts.database else "")
    if config.accounts.require_keys:
        yield "whoever has a minted key"
    for issuer in config.issuers:
        audience = issuer.audience if isinstance(issuer.audience, str) else " or ".join(issuer.audience)
        yield f"whoever has a token of {issuer.url} for {audience}"
    for client in config.clients:
        limit = f", at most {client.max_concurrency} at once" if client.max_concurrency else ""
        yield f"{client.name}: key {masked(client.key)}, models {' '.join(client.models)}{limit}"


def _operators(config: Config) -> Iterator[str]:
    if config.server.admin_key is not None:
        yield f"whoever has server.admin_key {masked(config.server.admin_key)}: operate"
    for operator in config.operators:
        labels = operator.mint.labels.items() if operator.mint is not None else ()
        mints = "".join(f", mints for {name} = {value}" for name, value in labels)
        yield f"{operator.name}: key {masked(operator.key)}: {operator.role}{mints}"


def _providers(config: Config, makers: Mapping[str, IExecutorMaker]) -> Iterator[str]:
    for provider in config.providers:
        base_urls = makers[provider.kind].base_urls(provider)
        yield f"{provider.name}: {provider.kind}" + (f" at {', '.join(base_urls)}" if base_urls else "")
        yield from _indented(_details(provider))
        yield from _indented(_credential(credential) for credential in provider.credentials)


def _details(provider: Provider) -> Iterator[str]:
    if provider.models != ["*"]:
        yield f"models {' '.join(provider.models)}"
    if provider.headers:
        yield f"headers {', '.join(provider.headers)}"
    if provider.proxy:
        # There may be a password before the host.
        yield f"through the proxy {provider.proxy.rpartition('@')[2].removeprefix('http://')}"
    yield from _own(provider.own)
    if provider.timeouts:
        yield "time-outs " + ", ".join(f"{name} {seconds:g} s" for name, seconds in provider.timeouts.items())
    if provider.rules:
        yield f"{len(provider.rules)} rules of its own"


def _credential(credential: CredentialSection) -> str:
    members: Mapping[str, Secret | Aws | OAuth | Entra | str | None] = {
        "api_key": credential.api_key,
        "bearer_token": credential.bearer_token,
        "service_account": credential.service_account,
        "aws": credential.aws,
        "oauth": credential.oauth,
        "entra": credential.entra,
    }
    given = [f"{name} {masked(value)}" for name, value in members.items() if value is not None]
    text = f"credential {credential.name}: " + (", ".join(given) or "needs no secret")
    text += "".join(f", {each}" for each in _own(credential.own))
    if credential.models != ["*"]:
        text += f", models {' '.join(credential.models)}"
    if credential.priority:
        text += f", priority {credential.priority}"
    if credential.disabled:
        text += ", disabled"
    return text + (f", weight {credential.weight}" if credential.weight != 1 else "")


def _own(section: object, above: str = "") -> Iterator[str]:
    """Yield the kind's own settings that are not the default; *above* is the name of the table around."""
    for each in settings_of(type(section)):
        value = getattr(section, each.name)
        if is_dataclass(value):
            yield from _own(value, f"{above}{each.name}.")
        elif value != default_of(each):
            yield f"{above}{each.name} {_shown(value)}"


def _shown(value: object) -> str:
    if isinstance(value, Secret):
        return masked(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plugin(plugin: Plugin) -> str:
    return ", ".join([plugin.kind, *_own(plugin.own)])


def _traces(traces: TracesSettings) -> Iterator[str]:
    headers = "".join(f", {name} {masked(value)}" for name, value in traces.headers.items())
    yield f"{traces.sample:.3g} of all requests, to {traces_url(traces.endpoint)}{headers}"


def _webhook(hook: WebhookSection) -> str:
    signed = "" if hook.secret is None else f", signed with {masked(hook.secret)}"
    return f"{hook.name}: {masked(hook.url)}{signed}: {', '.join(hook.events)}"


def _models(config: Config) -> Iterator[str]:
    if not config.models:
        yield "every name goes to each provider that serves it, in this order: " + ", ".join(
            provider.name for provider in config.providers
        )
    for model in config.models:
        yield f"{model.name} -> {', then '.join(_route(route) for route in model.routes)}"


def _route(route: RouteTo) -> str:
    text = f"{route.provider} as {route.model}" if route.model else route.provider
    return f"{text}, with its own thinking" if route.thinking else text


def masked(value: Secret | Aws | OAuth | Entra | str) -> str:
    """Return where a secret comes from, and nothing of its value. A plain word is no secret and stays."""
    if isinstance(value, Aws):
        keys = value.secret_access_key
        parts = [masked(keys)] if keys is not None else [f"profile {value.profile}"] if value.profile else []
        return ", ".join([*parts, f"role {value.role_arn}"] if value.role_arn else parts)
    if isinstance(value, OAuth):
        return masked(value.refresh_token)
    if isinstance(value, Entra):
        return masked(value.client_secret or value.certificate or "")
    if isinstance(value, str):
        return f'"{value}"'
    if value.path:
        return f"{_MASK} (file {value.path})"
    if value.variable:
        return f"{_MASK} (${value.variable})"
    return _MASK if value.known else f"{_MASK} (its digest)"
