"""What types cannot say: names that must be unique or known, settings that contradict each other, unsafe listeners."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase

from claudeproxyd.config.homes import expanded
from claudeproxyd.config.keys import check_keys
from claudeproxyd.config.listening import Listener, listener_of
from claudeproxyd.config.merging import Origins
from claudeproxyd.config.mistakes import Findings
from claudeproxyd.config.opening import check_access, check_reload
from claudeproxyd.config.places import Place
from claudeproxyd.config.providers import check_provider, check_secret, parsed_url
from claudeproxyd.config.schema import Config, Model, Provider
from claudeproxyd.config.state import InFile, is_foreign, missing_for, state_of
from claudeproxyd.globs import is_glob, matches, oddity
from claudeproxyd.interfaces import IExecutorMaker

_SHOWN_BY_CLAUDE_CODE = ("claude", "anthropic")


def check(
    config: Config,
    origins: Origins,
    makers: Mapping[str, IExecutorMaker],
    findings: Findings,
    in_force: Config | None = None,
) -> None:
    """Add to *findings* all that is wrong with *config*, whose types are right already.

    *in_force*: the one that it is to take the place of, at a reload.
    """
    listeners = _listeners(config, origins, findings)
    if in_force is not None:
        check_reload(config, in_force, origins, findings)
    _server(config, origins, findings)
    _homes(config, origins, findings)
    _clients(config, origins, findings)
    own_ports = {listener.port for listener in listeners if listener.port}
    _providers(config, origins, makers, own_ports, findings)
    _models(config, origins, makers, findings)
    _globs(config, origins, findings)
    if config.streaming.head_commit <= config.pool.max_wait:
        findings.mistake(
            origins.at("streaming", "head_commit"),
            f"must exceed pool.max_wait, which is {config.pool.max_wait:g}",
            "after a head commit no wait for a credential begins",
        )


def _listeners(config: Config, origins: Origins, findings: Findings) -> list[Listener]:
    server = config.server
    if not server.listen:
        findings.mistake(origins.at("server", "listen"), "must name an endpoint")
    listeners: list[Listener] = []
    public: list[tuple[int, Listener]] = []
    for index, description in enumerate(server.listen):
        listener = _listener(description, origins.at("server", "listen", index), listeners, findings)
        if listener is not None:
            public.append((index, listener))
    admin = _listener(server.admin, origins.at("server", "admin"), listeners, findings) if server.admin else None
    check_access(config, public, admin, origins, findings)
    return listeners


def _listener(description: str, place: Place, others: list[Listener], findings: Findings) -> Listener | None:
    """The listener of one endpoint string, added to *others*; None after a mistake."""
    try:
        listener = listener_of(description)
    except ValueError as error:
        findings.mistake(place, f"is no endpoint: {error}", 'such as "tcp:8765:interface=127.0.0.1"')
        return None
    if listener.port and any(listener.port == other.port and _overlap(listener, other) for other in others):
        findings.mistake(place, f"listens on port {listener.port}, which another listener has already")
    others.append(listener)
    return listener


def _overlap(one: Listener, other: Listener) -> bool:
    return one.interface == other.interface or not one.interface or not other.interface


def _server(config: Config, origins: Origins, findings: Findings) -> None:
    server = config.server
    check_secret(server.admin_key, origins.at("server", "admin_key"), findings)
    if server.max_buffered_bytes < server.max_request_bytes:
        findings.mistake(
            origins.at("server", "max_buffered_bytes"), "must not be less than max_request_bytes, or that is never met"
        )
    try:
        state = state_of(server.state)
    except ValueError as error:
        findings.mistake(origins.at("server", "state"), str(error))
    else:
        if isinstance(state, InFile) and is_foreign(state.path):
            mend = "name a file of the daemon's own"
            findings.mistake(origins.at("server", "state"), f"{state.path} is another program's database", mend)
    if missing := missing_for(server.state):
        mend = "pip install 'claudeproxyd[redis]'"
        findings.mistake(origins.at("server", "state"), f"needs the package {missing}, which is not installed", mend)
    for index, origin in enumerate(server.cors_origins):
        try:
            if parsed_url(origin).path:
                raise ValueError("must have no path")
        except ValueError as error:
            findings.mistake(origins.at("server", "cors_origins", index), str(error), "such as https://app.example.com")
    for index, network in enumerate(server.trusted_proxies):
        place = origins.at("server", "trusted_proxies", index)
        try:
            everybody = not ipaddress.ip_network(network, strict=False).prefixlen
        except ValueError:
            findings.mistake(place, "must be an address or a network")
        else:
            if everybody:
                findings.warn(place, "is everybody: any client may then say who it is", "name the balancer's address")


def _homes(config: Config, origins: Origins, findings: Findings) -> None:
    """Whether what is written beside the state has a place to be."""
    paths = {("log", "access"): config.log.access}
    if config.capture.when != "never":
        paths["capture", "directory"] = config.capture.directory
    for where, path in paths.items():
        try:
            expanded(path)
        except ValueError as error:
            findings.mistake(origins.at(*where), str(error), "write the path in full")


def _clients(config: Config, origins: Origins, findings: Findings) -> None:
    places = [origins.at("clients", index) for index in range(len(config.clients))]
    _names(zip((client.name for client in config.clients), places, strict=True), findings)
    for client, place in zip(config.clients, places, strict=True):
        check_secret(client.key, place / "key", findings)
    check_keys(config, origins, findings)


def _names(named: Iterable[tuple[str, Place]], findings: Findings) -> None:
    """Names go into logs, metrics and headers, and each stands for one thing."""
    seen = set()
    for name, place in named:
        if not name or not name.isprintable() or name != name.strip():
            findings.mistake(place / "name", "must be printable, not empty, and without blanks at its ends")
        elif name in seen:
            findings.mistake(place / "name", f'"{name}" is taken already', "names are unique")
        seen.add(name)


def _providers(
    config: Config,
    origins: Origins,
    makers: Mapping[str, IExecutorMaker],
    own_ports: set[int],
    findings: Findings,
) -> None:
    if not config.providers:
        findings.mistake(origins.at("providers"), "are missing", "add at least one [[providers]]")
    places = [origins.at("providers", index) for index in range(len(config.providers))]
    _names(zip((provider.name for provider in config.providers), places, strict=True), findings)
    for provider, place in zip(config.providers, places, strict=True):
        if not provider.name.isascii():
            findings.mistake(place / "name", "must be ASCII: it travels in a header")
        _names(((c.name, place / "credentials" / index) for index, c in enumerate(provider.credentials)), findings)
        check_provider(provider, place, makers, own_ports, findings)


def _models(config: Config, origins: Origins, makers: Mapping[str, IExecutorMaker], findings: Findings) -> None:
    providers = {provider.name: provider for provider in config.providers}
    passing = {name for name, each in providers.items() if each.kind in makers and makers[each.kind].passes_requests}
    for index, model in enumerate(config.models):
        place = origins.at("models", index)
        if not model.name:
            findings.mistake(place / "name", "must not be empty")
        if not model.routes:
            findings.mistake(place / "routes", "must name a provider", f"there are {', '.join(providers)}")
        for number, route in enumerate(model.routes):
            where = place / "routes" / number
            provider = providers.get(route.provider)
            if provider is None:
                known = f"there are {', '.join(providers)}" if providers else ""
                findings.mistake(where / "provider", f'there is no provider "{route.provider}"', known)
            elif route.model and not _served(route.model, provider):
                findings.warn(where / "model", f'no credential of provider "{provider.name}" may use it', "see models")
            if provider is not None and route.thinking and route.provider in passing:
                findings.warn(where / "thinking", f'means nothing to the kind "{provider.kind}"', "leave it out")
        if _is_hidden(model, config, passing):
            message = "is hidden by Claude Code's /model, which shows what begins with claude or anthropic"
            findings.warn(place / "name", message, f"add claude-{model.name} with the same routes, or say list = false")
        shadow = next((earlier for earlier in config.models[:index] if _covers(earlier, model)), None)
        if shadow is not None:
            findings.warn(place / "name", f'is never reached: "{shadow.name}" stands before it', "the first match wins")


def _is_hidden(model: Model, config: Config, passing: Collection[str]) -> bool:
    """Whether it is listed by a name that Claude Code does not show, and by no other that leads where it does.

    *passing* are the providers whose models are all Claude's.
    """
    if not model.list or is_glob(model.name) or model.name.startswith(_SHOWN_BY_CLAUDE_CODE):
        return False
    if all(route.provider in passing for route in model.routes):
        return False
    places = {(route.provider, route.model or model.name) for route in model.routes}
    return not any(
        places & {(route.provider, route.model) for route in other.routes}
        for other in config.models
        if other.list and other.name.startswith(_SHOWN_BY_CLAUDE_CODE)
    )


def _globs(config: Config, origins: Origins, findings: Findings) -> None:
    """Look at every list of globs, and every name that may be one."""
    places = [(model.name, origins.at("models", index) / "name") for index, model in enumerate(config.models)]
    lists = [(client.models, origins.at("clients", index)) for index, client in enumerate(config.clients)]
    for index, provider in enumerate(config.providers):
        place = origins.at("providers", index)
        lists.append((provider.models, place))
        lists += [(each.models, place / "credentials" / i) for i, each in enumerate(provider.credentials)]
    for globs, place in lists:
        places += [(glob, place / "models" / index) for index, glob in enumerate(globs)]
    for glob, place in places:
        if why := oddity(glob):
            findings.warn(place, why, "globs know *, ? and [abc]; several are several strings")


def _served(model: str, provider: Provider) -> bool:
    return matches(model, provider.models) and any(matches(model, each.models) for each in provider.credentials)


def _covers(earlier: Model, later: Model) -> bool:
    """Whether *later*'s name can match nothing that *earlier*'s does not. Unsure is False.

    A name that is no glob goes before every glob. A glob whose only wildcard is ``*`` covers what it matches read as
    text: its stars take in the other's wildcards.
    """
    if earlier.name == later.name:
        return True
    return (
        is_glob(later.name) and not set("?[") & set(earlier.name + later.name) and fnmatchcase(later.name, earlier.name)
    )
