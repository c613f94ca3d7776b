"""How Gemini's answers end."""

from __future__ import annotations

from google.genai import types
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.reader import ModelFault
from claudeproxyd.translate.gemini import finish
from tests.translate.gemini.answering import chunk, message, text


class TableTests(SynchronousTestCase):
    """The tables are complete and do not contradict each other."""

    def test_every_finish_reason_has_a_name(self) -> None:
        """What Google's SDK knows of is never an unknown ending."""
        unnamed = [
            reason.value
            for reason in types.FinishReason
            if not finish.is_known(reason.value) and reason.value not in finish.UNFINISHED
        ]
        self.assertEqual(unnamed, [])

    def test_every_block_reason_has_a_name(self) -> None:
        """A prompt that is blocked for a reason that Google's SDK knows is explained in words."""
        unnamed = [
            reason.value
            for reason in types.BlockedReason
            if reason.value not in (*finish.REFUSALS, *finish.UNFINISHED, "OTHER")
        ]
        self.assertEqual(unnamed, [])

    def test_each_reason_is_in_one_table(self) -> None:
        """No reason means two things."""
        names = [*finish.STOPS, *finish.FAULTS, *finish.REFUSALS, *finish.UNCLEAR, *finish.UNFINISHED]
        self.assertEqual(len(names), len(set(names)))


class EndingTests(SynchronousTestCase):
    """What clients see of an ending."""

    def test_stop_reasons(self) -> None:
        """Ends of Google's are those that clients know how to go on from."""
        for reason, expected in {
            "STOP": "end_turn",
            "MAX_TOKENS": "max_tokens",
            "CONTINUATION": "max_tokens",
            "OTHER": "end_turn",
            "NO_IMAGE": "end_turn",
            "FROM_NEXT_YEAR": "end_turn",
        }.items():
            self.assertEqual(message(chunk(text("a"), finish=reason))["stop_reason"], expected, reason)

    def test_refusals(self) -> None:
        """A refusal says why, in words that do not take Google's documentation to understand."""
        for reason in (*finish.REFUSALS, "IMAGE_FROM_NEXT_YEAR", "PUP_X"):
            refused = message(chunk(text("a"), finish=reason))
            self.assertEqual(refused["stop_reason"], "refusal", reason)
            details = refused["stop_details"]
            self.assertEqual((details["type"], details["category"]), ("refusal", None))
            self.assertNotIn(reason, details["explanation"])

    def test_words_of_google(self) -> None:
        """What Google says of a refusal is what the client reads."""
        refused = message(chunk(finish="SAFETY", finishMessage="Too hot."))
        self.assertIn("Too hot.", refused["stop_details"]["explanation"])

    def test_words_about_our_project(self) -> None:
        """But not whose project it is."""
        told = "Blocked by projects/my-team/locations/eu/templates/t"
        refused = message(chunk(finish="MODEL_ARMOR", finishMessage=told))
        self.assertIn("Blocked by projects/***/locations/eu/templates/t", refused["stop_details"]["explanation"])

    def test_faults(self) -> None:
        """A call that the model malformed is a fault by its name, whatever came before it."""
        for reason in finish.FAULTS:
            fault = self.assertRaises(ModelFault, message, chunk(text("a"), finish=reason, finishMessage="Oops"))
            self.assertEqual(str(fault), f"{reason}, with 4 characters about it")

    def test_unclear_without_content(self) -> None:
        """An answer that ends for no known reason before it began is worth another attempt."""
        for reason in (*finish.UNCLEAR, "FROM_NEXT_YEAR"):
            self.assertEqual(str(self.assertRaises(ModelFault, message, chunk(finish=reason))), reason)

    def test_blocked_prompt(self) -> None:
        """A blocked prompt is a refusal without content, for every reason there is."""
        for reason in (*[r.value for r in types.BlockedReason], "FROM_NEXT_YEAR"):
            if reason in finish.UNFINISHED:
                continue
            refused = message({"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 4}})
            self.assertEqual((refused["content"], refused["stop_reason"]), ([], "refusal"), reason)
            self.assertEqual(refused["usage"]["input_tokens"], 4)
