"""Where the admin listener is found, and its key."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.cli.command import CommandFailed
from claudeproxyd.cli.place import AdminPlace, find_place

NOWHERE = {"HOME": "/nonexistent"}
KEY = "an-admin-key-of-some-length"


class Places(SynchronousTestCase):
    """``--admin``, ``$CLAUDEPROXYD_ADMIN``, the configuration."""

    def file(self, text: str) -> str:
        """A configuration."""
        path = os.path.abspath(self.mktemp())
        Path(path).write_text(text, "utf-8")
        return path

    def configured(self, server: str, **environ: str) -> AdminPlace:
        """The place of a configuration with that ``[server]``."""
        return find_place(None, self.file(f"[server]\n{server}\n"), {**NOWHERE, **environ})

    def test_named(self) -> None:
        """An address, with or without the page's path, or a socket; the option goes before the environment."""
        told = {
            "http://127.0.0.1:1": "http://127.0.0.1:1",
            "http://h:1/admin/": "http://h:1",
            "https://[::1]:2/": "https://[::1]:2",
            "h:3": "http://h:3",
            "unix:/run/x": "unix:/run/x",
        }
        self.assertEqual({text: find_place(text, None, {"CLAUDEPROXYD_ADMIN": "h:9"}).url for text in told}, told)
        self.assertEqual(find_place(None, None, {**NOWHERE, "CLAUDEPROXYD_ADMIN": "h:9"}).url, "http://h:9")
        self.assertEqual(find_place("unix:/run/x", None, NOWHERE).socket, "/run/x")

    def test_named_wrongly(self) -> None:
        """What is no place is a mistake in the command line."""
        for text in ("ftp://h", "http://", "http://h:port", "http://h/else", ":1", "http://h/?x=1"):
            with self.subTest(text):
                self.assertRaises(UsageError, find_place, text, None, NOWHERE)

    def test_no_key_on_the_command_line(self) -> None:
        """Everybody on the machine can read a command line: a key in it is refused, and not repeated."""
        error = self.assertRaises(UsageError, find_place, "http://me:secret@h:1", None, NOWHERE)
        self.assertNotIn("secret", str(error))
        self.assertIn("CLAUDEPROXYD_ADMIN_KEY", str(error))

    def test_configured(self) -> None:
        """The listener's own address; what listens everywhere is asked on loopback."""
        told = {
            "tcp:1:interface=127.0.0.1": "http://127.0.0.1:1",
            "tcp:2": "http://127.0.0.1:2",
            "tcp6:3:interface=\\\\:\\\\:": "http://[::1]:3",
            "tcp:4:interface=192.0.2.1": "http://192.0.2.1:4",
            "unix:/run/admin.sock": "unix:/run/admin.sock",
        }
        self.assertEqual({admin: self.configured(f'admin = "{admin}"').url for admin in told}, told)

    def test_default(self) -> None:
        """Without a file it is where a daemon without a file has it."""
        self.assertEqual(find_place(None, None, NOWHERE), AdminPlace("http://127.0.0.1:8766"))

    def test_not_configured(self) -> None:
        """An admin listener that is off, wrong, or where the file does not tell, is said with the file."""
        told = {'admin = ""': 3, "admin = 3": 1, 'admin = "nonsense:1"': 1, 'admin = "systemd:domain=INET:index=0"': 1}
        for server, code in told.items():
            with self.subTest(server):
                error = self.assertRaises(CommandFailed, self.configured, server)
                self.assertEqual(error.code, code)
                self.assertIn("server.admin", str(error))

    def test_key(self) -> None:
        """The environment's before the configuration's, and it is in no ``repr``."""
        place = self.configured(f'admin_key = "{KEY}"')
        self.assertEqual(place.key, KEY)
        self.assertNotIn(KEY, repr(place))
        self.assertEqual(self.configured(f'admin_key = "{KEY}"', CLAUDEPROXYD_ADMIN_KEY="other").key, "other")

    def test_key_for_a_named_place(self) -> None:
        """The configuration's key goes with a place that was named, too."""
        place = find_place("h:1", self.file(f'[server]\nadmin_key = "{KEY}"'), NOWHERE)
        self.assertEqual((place.url, place.key), ("http://h:1", KEY))

    def test_key_that_cannot_be_read(self) -> None:
        """Where the configuration names a key and this user has none, the place says why."""
        self.assertIn("$ADMIN_KEY is not set", self.configured('admin_key = { env = "ADMIN_KEY" }').keyless)

    def test_other_mistakes_do_not_matter(self) -> None:
        """The daemon may be asked with a file that it would refuse, and without its secrets."""
        text = '[[providers]]\nname = "a"\nkind = "nix"\ncredentials = [{ name = "a", api_key = { env = "A_KEY" } }]\n'
        place = find_place(None, self.file(f'{text}drian = 1\n[server]\nadmin = "tcp:7"\n'), NOWHERE)
        self.assertEqual(place.url, "http://127.0.0.1:7")

    def test_no_toml(self) -> None:
        """A file that is no TOML tells no place: the mistake is told with its line."""
        error = self.assertRaises(CommandFailed, find_place, None, path := self.file("a = = 1"), NOWHERE)
        self.assertIn(f"{path}:1:5", str(error))
        self.assertEqual(error.code, 1)

    def test_no_toml_where_the_place_is_named(self) -> None:
        """Unless the place is named, and the file is not."""
        environ = {"CLAUDEPROXYD_CONFIG": self.file("a = = 1")}
        self.assertEqual(find_place("h:1", None, environ), AdminPlace("http://h:1"))
