"""What the tests of the configuration share: a maker that needs nothing, and a folder to write files into."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.config.diagnostics import ConfigError, Problem
from claudeproxyd.config.loading import Loaded, load
from claudeproxyd.executors.anthropic.maker import AnthropicMaker
from claudeproxyd.executors.bedrock.maker import BedrockMaker
from claudeproxyd.executors.gemini.maker import GeminiMaker
from claudeproxyd.executors.maker import Maker
from claudeproxyd.executors.openai_chat.maker import OpenAIChatMaker
from claudeproxyd.executors.openai_responses.maker import OpenAIResponsesMaker
from claudeproxyd.executors.sandbox.maker import SandboxMaker
from claudeproxyd.interfaces import IExecutorMaker, IPluginMaker


class FakeMaker(Maker):
    """A kind of which a test says what it needs. It is built, and all else is as with the kind that it is *like*."""

    def __init__(
        self,
        kind: str,
        default_base_url: str = "",
        credential_schema: Sequence[str] = ("api_key", "bearer_token"),
        *,
        like: Maker | None = None,
        problems: Sequence[tuple[str, str]] = (),
        others: Sequence[str] = (),
        **members: Any,
    ) -> None:
        """*others* are base URLs beside the one that is configured, *members* those of an IExecutorMaker."""
        self._like = like or Maker()
        for name in ("settings", "credential_settings", "timeouts", "added_paths"):
            setattr(self, name, getattr(self._like, name))
        for name in ("passes_requests", "serves_claude", "is_fallback"):
            setattr(self, name, getattr(self._like, name))
        self.kind = kind
        self.default_base_url = default_base_url
        self.credential_schema = credential_schema
        self._problems = problems
        self._others = others
        for name, value in members.items():
            setattr(self, name, value)

    def from_environment(self, environ: Mapping[str, str]) -> Mapping[str, Any] | None:
        return self._like.from_environment(environ)

    def check(self, section: Any) -> Sequence[tuple[str, str]]:
        return self._problems

    def base_urls(self, section: Any) -> Sequence[str]:
        return [*super().base_urls(section), *self._others]


verifyObject(IExecutorMaker, FakeMaker("fake"))

MAKERS: Mapping[str, IExecutorMaker] = {
    maker.kind: maker
    for maker in (
        FakeMaker("anthropic", "https://api.anthropic.com", like=AnthropicMaker()),
        FakeMaker("gemini", "https://generativelanguage.googleapis.com", ("api_key",), like=GeminiMaker()),
        FakeMaker("openai-chat", "", ("api_key",), like=OpenAIChatMaker()),
        FakeMaker("openai-responses", "https://api.openai.com/v1", ("api_key",), like=OpenAIResponsesMaker()),
        FakeMaker(
            "bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com", ("aws", "api_key"), like=BedrockMaker()
        ),
        FakeMaker("sandbox", "", (), like=SandboxMaker()),
    )
}

SANDBOX = '[[providers]]\nname = "sandbox"\nkind = "sandbox"\n'


class ConfigTestCase(SynchronousTestCase):
    """Loads texts as files of a folder of its own."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.makedirs(self.folder)
        self.environ: dict[str, str] = {"HOME": self.folder}
        self.makers = dict(MAKERS)
        self.plugin_makers: dict[str, IPluginMaker] = {}

    def write(self, name: str, content: str | bytes) -> str:
        """A file that nobody else can read; its path."""
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        os.chmod(path, 0o600)
        return path

    def load(self, text: str | bytes) -> Loaded:
        """What a file of that text amounts to."""
        return load(self.write("main.toml", text), self.environ, self.makers, plugin_makers=self.plugin_makers)

    def problems(self, text: str | bytes) -> list[Problem]:
        """What is wrong with a file of that text: never nothing."""
        return list(self.assertRaises(ConfigError, self.load, text).errors)

    def problem(self, text: str | bytes) -> Problem:
        """The one thing that is wrong with it."""
        (problem,) = self.problems(text)
        return problem

    def warning(self, text: str) -> Problem:
        """The one warning that it draws."""
        (warning,) = self.load(text).warnings
        return warning
