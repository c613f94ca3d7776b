"""The tables of servers and models, and settings over them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.openai_chat.dialects import (
    EFFORTS,
    FEATURES,
    LEAST,
    MODELS,
    REASONING_BACK,
    SERVERS,
    THINKING,
    Dialect,
    Overrides,
    dialect_of,
    server_of,
)


class TableTests(SynchronousTestCase):
    """What is written in them."""

    def test_words(self) -> None:
        """Every row names features, fields, servers and words that there are."""
        names = {field.name for field in fields(Dialect)}
        self.assertLessEqual(LEAST, FEATURES.keys())
        dialects = [server.dialect for server in SERVERS.values()]
        for row in MODELS:
            self.assertLessEqual({*row.takes, *row.refuses}, FEATURES.keys(), row)
            self.assertLessEqual(row.changes.keys(), names, row)
            self.assertLessEqual(set(row.servers) - {"", "*"}, SERVERS.keys(), row)
            self.assertEqual([glob.lower() for glob in row.globs], list(row.globs), row)
            changes: dict[str, Any] = dict(row.changes)
            dialects.append(Dialect(**changes))
        for dialect in dialects:
            self.assertLessEqual(dialect.takes, FEATURES.keys())
            self.assertIn(dialect.thinking, THINKING)
            self.assertIn(dialect.reasoning_back, (*REASONING_BACK, "as given"))
            self.assertLessEqual(set(dialect.efforts), {*EFFORTS, "default"})
            known = [EFFORTS.index(effort) for effort in dialect.efforts if effort in EFFORTS]
            self.assertEqual(known, sorted(known))


class ServerTests(SynchronousTestCase):
    """Which server a host is."""

    def test_hosts(self) -> None:
        """By the whole name: another's that ends alike is unknown."""
        for host, server in (
            ("api.openai.com", "openai"),
            ("eu.api.openai.com", "openai"),
            ("corp.openai.azure.com", "azure"),
            ("corp.services.ai.azure.com", "azure"),
            ("openrouter.ai", "openrouter"),
            ("api.z.ai", "glm"),
            ("api.moonshot.cn", "kimi"),
            ("dashscope-intl.aliyuncs.com", "qwen"),
            ("api.mistral.ai", "mistral"),
            ("evil-api.openai.com.example", ""),
            ("notopenrouter.ai", ""),
            ("127.0.0.1", ""),
        ):
            self.assertEqual(server_of(host), server, host)


class ModelTests(SynchronousTestCase):
    """How models are spoken to."""

    def test_openai(self) -> None:
        """Efforts by generation; none for what does not think."""
        for model, efforts in (
            ("gpt-4o", ()),
            ("gpt-4.1-mini", ()),
            ("o3", ("low", "medium", "high")),
            ("o4-mini-2025-04-16", ("low", "medium", "high")),
            ("gpt-5", ("minimal", "low", "medium", "high")),
            ("gpt-5-chat-latest", ()),
            ("gpt-5.1", ("none", "low", "medium", "high")),
            ("gpt-5.2-2025-12-11", ("none", "low", "medium", "high", "xhigh")),
            ("gpt-5.4-mini", ("none", "low", "medium", "high", "xhigh")),
            ("gpt-6", ("none", "low", "medium", "high", "xhigh")),
        ):
            self.assertEqual(dialect_of("openai", model).efforts, efforts, model)
        for model in ("o3", "gpt-5.2"):
            self.assertFalse(dialect_of("openai", model).has("temperature"))
        self.assertTrue(dialect_of("openai", "gpt-5-chat-latest").has("temperature"))
        self.assertEqual(dialect_of("openai", "gpt-5.10").effort_with_tools, "none")
        self.assertEqual(dialect_of("openai", "gpt-5.2").effort_with_tools, "")

    def test_names(self) -> None:
        """A path before a name, a variant behind it and its case do not matter."""
        self.assertEqual(dialect_of("", "openai/GPT-5:nitro").max_tokens, "max_completion_tokens")

    def test_makers(self) -> None:
        """Whose model it is; a name that nobody knows is its own maker's."""
        for model, maker in (
            ("deepseek/deepseek-v3.2", "deepseek"),
            ("moonshotai/kimi-k2", "kimi"),
            ("zai-org/GLM-4.6", "glm"),
            ("Qwen/QwQ-32B", "qwen"),
            ("o3", "openai"),
            ("house-model-7", "house-model-7"),
        ):
            self.assertEqual(dialect_of("", model).maker, maker)

    def test_unknown(self) -> None:
        """What nothing is known of gets the least."""
        dialect = dialect_of("", "house-model-7")
        self.assertEqual(dialect, Dialect(maker="house-model-7"))

    def test_settings(self) -> None:
        """An operator's word goes before every table."""
        overrides = Overrides(
            max_tokens="max_tokens", thinking="none", takes=("temperature",), refuses=("image",), system="developer"
        )
        dialect = dialect_of("openai", "gpt-5.4", overrides)
        self.assertEqual((dialect.max_tokens, dialect.thinking, dialect.system), ("max_tokens", "none", "developer"))
        self.assertEqual((dialect.has("temperature"), dialect.has("image")), (True, False))
        self.assertEqual(dialect_of("", "m", Overrides(efforts=("low",))).thinking, "reasoning_effort")
        self.assertEqual(dialect_of("", "m", Overrides(thinking="reasoning")).efforts, ("low", "medium", "high"))
