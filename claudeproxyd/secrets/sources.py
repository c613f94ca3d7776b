"""Makes and keeps the sources of credentials' secrets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from claudeproxyd.config.schema import Aws
from claudeproxyd.config.secret import Secret
from claudeproxyd.secrets.aws import AwsChain, configured_keys
from claudeproxyd.secrets.endpoint import http_client
from claudeproxyd.secrets.entra import EntraTokens
from claudeproxyd.secrets.file import FileSecret
from claudeproxyd.secrets.google import DefaultCredentials, ServiceAccount, secrets_in
from claudeproxyd.secrets.grants import Grants
from claudeproxyd.secrets.oauth import OAuthRefresh
from claudeproxyd.secrets.refreshed import Fetch, RefreshedSecret
from claudeproxyd.secrets.static import StaticSecret

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Config, CredentialSection, Provider
    from claudeproxyd.interfaces import ISecretSource


class Sources:
    """The sources of all credentials. One whose configuration stays as it was is kept, with its token."""

    def __init__(
        self,
        reactor: Any,
        wall_clock: Callable[[], float] = time.time,
        grants: Grants | None = None,
        fetched_elsewhere: Callable[[str, str], Fetch] | None = None,
    ) -> None:
        """*fetched_elsewhere*: what has another process fetch the tokens of a credential, by provider and name."""
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._grants = grants or Grants(wall_clock)
        self._fetched_elsewhere = fetched_elsewhere
        self._sources: dict[tuple[str, str], tuple[object, ISecretSource]] = {}

    def reload(self, config: Config) -> Mapping[tuple[str, str], tuple[object, ISecretSource]]:
        """Replace the credentials. Return what there was before, for :meth:`restore`."""
        before, self._sources = self._sources, {}
        for provider in config.providers:
            for credential in provider.credentials:
                key = (provider.name, credential.name)
                made_of = (
                    credential.api_key,
                    credential.bearer_token,
                    credential.service_account,
                    credential.aws,
                    credential.oauth,
                    credential.entra,
                    provider.proxy,
                )
                was = before.get(key)
                if was is None or was[0] != made_of:
                    was = (made_of, self._make(provider, credential))
                self._sources[key] = was
        return before

    def restore(self, before: Mapping[tuple[str, str], tuple[object, ISecretSource]]) -> None:
        """Undo the last :meth:`reload`, which did not come into force."""
        self._sources = dict(before)

    def source(self, provider: str, credential: str) -> ISecretSource:
        """Return the source of that credential."""
        return self._sources[provider, credential][1]

    def _make(self, provider: Provider, credential: CredentialSection) -> ISecretSource:
        for name in ("api_key", "bearer_token"):
            secret: Secret | None = getattr(credential, name)
            if secret is not None and secret.path:
                return FileSecret(name, secret, self._reactor)
        fetch: Fetch | None = self._fetch(provider, credential)
        if fetch is not None:
            if self._fetched_elsewhere is not None:
                fetch = self._fetched_elsewhere(provider.name, credential.name)
            return RefreshedSecret(f"{provider.name}/{credential.name}", fetch, self._reactor)
        return StaticSecret(static_members(credential))

    def _fetch(self, provider: Provider, credential: CredentialSection) -> Any:
        """Return the function that fetches its tokens; None where it needs none."""
        account, aws = credential.service_account, credential.aws
        if account is None and credential.oauth is None and credential.entra is None and not _is_fetched(aws):
            return None
        http = http_client(self._reactor, provider.proxy)
        if isinstance(aws, Aws):
            return AwsChain(
                http, self._wall_clock, profile=aws.profile, role_arn=aws.role_arn, keys=configured_keys(aws)
            ).fetch
        if aws is not None:
            return AwsChain(http, self._wall_clock).fetch
        if credential.entra is not None:
            return EntraTokens(credential.entra, http, self._wall_clock).fetch
        if credential.oauth is not None:
            return OAuthRefresh(credential.oauth, http, self._grants).fetch
        if isinstance(account, Secret):
            return ServiceAccount(account, http, self._wall_clock).fetch
        return DefaultCredentials(http, self._wall_clock, os.environ).fetch


def _is_fetched(aws: Aws | str | None) -> bool:
    """Whether keys of AWS are not those that stand in the configuration."""
    return bool(aws.profile or aws.role_arn) if isinstance(aws, Aws) else aws is not None


def static_members(credential: CredentialSection) -> Mapping[str, str]:
    """Return what goes into requests as it was configured: keys, tokens, a key pair of AWS."""
    aws = credential.aws if isinstance(credential.aws, Aws) else None
    members: dict[str, Secret | None] = {
        "api_key": credential.api_key,
        "bearer_token": credential.bearer_token,
        "access_key_id": None if aws is None else aws.access_key_id,
        "secret_access_key": None if aws is None else aws.secret_access_key,
        "session_token": None if aws is None else aws.session_token,
    }
    return {name: secret.reveal() for name, secret in members.items() if secret is not None}


def secrets_in_key_file(credential: CredentialSection) -> list[str]:
    """Return the secrets in a configured key file, to be masked."""
    account = credential.service_account
    return secrets_in(account.reveal()) if isinstance(account, Secret) else []
