"""Fills in what a provider's kind supplies where the operator said nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, replace

from claudeproxyd.config.reading import default_of, settings_of
from claudeproxyd.config.schema import Config, CredentialSection, Provider
from claudeproxyd.interfaces import IExecutorMaker

#: The name of the one credential of a provider whose kind needs no secret, if none is written down.
IMPLICIT_CREDENTIAL = "default"


def completed(config: Config, makers: Mapping[str, IExecutorMaker]) -> Config:
    """Return *config* with the base URLs of its kinds, without the paths those add, and with implicit credentials."""
    return replace(config, providers=[_completed(provider, makers) for provider in config.providers])


def _completed(provider: Provider, makers: Mapping[str, IExecutorMaker]) -> Provider:
    maker = makers.get(provider.kind)
    if maker is None:
        return provider
    credentials = provider.credentials
    if not credentials and not maker.credential_schema and _has_defaults(maker.credential_settings):
        credentials = [CredentialSection(name=IMPLICIT_CREDENTIAL, own=maker.credential_settings())]
    base_url = _without_what_is_added(maker.added_paths, provider.base_url or maker.default_base_url)
    tls = provider.tls
    if tls.ca_file:
        tls = replace(tls, ca_file=os.path.abspath(os.path.expanduser(tls.ca_file)))
    return replace(provider, base_url=base_url, credentials=credentials, tls=tls)


def _has_defaults(section: type[object]) -> bool:
    return all(default_of(each) is not MISSING for each in settings_of(section))


def _without_what_is_added(added_paths: Sequence[str], base_url: str) -> str:
    """Return *base_url* without a path that the kind adds itself: requests would be for ``/v1/v1/messages``."""
    scheme, colon, rest = base_url.partition("://")
    host, slash, path = rest.partition("/")
    path = f"{slash}{path}".rstrip("/")
    end = next((added for added in added_paths if path.endswith(added)), "")
    return scheme + colon + host + path.removesuffix(end).rstrip("/")
