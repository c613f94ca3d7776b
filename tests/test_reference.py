"""docs/configuration.md."""

from __future__ import annotations

import os

from claudeproxyd.executors.kinds import BUILT_IN
from claudeproxyd.reference import SAMPLE, reference
from tests.config.support import ConfigTestCase

PAGE = os.path.join(os.path.dirname(__file__), "..", "docs", "configuration.md")


class ReferenceTests(ConfigTestCase):
    """The page that operators read."""

    def test_up_to_date(self) -> None:
        """The page in docs/ is what the schema says today."""
        with open(PAGE, encoding="utf-8") as file:
            self.assertEqual(
                file.read(), reference(BUILT_IN), "run python -m claudeproxyd.reference > docs/configuration.md"
            )

    def test_sample(self) -> None:
        """The sample on it is a configuration that works, without a warning."""
        self.environ |= {name: f"the value of {name}" for name in ("LAPTOP_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")}
        self.write("secrets/team-b.key", "k\n")
        self.write("clients.d/more.toml", "")
        loaded = self.load(SAMPLE)
        self.assertEqual(loaded.warnings, [])
        self.assertEqual([provider.name for provider in loaded.config.providers], ["anthropic", "gemini"])
