"""Signatures of thoughts, remembered between two turns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.conversation import Text, Thought, ToolUse, Turn
from claudeproxyd.translate.signatures import MAX_SIGNATURE_BYTES, SIGNATURE_LIFETIME, ConversationDigest, Signatures
from tests.store.support import exported

NOW = 1_700_000_000.0
ONE = '["signature","one"]'

scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
values = st.fixed_dictionaries(
    {},
    optional={
        "signature": scalars | st.just("x" * (MAX_SIGNATURE_BYTES + 1)),
        "used": scalars | st.floats(NOW - 9, NOW + 9),
    },
)
names = st.text(max_size=5) | st.lists(st.sampled_from(["signature", "one", None, 1]), max_size=3).map(json.dumps)


class SignaturesTestCase(SynchronousTestCase):
    """Time that the test moves, and what a store would be told."""

    def setUp(self) -> None:
        """It is now."""
        self.now = NOW
        self.told: list[dict[str, Any]] = []

    def signatures(self, **bounds: Any) -> Signatures:
        """Empty ones."""
        return Signatures(lambda: self.now, changed=self.tell, **bounds)

    def tell(self, changes: Mapping[str, Any]) -> None:
        """As a store's save."""
        self.told.append(dict(changes))


class MemoryTests(SignaturesTestCase):
    """Within one process."""

    def test_secrets(self) -> None:
        """An upstream that gives a key of ours for a signature, or as the id of a call, has it kept nowhere."""
        signatures = self.signatures(is_secret=lambda text: "planted" in text)
        signatures.keep("a", "it is planted")
        signatures.keep("planted", "b")
        signatures.keep("c", "d")
        self.assertEqual([signatures.lookup(key) for key in ("a", "planted", "c")], [None, None, "d"])
        self.assertNotIn("planted", str(self.told))

    def test_recalls(self) -> None:
        """What came with a call is there when its result comes back; the last one said holds."""
        signatures = self.signatures()
        self.assertIsNone(signatures.lookup("one"))
        signatures.keep("one", "first")
        signatures.keep("one", "second")
        self.assertEqual((signatures.lookup("one"), len(signatures), signatures.size), ("second", 1, 9))

    def test_texts(self) -> None:
        """A text has a short key, other than another text's and any tool call's; no text is refused."""
        said = ConversationDigest()
        self.assertEqual(said.key("a" * 10_000), said.key("a" * 10_000))
        self.assertLess(len(said.key("a" * 10_000)), 50)
        self.assertEqual(len({said.key("a"), said.key("b"), said.key(""), said.key("\ud800")}), 4)

    def test_same_text_elsewhere(self) -> None:
        """The same words elsewhere have another key: nobody is given what was signed of another's thoughts."""
        asked, called = Turn("user", [Text("go")]), Turn("assistant", [ToolUse("t", "f", msgspec.Raw(b"{}"))])
        conversations: list[tuple[list[str], list[Turn]]] = [
            ([], []),
            (["Be brief."], []),
            ([], [asked]),
            ([], [asked, called]),
            ([], [Turn("user", [Text("g"), Text("o")])]),
        ]
        keys = set()
        for system, turns in conversations:
            said = ConversationDigest(system)
            for turn in turns:
                said.update(turn)
            keys.add(said.key("Done."))
        self.assertEqual(len(keys), len(conversations))

    def test_same_turn_again(self) -> None:
        """What clients leave out when a turn comes again, old thinking and reminders, does not change the key."""
        whole, bare = ConversationDigest(), ConversationDigest()
        whole.update(Turn("user", [Text("go"), Text("<system-reminder>\nIt is late.\n</system-reminder>")]))
        whole.update(Turn("assistant", [Thought("hm", b"sig"), Text("Gone.")]))
        bare.update(Turn("user", [Text("go")]))
        bare.update(Turn("assistant", [Text("Gone.")]))
        self.assertEqual(whole.key("Done."), bare.key("Done."))

    def test_count(self) -> None:
        """With too many the longest unused goes, and a recall is a use."""
        signatures = self.signatures(count=2)
        signatures.keep("one", "1")
        signatures.keep("two", "2")
        signatures.lookup("one")
        signatures.keep("three", "3")
        self.assertEqual([signatures.lookup(key) for key in ("one", "two", "three")], ["1", None, "3"])
        self.assertEqual(self.told[-1]['["signature","two"]'], None)

    def test_size(self) -> None:
        """Long signatures do not take more memory than was allowed, keys included, whichever is replaced."""
        signatures = self.signatures(size=30)
        for key in ("a", "b", "c"):
            signatures.keep(key, key * 9)
        self.assertEqual((len(signatures), signatures.size), (3, 30))
        signatures.keep("c", "c" * 10)
        self.assertEqual((signatures.lookup("a"), len(signatures), signatures.size), (None, 2, 21))

    def test_unfit(self) -> None:
        """One that is empty, or longer than any of use, neither is kept nor takes another's place."""
        signatures = self.signatures()
        signatures.keep("one", "1")
        for unfit in ("", "x" * (MAX_SIGNATURE_BYTES + 1)):
            signatures.keep("one", unfit)
        self.assertEqual((signatures.lookup("one"), len(self.told)), ("1", 1))

    def test_rest(self) -> None:
        """A conversation that rested for a day is forgotten, one that goes on is not."""
        signatures = self.signatures()
        signatures.keep("one", "1")
        signatures.keep("two", "2")
        for _ in range(3):
            self.now += SIGNATURE_LIFETIME * 0.6
            self.assertEqual(signatures.lookup("one"), "1")
        self.assertIsNone(signatures.lookup("two"))
        self.assertEqual((len(signatures), self.told[-1]), (1, {'["signature","two"]': None}))


