"""Turns: whose they are, and every call with its result."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.conversation import Conversation, Text, ToolResult, ToolUse
from tests.translate.asking import assistant, call, read, refusal, result, system, text, user


def shape(conversation: Conversation) -> list[tuple[str, list[str]]]:
    """Each turn with its texts, and the ids of its calls and results."""
    return [
        (
            turn.role,
            [part.text if isinstance(part, Text) else part.id for part in turn.parts],  # type: ignore[union-attr] # no other kinds here
        )
        for turn in conversation.turns
    ]


class MergingTests(SynchronousTestCase):
    """Backends want strictly alternating turns, the API does not."""

    def test_same_side(self) -> None:
        """What one side said in several messages is one turn."""
        said = read(user("a"), user(text("b"), text("c")), assistant("d"), assistant("e"), user("f"))
        self.assertEqual(shape(said), [("user", ["a", "b", "c"]), ("assistant", ["d", "e"]), ("user", ["f"])])

    def test_empty(self) -> None:
        """Empty texts and messages go, and who spoke around them spoke on."""
        said = read(user("a"), assistant(""), user(text(""), text("b")), assistant(text("")))
        self.assertEqual(shape(said), [("user", ["a", "b"])])
        self.assertFalse(said.is_prefilled)

    def test_prefill(self) -> None:
        """Words that are put into the model's mouth are seen as such."""
        self.assertTrue(read(user("a"), assistant("b")).is_prefilled)

    def test_nobody_speaks(self) -> None:
        """A request without a word in it is refused in the API's words."""
        self.assertEqual(refusal(user("")), "messages: at least one message is required")
        self.assertEqual(refusal(messages=[]), "messages: at least one message is required")

    def test_assistant_first(self) -> None:
        """So is one in which the assistant begins."""
        self.assertEqual(refusal(assistant("a"), user("b")), 'messages: first message must use the "user" role')


class PairingTests(SynchronousTestCase):
    """Calls and their results."""

    def test_order(self) -> None:
        """Results lead their turn in the order of the calls, whatever order the client sends them in."""
        said = read(
            user("go"),
            assistant("on it", call("a", "read"), call("b", "write")),
            system("hurry"),
            user(text("and?"), result("b", is_error=True), result("a")),
        )
        turn = said.turns[-1]
        self.assertEqual(
            turn.parts,
            [
                ToolResult("a", "read", [Text("seen")]),
                ToolResult("b", "write", [Text("seen")], is_error=True),
                Text("<system-reminder>\nhurry\n</system-reminder>"),
                Text("and?"),
            ],
        )

    def test_spread(self) -> None:
        """Calls of several messages in a row may be answered in several messages in a row."""
        said = read(user("go"), assistant(call("a")), assistant(call("b")), user(result("b")), user(result("a"), "so?"))
        self.assertEqual(shape(said)[1:], [("assistant", ["a", "b"]), ("user", ["a", "b", "so?"])])

    def test_same_id_again(self) -> None:
        """Ids that a client uses again in a later turn do no harm: a result belongs to the turn before it, and no
        upstream sees an id twice."""
        said = read(
            user("go"), assistant(call("a", "x")), user(result("a")), assistant(call("a", "y")), user(result("a"))
        )
        ids = [turn.parts[0].id for turn in said.turns[1:] if isinstance(turn.parts[0], ToolUse | ToolResult)]
        self.assertEqual((ids[0], ids[1], ids[2]), ("a", "a", ids[3]))
        self.assertNotEqual(ids[3], "a")
        self.assertEqual(
            [turn.parts[0].name for turn in said.turns[1:] if isinstance(turn.parts[0], ToolUse | ToolResult)],
            list("xxyy"),
        )

    def test_same_id_again_and_again(self) -> None:
        """An id is another one each time, the same each time that the conversation comes, and no other call's."""
        turns = [user("go"), assistant(call("a-2")), user(result("a-2"))]
        turns += [assistant(call("a")), user(result("a"))] * 3
        ids = [part.id for turn in read(*turns).turns for part in turn.parts if isinstance(part, ToolUse)]
        self.assertEqual(len({*ids}), 4)
        turns += [assistant(call("a")), user(result("a"))]
        again = [part.id for turn in read(*turns).turns for part in turn.parts if isinstance(part, ToolUse)]
        self.assertEqual(again[:4], ids)

    def test_no_result(self) -> None:
        """A call without its result is refused as the API refuses it, at the end of the conversation too."""
        told = (
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: b. Each `tool_use` "
            "block must have a corresponding `tool_result` block in the next message."
        )
        asked = user("go"), assistant(call("a"), call("b"))
        self.assertEqual(refusal(*asked, user(result("a"))), told)
        self.assertIn("immediately after: a, b.", refusal(*asked))
        self.assertIn(
            "immediately after: a, b.", refusal(*asked, user("never mind"), assistant("fine"), user(result("a")))
        )

    def test_no_call(self) -> None:
        """A result without its call is refused with its place."""
        told = (
            "messages.2.content.1: unexpected `tool_use_id` found in `tool_result` blocks: toolu_x. Each `tool_result` "
            "block must have a corresponding `tool_use` block in the previous message."
        )
        self.assertEqual(refusal(user("go"), assistant("hm"), user("so?", result("toolu_x"))), told)
        self.assertIn("messages.0.content.0: unexpected", refusal(user(result("a"))))

    def test_two_results(self) -> None:
        """Two results of one call are refused."""
        self.assertIn(
            "messages.2.content.1: each tool_use must have a single result. "
            "Found multiple `tool_result` blocks with id: a",
            refusal(user("go"), assistant(call("a")), user(result("a"), result("a"))),
        )

    def test_two_calls(self) -> None:
        """Two calls of one id in one turn are refused: nobody could tell their results apart."""
        self.assertIn("must be unique", refusal(user("go"), assistant(call("a"), call("a")), user(result("a"))))

    def test_wrong_side(self) -> None:
        """Only assistants call, and only users answer."""
        self.assertIn("messages.0.content.0: `tool_use` blocks can only be in `assistant`", refusal(user(call("a"))))
        self.assertIn("`tool_result` blocks can only be in `user`", refusal(user("go"), assistant(result("a"))))
