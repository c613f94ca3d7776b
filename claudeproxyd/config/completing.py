"""What a provider's kind supplies where the operator said nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from claudeproxyd.config.schema import Config, Credential, Provider
from claudeproxyd.interfaces import IExecutorMaker

IMPLICIT_CREDENTIAL = "default"
"""The name of the one credential of a provider whose kind needs no secret, if none is written down."""


def completed(config: Config, makers: Mapping[str, IExecutorMaker]) -> Config:
    """*config* with the base URLs of its kinds, without a slash at their end, and with implicit credentials."""
    return replace(config, providers=[_completed(provider, makers) for provider in config.providers])


def _completed(provider: Provider, makers: Mapping[str, IExecutorMaker]) -> Provider:
    maker = makers.get(provider.kind)
    if maker is None:
        return provider
    credentials = provider.credentials
    if not credentials and not maker.credential_schema:
        credentials = [Credential(name=IMPLICIT_CREDENTIAL)]
    base_url = (provider.base_url or maker.default_base_url).rstrip("/")
    tls = provider.tls
    if tls.ca_file:
        tls = replace(tls, ca_file=os.path.abspath(os.path.expanduser(tls.ca_file)))
    return replace(provider, base_url=base_url, credentials=credentials, tls=tls)
