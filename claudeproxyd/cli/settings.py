"""``claudeproxyd settings``."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from twisted.python.usage import UsageError

from claudeproxyd.cli.command import DONE, REFUSED, CommandFailed, ConfiguredCommand, complain, say
from claudeproxyd.config.checking import SHOWN_BY_CLAUDE_CODE
from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.config.endpoints import listener_of
from claudeproxyd.config.excerpt import excerpt
from claudeproxyd.config.schema import Client, Config
from claudeproxyd.executors.kinds import makers
from claudeproxyd.globs import is_glob, matches

#: What Claude Code runs for its key, where nothing else is said: a variable of whoever runs it.
KEY_HELPER = "printenv CLAUDEPROXYD_KEY"
#: Families that Claude Code asks for by itself, and a name of each that a glob for them would match.
_FAMILIES = {"OPUS": "claude-opus-4-8", "SONNET": "claude-sonnet-5", "HAIKU": "claude-haiku-5-5"}


class SettingsCommand(ConfiguredCommand):
    """Prints the settings with which Claude Code uses this daemon, for ~/.claude/settings.json.

    They hold no key: Claude Code gets it by running apiKeyHelper, which prints the variable CLAUDEPROXYD_KEY where
    --helper names nothing else. Reads the configuration; no daemon has to run.
    """

    optParameters: ClassVar = [
        ["client", None, None, "For this one of [[clients]]; needed where their models differ."],
        ["url", None, None, "How clients reach the daemon, such as https://claude.example.com; else as it listens."],
        ["helper", None, KEY_HELPER, "The command that prints the client's key."],
    ]

    def perform(self) -> int:
        """Print them."""
        try:
            config = excerpt(self["config"], os.environ).config
        except ConfigError as error:
            raise CommandFailed(REFUSED, str(error)) from None
        client = _client(config, self["client"])
        if config.providers and not config.models and not _serves_claude(config):
            complain("no provider serves Claude's names: map them to others by [[models]]")
        url = _checked(self["url"]) if self["url"] else _listens(config)
        shown = settings(config, client, url, self["helper"])
        say(msgspec.json.format(msgspec.json.encode(shown)).decode())
        if "apiKeyHelper" in shown and self["helper"] == KEY_HELPER:
            whose = f"{client.name}'s key" if client is not None else "the client's key"
            complain(f"whoever uses them sets CLAUDEPROXYD_KEY to {whose}")
        return DONE


def settings(config: Config, client: Client | None, url: str, helper: str) -> dict[str, object]:
    """Return the settings. *client*: whose models count; None: all."""
    env = {"ANTHROPIC_BASE_URL": url, **_models(config, client)}
    if not config.is_keyed and not config.plugins:
        return {"env": {**env, "ANTHROPIC_AUTH_TOKEN": "any"}}
    return {"apiKeyHelper": helper, "env": env}


def _client(config: Config, name: str | None) -> Client | None:
    if name is None:
        return config.clients[0] if len(config.clients) == 1 else None
    found = next((client for client in config.clients if client.name == name), None)
    if found is None:
        names = ", ".join(client.name for client in config.clients) or "none"
        raise CommandFailed(REFUSED, f"--client {name}: is none of [[clients]]: {names}")
    return found


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url {url}: must begin with http:// or https://")
    return url.rstrip("/").removesuffix("/v1")


def _listens(config: Config) -> str:
    """Return how clients reach the first listener that tells."""
    for described in config.server.listen:
        try:
            address = listener_of(described)
        except ValueError:
            continue
        if address.port:
            # One that listens on every address is for other machines.
            host = address.interface if address.interface not in ("", "0.0.0.0", "::") else socket.getfqdn()  # noqa: S104
            scheme = "https" if described.startswith("ssl:") else "http"
            return f"{scheme}://[{host}]:{address.port}" if ":" in host else f"{scheme}://{host}:{address.port}"
    raise CommandFailed(REFUSED, "server.listen does not tell how clients reach the daemon: say it by --url")


def _models(config: Config, client: Client | None) -> dict[str, str]:
    """Return the names for what Claude Code asks for by itself, where ``[[models]]`` does not serve its own names."""
    allowed = ["*"] if client is None else client.models
    listed = [name for name in _named(config) if not is_glob(name) and matches(name, allowed)]
    served = [model.name for model in config.models] or (["*"] if _serves_claude(config) else [])
    env = {}
    for family, usual in _FAMILIES.items():
        if not (matches(usual, served) and matches(usual, allowed)) and listed:
            env[f"ANTHROPIC_DEFAULT_{family}_MODEL"] = _nearest(family, listed)
    if len(env) == len(_FAMILIES):
        env = {"ANTHROPIC_MODEL": listed[0], **env}
    if any(name.startswith(SHOWN_BY_CLAUDE_CODE) for name in listed):
        env["CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY"] = "1"
    return env


def _named(config: Config) -> list[str]:
    """Return the names that the operator wrote for clients to ask for."""
    if config.models:
        return [model.name for model in config.models if model.list]
    return [name for provider in config.providers for name in provider.models]


def _serves_claude(config: Config) -> bool:
    """Whether a provider's kind serves Claude's models by their names; kinds that are not installed may."""
    kinds = makers([])
    found = [kinds[provider.kind] for provider in config.providers if provider.kind in kinds]
    return len(found) < len(config.providers) or not found or any(kind.serves_claude for kind in found)


def _nearest(family: str, listed: Sequence[str]) -> str:
    """Return the listed name that speaks of that family, or else the first; of Haiku's the last: the small one."""
    named = next((name for name in listed if family.lower() in name), None)
    return named or listed[-1 if family == "HAIKU" else 0]
