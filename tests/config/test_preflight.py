"""Where the daemon would write, tried without writing."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from claudeproxyd.config import preflight
from claudeproxyd.config.diagnostics import ConfigError, Problem
from claudeproxyd.config.loading import load
from tests.config.support import SANDBOX, ConfigTestCase


class WritingTests(ConfigTestCase):
    """What ``--check`` finds, and leaves as it was."""

    def setUp(self) -> None:
        super().setUp()
        # Unix sockets have short names, so they are given from here.
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.write("file", "")
        self.write("there/file", "")
        self.patch(os, "environ", {**os.environ, "HOME": self.folder})

    def found(self, text: str) -> list[Problem]:
        """The errors of a ``--check``."""
        path = self.write("main.toml", text + SANDBOX)
        before = sorted(os.walk("."))
        try:
            load(path, self.environ, self.makers, tries_paths=True)
            return []
        except ConfigError as error:
            return list(error.errors)
        finally:
            self.assertEqual(sorted(os.walk(".")), before)

    def state(self, path: str) -> str:
        return f'[server]\nstate = "sqlite:{path}"\n'

    def accounts(self, path: str) -> str:
        return f'[accounts]\ndatabase = "sqlite:{path}"\n'

    def captures(self, path: str, when: str = "errors") -> str:
        return f'[capture]\nwhen = "{when}"\ndirectory = "{path}"\n'

    def access(self, path: str) -> str:
        return f'[log]\naccess = "{path}"\n'

    def audit(self, path: str) -> str:
        return f'[log]\naudit = "{path}"\n'

    def listen(self, path: str) -> str:
        return f'[server]\nlisten = ["tcp:0:interface=127.0.0.1", "unix:{path}"]\n'

    def refuse(self, *names: str) -> None:
        """Nothing may be written to these."""
        refused = [os.path.join(self.folder, name) if name else self.folder for name in names]
        self.patch(preflight, "access", lambda path, mode: os.path.abspath(path) not in refused)

    def test_places_that_will_do(self) -> None:
        """What is there and can be written, or can be made, is no error; nor is what is not used."""
        for text in (
            self.state("there/state.db"),
            self.state("there/file"),
            self.state("new/deep/state.db"),
            '[server]\nstate = "memory:"\n',
            self.accounts("there/accounts.db"),
            self.accounts("new/accounts.db"),
            '[accounts]\ndatabase = ""\n',
            self.captures("there"),
            self.captures("new/deep"),
            self.captures("file", "never"),
            self.access("there/file"),
            self.access("there/new"),
            self.access("off"),
            self.access(""),
            self.audit("there/new"),
            self.audit(""),
            self.listen("there/socket"),
            self.listen("socket"),
        ):
            self.assertEqual(self.found(text), [], text)

    def test_places_that_cannot_be(self) -> None:
        """What cannot be made is an error, with what is in the way, its place and a hint."""
        for text, path, way in (
            (self.state("file/state.db"), "server.state", "file is no folder"),
            (self.state("file/deep/state.db"), "server.state", "file is no folder"),
            (self.state("there"), "server.state", "there is a folder"),
            (self.accounts("file/accounts.db"), "accounts.database", "file is no folder"),
            (self.accounts("there"), "accounts.database", "there is a folder"),
            (self.captures("file"), "capture.directory", "file is no folder"),
            (self.captures("file/deep", "always"), "capture.directory", "file is no folder"),
            (self.access("there"), "log.access", "there is a folder"),
            (self.access("new/file"), "log.access", "new is not there"),
            (self.audit("new/file"), "log.audit", "new is not there"),
            (self.listen("new/socket"), "server.listen[1]", "new is not there"),
            (self.listen("file/socket"), "server.listen[1]", "file is no folder"),
            (self.listen("file"), "server.listen[1]", "file is there already, and no socket"),
            ('[server]\nadmin = "unix:new/socket"\n', "server.admin", "new is not there"),
        ):
            (problem,) = self.found(text)
            self.assertEqual((problem.path, problem.line > 0), (path, True))
            self.assertTrue(problem.message.endswith(way), problem.message)
            self.assertTrue(problem.hint)

    def test_places_that_may_not_be(self) -> None:
        """So is what this user may not write."""
        for refused, text, path in (
            ("there", self.state("there/file"), "server.state"),
            ("there/file", self.state("there/file"), "server.state"),
            ("there", self.state("there/new/deep/state.db"), "server.state"),
            ("there/file", self.accounts("there/file"), "accounts.database"),
            ("there", self.captures("there/new"), "capture.directory"),
            ("there", self.captures("there"), "capture.directory"),
            ("there/file", self.access("there/file"), "log.access"),
            ("there", self.access("there/new"), "log.access"),
            ("there", self.listen("there/socket"), "server.listen[1]"),
        ):
            self.refuse(refused)
            (problem,) = self.found(text)
            self.assertEqual(problem.path, path)
            self.assertTrue(problem.message.endswith(f"{refused} cannot be written"), problem.message)

    def test_folders_that_cannot_be_entered(self) -> None:
        """In a folder whose entries may be written and not reached nothing can be made."""
        self.patch(preflight, "access", lambda path, mode: not mode & os.X_OK)
        text = self.captures("there") + '[server]\nstate = "memory:"\n[accounts]\ndatabase = ""\n'
        self.assertEqual([problem.path for problem in self.found(text)], ["capture.directory"])

    def test_access_log_that_is_there(self) -> None:
        """A log that others made may stand in a folder that is not ours."""
        self.refuse("there")
        self.assertEqual(self.found(self.access("there/file")), [])

    def test_socket_in_use(self) -> None:
        """A daemon that runs is no error: its socket will be free."""
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind("there/socket")
        self.assertEqual(self.found(self.listen("there/socket")), [])

    def test_home(self) -> None:
        """``~`` is this user's home."""
        self.patch(os, "environ", {**os.environ, "HOME": os.path.join(self.folder, "file")})
        text = self.captures("~/c") + self.state("~/state.db") + self.access("~/access.log") + self.accounts("~/a.db")
        places = [problem.path for problem in self.found(text) if "file is no folder" in problem.message]
        self.assertEqual(sorted(places), ["accounts.database", "capture.directory", "log.access", "server.state"])

    def test_not_at_a_start(self) -> None:
        """A start and a reload tell of it alone: a daemon can go on without its state, its ledger and its captures."""
        text = self.state("file/state.db") + self.accounts("file/accounts.db") + self.captures("file/captures")
        warnings = self.load(text + SANDBOX).warnings
        self.assertEqual(
            [warning.path for warning in warnings], ["server.state", "accounts.database", "capture.directory"]
        )
        for warning in warnings:
            self.assertTrue(warning.message.endswith("file is no folder"), warning.message)


