"""A user without a home directory, as in a container that runs as any number."""

from __future__ import annotations

import os
import pwd
from typing import Any

from claudeproxyd.config.state import InMemory, state_of
from tests.config.support import SANDBOX, ConfigTestCase


class HomelessTests(ConfigTestCase):
    """Nothing is taken for a folder that is called ``~``."""

    def setUp(self) -> None:
        super().setUp()

        def unknown(user: object) -> Any:
            raise KeyError(user)

        self.patch(os, "environ", {name: value for name, value in os.environ.items() if name != "HOME"})
        self.patch(pwd, "getpwuid", unknown)

    def test_state(self) -> None:
        """Where nobody said where the state is to be it is in memory, and the operator is told."""
        loaded = self.load(SANDBOX)
        self.assertEqual(state_of(loaded.config.server.state), InMemory())
        self.assertEqual(loaded.config.accounts.database, "")
        self.assertEqual([warning.path for warning in loaded.warnings], ["server.state", "accounts.database"])
        for warning in loaded.warnings:
            self.assertIn("no home directory", warning.message)

    def test_said(self) -> None:
        """What was said is heard."""
        for state in ("memory:", "sqlite:/var/lib/state.db"):
            accounts = state.replace("memory:", "")
            loaded = self.load(f'[server]\nstate = "{state}"\n[accounts]\ndatabase = "{accounts}"\n{SANDBOX}')
            self.assertEqual((loaded.config.server.state, loaded.warnings), (state, []))
            self.assertEqual(loaded.config.accounts.database, accounts)

    def test_paths(self) -> None:
        """A path that is to be in a home directory is an error, where it stands; one that is not used is not."""
        secret = '[[providers.credentials]]\nname = "c"\napi_key = { file = "~/key" }\n'
        for text, path in (
            ('[server]\nstate = "sqlite:~/mine.db"\n', "server.state"),
            ('[accounts]\ndatabase = "sqlite:~/mine.db"\n', "accounts.database"),
            ('[log]\naccess = "~/access.log"\n', "log.access"),
            ('[capture]\nwhen = "errors"\n', "capture.directory"),
            ('include = ["~/clients/*.toml"]\nserver = { open = true }\n', "include[0]"),
            (f'[[providers]]\nname = "a"\nkind = "anthropic"\n{secret}', "providers[0].credentials[0].api_key"),
        ):
            with self.subTest(path):
                problem = self.problem(text + SANDBOX)
                self.assertEqual(problem.path, path)
                self.assertIn("home directory", problem.message)
        self.load(f'[server]\nstate = "memory:"\n[capture]\ndirectory = "~/captures"\n{SANDBOX}')
