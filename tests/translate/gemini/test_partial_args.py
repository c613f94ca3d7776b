"""Arguments that come in pieces; test_answers has what becomes of them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.block import BlockError
from claudeproxyd.translate.gemini.partial_args import PartialCall
from tests.translate.gemini.answering import call, chunk, message


def pieces(*pairs: tuple[str, Any]) -> msgspec.Raw:
    return msgspec.Raw(json.dumps([{"jsonPath": path, "stringValue": value} for path, value in pairs]).encode())


class PartialCallTests(SynchronousTestCase):
    """Pieces find their places."""

    def test_paths(self) -> None:
        """Names, quoted or not, and indices lead to one place; what begins there is made on the way."""
        partial = PartialCall("f", None, 1000)
        partial.add(pieces(("$.a.b", "1"), ("$['a']['c d'][0]", "2"), ('$["a"].é[0][0]', "3"), ("$.a.b", "4")))
        self.assertEqual(json.loads(partial.args()), {"a": {"b": "14", "c d": ["2"], "é": [["3"]]}})

    def test_nothing(self) -> None:
        """A call without arguments has an empty object of them."""
        self.assertEqual(PartialCall("f", None, 0).args(), "{}")

    def test_no_place(self) -> None:
        """A path that leads nowhere, to several places or past the end of a list is refused."""
        for path in (
            "",
            "$",
            "a",
            "$.a[*]",
            "$..a",
            "$.a[1]",
            "$.a[-1]",
            "$.a['b",
            "$.a[0]x",
            "$.s.x",
            "$.s[0]",
            "$[0]",
        ):
            partial = PartialCall("f", None, 1000)
            partial.add(pieces(("$.s", "1")))
            self.assertRaises(BlockError, partial.add, pieces((path, "x")))

    def test_bound(self) -> None:
        """Arguments that do not end cannot fill the memory."""
        partial = PartialCall("f", None, 100)
        partial.add(pieces(("$.a", "x" * 40)))
        self.assertRaises(BlockError, partial.add, pieces(("$.a", "x" * 40)))

    def test_next_call(self) -> None:
        """A call that is never said to be over ends where the next one begins, or with the answer."""
        args = [{"jsonPath": "$.a", "stringValue": "x"}]
        chunks = [chunk(call(name, partialArgs=args, willContinue=True)) for name in ("Read", "Bash")]
        blocks = message(*chunks, chunk(finish="STOP"))["content"]
        self.assertEqual(
            [(block["name"], block["input"]) for block in blocks], [("Read", {"a": "x"}), ("Bash", {"a": "x"})]
        )
