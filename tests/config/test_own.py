"""Settings, time-outs and variables that one provider kind alone has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.loading import load
from claudeproxyd.config.reading import settings_of
from claudeproxyd.config.reload import difference
from claudeproxyd.config.report import report
from claudeproxyd.config.schema import CredentialSection, Provider
from claudeproxyd.config.secret import Secret, secrets_within
from claudeproxyd.config.setting import required, setting
from claudeproxyd.config.timeouts import timeouts_for
from claudeproxyd.executors.kinds import BUILT_IN
from tests.config.support import ConfigTestCase, FakeMaker


@dataclass(frozen=True, kw_only=True)
class Signing:
    """``signing``: how requests are signed."""

    key: Secret = required("What with.")
    rounds: int = setting(1, "How often.", least=1)


@dataclass(frozen=True, kw_only=True)
class OwnSettings:
    """Settings of every shape."""

    voice: str = setting("low", "How it speaks.", choices=("low", "high"))
    signing: Signing | None = setting(None, "Its signatures.")
    tags: list[str] = setting([], "Whatever.")


@dataclass(frozen=True, kw_only=True)
class OwnCredential:
    """Settings of a credential."""

    zone: int = setting(0, "Where.")


PROVIDER = '[[providers]]\nname = "p"\nkind = "own"\n'
CREDENTIAL = '[[providers.credentials]]\nname = "c"\napi_key = "k"\n'


class OwnTestCase(ConfigTestCase):
    """With a kind that no part of the configuration knows."""

    def setUp(self) -> None:
        super().setUp()
        self.makers["own"] = FakeMaker(
            "own",
            "https://own.example",
            settings=OwnSettings,
            credential_settings=OwnCredential,
            timeouts={"idle": 7.0},
        )

    def provider(self, text: str) -> Any:
        (provider,) = self.load(text).config.providers
        return provider


class ReadingTests(OwnTestCase):
    """From the same tables as what all kinds have."""

    def test_read(self) -> None:
        """What is there is read by its types, and what is not has its default."""
        self.environ["A_KEY"] = "of-the-signatures"
        made = self.provider(
            PROVIDER + 'voice = "high"\nsigning = { key = { env = "A_KEY" } }\n' + CREDENTIAL + "zone = 3\n"
        )
        self.assertEqual((made.own.voice, made.own.tags, made.own.signing.rounds), ("high", [], 1))
        self.assertEqual(made.own.signing.key.reveal(), "of-the-signatures")
        self.assertEqual((made.credentials[0].own.zone, made.credentials[0].api_key.reveal()), (3, "k"))
        made = self.provider(PROVIDER + CREDENTIAL)
        self.assertEqual((made.own, made.credentials[0].own), (OwnSettings(), OwnCredential()))

    def test_errors(self) -> None:
        """Errors have their place, their line and their fix, as with all settings."""
        for line, path, message, fix in (
            ("voise = 1", "voise", "is no setting here", 'did you mean "voice"?'),
            ("voice = 1", "voice", "must be a string, and is an integer", ""),
            ('voice = "hihg"', "voice", "must be one of low, high", 'did you mean "high"?'),
            ('signing = { kye = "k", key = "k" }', "signing.kye", "is no setting here", 'did you mean "key"?'),
            ("signing = {}", "signing.key", "is missing", ""),
            ('signing = { key = "k", rounds = 0 }', "signing.rounds", "must be at least 1", ""),
            ("own = {}", "own", "is no setting here", ""),
        ):
            problem = self.problem(PROVIDER + line + "\n" + CREDENTIAL)
            self.assertEqual(
                (problem.path, problem.line, problem.message, problem.hint),
                (f"providers[0].{path}", 4, message, fix),
            )
        problem = self.problem(PROVIDER + CREDENTIAL + 'zone = "a"\n')
        self.assertEqual((problem.path, problem.line), ("providers[0].credentials[0].zone", 7))

    def test_another_kinds(self) -> None:
        """What another kind has is told from what none has; empty, it means nothing and may be there."""
        problem = self.problem(PROVIDER.replace("own", "anthropic") + 'voice = "low"\n' + CREDENTIAL)
        self.assertEqual(problem.message, 'is no setting of kind "anthropic"')
        self.assertEqual(problem.hint, "leave it out; it belongs to own")
        problem = self.problem(PROVIDER + CREDENTIAL + 'region = "us-east-1"\n')
        self.assertEqual(
            (problem.path, problem.hint), ("providers[0].credentials[0].region", "leave it out; it belongs to bedrock")
        )
        self.load(PROVIDER + "betas = { add = [], drop = [] }\ndrop_fields = []\n" + CREDENTIAL + 'region = ""\n')

    def test_unknown_kind(self) -> None:
        """Where the kind is unknown, that is the one thing to be said of what some kind has."""
        problem = self.problem(PROVIDER.replace("own", "onw") + 'voice = "high"\n' + CREDENTIAL + "zone = 3\n")
        self.assertEqual((problem.path, problem.message), ("providers[0].kind", 'there is no kind "onw"'))
        self.assertEqual(
            [each.path for each in self.problems('[[providers]]\nname = "p"\nkind = ["own"]\nvoise = 1\n')],
            ["providers[0].kind", "providers[0].voise"],
        )

    def test_no_secret_needed(self) -> None:
        """The credential that nobody wrote down has the kind's defaults; with a setting to be given it is asked for."""
        self.makers["own"] = FakeMaker("own", "", (), credential_settings=OwnCredential)
        self.assertEqual(self.provider(PROVIDER).credentials[0].own, OwnCredential())
        self.makers["own"] = FakeMaker("own", "", (), credential_settings=Signing)
        self.assertEqual(self.problem(PROVIDER).hint, "add [[providers.credentials]] with a name")

    def test_names(self) -> None:
        """No built-in kind has a setting by the name of one that all kinds have."""
        for maker in BUILT_IN:
            for section, own in ((Provider, maker.settings), (CredentialSection, maker.credential_settings)):
                both = {each.name for each in settings_of(section)} & {each.name for each in settings_of(own)}
                self.assertEqual(both, set(), maker.kind)


