"""What a provider's kind supplies where the operator said nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from claudeproxyd.config.homes import has_home
from claudeproxyd.config.schema import Config, Credential, Provider, Server
from claudeproxyd.interfaces import IExecutorMaker

IMPLICIT_CREDENTIAL = "default"
"""The name of the one credential of a provider whose kind needs no secret, if none is written down."""


_ADDED: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("/v1/messages/count_tokens", "/v1/messages", "/v1/models", "/v1"),
    "gemini": ("/v1beta/models", "/v1beta", "/v1/models", "/v1"),
    "vertex": ("/v1beta1", "/v1"),
    "openai-chat": ("/chat/completions", "/models"),
    "openai-responses": ("/responses", "/models"),
    "bedrock": ("/model",),
}
"""What each kind puts behind its base URL, the longest first: copied from an upstream's own pages it is there already,
and every request would be for ``/v1/v1/messages``."""


_STATE = Server().state


def completed(config: Config, makers: Mapping[str, IExecutorMaker]) -> Config:
    """*config* with the base URLs of its kinds, without what those add to them, and with implicit credentials.

    The state is in memory where its usual file would lie in a home directory that is not there.
    """
    server = config.server
    if server.state == _STATE and not has_home():
        server = replace(server, state="memory:")
    return replace(config, server=server, providers=[_completed(provider, makers) for provider in config.providers])


def _completed(provider: Provider, makers: Mapping[str, IExecutorMaker]) -> Provider:
    maker = makers.get(provider.kind)
    if maker is None:
        return provider
    credentials = provider.credentials
    if not credentials and not maker.credential_schema:
        credentials = [Credential(name=IMPLICIT_CREDENTIAL)]
    base_url = _without_what_is_added(provider.kind, provider.base_url or maker.default_base_url)
    tls = provider.tls
    if tls.ca_file:
        tls = replace(tls, ca_file=os.path.abspath(os.path.expanduser(tls.ca_file)))
    return replace(provider, base_url=base_url, credentials=credentials, tls=tls)


def _without_what_is_added(kind: str, base_url: str) -> str:
    scheme, colon, place = base_url.partition("://")
    host, slash, path = place.partition("/")
    path = f"{slash}{path}".rstrip("/")
    end = next((added for added in _ADDED.get(kind, ()) if path.endswith(added)), "")
    return scheme + colon + host + path.removesuffix(end).rstrip("/")
