"""The command line as a whole."""

from __future__ import annotations

import io
import sys

from twisted.scripts import twistd
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd import __version__
from claudeproxyd.cli.main import Main, main
from claudeproxyd.cli.version import VersionCommand


class CommandLine(SynchronousTestCase):
    """Subcommands and exit codes."""

    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)

    def test_mistakes(self) -> None:
        """A line that makes no sense exits with 2, and says why."""
        for argv, words in (([], "which command"), (["nonsense"], "nonsense"), (["pool", "--nix"], "nix")):
            with self.subTest(argv):
                self.assertEqual(main(argv), 2)
                self.assertIn(words, self.err.getvalue())

    def test_failure(self) -> None:
        """A command that fails exits with its own code."""
        self.assertEqual(main(["settings", "--config", "/nonexistent"]), 1)
        self.assertIn("claudeproxyd: ", self.err.getvalue())

    def test_words_of_others(self) -> None:
        """What a failure quotes does nothing to a terminal."""
        self.assertEqual(main(["settings", "--config", "/nonexistent\x1b[2J\x9b"]), 1)
        self.assertIn("/nonexistent·[2J·", self.err.getvalue())

    def test_version(self) -> None:
        """By the command, and by the option of each."""
        self.assertEqual(main(["version"]), 0)
        for argv in (["--version"], ["pool", "--version"]):
            self.assertEqual(self.assertRaises(SystemExit, main, argv).code, 0)
        self.assertEqual(self.out.getvalue().count(f"claudeproxyd {__version__} ("), 3)

    def test_help(self) -> None:
        """Each command has one, of its own words; it names no class of its base."""
        for name, _, command, _ in Main.subCommands:
            with self.subTest(name):
                self.assertEqual(self.assertRaises(SystemExit, main, [name, "--help"]).code, 0)
                words = " ".join(self.out.getvalue().split())
                self.assertIn(" ".join((command.__doc__ or "").split())[:60], words)

    def test_check(self) -> None:
        """What twistd's --check does, with its exit codes."""
        self.assertEqual(self.assertRaises(SystemExit, main, ["check", "--config", "/nonexistent"]).code, 1)
        self.assertIn("/nonexistent", self.err.getvalue())

    def test_run(self) -> None:
        """twistd gets a command line of its own."""
        lines = []
        self.patch(sys, "argv", ["claudeproxyd", "run"])
        self.patch(twistd, "run", lambda: lines.append(sys.argv[1:]))
        self.assertEqual(main(["run", "--config", "f.toml"]), 0)
        self.assertEqual(lines, [["--nodaemon", "--pidfile=", "claudeproxyd", "--config", "f.toml"]])

    def test_reader_that_leaves(self) -> None:
        """Whoever has read enough of it, such as head, ends it without a complaint."""

        def leave(_: VersionCommand) -> int:
            raise BrokenPipeError

        self.patch(VersionCommand, "perform", leave)
        with open("pipe", "w", encoding="utf-8") as out:
            self.patch(sys, "stdout", out)
            self.assertEqual(main(["version"]), 0)
