"""Where the daemon keeps what is its own if nobody said where, and a user without a home directory."""

from __future__ import annotations

import os
import pwd
from typing import Any

from claudeproxyd.config import default_paths, preflight
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
        """What nobody said a place for is where services keep such things."""
        self.patch(default_paths, "SYSTEM_FOLDER", self.folder)
        loaded = self.load(SANDBOX + '[capture]\nwhen = "errors"\n')
        self.assertEqual(loaded.config.server.state, f"sqlite:{self.folder}/state.db")
        self.assertEqual(loaded.config.accounts.database, f"sqlite:{self.folder}/accounts.db")
        self.assertEqual(loaded.config.capture.directory, f"{self.folder}/captures")
        self.assertEqual(loaded.warnings, [])

    def test_nowhere(self) -> None:
        """Where nothing can be kept nothing is, and the operator is told what would mend it."""
        file = self.write("file", "")
        self.patch(default_paths, "SYSTEM_FOLDER", f"{file}/claudeproxyd")
        loaded = self.load(SANDBOX)
        self.assertEqual(state_of(loaded.config.server.state), InMemory())
        self.assertEqual(loaded.config.accounts.database, "")
        self.assertEqual([warning.path for warning in loaded.warnings], ["server.state", "accounts.database"])
        for warning in loaded.warnings:
            self.assertIn(f"{file} is no folder", warning.message)

    def test_said(self) -> None:
        """What was said is heard."""
        self.patch(preflight, "access", lambda path, mode: True)
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
            ('[capture]\nwhen = "errors"\ndirectory = "~/captures"\n', "capture.directory"),
            ('[server]\nstate = "sqlite:~/.local/state/claudeproxyd/state.db"\n', "server.state"),
            ('include = ["~/clients/*.toml"]\nserver = { open = true }\n', "include[0]"),
            (f'[[providers]]\nname = "a"\nkind = "anthropic"\n{secret}', "providers[0].credentials[0].api_key"),
        ):
            with self.subTest(path):
                problem = self.problem(text + SANDBOX)
                self.assertEqual(problem.path, path)
                self.assertIn("home directory", problem.message)
        self.load(f'[server]\nstate = "memory:"\n[capture]\ndirectory = "~/captures"\n{SANDBOX}')


class DefaultPlaceTests(ConfigTestCase):
    """A user with a home directory, under systemd and without."""

    def setUp(self) -> None:
        super().setUp()
        self.home = self.made("home")
        self.patch(os, "environ", {**os.environ, "HOME": self.home})
        self.patch(default_paths, "SYSTEM_FOLDER", os.path.join(self.folder, "system"))

    def made(self, name: str) -> str:
        path = os.path.join(self.folder, name)
        os.makedirs(path)
        return path

    def place(self, **environ: str) -> tuple[str, ...]:
        """The folder of all that is kept, with these variables; nothing may be warned of."""
        self.environ.update(environ)
        loaded = self.load(SANDBOX + '[capture]\nwhen = "errors"\n')
        self.assertEqual(loaded.warnings, [])
        config = loaded.config
        paths = (config.server.state[7:], config.accounts.database[7:], config.capture.directory)
        self.assertEqual([os.path.basename(path) for path in paths], ["state.db", "accounts.db", "captures"])
        return tuple(dict.fromkeys(os.path.dirname(os.path.expanduser(path)) for path in paths))

    def test_home(self) -> None:
        """It is where programs of a user keep state; a relative XDG_STATE_HOME is none, by its own rules."""
        usual = f"{self.home}/.local/state/claudeproxyd"
        self.assertEqual(self.place(), (usual,))
        self.assertEqual(self.place(XDG_STATE_HOME="somewhere"), (usual,))
        self.assertEqual(self.place(XDG_STATE_HOME=f"{self.folder}/xdg"), (f"{self.folder}/xdg/claudeproxyd",))

    def test_systemd(self) -> None:
        """The unit's StateDirectory goes before all; of several it is the first."""
        one, two = self.made("one"), self.made("two")
        self.assertEqual(self.place(STATE_DIRECTORY=one, XDG_STATE_HOME=self.folder), (one,))
        self.assertEqual(self.place(STATE_DIRECTORY=f"{two}:{one}"), (two,))

    def test_homes_that_are_none(self) -> None:
        """A home directory that is missing, the root, or not to be written to is passed over."""
        system = os.path.join(self.folder, "system")
        for home in ("/nonexistent", "/"):
            self.patch(os, "environ", {**os.environ, "HOME": home})
            self.assertEqual(self.place(), (system,), home)
        self.patch(os, "environ", {**os.environ, "HOME": self.home})
        self.patch(preflight, "access", lambda path, mode: os.path.abspath(path) != self.home)
        self.assertEqual(self.place(), (system,))

    def test_files_of_before(self) -> None:
        """A file that is where it was before stays in use, each by itself: keys that were minted must not be gone."""
        before = self.made("home/.local/state/claudeproxyd")
        self.write("home/.local/state/claudeproxyd/accounts.db", "")
        unit = self.made("unit")
        self.assertEqual(self.place(STATE_DIRECTORY=unit), (unit, before))
        self.write("unit/accounts.db", "")
        self.assertEqual(self.place(STATE_DIRECTORY=unit), (unit,))

    def test_files_that_became_read_only(self) -> None:
        """What is there and cannot be written is not taken for nothing: keys that were minted still hold."""
        unit = self.made("unit")
        self.write("unit/accounts.db", "")
        self.environ["STATE_DIRECTORY"] = unit
        self.patch(preflight, "access", lambda path, mode: not path.startswith(unit))
        loaded = self.load(SANDBOX)
        self.assertEqual(loaded.config.accounts.database, f"sqlite:{unit}/accounts.db")
        self.assertEqual(loaded.config.server.state, "memory:")
        self.assertEqual([warning.path for warning in loaded.warnings], ["server.state", "accounts.database"])
