"""How a client's effective_thinking about thinking reaches the model."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.conversation import Thinking
from claudeproxyd.translate.gemini.models import capabilities_of
from claudeproxyd.translate.gemini.thinking import thinking_config, thinks_unasked
from claudeproxyd.translate.thinking import effective_thinking, with_room

PRO_2 = "gemini-2.5-pro"
FLASH_2 = "gemini-2.5-flash"
LITE_2 = "gemini-2.5-flash-lite"
PRO_3 = "gemini-3-pro-preview"
FLASH_3 = "gemini-3-flash-preview"
FLASH_38 = "gemini-3.8-flash"


class ThinkingTests(SynchronousTestCase):
    """One effective_thinking, one model, one thinkingConfig."""

    def config(self, wanted: Thinking, model: str, max_tokens: int | None = 64_000) -> dict[str, Any] | None:
        warnings: list[str] = []
        config = thinking_config(wanted, capabilities_of(model), max_tokens, warnings)
        self.assertEqual(warnings, [])
        return config

    def test_default(self) -> None:
        """Where the model is to do as it likes, it is told nothing."""
        for model in (PRO_2, FLASH_2, PRO_3, FLASH_3, "gemini-2.0-flash", "gemma-3-27b-it"):
            self.assertIsNone(self.config(Thinking(), model))

    def test_nothing_said(self) -> None:
        """No word on thinking means none, as with Claude; an effort is then lost, and said to be."""
        warnings: list[str] = []
        self.assertEqual(effective_thinking(Thinking(), warnings), Thinking("disabled"))
        self.assertEqual(warnings, [])
        self.assertEqual(effective_thinking(Thinking(effort="high"), warnings), Thinking("disabled"))
        self.assertEqual(len(warnings), 1)
        for said in (Thinking("adaptive", effort="low"), Thinking("disabled"), Thinking("budget", budget=2_000)):
            self.assertIs(effective_thinking(said, warnings), said)

    def test_room(self) -> None:
        """Thoughts that nobody wants do not use up a small max_tokens."""
        off = Thinking("disabled")
        for model in (PRO_2, PRO_3, FLASH_3, FLASH_38):
            self.assertEqual(with_room(256, unasked=thinks_unasked(off, capabilities_of(model))), 2_304, model)
            self.assertEqual(with_room(8_192, unasked=thinks_unasked(off, capabilities_of(model))), 8_192, model)
            for wanted in (Thinking(), Thinking("adaptive"), Thinking("budget", budget=100)):
                self.assertEqual(
                    with_room(256, unasked=thinks_unasked(wanted, capabilities_of(model))), 256, (model, wanted)
                )
        for model in (FLASH_2, LITE_2, "gemini-2.0-flash", "gemma-3-27b-it"):
            self.assertEqual(with_room(256, unasked=thinks_unasked(off, capabilities_of(model))), 256, model)

    def test_disabled(self) -> None:
        """Thinking is switched off where that can be, else it is the least; no thoughts are asked for."""
        for model, config in (
            (PRO_2, {"thinkingBudget": 128}),
            (FLASH_2, {"thinkingBudget": 0}),
            (LITE_2, {"thinkingBudget": 0}),
            (PRO_3, {"thinkingLevel": "LOW"}),
            (FLASH_3, {"thinkingLevel": "MINIMAL"}),
            (FLASH_38, {"thinkingLevel": "LOW"}),
            ("gemini-2.0-flash", None),
        ):
            self.assertEqual(self.config(Thinking("disabled", effort="high"), model), config, model)

    def test_budgets(self) -> None:
        """A budget is held to what the model takes."""
        for model, wanted, budget in (
            (PRO_2, 31_999, 31_999),
            (PRO_2, 50_000, 32_768),
            (PRO_2, 100, 128),
            (FLASH_2, 1_024, 1_024),
            (FLASH_2, 31_999, 24_576),
            (LITE_2, 100, 512),
        ):
            config = self.config(Thinking("budget", budget=wanted), model)
            self.assertEqual(config, {"thinkingBudget": budget, "includeThoughts": True}, (model, wanted))

    def test_budget_below_max_tokens(self) -> None:
        """A route's lower limit leaves room for an answer, unless the model must think more."""
        config = self.config(Thinking("budget", budget=8_000), FLASH_2, max_tokens=4_096)
        self.assertEqual(config, {"thinkingBudget": 4_095, "includeThoughts": True})
        config = self.config(Thinking("budget", budget=8_000), PRO_2, max_tokens=100)
        self.assertEqual(config, {"thinkingBudget": 128, "includeThoughts": True})
        config = self.config(Thinking("budget", budget=8_000), PRO_2, max_tokens=None)
        self.assertEqual(config, {"thinkingBudget": 8_000, "includeThoughts": True})

    def test_budget_as_level(self) -> None:
        """Models that know levels only get the one that comes next to the budget."""
        for model, wanted, level in (
            (FLASH_3, 1_024, "LOW"),
            (FLASH_3, 8_192, "MEDIUM"),
            (FLASH_3, 8_193, "HIGH"),
            (FLASH_3, 100_000, "HIGH"),
            (PRO_3, 1_024, "LOW"),
            (PRO_3, 4_000, "HIGH"),
        ):
            config = self.config(Thinking("budget", budget=wanted), model)
            self.assertEqual(config, {"thinkingLevel": level, "includeThoughts": True}, (model, wanted))

    def test_effort(self) -> None:
        """Each effort has its level or budget; above what the model knows it is the most it has."""
        for model, effort, config in (
            (FLASH_3, "low", {"thinkingLevel": "LOW"}),
            (FLASH_3, "medium", {"thinkingLevel": "MEDIUM"}),
            (PRO_3, "medium", {"thinkingLevel": "HIGH"}),
            (FLASH_3, "high", {"thinkingLevel": "HIGH"}),
            (FLASH_3, "xhigh", {"thinkingLevel": "HIGH"}),
            (PRO_3, "max", {"thinkingLevel": "HIGH"}),
            (PRO_2, "low", {"thinkingBudget": 1_024}),
            (PRO_2, "medium", {"thinkingBudget": 8_192}),
            (PRO_2, "high", {"thinkingBudget": 24_576}),
            (PRO_2, "xhigh", {"thinkingBudget": 32_768}),
            (FLASH_2, "max", {"thinkingBudget": 24_576}),
        ):
            expected = {**config, "includeThoughts": True}
            self.assertEqual(self.config(Thinking("adaptive", effort=effort), model), expected, (model, effort))

    def test_adaptive(self) -> None:
        """Without an effort the model itself decides how much to think."""
        self.assertEqual(self.config(Thinking("adaptive"), PRO_2), {"thinkingBudget": -1, "includeThoughts": True})
        self.assertEqual(self.config(Thinking("adaptive"), PRO_3), {"includeThoughts": True})

    def test_effort_alone(self) -> None:
        """Where the model is to do as it likes, it is told an effort all the same; thoughts stay unseen."""
        self.assertEqual(self.config(Thinking(effort="low"), PRO_3), {"thinkingLevel": "LOW"})
        self.assertEqual(self.config(Thinking(effort="low"), PRO_2), {"thinkingBudget": 1_024})

    def test_omitted(self) -> None:
        """Thoughts that are not to be read are not sent."""
        config = self.config(Thinking("adaptive", effort="high", shown=False), PRO_3)
        self.assertEqual(config, {"thinkingLevel": "HIGH", "includeThoughts": False})

    def test_models_that_do_not_think(self) -> None:
        """A effective_thinking that cannot be told is a warning, and nothing is sent that the model would refuse."""
        warnings: list[str] = []
        config = thinking_config(
            Thinking("adaptive", effort="high"), capabilities_of("gemini-2.0-flash"), 100, warnings
        )
        self.assertIsNone(config)
        self.assertEqual(warnings, ["thinking: this model cannot be told to think"])
        thinking_config(Thinking(effort="high"), capabilities_of("gemini-2.0-flash"), 100, warnings)
        self.assertEqual(warnings[1:], ["output_config.effort: this model cannot be told to think"])
        thinking_config(Thinking("disabled", effort="high"), capabilities_of("gemini-2.0-flash"), 100, warnings)
        self.assertEqual(len(warnings), 2)
