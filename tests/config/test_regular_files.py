"""Files that are read whole."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.regular_files import NotRegular, read_regular


class OrdinaryTests(SynchronousTestCase):
    """What is ordinary."""

    def test_size(self) -> None:
        """A file may be as large as the bound, and not a byte larger."""
        path = self.mktemp()
        for size in (0, 9, 10):
            with open(path, "wb") as file:
                file.write(b"x" * size)
            self.assertEqual(read_regular(path, 10).data, b"x" * size)
        with open(path, "ab") as file:
            file.write(b"x")
        self.assertRaises(NotRegular, read_regular, path, 10)

    def test_pipe(self) -> None:
        """A pipe is none, and nobody waits for its writer."""
        path = self.mktemp()
        os.mkfifo(path)
        self.assertRaises(NotRegular, read_regular, path, 10)
