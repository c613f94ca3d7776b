"""That nothing opens by itself: no missing file and no reload widens who may call."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.config.loading import load
from claudeproxyd.config.reload import difference, put_in_force
from claudeproxyd.config.schema import Config
from tests.config.support import SANDBOX, ConfigTestCase

LONG = "a-key-that-is-long-enough"
CLIENT = f'[[clients]]\nname = "c"\nkey = "{LONG}"\n'
INCLUDE = 'include = ["clients.d/*.toml"]\n'
EVERYWHERE = 'listen = ["tcp:8765:interface=0.0.0.0"]\n'
HERE = 'listen = ["tcp:8765:interface=127.0.0.1"]\n'
MINTED = "[accounts]\nrequire_keys = true\n"
OPERATOR = f'[[operators]]\nname = "o"\nkey = "{LONG}"\nrole = "read"\n'
ADMIN_EVERYWHERE = 'admin = "tcp:8766:interface=0.0.0.0"\n'


class StartTests(ConfigTestCase):
    """Who may call without a key when the daemon starts."""

    def test_never_any_clients(self) -> None:
        """A file without clients and includes serves this machine, as it always did."""
        self.assertFalse(self.load(SANDBOX).config.server.open)

    def test_empty_include(self) -> None:
        """Where files are included that may have held the clients, none of them opens nothing; it is said why."""
        error = self.assertRaises(ConfigError, self.load, INCLUDE + SANDBOX)
        (problem,) = error.errors
        self.assertEqual((problem.path, problem.line), ("include", 1))
        self.assertIn("include[0] matches no file", str(error))
        self.assertIn("server.open = true", str(error))

    def test_chosen(self) -> None:
        """Open access may be chosen, for any listener."""
        for listen in (HERE, EVERYWHERE):
            loaded = self.load(INCLUDE + "[server]\nopen = true\n" + listen + SANDBOX)
            self.assertIn("matches no file", str(loaded.warnings[0]))
        self.assertIn("can be reached by others", self.problem("[server]\n" + EVERYWHERE + SANDBOX).message)

    def test_chosen_beside_clients(self) -> None:
        """A file that lets anybody call and has clients does not know what it wants."""
        self.assertEqual(self.problem("[server]\nopen = true\n" + CLIENT + SANDBOX).path, "server.open")

    def test_minted_keys_alone(self) -> None:
        """Where callers need a key that is minted, there may be no clients, for any listener and any include."""
        self.assertTrue(self.load(INCLUDE + "[server]\n" + EVERYWHERE + MINTED + SANDBOX).config.is_keyed)
        self.assertIn("require_keys = true", str(self.assertRaises(ConfigError, self.load, INCLUDE + SANDBOX)))
        problem = self.problem("[server]\nopen = true\n" + MINTED + SANDBOX)
        self.assertEqual((problem.path, "accounts.require_keys" in problem.message), ("server.open", True))

    def test_no_key_could_be_minted(self) -> None:
        """Who needs a key and can have none is told; beside clients it means nothing."""
        nowhere = MINTED + 'database = ""\n'
        self.assertEqual(self.problem(nowhere + SANDBOX).path, "accounts.require_keys")
        self.load(nowhere + CLIENT + SANDBOX)

    def test_admin_listener(self) -> None:
        """Others may reach the admin listener where operators are asked who they are."""
        self.load("[server]\n" + ADMIN_EVERYWHERE + OPERATOR + SANDBOX)
        problem = self.problem("[server]\n" + ADMIN_EVERYWHERE + SANDBOX)
        self.assertEqual((problem.path, "[[operators]]" in str(problem)), ("server.admin_key", True))

    def test_digest_of_nothing(self) -> None:
        """``printf %s "$KEY" | sha256sum`` without a KEY makes a digest that an empty key would fit."""
        for empty in (hashlib.sha256(b"").hexdigest(), hashlib.sha256(b"").hexdigest().upper()):
            problem = self.problem(f'[[clients]]\nname = "c"\nkey = "sha256:{empty}"\n' + SANDBOX)
            self.assertEqual(problem.path, "clients[0].key")
            self.assertIn("nothing at all", problem.message)


class ReloadTests(ConfigTestCase):
    """A reload is judged by what is in force."""

    def reload(self, old: str, new: str) -> str:
        """What is wrong with *new* in the place of *old*; '' where nothing is."""
        in_force = self.load(old).config
        try:
            load(self.write("main.toml", new), self.environ, self.makers, in_force=in_force)
        except ConfigError as error:
            return str(error)
        return ""

    def test_from_some_clients_to_none(self) -> None:
        """That is what a mount looks like that is late, and a ConfigMap that lost its items."""
        self.assertIn("a reload opens nothing", self.reload(CLIENT + SANDBOX, SANDBOX))
        self.assertIn("a reload opens nothing", self.reload(CLIENT + SANDBOX, "[server]\nopen = true\n" + SANDBOX))
        self.assertEqual(self.reload(SANDBOX, CLIENT + SANDBOX), "")
        self.assertEqual(self.reload(SANDBOX, SANDBOX), "")

    def test_emptied_folder(self) -> None:
        """The same by an include, with the include named."""
        clients = self.write("clients.d/all.toml", CLIENT)
        in_force = self.load(INCLUDE + SANDBOX).config
        os.unlink(clients)
        main = os.path.join(self.folder, "main.toml")
        error = self.assertRaises(ConfigError, load, main, self.environ, self.makers, in_force=in_force)
        self.assertIn("a reload opens nothing", str(error))
        self.assertIn("include[0] matches no file", str(error))

    def test_listeners_in_force(self) -> None:
        """The socket stays where it is until a restart, whatever the new file says of it."""
        old = "[server]\n" + EVERYWHERE + CLIENT + SANDBOX
        said = self.reload(old, "[server]\n" + HERE + SANDBOX)
        self.assertIn("tcp:8765:interface=0.0.0.0 stays open to others until a restart", said)
        self.assertEqual(self.reload(old, "[server]\n" + HERE + CLIENT + SANDBOX), "")

    def test_admin_listener_in_force(self) -> None:
        """So does the admin listener's, and its key is not lost on the way."""
        old = "[server]\n" + ADMIN_EVERYWHERE + f'admin_key = "{LONG}"\n' + SANDBOX
        self.assertIn("server.admin_key", self.reload(old, SANDBOX))
        self.assertEqual(self.reload(old, f'[server]\nadmin_key = "{LONG}"\n' + SANDBOX), "")
        kept = f'[server]\nadmin_key = "{LONG}"\n' + SANDBOX
        self.assertIn("a reload opens nothing", self.reload(kept, SANDBOX))

    def test_operators_in_force(self) -> None:
        """Nor are the last of the operators; one may take another's place, or that of the key."""
        one, other = OPERATOR, OPERATOR.replace('"o"', '"p"').replace(LONG, "x" + LONG)
        key = f'[server]\nadmin_key = "x{LONG}"\n'
        for old in (one, key):
            self.assertIn("a reload opens nothing", self.reload(old + SANDBOX, SANDBOX))
            for new in (other, key, key + one):
                self.assertEqual(self.reload(old + SANDBOX, new + SANDBOX), "")

    def test_keys_are_required_still(self) -> None:
        """Nor is the word that callers need a key, unless there is another who asks for one."""
        said = self.reload(MINTED + SANDBOX, SANDBOX)
        self.assertIn("accounts.require_keys", said)
        self.assertIn("a reload opens nothing", said)
        self.assertEqual(self.reload(MINTED + SANDBOX, CLIENT + SANDBOX), "")
        self.assertEqual(self.reload(CLIENT + SANDBOX, MINTED + SANDBOX), "")

    def test_opening_waits_for_a_restart(self) -> None:
        """``server.open`` is one of those settings that a reload leaves as they are, and so are the listeners."""
        old = self.load(SANDBOX).config
        new = self.load("[server]\nopen = true\ndrain = 3\n" + EVERYWHERE + SANDBOX).config
        self.assertEqual(difference(old, new, self.makers).restart, ("server.listen", "server.open"))
        in_force = put_in_force(old, new)
        self.assertEqual((in_force.server.open, in_force.server.listen), (False, old.server.listen))
        self.assertEqual(in_force.server.drain, 3)
        self.assertIsInstance(in_force, Config)


