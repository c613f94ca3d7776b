"""What the tests of the configuration share: a maker that needs nothing, and a folder to write files into."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.config.loading import Loaded, load
from claudeproxyd.config.mistakes import ConfigError, Mistake
from claudeproxyd.interfaces import IExecutor, IExecutorMaker


@implementer(IExecutorMaker)
@dataclass
class FakeMaker:
    """A kind of which a test says what it needs."""

    kind: str
    default_base_url: str = ""
    credential_schema: Sequence[str] = ("api_key", "bearer_token")
    mistakes: Sequence[tuple[str, str]] = ()
    others: Sequence[str] = ()
    """Base URLs beside the one that is configured."""

    def check(self, section: Any) -> Sequence[tuple[str, str]]:
        return self.mistakes

    def base_urls(self, section: Any) -> Sequence[str]:
        return [section.base_url, *self.others] if section.base_url else ()

    def make(self, section: Any, services: Any) -> IExecutor:
        raise AssertionError("configuration makes no executors")


verifyClass(IExecutorMaker, FakeMaker)

MAKERS: Mapping[str, IExecutorMaker] = {
    maker.kind: maker
    for maker in (
        FakeMaker("anthropic", "https://api.anthropic.com"),
        FakeMaker("openai-chat", "", ("api_key",)),
        FakeMaker("gemini", "https://generativelanguage.googleapis.com", ("api_key",)),
        FakeMaker("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com", ("aws", "api_key")),
        FakeMaker("sandbox", "", ()),
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
        return load(self.write("main.toml", text), self.environ, self.makers)

    def mistakes(self, text: str | bytes) -> list[Mistake]:
        """What is wrong with a file of that text: never nothing."""
        return list(self.assertRaises(ConfigError, self.load, text).mistakes)

    def mistake(self, text: str | bytes) -> Mistake:
        """The one thing that is wrong with it."""
        (mistake,) = self.mistakes(text)
        return mistake

    def warning(self, text: str) -> Mistake:
        """The one warning that it draws."""
        (warning,) = self.load(text).warnings
        return warning
