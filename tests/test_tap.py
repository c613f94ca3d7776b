"""``twistd claudeproxyd``'s command line."""

from __future__ import annotations

import io
import os
import signal
import sys

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.tap import Options

GOOD = """
[[providers]]
name = "one"
kind = "anthropic"
credentials = [{ name = "a", api_key = "sk-ant-very-secret-indeed" }]
"""


class CommandLine(SynchronousTestCase):
    """``--config`` and ``--check``."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        self.patch(signal, "signal", lambda *_: None)

    def parse(self, text: str, *options: str) -> Options:
        """Parse with that configuration."""
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)
        parsed = Options()
        parsed.parseOptions(["--config", self.path, *options])
        return parsed

    def test_good(self) -> None:
        """A good configuration is read once, before anything starts."""
        self.assertEqual(self.parse(GOOD).loaded.config.providers[0].name, "one")

    def test_mistake(self) -> None:
        """A mistake ends the start with the file and the place, and not with how twistd is used."""
        exit_ = self.assertRaises(SystemExit, self.parse, GOOD + "nonsense = 1\n")
        self.assertEqual((exit_.code, self.out.getvalue()), (1, ""))
        self.assertRegex(self.err.getvalue(), rf"^the configuration has 1 error:\n  {self.path}:\d+: .*nonsense ")

    def test_check_good(self) -> None:
        """``--check`` says what it amounts to, without secrets, and exits 0."""
        exit_ = self.assertRaises(SystemExit, self.parse, GOOD, "--check")
        self.assertEqual(exit_.code, 0)
        self.assertIn("one", self.out.getvalue())
        self.assertNotIn("very-secret", self.out.getvalue() + self.err.getvalue())

    def test_check_tries_paths(self) -> None:
        """Or where the daemon could not write, which a start finds by itself."""
        text = GOOD + f'[server]\nstate = "sqlite:{self.path}/state.db"\n'
        exit_ = self.assertRaises(SystemExit, self.parse, text, "--check")
        self.assertEqual(exit_.code, 1)
        self.assertIn(f"server.state {self.path} is no folder", self.err.getvalue())
        self.parse(text)

    def test_check_mistake(self) -> None:
        """Or every mistake, and exits 1."""
        exit_ = self.assertRaises(SystemExit, self.parse, GOOD + "nonsense = 1\nmore = 2\n", "--check")
        self.assertEqual(exit_.code, 1)
        self.assertIn("nonsense", self.err.getvalue())
        self.assertIn("more", self.err.getvalue())
        self.assertEqual(self.out.getvalue(), "")