class FilesTests(ConfigTestCase):
    """Files of the configuration are ordinary, bounded, and there."""

    def test_pipe(self) -> None:
        """A pipe that nobody writes to is an error, and not a wait for ever; so are devices and folders."""
        os.mkfifo(os.path.join(self.folder, "pipe.toml"))
        for name in ("pipe.toml", "/dev/zero", "/dev/full"):
            problem = self.problem(f'include = ["{name}"]\n' + CLIENT + SANDBOX)
            self.assertIn("no ordinary file", problem.message)
            self.assertTrue(problem.file.endswith(name))
        os.mkdir(os.path.join(self.folder, "folder.toml"))
        self.assertIn("Is a directory", self.problem('include = ["folder.toml"]\n' + CLIENT + SANDBOX).message)

    def test_slashes(self) -> None:
        """However many slashes a glob has in front or between, it is looked for and found missing, in no time."""
        for pattern in ("//none/*.toml", "///none//*.toml", "none/*//"):
            self.load(f'include = ["{pattern}"]\n' + CLIENT + SANDBOX)

    def test_large(self) -> None:
        """So is a file that is too large to be meant; nothing is read beyond the bound."""
        with open(self.write("large.toml", ""), "wb") as file:
            file.truncate(10 * 2**30)
        problem = self.problem('include = ["large.toml"]\n' + CLIENT + SANDBOX)
        self.assertIn("no ordinary file of at most 4 MiB", problem.message)

    def closed(self, module: Any, name: str, folder: str) -> None:
        """*folder* may not be looked into; patched, since root may look into any."""
        real: Callable[..., Any] = getattr(module, name)

        def refuse(path: Any = ".", *args: Any, **more: Any) -> Any:
            if isinstance(path, str) and os.path.normpath(path) == folder:
                raise PermissionError(13, "Permission denied", path)
            return real(path, *args, **more)

        self.patch(module, name, refuse)

    def test_unreadable_folder(self) -> None:
        """A folder that may not be read is no empty one: whoever is named there would be forgotten."""
        self.write("clients.d/all.toml", CLIENT)
        self.write("deep/er/clients/all.toml", CLIENT)
        self.closed(os, "scandir", os.path.join(self.folder, "clients.d"))
        self.closed(os, "scandir", os.path.join(self.folder, "deep/er"))
        self.closed(os, "stat", os.path.join(self.folder, "deep/er"))
        text = "[server]\nopen = true\n" + SANDBOX
        for pattern in ("clients.d/*.toml", "deep/**/*.toml", "deep/*/clients/*.toml", "deep/er/clients/*.toml"):
            problem = self.problem(f'include = ["{pattern}"]\n' + text)
            self.assertEqual(problem.path, "include[0]")
            self.assertIn("cannot be read: Permission denied", problem.message)
        self.assertEqual(len(self.load('include = ["deep/*.toml", "other/*/x.toml"]\n' + text).warnings), 2)
