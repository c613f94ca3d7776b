"""What a ``usage`` tells."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.usage import Usage, count


class CountTests(SynchronousTestCase):
    """Read along, never refused."""

    def test_all_figures(self) -> None:
        """As the API has them; how long a cache is kept is a part of what was written."""
        total = Usage()
        told = {
            "input_tokens": 1,
            "output_tokens": 2,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 9,
            "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 5},
            "output_tokens_details": {"thinking_tokens": 6},
        }
        self.assertEqual(count(total, told), "")
        figures = (total.input, total.output, total.cache_read, total.cache_write, total.cache_write_1h, total.thinking)
        self.assertEqual(figures, (1, 2, 3, 9, 5, 6))

    def test_odd_figures(self) -> None:
        """What cannot be read is told, and leaves what was."""
        for odd, words in (
            ({"cache_creation": []}, "usage.cache_creation"),
            ({"cache_creation": {"ephemeral_1h_input_tokens": "5"}}, "usage.ephemeral_1h_input_tokens"),
            ({"output_tokens_details": 1}, "usage.output_tokens_details"),
            ([], "usage is no object"),
        ):
            total = Usage()
            total.cache_write_1h = 7
            self.assertIn(words, count(total, odd))
            self.assertEqual(total.cache_write_1h, 7)

    def test_nothing(self) -> None:
        """Absent and null members are no news."""
        total = Usage()
        self.assertEqual(count(total, {"cache_creation": None, "output_tokens_details": None}), "")
        self.assertEqual(count(total, None), "")
        self.assertIsNone(total.input)
