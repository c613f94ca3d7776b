"""Checks what types cannot: names that must be unique or known, contradictions between settings, unsafe listeners."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence

from claudeproxyd.config.accounts import check_accounts
from claudeproxyd.config.config_paths import ConfigPath
from claudeproxyd.config.diagnostics import Diagnostics, check_unique_names
from claudeproxyd.config.endpoints import ListenAddress, is_loopback, listener_of
from claudeproxyd.config.homes import expanded
from claudeproxyd.config.issuers import check_issuers
from claudeproxyd.config.keys import check_keys
from claudeproxyd.config.merging import SourceMap
from claudeproxyd.config.open_access import check_access, check_reload
from claudeproxyd.config.providers import check_provider, check_secret, parsed_url
from claudeproxyd.config.reporting import check_reporting
from claudeproxyd.config.schema import Client, Config, Model, OperatorSection, Provider
from claudeproxyd.config.state import InFile, InRedis, is_foreign, missing_for, state_of
from claudeproxyd.config.workers import check_workers
from claudeproxyd.globs import covers, is_glob, matches, oddity
from claudeproxyd.interfaces import IExecutorMaker

SHOWN_BY_CLAUDE_CODE = ("claude", "anthropic")
"""How the models' names begin that its /model shows."""
_HIDDEN = "hidden by Claude Code's /model, which shows what begins with claude or anthropic"


def check(
    config: Config,
    source_map: SourceMap,
    makers: Mapping[str, IExecutorMaker],
    diagnostics: Diagnostics,
    in_force: Config | None = None,
) -> None:
    """Add to *diagnostics* all that is wrong with *config*, whose types are right already.

    *in_force*: the configuration that it replaces, at a reload.
    """
    listeners = _listeners(config, source_map, diagnostics)
    if in_force is not None:
        check_reload(config, in_force, source_map, diagnostics)
    _server(config, source_map, diagnostics)
    _homes(config, source_map, diagnostics)
    check_accounts(config, source_map, diagnostics)
    check_reporting(config, source_map, diagnostics)
    _keyed(config.clients, "clients", source_map, diagnostics)
    _keyed(config.operators, "operators", source_map, diagnostics)
    check_keys(config, source_map, diagnostics)
    check_issuers(config, source_map, diagnostics)
    own_ports = {listener.port for listener in listeners if listener.port}
    _providers(config, source_map, makers, own_ports, diagnostics)
    _models(config, source_map, makers, diagnostics)
    if not config.models:
        _hidden_lists(config, source_map, makers, diagnostics)
    _globs(config, source_map, diagnostics)
    if config.streaming.head_commit <= config.pool.max_wait:
        diagnostics.error(
            source_map.at("streaming", "head_commit"),
            f"must exceed pool.max_wait, which is {config.pool.max_wait:g}",
            "after a head commit no wait for a credential begins",
        )


