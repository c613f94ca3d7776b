"""The estimate against what real tokenizers have counted."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.corrections import Corrections
from claudeproxyd.messages.estimate import measure
from tests.estimates.conversations import conversations
from tests.estimates.recount import COUNTS, digest
from tests.estimates.report import TOKENIZERS, error, table

PAGE = Path(__file__).parents[2] / "docs" / "estimate.md"


class EstimatesTests(SynchronousTestCase):
    """Fifty conversations, with all kinds of content that a model reads as text."""

    def test_the_conversations_are_those_that_were_counted(self) -> None:
        """A conversation that changes has to be counted anew."""
        counted = {name: entry["sha256"] for name, entry in json.loads(COUNTS.read_text()).items()}
        self.assertEqual({each.name: digest(each) for each in conversations()}, counted)
        self.assertEqual(len(counted), 50)

    def test_a_real_server(self) -> None:
        """Each one is within 15 % of what llama.cpp's server counts, and all together within 2 %."""
        model = TOKENIZERS["smollm2"]
        off = {each.name: error(each.name, each.body, "smollm2", model) for each in conversations()}
        self.assertEqual({name: each for name, each in off.items() if abs(each) > 0.15}, {})
        self.assertLess(abs(sum(off.values()) / len(off)), 0.02)

    def test_a_vocabulary_of_many_languages(self) -> None:
        """The same holds for a large model's tokenizer, but for some of the rarer languages."""
        off = [error(each.name, each.body, "o200k", TOKENIZERS["o200k"]) for each in conversations()]
        self.assertLess(max(map(abs, off)), 0.30)
        self.assertGreaterEqual(sum(abs(each) <= 0.15 for each in off), 46)
        self.assertLess(abs(sum(off) / len(off)), 0.02)

    def test_a_wrong_vocabulary_is_learnt(self) -> None:
        """A model whose name tells nothing is estimated as well after some answers, whatever its vocabulary is."""
        counts = json.loads(COUNTS.read_text())
        corrections = Corrections()
        seen = conversations()
        Random(1).shuffle(seen)
        off = []
        for number, each in enumerate(seen):
            parts = measure(each.body).parts("some-model")
            counted = counts[each.name]["smollm2"]
            if number >= 10:
                off.append(abs(corrections.corrected("p", "some-model", parts) / counted - 1))
            corrections.learn("p", "some-model", parts, counted)
        off.sort()
        self.assertLess(off[len(off) // 2], 0.15)

    def test_the_page_has_the_figures(self) -> None:
        """Operators read what the tests have measured: ``python -m tests.estimates.report`` prints it anew."""
        self.assertIn(table(), PAGE.read_text())
