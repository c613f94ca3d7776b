"""``claudeproxyd keys``."""

from __future__ import annotations

import io
import sys

from twisted.python.usage import UsageError

from claudeproxyd.cli.keys import (
    KEYS,
    KeysCommand,
    ListKeysCommand,
    MintKeyCommand,
    RevokeKeyCommand,
    RotateKeyCommand,
    ToldKey,
    keys_in_words,
    seconds_of,
)
from tests.cli.support import CommandTestCase


class Keys(CommandTestCase):
    """What goes up, and what is printed where."""

    def setUp(self) -> None:
        super().setUp()
        self.err = io.StringIO()
        self.patch(sys, "stderr", self.err)

    def test_mint(self) -> None:
        """The key alone is printed, so that it can be piped; what is said of it is beside it."""
        self.admin.tell(KEYS, {"name": "ann", "key": "cpxd-secret"})
        argv = ("--label", "team=ads", "--model", "claude-*", "--expires", "90d", "--max-concurrency", "3", "ann")
        self.assertEqual(self.ask(MintKeyCommand(), *argv), "cpxd-secret\n")
        terms = {"name": "ann", "labels": {"team": "ads"}, "models": ["claude-*"], "max_concurrency": 3}
        self.assertEqual(self.admin.asked[0].body, {**terms, "expires_in": 90 * 86_400})
        self.assertIn("only time", self.err.getvalue())
        self.assertNotIn("cpxd-secret", self.err.getvalue())

    def test_mint_with_the_least(self) -> None:
        """A name is enough."""
        self.admin.tell(KEYS, {"name": "ann", "key": "cpxd-secret"})
        self.ask(MintKeyCommand(), "ann")
        expected = {"name": "ann", "labels": {}, "max_concurrency": 0}
        self.assertEqual(self.admin.asked[0].body, expected)

    def test_mint_again(self) -> None:
        """A name that is taken is refused in the daemon's words."""
        self.admin.refuse(KEYS, 409, "name: there is a key ann: rotate or revoke it")
        self.assertIn("there is a key ann", str(self.fail_to_ask(MintKeyCommand(), "ann")))

    def test_rotate(self) -> None:
        """Another secret; the one before holds for as long as is said."""
        self.admin.tell(f"{KEYS}/ann/rotate", {"name": "ann", "key": "cpxd-new"})
        self.assertEqual(self.ask(RotateKeyCommand(), "ann", "--overlap", "2h"), "cpxd-new\n")
        self.assertEqual(self.admin.asked[0].body, {"overlap": 7200})

    def test_revoke(self) -> None:
        """By its name, whatever that holds."""
        self.admin.tell(f"{KEYS}/ann%20at%20home", {"name": "ann at home", "revoked": True})
        self.assertEqual(self.ask(RevokeKeyCommand(), "ann at home"), "revoked ann at home\n")
        self.assertEqual(self.admin.asked[0].method, "DELETE")

    def test_list(self) -> None:
        """Who has a key, with which labels, until when, and when it was last used."""
        keys = [
            ToldKey("laptop", "file", "active", models=["*"]),
            ToldKey("ann", "minted", "active", {"team": "ads"}, ["claude-*"], 90_000.0, 0.0),
            ToldKey("bob", "minted", "expired", expires=1.0),
        ]
        _, file, minted, over = keys_in_words(keys, 60.0).splitlines()
        self.assertEqual(file.split(), ["laptop", "active", "file", "-", "*", "-", "-"])
        self.assertIn("team=ads  claude-*  in 1 d   1 min ago", minted)
        self.assertIn("over", over)

    def test_empty_list(self) -> None:
        """No key is said to be none."""
        self.admin.tell(KEYS, {"keys": []})
        self.assertEqual(self.ask(ListKeysCommand()), "there are no keys\n")

    def test_spans(self) -> None:
        """Spans have units; what has none is seconds."""
        told = {"45": 45, "45s": 45, "30m": 1800, "12h": 43_200, "90d": 7_776_000, "0": 0}
        self.assertEqual({text: seconds_of("overlap", text) for text in told}, told)
        for text in ("", "a week", "-1h", "1.5h"):
            self.assertRaises(UsageError, seconds_of, "overlap", text)

    def test_command_line(self) -> None:
        """A line that names no command, no key or no label is a mistake, and it is said what is missing."""
        for argv, words in (
            ([], "keys: which command?"),
            (["mint"], "which key? its NAME, and one alone"),
            (["revoke", "a", "b"], "which key? its NAME, and one alone"),
            (["mint", "--label", "team", "a"], "must be NAME=VALUE"),
            (["erase", "a"], "erase"),
        ):
            with self.subTest(argv):
                self.assertIn(words, str(self.assertRaises(UsageError, KeysCommand().parseOptions, argv)))
