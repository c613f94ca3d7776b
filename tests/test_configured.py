"""What a configuration says, as those need it whom it concerns."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import Config, CredentialSection, Provider
from claudeproxyd.config.secret import Secret
from claudeproxyd.config.setting import NoSettings, setting
from claudeproxyd.configured import credentials, secrets_of
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
