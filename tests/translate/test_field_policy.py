"""The policies of all families, against what Anthropic's own SDK can send."""

from __future__ import annotations

import itertools
import json
import typing
from collections.abc import Iterator
from typing import Any

from anthropic.types import message_create_params
from anthropic.types.beta import message_count_tokens_params as beta_count_params
from anthropic.types.beta import message_create_params as beta_create_params
from anthropic.types.beta.beta_content_block_param import BetaContentBlockParam
from anthropic.types.beta.beta_image_block_param import BetaImageBlockParam
from anthropic.types.beta.beta_request_document_block_param import BetaRequestDocumentBlockParam
from anthropic.types.beta.beta_tool_result_block_param import Content as ResultBlock
from anthropic.types.beta.beta_tool_union_param import BetaToolUnionParam
from anthropic.types.content_block_param import ContentBlockParam
from anthropic.types.tool_union_param import ToolUnionParam
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.translate.builtin_tools import BUILTIN_TOOLS
from claudeproxyd.translate.conversation import Conversation, Media, Text, WebSearch
from claudeproxyd.translate.field_policy import BASE, Action, FieldPolicy, tool_family
from claudeproxyd.translate.gemini.policy import POLICY as GEMINI
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.wire import ContentBlock, Request, ToolEntry
from tests.translate.asking import assistant, call, result, tool, user

#: Members of the blocks that are read, beside what is read of them.
BLOCK_FIELDS = {
    "caller": Action.DROP,  # code execution's calls have become text
    "toolset_name": Action.DROP,  # the name says as much
    "transformations": Action.DROP,  # how Anthropic scales an image
    "encrypted_content": Action.DROP,  # of a compaction; nobody else can read it
    "data": Action.DROP,  # of redacted thinking
}

#: Of every family that there is.
POLICIES: tuple[FieldPolicy, ...] = (BASE, GEMINI)


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


class CompletenessTests(SynchronousTestCase):
    """Nothing that a client can send goes by unnoticed, whichever family it goes to."""

    def test_blocks(self) -> None:
        """Every policy says what becomes of each block of the SDK."""
        sent = tags(ContentBlockParam, BetaContentBlockParam)
        self.assertIn("tool_use", sent)
        for policy in POLICIES:
            self.assertEqual(sent - set(policy.blocks), set())

    def test_result_blocks(self) -> None:
        """So it does of each block in a tool's result."""
        sent = tags(ResultBlock)
        self.assertIn("browser_state", sent)
        for policy in POLICIES:
            self.assertEqual(sent - set(policy.result_blocks), set())

    def test_block_fields(self) -> None:
        """Each member of the blocks that are translated is read, or known to be left out."""
        for policy, shape in itertools.product(POLICIES, shapes(BetaContentBlockParam)):
            if {policy.blocks[tag] for tag in tags_of(shape)} == {Action.TRANSLATE}:
                self.assertEqual(set(shape) - set(ContentBlock.__struct_fields__) - set(BLOCK_FIELDS), set())

    def test_sources(self) -> None:
        """Every policy says what becomes of each source of an image or a document."""
        sent = {
            f"{kind}.{tag}"
            for kind, block in (("image", BetaImageBlockParam), ("document", BetaRequestDocumentBlockParam))
            for tag in tags(typing.get_type_hints(block)["source"])
        }
        self.assertIn("document.url", sent)
        for policy in POLICIES:
            self.assertEqual(sent, set(policy.sources))

    def test_tools(self) -> None:
        """Every policy says what becomes of each tool; and each version of the published ones has its schema."""
        sent = tags(ToolUnionParam, BetaToolUnionParam)
        self.assertIn("bash_20250124", sent)
        for policy in POLICIES:
            self.assertEqual({tool_family(tag) for tag in sent} - set(policy.tools), set())
        known = {tag for tag in sent if tool_family(tag) in ("bash", "text_editor", "memory")}
        self.assertEqual(known, set(BUILTIN_TOOLS))

    def test_fields(self) -> None:
        """Every policy says what becomes of each member of a request."""
        headers = {"betas", "user_profile_id", "workspace_id"}
        for params in (
            message_create_params.MessageCreateParamsNonStreaming,
            message_create_params.MessageCreateParamsStreaming,
            beta_create_params.MessageCreateParamsStreaming,
            beta_count_params.MessageCountTokensParams,
        ):
            sent = set(typing.get_type_hints(params)) - headers
            self.assertIn("messages", sent)
            for policy in POLICIES:
                self.assertEqual(sent - set(policy.fields), set())

    def test_what_is_translated(self) -> None:
        """What a policy translates is what is decoded."""
        for policy in POLICIES:
            translated = {name for name, action in policy.fields.items() if action is Action.TRANSLATE}
            self.assertEqual(translated, set(Request.__struct_fields__))

    def test_tool_fields(self) -> None:
        """Every member of the SDK's tools that are carried is read, warned of, or only a mark for caching."""
        decoded = set(ToolEntry.__struct_fields__)
        for policy in POLICIES:
            self.assertLessEqual(set(policy.tool_fields), decoded)
            for shape in itertools.chain(shapes(ToolUnionParam), shapes(BetaToolUnionParam)):
                families = {tool_family(tag) for tag in tags_of(shape)}
                if {policy.tools[family] for family in families} == {Action.TRANSLATE}:
                    self.assertLessEqual(set(shape) - {"cache_control"}, decoded)


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
BY_URL = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}


