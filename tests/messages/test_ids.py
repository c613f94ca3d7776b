"""Ids and signatures of our own making."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.ids import Ids, fits_client, is_minted, mint_signature, read_signature


class IdsTests(SynchronousTestCase):
    """What Ids makes."""

    def test_forms(self) -> None:
        """Clients see ids of the API's own form, at most 40 characters long."""
        ids = Ids()
        self.assertRegex(ids.message(), re.compile(r"msg_[A-Za-z0-9]{24}\Z"))
        self.assertRegex(ids.tool_use(), re.compile(r"toolu_[A-Za-z0-9]{24}\Z"))
        self.assertLessEqual(len(ids.server_tool_use("google")), 40)
        self.assertTrue(fits_client(ids.tool_use()))

    def test_no_two_are_alike(self) -> None:
        """Two calls in one conversation never share an id."""
        ids = Ids()
        self.assertEqual(len({ids.tool_use() for _ in range(1000)}), 1000)

    def test_random_source_is_injectable(self) -> None:
        """A test that hands in its own bytes knows the ids beforehand."""
        ids = Ids(lambda n: b"\xab" * n)
        self.assertEqual(ids.message(), "msg_" + "ab" * 12)

    def test_server_ids_are_marked(self) -> None:
        """A server tool's id shows that it was minted, and by whom, so that no other family is sent it."""
        self.assertTrue(Ids().server_tool_use("openai").startswith("cpxd1.openai."))

    def test_what_clients_can_take(self) -> None:
        """An upstream's id is shown to clients only where it has their form."""
        for id, fits in [
            ("call_1", True),
            ("a" * 40, True),
            ("a" * 41, False),
            ("", False),
            ("a.b", False),
            ("é", False),
            ("a\n", False),
        ]:
            self.assertEqual(fits_client(id), fits, id)


class SignatureTests(SynchronousTestCase):
    """Minted signatures and the way back."""

    @settings(deadline=None)
    @given(st.binary(), st.sampled_from(["google", "openai", "bedrock-converse"]))
    def test_round_trip(self, payload: bytes, family: str) -> None:
        """What a provider wants back next turn comes back byte for byte, for its own family only."""
        signature = mint_signature(family, payload)
        self.assertTrue(is_minted(signature))
        self.assertEqual(read_signature(family, signature), payload)
        self.assertIsNone(read_signature("other", signature))

    @settings(deadline=None)
    @given(st.text())
    def test_garbage(self, text: str) -> None:
        """A signature that a client has damaged reads as none, and breaks nothing."""
        read_signature("google", "cpxd1.google." + text)
        if not text.startswith("cpxd1."):
            self.assertFalse(is_minted(text))
            self.assertIsNone(read_signature("google", text))

    def test_damaged(self) -> None:
        """Characters outside the alphabet and impossible lengths are refused, not skipped."""
        for payload in ("AA=A", "A", "AA!A", "AAAAA", "AAA\n", "äAAA"):
            self.assertIsNone(read_signature("google", "cpxd1.google." + payload), payload)

    def test_anthropic_signatures_are_not_minted(self) -> None:
        """A signature of Anthropic's is never taken for ours, or its thinking would be cut out."""
        self.assertFalse(is_minted("EqQBCkYIBRgCIkCpxd1"))
