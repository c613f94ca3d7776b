"""For how many connections there are descriptors."""

from __future__ import annotations

import errno
import os
import resource

from twisted.internet.error import ConnectError
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.descriptors import are_out, connections_allowed, is_lack


class Descriptors(SynchronousTestCase):
    """Two a connection, and some for the house."""

    def test_allowed(self) -> None:
        """Half of what the hard limit leaves; one at the least."""
        for hard, allowed in ((1024, 487), (65_536, 32_743), (64, 7), (20, 1), (resource.RLIM_INFINITY, 1_000_000)):
            self.patch(resource, "getrlimit", lambda _, hard=hard: (1024, hard))
            self.assertEqual(connections_allowed(), allowed)

    def test_lack(self) -> None:
        """By Twisted's errors and by the system's."""
        for error in (OSError(errno.EMFILE, ""), ConnectError(errno.ENFILE, ""), ConnectError(errno.EADDRNOTAVAIL)):
            self.assertTrue(is_lack(error), error)
        for error in (None, ConnectError(), ConnectError(errno.ECONNREFUSED), OSError(), ValueError()):
            self.assertFalse(is_lack(error), error)

    def test_out(self) -> None:
        """Found out by taking one."""
        self.assertFalse(are_out())
        for number, out in ((errno.EMFILE, True), (errno.ENOENT, False)):

            def fault(*args: object, number: int = number) -> int:
                raise OSError(number, "")

            self.patch(os, "open", fault)
            self.assertEqual(are_out(), out)