class NamesTests(ConfigTestCase):
    """Names of providers that lead back here."""

    def found(self, url: str, *addresses: str, resolve: Callable[..., Any] | None = None) -> list[Problem]:
        """The mistakes of a ``--check`` where every name has these addresses."""
        self.asked: list[str] = []

        def known(name: str, *_: object, **__: object) -> list[tuple[object, ...]]:
            self.asked.append(name)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

        self.patch(socket, "getaddrinfo", resolve or known)
        listen = '[server]\nlisten = ["tcp:18443:interface=127.0.0.1"]\nadmin = "tcp:18444:interface=127.0.0.1"\n'
        provider = f'[[providers]]\nname = "p"\nkind = "anthropic"\nbase_url = "{url}"\n'
        credential = '[[providers.credentials]]\nname = "a"\napi_key = "k"\n'
        path = self.write("main.toml", listen + provider + credential)
        try:
            load(path, self.environ, self.makers, tries_paths=True)
        except ConfigError as error:
            return list(error.errors)
        return []

    def test_own(self) -> None:
        """A name with an address of this machine's, at a port that the daemon listens on, is the daemon."""
        for port in (18443, 18444):
            (problem,) = self.found(f"https://me.example:{port}", "192.0.2.1", "127.0.0.1")
            self.assertEqual((problem.path, "this daemon itself" in problem.message), ("providers[0].base_url", True))

    def test_others(self) -> None:
        """Other machines' addresses, and names that have none, are fine; other ports are not even asked for."""
        self.assertEqual(self.found("https://other.example:18443", "192.0.2.1"), [])
        self.assertEqual(self.found("https://none.example:18443"), [])
        self.assertEqual(self.asked, ["none.example"])
        self.assertEqual(self.found("https://me.example", "127.0.0.1"), [])
        self.assertEqual(self.asked, [])

    def test_nobody_answers(self) -> None:
        """Without a network the check does not wait for ever."""
        answers = threading.Event()
        self.addCleanup(answers.set)
        self.patch(preflight, "PATIENCE", 0.05)
        self.assertEqual(
            self.found("https://other.example:18443", resolve=lambda *_, **__: answers.wait(20) and []), []
        )