class UseTests(OwnTestCase):
    """What is made of them."""

    signed = PROVIDER + 'tags = ["a", "b"]\nsigning = { key = "a-key-that-signs" }\n' + CREDENTIAL

    def test_report(self) -> None:
        """--check shows those that differ from their defaults, and no secret."""
        text = report(self.load(self.signed + "zone = 3\n"), self.makers)
        for line in ("\n    signing.key ****\n", "\n    tags a, b\n", "\n    credential c: api_key ****, zone 3\n"):
            self.assertIn(line, text)
        self.assertNotIn("a-key-that-signs", text)
        self.assertNotIn("voice", text)

    def test_reload(self) -> None:
        """A provider has changed when one of them has, its credentials' included, and not otherwise."""
        old = self.load(self.signed).config
        for text, changed in (
            (self.signed, ()),
            (self.signed.replace("a-key", "another-key"), ("p",)),
            (self.signed + "zone = 3\n", ("p",)),
        ):
            self.assertEqual(difference(old, self.load(text).config, self.makers).changed, changed)

    def test_secrets(self) -> None:
        """Secrets in them are known to be such: they are masked, and no client has them as its key."""
        config = self.load(self.signed).config
        self.assertEqual({each.reveal() for each in secrets_within(config)}, {"k", "a-key-that-signs"})
        self.assertNotIn("a-key-that-signs", repr(config))

    def test_timeouts(self) -> None:
        """A kind's own time-out holds where the operator says nothing else."""
        for text, seconds in (("", 7.0), ("timeouts = { idle = 2 }\n", 2.0)):
            config = self.load(PROVIDER + text + CREDENTIAL).config
            timeouts = timeouts_for(config.providers[0], config, self.makers)
            self.assertEqual((timeouts.idle, timeouts.content), (seconds, 900.0))


class EnvironmentTests(OwnTestCase):
    """What a kind makes of variables alone."""

    def test_kind(self) -> None:
        """A kind that no part of the configuration knows gives a provider, beside those of others."""

        def from_environment(environ: Any) -> Any:
            return {"name": "p", "voice": environ["VOICE"], "credentials": [{"name": "c", "api_key": {"env": "KEY"}}]}

        self.makers["own"].from_environment = from_environment  # type: ignore[method-assign]
        self.environ |= {"VOICE": "high", "KEY": "k"}
        (provider,) = load(None, self.environ, self.makers).config.providers
        self.assertEqual((provider.kind, provider.own.voice), ("own", "high"))


class WalkTests(SynchronousTestCase):
    """Secrets are found wherever they stand."""

    def test_within(self) -> None:
        """In tables, lists and tables of any names."""

        @dataclass
        class Section:
            many: list[Secret] = field(default_factory=lambda: [Secret("1")])
            named: dict[str, Secret] = field(default_factory=lambda: {"a": Secret("2")})
            none: None = None

        self.assertEqual([each.reveal() for each in secrets_within([Section()])], ["1", "2"])