class OverrideTests(SynchronousTestCase):
    """Families differ in what they can be told."""

    def read(self, policy: FieldPolicy, *content: object, **members: object) -> Conversation:
        body = {"model": "m", "max_tokens": 9, "messages": [user(*content)], **members}
        return read_conversation(json.dumps(body).encode(), family="google", policy=policy)

    def refusal(self, policy: FieldPolicy, *content: object, **members: object) -> str:
        return str(self.assertRaises(Unsupported, self.read, policy, *content, **members))

    def test_base(self) -> None:
        """A family that says nothing else fetches no sources and has no search; Google does and has."""
        self.assertIn("messages.0.content.0.image.source: a url is not supported", self.refusal(BASE, BY_URL))
        self.assertIn("tools.0: web_search_20250305 is not supported", self.refusal(BASE, "hi", tools=[SEARCH]))
        carried = self.read(GEMINI, BY_URL, tools=[SEARCH])
        self.assertEqual(carried.turns[0].parts, [Media("image", "", url="https://a.example/b.png")])
        self.assertEqual(carried.web_search, WebSearch())

    def test_every_table(self) -> None:
        """What a family rejects is refused by its place, what it drops is gone, what it is told as text is text."""
        policy = BASE.with_overrides(
            fields={"metadata": Action.REJECT, "top_k": Action.WARN},
            blocks={"image": Action.REJECT, "search_result": Action.DROP, "document": Action.AS_TEXT},
            result_blocks={"image": Action.REJECT},
            sources={"document.text": Action.REJECT},
            tools={"bash": Action.REJECT},
            tool_fields={"strict": Action.DROP},
        )
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
        document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}
        found = {"type": "search_result", "source": "s", "title": "t", "content": []}
        self.assertIn("metadata: `metadata` is not", self.refusal(policy, "hi", metadata={"user_id": "u"}))
        self.assertIn("messages.0.content.0: image is not", self.refusal(policy, image))
        self.assertIn(
            "tools.0: bash_20250124", self.refusal(policy, "", tools=[{"type": "bash_20250124", "name": "bash"}])
        )
        source = BASE.with_overrides(sources={"document.text": Action.REJECT})
        self.assertIn("messages.0.content.0.document.source: text is not", self.refusal(source, document))
        carried = self.read(policy, "hi", found, document, tools=[tool("t", strict=True)], top_k=3)
        self.assertEqual([type(part) for part in carried.turns[0].parts], [Text, Text])
        self.assertEqual(len(carried.warnings), 1)
        self.assertIn("top_k", carried.warnings[0])
        asked = [user("hi"), assistant(call("toolu_1")), user(result("toolu_1", [image]))]
        body = json.dumps({"model": "m", "max_tokens": 9, "messages": asked}).encode()
        refused = self.assertRaises(Unsupported, read_conversation, body, family="google", policy=policy)
        self.assertIn("messages.2.content.0.tool_result.content.0: image is not", str(refused))

    def test_overrides_name_what_there_is(self) -> None:
        """A family's override with a slip of the pen is found out; the base stays as it is."""
        with self.assertRaises(KeyError):
            BASE.with_overrides(tools={"web_serach": Action.TRANSLATE})
        with self.assertRaises(TypeError):
            BASE.with_overrides(tool={"web_search": Action.TRANSLATE})
        self.assertIs(BASE.tools["web_search"], Action.REJECT)
