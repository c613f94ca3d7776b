"""Requests that come back."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.hops import HEADER, MAX_HOPS, before, goes_round, line

OWN, OTHER = b"0123456789abcdef", b"fedcba9876543210"


class Hops(SynchronousTestCase):
    """The header, there and back."""

    def parsed(self, written: bytes) -> list[tuple[bytes, bytes]]:
        """The header as the next daemon gets it."""
        name, _, value = written.removesuffix(b"\r\n").partition(b": ")
        return [(name, value)]

    def test_first(self) -> None:
        """A client's own request has been nowhere; sent on, it has been here."""
        self.assertFalse(goes_round(OWN, []))
        self.assertEqual(line(OWN), b"x-claudeproxyd-hop: 0123456789abcdef\r\n")
        self.assertTrue(goes_round(OWN, self.parsed(line(OWN))))

    def test_in_a_row(self) -> None:
        """Another daemon takes it, and a circle through that one is found all the same."""
        there = self.parsed(line(OWN))
        self.assertFalse(goes_round(OTHER, there))
        back = self.parsed(line(OTHER, [(b"x-app", b"cli"), *there]))
        self.assertEqual(before(back), [OWN, OTHER])
        self.assertTrue(goes_round(OWN, back))

    def test_in_several_lines(self) -> None:
        """As headers may be."""
        self.assertTrue(goes_round(OWN, [(HEADER, OTHER), (HEADER, OWN)]))

    def test_too_many(self) -> None:
        """No farm has so many in a row."""
        headers: list[tuple[bytes, bytes]] = []
        for number in range(MAX_HOPS):
            self.assertFalse(goes_round(OWN, headers))
            headers = self.parsed(line(b"%016x" % number, headers))
        self.assertTrue(goes_round(OWN, headers))

    def test_nonsense(self) -> None:
        """What a client writes there goes no further, and refuses nobody."""
        headers = [(HEADER, b"\xff\x00 none, 0123, \t" + b"z" * 60_000), (HEADER, b"")]
        self.assertFalse(goes_round(OWN, headers))
        self.assertEqual(line(OWN, headers), line(OWN))
