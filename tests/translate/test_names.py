"""Names of tools."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.names import ToolNames


def gemini() -> ToolNames:
    return ToolNames(64, "A-Za-z0-9_.:-", "A-Za-z_")


LONG = "mcp__a_server_with_a_very_long_name_indeed__a_tool_with_a_longer_one_still"


class ToolNamesTests(SynchronousTestCase):
    """What a backend is told, and what the client hears."""

    def test_fitting(self) -> None:
        """A name that the backend takes is sent as it is."""
        self.assertEqual(ToolNames().upstream("Read"), "Read")
        self.assertEqual(gemini().upstream("a.b:c-d"), "a.b:c-d")

    def test_long(self) -> None:
        """MCP names of more than 64 characters fit upstream, and the client sees its own again."""
        names = ToolNames()
        told = names.upstream(LONG)
        self.assertLessEqual(len(told), 64)
        self.assertTrue(told.startswith(LONG[:40]))
        self.assertEqual(names.client(told), LONG)

    def test_first_character(self) -> None:
        """Gemini wants a letter or an underscore first; the others take a digit."""
        self.assertRegex(gemini().upstream("3d"), r"^_3d_[0-9a-f]{12}$")
        self.assertEqual(ToolNames().upstream("3d"), "3d")

    def test_same_whatever_else(self) -> None:
        """A name maps the same way when other tools come or go, so that cached prompts stay good."""
        alone, among = ToolNames(), ToolNames()
        for other in (LONG + "x", "a b", "a_b", LONG.upper()):
            among.upstream(other)
        self.assertEqual(among.upstream(LONG), alone.upstream(LONG))
        self.assertEqual(among.upstream("a b"), alone.upstream("a b"))

    def test_alike(self) -> None:
        """Long names that differ only at the end, and odd ones that clean up alike, stay apart."""
        names = ToolNames()
        clients = [LONG + "1", LONG + "2", "a b", "a/b", "a_b"]
        told = [names.upstream(name) for name in clients]
        self.assertEqual(len(set(told)), len(told))
        self.assertEqual([names.client(name) for name in told], clients)

    def test_named_like_a_mapped_one(self) -> None:
        """A tool whose own name is what another maps to is told apart from it, whichever comes first."""
        taken = ToolNames().upstream("a b")
        for order in (("a b", taken), (taken, "a b")):
            names = ToolNames()
            told = {name: names.upstream(name) for name in order}
            self.assertNotEqual(told["a b"], told[taken])
            self.assertEqual({name: names.client(back) for name, back in told.items()}, {n: n for n in order})

    def test_misspelt_case(self) -> None:
        """A model that writes ``read`` for ``Read`` means it, where nothing else is called so."""
        names = ToolNames()
        names.upstream("Read")
        self.assertEqual(names.client("read"), "Read")
        names.upstream("READ")
        self.assertEqual(names.client("read"), "read")
        self.assertEqual(names.client("READ"), "READ")

    def test_unheard_of(self) -> None:
        """A tool that the model made up reaches the client under that name."""
        self.assertEqual(gemini().client("nothing"), "nothing")

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.text(min_size=1, max_size=90), unique=True, max_size=8))
    def test_any_names(self, clients: list[str]) -> None:
        """Whatever tools are called, each is told in the backend's letters and found again."""
        names = gemini()
        told = [names.upstream(name) for name in clients]
        self.assertEqual(len(set(told)), len(clients))
        for name in told:
            self.assertTrue(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}", name), name)
        self.assertEqual([names.client(name) for name in told], clients)
