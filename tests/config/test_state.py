"""``server.state`` and what else says where secrets and state are."""

from __future__ import annotations

import os
import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config import state
from claudeproxyd.config.state import InFile, InMemory, InRedis, missing_for, place_in_words, state_of
from tests.config.support import SANDBOX, ConfigTestCase


class StateTests(SynchronousTestCase):
    """One line, read."""

    def test_places(self) -> None:
        """Memory, a file (``~`` and the working directory count), a Redis with all that its URL may say."""
        self.patch(os, "environ", {**os.environ, "HOME": "/home/me"})
        self.assertEqual(state_of("memory:"), InMemory())
        self.assertEqual(state_of("sqlite:~/state.db"), InFile("/home/me/state.db"))
        self.assertEqual(state_of("sqlite:state.db"), InFile(os.path.abspath("state.db")))
        self.assertEqual(state_of("redis://h"), InRedis("h", 6379, 0))
        self.assertEqual(state_of("redis://[::1]:7000/3"), InRedis("::1", 7000, 3))
        self.assertEqual(
            state_of("rediss://me:p%40ss@h/1?prefix=farm:"), InRedis("h", 6379, 1, "me", "p@ss", True, "farm:")
        )
        self.assertEqual(state_of("redis://:pass@h").password, "pass")
        self.assertNotIn("pass", repr(state_of("redis://:pass@h")))

    def test_words(self) -> None:
        """What operators are told of it has no password."""
        self.patch(os, "environ", {**os.environ, "HOME": "/home/me"})
        for text, words in (
            ("memory:", "in memory"),
            ("sqlite:~/state.db", "/home/me/state.db"),
            ("redis://me:pass@h/1?prefix=farm:", "Redis at h:6379, database 1, under farm:"),
            ("rediss://[::1]:7000", "Redis at ::1:7000, database 0, under claudeproxyd:"),
        ):
            self.assertEqual(place_in_words(text), words)

    def test_mistakes(self) -> None:
        """What is no place is refused, in words that do not quote what may be a password."""
        for text in (
            "",
            "memory",
            "sqlite:",
            "sqlite:/var/lib/",
            "sqlite:a\0b",
            "redis:",
            "redis://",
            "rediss://123",
            "rediss://a!b",
            "redis://:secret@h:port/0",
            "redis://:secret@h/db",
            "redis://:secret@h/0#x",
            "redis://:secret@h/0?ssl=1",
            "redis://:secret@h/0?prefix=a&prefix=b",
            "postgres://secret",
        ):
            error = self.assertRaises(ValueError, state_of, text)
            self.assertNotIn("secret", str(error))

    def test_missing_package(self) -> None:
        """A Redis needs its extra; nothing else does."""
        self.patch(state, "find_spec", lambda name: None)
        self.assertEqual([missing_for(text) for text in ("redis://h", "rediss://h")], ["hiredis"] * 2)
        self.assertEqual([missing_for(text) for text in ("memory:", "sqlite:x")], ["", ""])
        self.patch(state, "find_spec", lambda name: object())
        self.assertEqual(missing_for("redis://h"), "")


class CheckingTests(ConfigTestCase):
    """As the check of a configuration tells it."""

    def test_redis_without_its_extra(self) -> None:
        """A Redis that the installation cannot talk to is an error with its hint, before anything starts."""
        self.patch(state, "find_spec", lambda name: None)
        problem = self.problem('[server]\nstate = "redis://h"\n' + SANDBOX)
        self.assertEqual((problem.path, problem.line), ("server.state", 2))
        self.assertIn("pip install 'claudeproxyd[redis]'", str(problem))

    def test_password_in_the_clear(self) -> None:
        """A Redis elsewhere that is given a password without TLS is told of."""
        for url, is_told in (
            ("redis://:hush@h", True),
            ("redis://h", False),
            ("rediss://:hush@h", False),
            ("redis://:hush@127.0.0.1", False),
        ):
            loaded = self.load(f'[server]\nstate = "{url}"\n' + SANDBOX)
            self.assertEqual("rediss://" in str(loaded.warnings), is_told, url)
            self.assertNotIn("hush", str(loaded.warnings))

    def test_database_of_another_program(self) -> None:
        """The state is not put into somebody else's database, and that is not renamed away: it is an error."""
        path = self.write("songs.db", "")
        text = f'[server]\nstate = "sqlite:{path}"\n' + SANDBOX
        self.load(text)
        for statement, foreign in (
            (f"PRAGMA application_id = {state.APPLICATION}; CREATE TABLE state (key)", False),
            ("DROP TABLE state; PRAGMA application_id = 7", True),
            ("PRAGMA application_id = 0", False),
            ("CREATE TABLE songs (name)", True),
        ):
            connection = sqlite3.connect(path)
            connection.executescript(statement)
            connection.close()
            if foreign:
                problem = self.problem(text)
                self.assertEqual((problem.path, problem.line), ("server.state", 2))
                self.assertIn("another program's database", problem.message)
            else:
                self.load(text)
        os.mkfifo(os.path.join(self.folder, "pipe"))
        self.load(text.replace("songs.db", "pipe"))
        self.write("songs.db", "no database at all, which is set aside when there is state to be kept")
        self.load(text)

    def test_oauth(self) -> None:
        """A refresh token is a credential of any kind that takes bearer tokens, and travels in no clear text."""

        def section(kind: str, url: str = "https://login.example/token") -> str:
            return (
                f'[[providers]]\nname = "p"\nkind = "{kind}"\nbase_url = "https://x"\n'
                f'[[providers.credentials]]\nname = "c"\noauth.token_url = "{url}"\n'
                'oauth.client_id = "me"\noauth.refresh_token = "refresh-1"\n'
            )

        (provider,) = self.load(section("anthropic")).config.providers
        self.assertEqual(provider.credentials[0].oauth.refresh_token.reveal(), "refresh-1")
        self.assertEqual(self.problem(section("gemini")).path, "providers[0].credentials[0].oauth")
        for url in ("http://login.example/token", "login.example"):
            self.assertEqual(
                self.problem(section("anthropic", url)).path, "providers[0].credentials[0].oauth.token_url"
            )
        self.load(section("anthropic", "http://127.0.0.1:1/token"))