def _listeners(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> list[ListenAddress]:
    server = config.server
    if not server.listen:
        diagnostics.error(source_map.at("server", "listen"), "must name an endpoint")
    listeners: list[ListenAddress] = []
    public: list[tuple[int, ListenAddress]] = []
    for index, description in enumerate(server.listen):
        listener = _listener(description, source_map.at("server", "listen", index), listeners, diagnostics)
        if listener is not None:
            public.append((index, listener))
    admin = _listener(server.admin, source_map.at("server", "admin"), listeners, diagnostics) if server.admin else None
    check_access(config, public, admin, source_map, diagnostics)
    check_workers(config, public, source_map, diagnostics)
    return listeners


def _listener(
    description: str, at: ConfigPath, others: list[ListenAddress], diagnostics: Diagnostics
) -> ListenAddress | None:
    """Return the listener of one endpoint string, added to *others*; None after an error."""
    try:
        listener = listener_of(description)
    except ValueError as error:
        diagnostics.error(at, f"is no endpoint: {error}", 'such as "tcp:8765:interface=127.0.0.1"')
        return None
    if listener.port and any(listener.port == other.port and _overlap(listener, other) for other in others):
        diagnostics.error(at, f"listens on port {listener.port}, as another listener does")
    others.append(listener)
    return listener


def _overlap(one: ListenAddress, other: ListenAddress) -> bool:
    return one.interface == other.interface or not one.interface or not other.interface


def _server(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    server = config.server
    check_secret(server.admin_key, source_map.at("server", "admin_key"), diagnostics)
    if server.max_buffered_bytes < server.max_request_bytes:
        diagnostics.error(
            source_map.at("server", "max_buffered_bytes"),
            "must not be less than max_request_bytes",
        )
    try:
        state = state_of(server.state)
    except ValueError as error:
        diagnostics.error(source_map.at("server", "state"), str(error))
    else:
        if isinstance(state, InFile) and is_foreign(state.path):
            hint = "name a file of the daemon's own"
            diagnostics.error(source_map.at("server", "state"), f"{state.path} is another program's database", hint)
        elif isinstance(state, InRedis) and state.password and not state.tls and not is_loopback(state.host):
            what = "is not encrypted: the password is sent in the clear"
            diagnostics.warn(source_map.at("server", "state"), what, "use rediss://")
    if missing := missing_for(server.state):
        hint = "pip install 'claudeproxyd[redis]'"
        diagnostics.error(
            source_map.at("server", "state"), f"needs the package {missing}, which is not installed", hint
        )
    for index, origin in enumerate(server.cors_origins):
        try:
            if parsed_url(origin).path:
                raise ValueError("must have no path")
        except ValueError as error:
            diagnostics.error(
                source_map.at("server", "cors_origins", index), str(error), "such as https://app.example.com"
            )
    for index, network in enumerate(server.trusted_proxies):
        at = source_map.at("server", "trusted_proxies", index)
        try:
            everybody = not ipaddress.ip_network(network, strict=False).prefixlen
        except ValueError:
            diagnostics.error(at, "must be an address or a network")
        else:
            if everybody:
                diagnostics.warn(
                    at, "trusts every address: any client could claim to be another", "name the load balancer's address"
                )


def _homes(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Check that what is written beside the state has a folder to be in."""
    paths = {("log", "access"): config.log.access, ("log", "audit"): config.log.audit}
    if config.capture.when != "never":
        paths["capture", "directory"] = config.capture.directory
    for where, path in paths.items():
        try:
            expanded(path)
        except ValueError as error:
            diagnostics.error(source_map.at(*where), str(error), "write the path in full")


def _keyed(
    who: Sequence[Client | OperatorSection], section: str, source_map: SourceMap, diagnostics: Diagnostics
) -> None:
    """Look at names, and at the form of keys."""
    paths = [source_map.at(section, index) for index in range(len(who))]
    check_unique_names(zip((each.name for each in who), paths, strict=True), diagnostics)
    for each, at in zip(who, paths, strict=True):
        check_secret(each.key, at / "key", diagnostics)


def _providers(
    config: Config,
    source_map: SourceMap,
    makers: Mapping[str, IExecutorMaker],
    own_ports: set[int],
    diagnostics: Diagnostics,
) -> None:
    if not config.providers:
        diagnostics.error(source_map.at("providers"), "are missing", "add at least one [[providers]]")
    paths = [source_map.at("providers", index) for index in range(len(config.providers))]
    check_unique_names(zip((provider.name for provider in config.providers), paths, strict=True), diagnostics)
    for provider, at in zip(config.providers, paths, strict=True):
        if not provider.name.isascii():
            diagnostics.error(at / "name", "must be ASCII: it travels in a header")
        check_unique_names(
            ((c.name, at / "credentials" / index) for index, c in enumerate(provider.credentials)), diagnostics
        )
        check_provider(provider, at, makers, own_ports, diagnostics)


def _models(
    config: Config, source_map: SourceMap, makers: Mapping[str, IExecutorMaker], diagnostics: Diagnostics
) -> None:
    providers = {provider.name: provider for provider in config.providers}
    passing = {name for name, each in providers.items() if each.kind in makers and makers[each.kind].passes_requests}
    for index, model in enumerate(config.models):
        at = source_map.at("models", index)
        if not model.name:
            diagnostics.error(at / "name", "must not be empty")
        if not model.routes:
            diagnostics.error(at / "routes", "must name a provider", f"there are {', '.join(providers)}")
        for number, route in enumerate(model.routes):
            where = at / "routes" / number
            provider = providers.get(route.provider)
            if provider is None:
                known = f"there are {', '.join(providers)}" if providers else ""
                diagnostics.error(where / "provider", f'there is no provider "{route.provider}"', known)
            elif route.model and not _served(route.model, provider):
                diagnostics.warn(
                    where / "model", f'no credential of provider "{provider.name}" may use it', "see models"
                )
            if provider is not None and route.thinking and route.provider in passing:
                diagnostics.warn(where / "thinking", f'means nothing for kind "{provider.kind}"', "leave it out")
        if _is_hidden(model, config, passing):
            diagnostics.warn(
                at / "name", f"is {_HIDDEN}", f"add claude-{model.name} with the same routes, or say list = false"
            )
        shadow = next((earlier for earlier in config.models[:index] if _covers(earlier, model)), None)
        if shadow is not None:
            diagnostics.warn(at / "name", f'is never reached: "{shadow.name}" stands before it', "the first match wins")


def _hidden_lists(
    config: Config, source_map: SourceMap, makers: Mapping[str, IExecutorMaker], diagnostics: Diagnostics
) -> None:
    """Warn of providers whose models are listed by their own names, which Claude Code does not show."""
    for index, provider in enumerate(config.providers):
        maker = makers.get(provider.kind)
        if maker is None or maker.serves_claude:
            continue
        if provider.models and all(name.startswith(SHOWN_BY_CLAUDE_CODE) for name in provider.models):
            continue
        hint = f'name some: [[models]] name = "claude-…", routes = [{{ provider = "{provider.name}", model = "…" }}]'
        diagnostics.warn(source_map.at("providers", index), f"lists models that are {_HIDDEN}", hint)


def _is_hidden(model: Model, config: Config, passing: Collection[str]) -> bool:
    """Whether it is listed by a name that Claude Code does not show, and by no other that leads where it does.

    *passing* are the providers whose models are all Claude's.
    """
    if not model.list or is_glob(model.name) or model.name.startswith(SHOWN_BY_CLAUDE_CODE):
        return False
    if all(route.provider in passing for route in model.routes):
        return False
    targets = {(route.provider, route.model or model.name) for route in model.routes}
    return not any(
        targets & {(route.provider, route.model) for route in other.routes}
        for other in config.models
        if other.list and other.name.startswith(SHOWN_BY_CLAUDE_CODE)
    )


def _globs(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Warn of globs that can hardly match what they seem to mean."""
    paths = [(model.name, source_map.at("models", index) / "name") for index, model in enumerate(config.models)]
    lists = [(client.models, source_map.at("clients", index)) for index, client in enumerate(config.clients)]
    for index, provider in enumerate(config.providers):
        at = source_map.at("providers", index)
        lists.append((provider.models, at))
        lists += [(each.models, at / "credentials" / i) for i, each in enumerate(provider.credentials)]
    for globs, at in lists:
        paths += [(glob, at / "models" / index) for index, glob in enumerate(globs)]
    for glob, at in paths:
        if why := oddity(glob):
            diagnostics.warn(at, why, "globs know *, ? and [abc]; several are several strings")


def _served(model: str, provider: Provider) -> bool:
    return matches(model, provider.models) and any(matches(model, each.models) for each in provider.credentials)


def _covers(earlier: Model, later: Model) -> bool:
    """Whether *later*'s name can match nothing that *earlier*'s does not. Unsure is False.

    A name that is no glob goes before every glob.
    """
    return earlier.name == later.name or (is_glob(later.name) and covers(earlier.name, later.name))
