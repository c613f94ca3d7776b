"""Secrets in files that somebody else rotates."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from claudeproxyd.config.resolving import resolve
from claudeproxyd.interfaces import ISecretSource
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Scope
from claudeproxyd.secrets import file as module
from claudeproxyd.secrets.file import FileSecret
from tests.secrets.support import SecretsTestCase


class FileSecretTests(SecretsTestCase):
    """A key in a file."""

    def setUp(self) -> None:
        """A file with a key, and a source that has read it."""
        super().setUp()
        self.clock = Clock()
        self.path = Path(self.mktemp()).absolute()
        self.path.write_text("first-secret\n")
        secret, _ = resolve({"file": str(self.path)}, {}, "", digest=False)
        self.source = FileSecret("api_key", secret, self.clock)

    def present(self, after: float = 1.0) -> str:
        """The key, so many seconds later."""
        self.clock.advance(after)
        return self.source.present()["api_key"]

    def test_interface(self) -> None:
        """It is a source, names its place, and shows nothing of what is there."""
        verifyObject(ISecretSource, self.source)
        self.assertIn(str(self.path), repr(self.source))
        self.assertNotIn("first", repr(self.source))

    def test_changes(self) -> None:
        """A new secret in the file is used from a second later on, and masked in the log."""
        self.assertEqual(self.present(), "first-secret")
        self.path.write_text("second-secret\n")
        self.assertEqual(self.present(0.5), "first-secret")
        self.assertEqual(self.present(0.5), "second-secret")
        self.assert_masked("second-secret")
        self.assertNotIn("secret\n", repr(self.logged))

    def test_replaced(self) -> None:
        """A file that is moved into its place counts, be it as old and as long."""
        self.present()
        status = self.path.stat()
        fresh = self.path.with_suffix(".new")
        fresh.write_text("other-secret\n")
        os.utime(fresh, ns=(status.st_atime_ns, status.st_mtime_ns))
        fresh.replace(self.path)
        self.assertEqual(self.present(), "other-secret")

    def test_cheap(self) -> None:
        """However often it is asked, it looks once a second, and reads only what has changed."""
        looks, reads = [], []
        self.patch(os, "stat", lambda path, really=os.stat: looks.append(path) or really(path))
        self.patch(module, "resolve", lambda *a, really=resolve, **k: reads.append(a) or really(*a, **k))
        for _ in range(1000):
            self.present(0.003)
        self.assertEqual((len(looks), len(reads)), (3, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_spoilt(self) -> None:
        """Gone, empty, not text, or with a line break inside: the old secret stays, with one warning each time."""
        self.present()
        for number, spoil in enumerate(
            (
                self.path.unlink,
                lambda: self.path.write_text(""),
                lambda: self.path.write_text("\n\n"),
                lambda: self.path.write_bytes(b"\xff\xfe"),
                lambda: self.path.write_text("two\nlines"),
                lambda: (self.path.unlink(), self.path.mkdir()),
            ),
            1,
        ):
            spoil()
            self.assertEqual([self.present() for _ in range(3)], ["first-secret"] * 3)
            self.assertEqual(len(self.warnings), number)
            if self.path.is_dir():
                self.path.rmdir()
            self.path.write_text("first-secret")
            self.present()

    def test_refused(self) -> None:
        """A 401 has it look at once: a newer secret is used, and without one the credential is at fault."""
        self.present()
        failed = self.failureResultOf(self.source.refresh(), AttemptFailed).value
        self.assertEqual((failed.outcome.kind, failed.outcome.scope), (Kind.AUTH, Scope.CREDENTIAL))
        self.assertNotIn("first-secret", failed.outcome.reason)
        self.path.write_text("second-secret")
        self.assertEqual(self.successResultOf(self.source.refresh()), {"api_key": "second-secret"})
