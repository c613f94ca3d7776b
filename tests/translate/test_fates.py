"""The tables of fates, against what Anthropic's own SDK can send."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from anthropic.types import message_create_params
from anthropic.types.beta import message_count_tokens_params as beta_count_params
from anthropic.types.beta import message_create_params as beta_create_params
from anthropic.types.beta.beta_content_block_param import BetaContentBlockParam
from anthropic.types.beta.beta_tool_result_block_param import Content as ResultBlock
from anthropic.types.beta.beta_tool_union_param import BetaToolUnionParam
from anthropic.types.content_block_param import ContentBlockParam
from anthropic.types.tool_union_param import ToolUnionParam
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.fates import (
    BLOCK_FIELDS,
    BLOCKS,
    FIELDS,
    RESULT_BLOCKS,
    TOOL_FIELDS,
    TOOLS,
    Fate,
    tool_family,
)
from claudeproxyd.translate.published import PUBLISHED
from claudeproxyd.translate.wire import Block, Request, ToolEntry


def shapes(union: Any) -> Iterator[dict[str, Any]]:
    """The members, by name, of each dictionary in *union*."""
    for shape in typing.get_args(union) or (union,):
        if typing.get_args(shape):
            yield from shapes(shape)
        elif isinstance(shape, type) and issubclass(shape, dict):
            yield typing.get_type_hints(shape)


def tags_of(shape: dict[str, Any]) -> set[str]:
    """The values that its ``type`` may have."""
    held = shape["type"]
    return {tag for inner in (held, *typing.get_args(held)) for tag in typing.get_args(inner) if isinstance(tag, str)}


def tags(*unions: Any) -> set[str]:
    """The values that ``type`` may have anywhere in *unions*."""
    return {tag for union in unions for shape in shapes(union) for tag in tags_of(shape)}


class FateTests(SynchronousTestCase):
    """Nothing that a client can send goes by unnoticed."""

    def test_blocks(self) -> None:
        """Every block of the SDK has a fate."""
        sent = tags(ContentBlockParam, BetaContentBlockParam)
        self.assertIn("tool_use", sent)
        self.assertEqual(sent - set(BLOCKS), set())

    def test_result_blocks(self) -> None:
        """So has every block in a tool's result."""
        sent = tags(ResultBlock)
        self.assertIn("browser_state", sent)
        self.assertEqual(sent - set(RESULT_BLOCKS), set())

    def test_block_fields(self) -> None:
        """So has every member of those blocks that are not told whole."""
        for shape in shapes(BetaContentBlockParam):
            if {BLOCKS[tag] for tag in tags_of(shape)} == {Fate.READ}:
                self.assertEqual(set(shape) - set(Block.__struct_fields__) - set(BLOCK_FIELDS), set())

    def test_tools(self) -> None:
        """So has every tool; and each version of those that are published has its schema."""
        sent = tags(ToolUnionParam, BetaToolUnionParam)
        self.assertIn("bash_20250124", sent)
        self.assertEqual({tool_family(tag) for tag in sent} - set(TOOLS), set())
        known = {tag for tag in sent if tool_family(tag) in ("bash", "text_editor", "memory")}
        self.assertEqual(known, set(PUBLISHED))

    def test_fields(self) -> None:
        """So has every member of a request."""
        headers = {"betas", "user_profile_id", "workspace_id"}
        for params in (
            message_create_params.MessageCreateParamsNonStreaming,
            message_create_params.MessageCreateParamsStreaming,
            beta_create_params.MessageCreateParamsStreaming,
            beta_count_params.MessageCountTokensParams,
        ):
            sent = set(typing.get_type_hints(params)) - headers
            self.assertIn("messages", sent)
            self.assertEqual(sent - set(FIELDS), set())

    def test_what_is_read(self) -> None:
        """What the table calls read is what is decoded."""
        read = {name for name, fate in FIELDS.items() if fate is Fate.READ}
        self.assertEqual(read, set(Request.__struct_fields__))

    def test_tool_fields(self) -> None:
        """Every member of the SDK's tools that are carried is read, warned of, or only a mark for caching."""
        decoded = set(ToolEntry.__struct_fields__)
        self.assertLessEqual(set(TOOL_FIELDS), decoded)
        for union in (ToolUnionParam, BetaToolUnionParam):
            for shape in shapes(union):
                families = {tool_family(tag) for tag in tags_of(shape)}
                if {TOOLS[family] for family in families} == {Fate.READ}:
                    self.assertLessEqual(set(shape) - {"cache_control"}, decoded)