class StateTests(SignaturesTestCase):
    """Beyond one process."""

    def test_told(self) -> None:
        """A store is told of what is kept, and of its use again a few times in a day, not at every recall."""
        signatures = self.signatures()
        signatures.keep("one", "1")
        self.assertEqual(self.told, [{ONE: {"signature": "1", "used": NOW}}])
        for _ in range(100):
            self.now += SIGNATURE_LIFETIME / 100
            signatures.lookup("one")
        self.assertEqual(len(self.told), 4)

    def test_restart(self) -> None:
        """What was told, and what was exported, bring all back, and in the old order; nothing is told again."""
        before = self.signatures()
        for key in ("one", "two", "three"):
            before.keep(key, key)
            self.now += 1.0
        before.lookup("one")
        saved = {name: value for changes in self.told for name, value in changes.items()}
        self.told.clear()
        for state in (saved, exported(before)):
            after = self.signatures()
            after.import_state(json.loads(json.dumps(dict(reversed(state.items())))))
            self.assertEqual(self.told, [])
            self.assertEqual(after.size, before.size)
            self.assertEqual(after.lookup("one"), "one")
        self.assertEqual([json.loads(name)[1] for name in exported(after)], ["two", "three", "one"])

    def test_useless(self) -> None:
        """What is damaged, outlived or too much is deleted from the store that it came from."""
        signatures = self.signatures(count=1)
        saved = {
            ONE: {"signature": "1", "used": NOW - 1},
            '["signature","two"]': {"signature": "2", "used": NOW},
            '["signature","old"]': {"signature": "3", "used": NOW - SIGNATURE_LIFETIME - 1},
            '["signature","damaged"]': {"signature": 4, "used": NOW},
            '["signature"]': {"signature": "5", "used": NOW},
            '["signature","nobody"]': {"signature": "6", "used": float("nan")},
        }
        signatures.import_state(saved)
        self.assertEqual(signatures.lookup("two"), "2")
        self.assertEqual(self.told, [{name: None for name in saved if "two" not in name}])

    def test_learns(self) -> None:
        """Another daemon's are as good as one's own, the later used of two holds, and nothing is told back."""
        signatures = self.signatures()
        signatures.keep("one", "mine")
        self.told.clear()
        signatures.merge({ONE: {"signature": "theirs", "used": NOW - 1}, '["signature","two"]': None, "damaged": 1})
        self.assertEqual(signatures.lookup("one"), "mine")
        signatures.merge({ONE: {"signature": "theirs", "used": NOW + 1}})
        self.assertEqual(signatures.lookup("one"), "theirs")
        signatures.merge({ONE: None})
        self.assertEqual((signatures.lookup("one"), self.told), ("theirs", []))

    def test_fast_clock(self) -> None:
        """A daemon whose clock is years ahead does not make a signature stay for years."""
        signatures = self.signatures()
        signatures.merge({ONE: {"signature": "1", "used": NOW + 1e9}})
        self.now += SIGNATURE_LIFETIME + 1
        self.assertIsNone(signatures.lookup("one"))

    @given(st.dictionaries(names, scalars | values))
    def test_garbage(self, saved: dict[str, Any]) -> None:
        """No state whatever keeps a daemon from starting; what is kept is counted exactly."""
        signatures = Signatures(lambda: NOW)
        signatures.import_state(saved)
        signatures.merge(saved)
        kept = exported(signatures)
        size = sum(len(json.loads(name)[1]) + len(value["signature"]) for name, value in kept.items())
        self.assertEqual((signatures.size, len(signatures)), (size, len(kept)))
