"""Which source a credential gets, and how long it keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.testing import MemoryReactorClock

from claudeproxyd.config.schema import Aws, Config, CredentialSection, Entra, OAuth, Provider
from claudeproxyd.config.secret import Secret
from claudeproxyd.secrets.file import FileSecret
from claudeproxyd.secrets.refreshed import RefreshedSecret
from claudeproxyd.secrets.sources import Sources
from claudeproxyd.secrets.static import StaticSecret
from tests.secrets.support import SecretsTestCase


def config(proxy: str = "", **credentials: CredentialSection) -> Config:
    """One provider with these."""
    return Config(providers=[Provider(name="p", kind="x", proxy=proxy, credentials=list(credentials.values()))])


def oauth(refresh_token: str = "refresh-1") -> OAuth:
    """A section."""
    return OAuth(token_url="https://login.example/t", client_id="me", refresh_token=Secret(refresh_token))


def entra(client_secret: str = "secret-1") -> Entra:
    """A section."""
    return Entra(tenant_id="contoso.example", client_id="app", client_secret=Secret(client_secret))


class SourcesTests(SecretsTestCase):
    """From the configuration."""

    def setUp(self) -> None:
        """A place for them."""
        super().setUp()
        self.sources = Sources(MemoryReactorClock())

    def source(self, **members: Any) -> Any:
        """The source of a credential that was configured so."""
        self.sources.reload(config(c=CredentialSection(name="c", **members)))
        return self.sources.source("p", "c")

    def test_kinds(self) -> None:
        """Keys and tokens are what they are, files are watched, accounts and refresh tokens are asked with."""
        path = Path(self.mktemp()).absolute()
        path.write_text("from-a-file")
        self.assertEqual(self.source(api_key=Secret("k")).present(), {"api_key": "k"})
        self.assertEqual(self.source(bearer_token=Secret("t")).present(), {"bearer_token": "t"})
        pair = self.source(aws=Aws(access_key_id=Secret("i"), secret_access_key=Secret("s")))
        self.assertEqual(pair.present(), {"access_key_id": "i", "secret_access_key": "s"})
        self.assertEqual(self.source().present(), {})
        self.assertIsInstance(self.source(api_key=Secret("from-a-file", path=str(path))), FileSecret)
        for members in (
            {"service_account": Secret("{}")},
            {"service_account": "adc"},
            {"oauth": oauth()},
            {"aws": "chain"},
            {"aws": Aws(profile="p")},
            {"aws": Aws(access_key_id=Secret("i"), secret_access_key=Secret("s"), role_arn="arn:aws:iam::1:role/r")},
            {"entra": entra()},
        ):
            self.assertIsInstance(self.source(**members), RefreshedSecret)

    def test_kept(self) -> None:
        """A reload keeps the source, and so the token, of what did not change; priorities and weights may."""
        before = self.source(oauth=oauth())
        self.assertIs(self.source(oauth=oauth(), weight=7, priority=3), before)
        self.assertIsNot(self.source(oauth=oauth("refresh-2")), before)
        self.assertIsInstance(self.source(api_key=Secret("k")), StaticSecret)
        before = self.source(oauth=oauth())
        self.sources.reload(config("http://proxy.example:3128", c=CredentialSection(name="c", oauth=oauth())))
        self.assertIsNot(self.sources.source("p", "c"), before)

    def test_rotated(self) -> None:
        """A reload that brings an application's new secret asks with that; the old token is gone with the old one."""
        before = self.source(entra=entra())
        self.assertIs(self.source(entra=entra(), weight=7), before)
        after = self.source(entra=entra("secret-2"))
        self.assertIsNot(after, before)
        self.assertIsNone(after.present())

    def test_gone(self) -> None:
        """What is configured no more is forgotten: back again, it starts anew."""
        before = self.source(oauth=oauth())
        self.sources.reload(config())
        self.assertIsNot(self.source(oauth=oauth()), before)
