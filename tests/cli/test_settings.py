"""``claudeproxyd settings``."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.cli.command import CommandFailed
from claudeproxyd.cli.settings import SettingsCommand

CLIENT = '[[clients]]\nname = "laptop"\nkey = "a-clients-key-of-some-length"\n'


class Settings(SynchronousTestCase):
    """What Claude Code is to be told."""

    def settings(self, text: str, *argv: str) -> dict[str, Any]:
        """The settings by that configuration."""
        path = os.path.abspath(self.mktemp())
        Path(path).write_text(text, "utf-8")
        out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", self.err)
        command = SettingsCommand()
        command.parseOptions(["--config", path, *argv])
        self.assertEqual(command.perform(), 0)
        self.assertNotIn("a-clients-key", out.getvalue() + self.err.getvalue())
        return json.loads(out.getvalue())

    def test_open(self) -> None:
        """Without clients any key will do."""
        expected = {"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:8765", "ANTHROPIC_AUTH_TOKEN": "any"}}
        self.assertEqual(self.settings(""), expected)

    def test_key(self) -> None:
        """No key is written: Claude Code runs a command for it."""
        shown = self.settings(CLIENT)
        self.assertEqual(shown["apiKeyHelper"], "printenv CLAUDEPROXYD_KEY")
        self.assertNotIn("ANTHROPIC_AUTH_TOKEN", shown["env"])
        self.assertIn("laptop's key", self.err.getvalue())
        self.assertEqual(self.settings(CLIENT, "--helper", "pass show claude")["apiKeyHelper"], "pass show claude")

    def test_keys_that_are_not_in_the_file(self) -> None:
        """Tokens of an issuer, and keys that are minted, come by a command too: no other word lets in."""
        issuer = '[[issuers]]\nurl = "https://login.example.com"\naudience = "gateway"\n'
        for text in (issuer, "[accounts]\nrequire_keys = true\n"):
            self.assertEqual(self.settings(text)["apiKeyHelper"], "printenv CLAUDEPROXYD_KEY")

    def test_url(self) -> None:
        """As it listens, or as it is said; without /v1, which clients add."""
        told = {
            "tcp:1:interface=192.0.2.1": "http://192.0.2.1:1",
            "tcp6:3:interface=\\\\:\\\\:1": "http://[::1]:3",
        }
        for listen, url in told.items():
            shown = self.settings(f'[server]\nlisten = ["unix:/run/x", "{listen}"]')
            self.assertEqual(shown["env"]["ANTHROPIC_BASE_URL"], url)
        shown = self.settings("", "--url", "https://claude.example.com/v1/")
        self.assertEqual(shown["env"]["ANTHROPIC_BASE_URL"], "https://claude.example.com")

    def test_url_of_all_addresses(self) -> None:
        """What listens on every address is named by the machine's name: it is for others."""
        self.patch(sys.modules["socket"], "getfqdn", lambda: "gateway.example.com")
        shown = self.settings('[server]\nlisten = ["tcp:80"]')
        self.assertEqual(shown["env"]["ANTHROPIC_BASE_URL"], "http://gateway.example.com:80")

    def test_no_url(self) -> None:
        """Where the configuration does not tell it, it has to be said."""
        error = self.assertRaises(CommandFailed, self.settings, '[server]\nlisten = ["unix:/run/x"]')
        self.assertIn("--url", str(error))
        self.assertRaises(UsageError, self.settings, "", "--url", "example.com")

    def test_models_of_claude(self) -> None:
        """Where Claude's names are served there is nothing to set."""
        for text in ('[[models]]\nname = "claude-*"\n', '[[providers]]\nname = "a"\nkind = "anthropic"\n'):
            self.assertEqual(set(self.settings(text)["env"]), {"ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN"})

    def test_other_models(self) -> None:
        """Where they are not, each family's name is the listed one that speaks of it, or the nearest."""
        text = "".join(f'[[models]]\nname = "{name}"\n' for name in ("big", "my-sonnet", "small"))
        env = self.settings(text)["env"]
        self.assertEqual(env["ANTHROPIC_MODEL"], "big")
        self.assertEqual(env["ANTHROPIC_DEFAULT_OPUS_MODEL"], "big")
        self.assertEqual(env["ANTHROPIC_DEFAULT_SONNET_MODEL"], "my-sonnet")
        self.assertEqual(env["ANTHROPIC_DEFAULT_HAIKU_MODEL"], "small")

    def test_models_of_the_client(self) -> None:
        """A client's own models count."""
        models = "".join(f'[[models]]\nname = "{name}"\n' for name in ("claude-*", "claude-team", "small"))
        text = f'{models}{CLIENT}models = ["small"]\n[[clients]]\nname = "all"\nkey = "another-clients-key"\n'
        self.assertEqual(self.settings(text, "--client", "laptop")["env"]["ANTHROPIC_DEFAULT_OPUS_MODEL"], "small")
        env = self.settings(text, "--client", "all")["env"]
        self.assertNotIn("ANTHROPIC_DEFAULT_OPUS_MODEL", env)
        self.assertEqual(env["CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY"], "1")
        self.assertIn("laptop, all", str(self.assertRaises(CommandFailed, self.settings, text, "--client", "x")))

    def test_no_claude(self) -> None:
        """Providers without Claude's names, and no map of names, are told to be that."""
        env = self.settings('[[providers]]\nname = "g"\nkind = "gemini"\nmodels = ["gemini-3-pro", "gemini-*"]\n')[
            "env"
        ]
        self.assertEqual(env["ANTHROPIC_MODEL"], "gemini-3-pro")
        self.assertIn("[[models]]", self.err.getvalue())
