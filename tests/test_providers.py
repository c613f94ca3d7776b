"""The executors of a configuration's providers."""

from __future__ import annotations

from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.providers import Executors


class ExecutorsTests(SynchronousTestCase):
    """Executors across configurations."""

    def test_latest(self) -> None:
        """A provider's is that of the latest configuration that has it, for requests of earlier ones too."""
        one, two, three, other = (cast(Any, object()) for _ in range(4))
        first, second, third = Executors({"p": one, "gone": other}), Executors({"p": two}), Executors({"new": three})
        self.assertIs(first["p"], one)
        first.give_way(second)
        second.give_way(third)
        self.assertEqual((first["p"], first["gone"], second["p"], third["new"]), (two, other, two, three))
        self.assertRaises(KeyError, second.__getitem__, "gone")
        self.assertEqual((list(first), len(first)), (["p", "gone"], 2))
