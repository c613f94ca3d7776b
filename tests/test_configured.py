"""What a configuration says, as those need it whom it concerns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.accounts import listed_prices
from claudeproxyd.config.loading import Loaded
from claudeproxyd.config.schema import (
    Config,
    CredentialSection,
    IssuerSection,
    Provider,
    TracesSettings,
    WebhookSection,
)
from claudeproxyd.config.secret import Secret
from claudeproxyd.config.setting import NoSettings, setting
from claudeproxyd.configured import credentials, prices_of, secrets_of
from claudeproxyd.executors.kinds import makers
from claudeproxyd.executors.vertex.locations import VertexCredential
from claudeproxyd.secrets.sources import Sources


@dataclass(frozen=True, kw_only=True)
class OwnSettings:
    """Settings of a kind, with a secret."""

    key: Secret | None = setting(None, "A key.")


class OwnTests(SynchronousTestCase):
    """Settings that one kind alone has."""

    config = Config(
        providers=[
            Provider(
                name="p",
                kind="k",
                own=OwnSettings(key=Secret("own-key")),
                credentials=[
                    CredentialSection(name="c", api_key=Secret("api-key"), own=VertexCredential(location="eu"))
                ],
            ),
            Provider(name="q", kind="l", own=NoSettings(), credentials=[CredentialSection(name="c", own=NoSettings())]),
        ]
    )

    def test_of_credentials(self) -> None:
        """An executor finds its kind's settings at the credential that was leased."""
        sources = Sources(Clock())
        sources.reload(self.config)
        first, second = credentials(self.config, sources)
        self.assertEqual((first.settings.location, first.settings.project), ("eu", ""))
        self.assertEqual(second.settings, NoSettings())

    def test_masked(self) -> None:
        """A secret among them is masked like any other."""
        self.assertEqual(secrets_of(self.config), ["api-key", "own-key"])


class PricesTests(SynchronousTestCase):
    """What models cost."""

    def read_for(self, *base_urls: str) -> int:
        """How often the published list is read for a configuration with providers there."""
        read: list[object] = []
        self.patch(listed_prices, "are_installed", lambda: True)
        self.patch(listed_prices, "ListedPrices", read.append)
        providers = [
            Provider(name=url, kind="anthropic", base_url=url, own=NoSettings(), credentials=[]) for url in base_urls
        ]
        prices_of(Loaded(Config(providers=providers), [], {}, makers([])))
        return len(read)

    def test_list_is_read_where_it_may_help(self) -> None:
        """A daemon whose providers are all servers of one's own starts without the list, which takes its time."""
        own = ("http://127.0.0.1:8000", "http://vllm:8000", "http://[::1]:8000")
        self.assertEqual(self.read_for(*own), 0)
        self.assertEqual(self.read_for(*own, "https://api.anthropic.com"), 1)


class SecretsTests(SynchronousTestCase):
    """What is masked of a configuration."""

    PROXY = "http://me:of-the-proxy@127.0.0.1:9"
    BASIC = "bWU6b2YtdGhlLXByb3h5"

    def masked(self, **members: Any) -> list[str]:
        return secrets_of(Config(**members))

    def test_proxies(self) -> None:
        """Of each: the password, and what the proxy is sent, which is neither the one nor the other."""
        issuer = IssuerSection(url="https://i.test", audience=["a"], proxy=self.PROXY)
        for members in (
            {"providers": [Provider(name="p", kind="k", proxy=self.PROXY)]},
            {"issuers": [issuer]},
            {"traces": TracesSettings(proxy=self.PROXY)},
            {"webhooks": [WebhookSection(name="w", url=Secret(""), proxy=self.PROXY)]},
        ):
            self.assertEqual([each for each in self.masked(**members) if each], ["of-the-proxy", self.BASIC], members)

    def test_proxies_of_the_environment(self) -> None:
        """Those that ``env`` stands for, too."""
        self.patch(os, "environ", {"HTTPS_PROXY": self.PROXY})
        self.assertEqual(self.masked(traces=TracesSettings(proxy="env")), ["of-the-proxy", self.BASIC])
        self.assertEqual(self.masked(), [])

    def test_webhooks(self) -> None:
        """Who refuses a POST quotes its path, and not the whole URL: what is secret is in there, or in its query."""
        url = "https://hooks.test/services/T0/abcdefgh-ijklmnop?v=1&sig=12345678"
        hook = WebhookSection(name="w", url=Secret(url))
        self.assertEqual(self.masked(webhooks=[hook]), [url, "abcdefgh-ijklmnop", "1", "12345678"])

    def test_collectors(self) -> None:
        """A bearer token is masked also where the word ahead of it is not repeated."""
        traces = TracesSettings(headers={"authorization": Secret("Bearer of-the-collector"), "x": Secret("key")})
        self.assertEqual(self.masked(traces=traces), ["Bearer of-the-collector", "key", "of-the-collector", "key"])
