"""What is known of Google's models."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.gemini.models import ModelCapabilities, ThinkingBudgets, ThinkingLevels, capabilities_of


class DialectTests(SynchronousTestCase):
    """A model's name tells how to speak to it."""

    def test_thinking(self) -> None:
        """Each model is told of thinking in the form, and within the range, that Google documents for it."""
        for model, thinking in (
            ("gemini-2.5-pro", ThinkingBudgets(128, 32_768, False)),
            ("gemini-2.5-pro-preview-06-05", ThinkingBudgets(128, 32_768, False)),
            ("gemini-2.5-flash", ThinkingBudgets(0, 24_576, True)),
            ("gemini-2.5-flash-001", ThinkingBudgets(0, 24_576, True)),
            ("gemini-2.5-flash-lite", ThinkingBudgets(512, 24_576, True)),
            ("gemini-3-pro-preview", ThinkingLevels(("LOW", "HIGH"))),
            ("gemini-3.1-pro-preview", ThinkingLevels(("LOW", "MEDIUM", "HIGH"))),
            ("gemini-3-flash-preview", ThinkingLevels(("MINIMAL", "LOW", "MEDIUM", "HIGH"))),
            ("gemini-3.1-flash-lite", ThinkingLevels(("MINIMAL", "LOW", "MEDIUM", "HIGH"))),
            ("gemini-3.5-flash", ThinkingLevels(("MINIMAL", "LOW", "MEDIUM", "HIGH"))),
            ("gemini-3.6-flash", ThinkingLevels(("MINIMAL", "LOW", "MEDIUM", "HIGH"))),
            ("gemini-3.7-flash", ThinkingLevels(("LOW", "MEDIUM", "HIGH"))),
            ("gemini-3.8-flash", ThinkingLevels(("LOW", "MEDIUM", "HIGH"))),
            ("gemini-flash-lite-latest", ThinkingLevels(("LOW", "MEDIUM", "HIGH"))),
            ("gemini-3-pro-image-preview", None),
            ("gemini-2.5-flash-image", None),
            ("gemini-2.0-flash", None),
            ("gemini-1.5-pro-002", None),
        ):
            self.assertEqual(capabilities_of(model).thinking, thinking, model)

    def test_output_limits(self) -> None:
        """A model is not asked for more than it can give."""
        for model, limit in (
            ("gemini-2.0-flash", 8_192),
            ("gemini-2.5-pro", 65_536),
            ("gemini-2.5-flash-image", 32_768),
            ("gemini-3.1-flash-image", 32_768),
            ("gemini-3.8-flash", 65_536),
        ):
            self.assertEqual(capabilities_of(model).output_limit(on_vertex=False), limit, model)
            self.assertEqual(capabilities_of(model).output_limit(on_vertex=True), min(limit, 65_535), model)

    def test_generations(self) -> None:
        """From Gemini 3 on calls have to be signed, and schemas, searches and functions go together."""
        for model in ("gemini-3-pro-preview", "gemini-3.8-flash", "gemini-4-pro", "gemini-pro-latest"):
            dialect = capabilities_of(model)
            self.assertTrue(dialect.signed_calls, model)
            self.assertTrue(dialect.schema_with_tools and dialect.search_with_functions, model)
            self.assertTrue(dialect.media_in_results and dialect.json_schema, model)
        dialect = capabilities_of("gemini-2.5-flash")
        self.assertTrue(dialect.json_schema)
        self.assertFalse(dialect.signed_calls or dialect.schema_with_tools or dialect.search_with_functions)

    def test_unknown_models(self) -> None:
        """Of a model that nobody knows nothing is presumed: neither limits nor what newer models take."""
        for model in ("gemma-4-31b-it", "tunedModels/mine-0815", "endpoints/12345", "gemini", ""):
            self.assertEqual(capabilities_of(model), ModelCapabilities(), model)

    def test_paths(self) -> None:
        """Operators may write the name as the API lists it."""
        for model in ("models/gemini-2.5-pro", "publishers/google/models/gemini-2.5-pro"):
            self.assertEqual(capabilities_of(model), capabilities_of("gemini-2.5-pro"))
