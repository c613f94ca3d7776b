"""Messages, block by block: what each amounts to for a backend that is not Anthropic's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from claudeproxyd.errors import Unsupported
from claudeproxyd.messages.ids import read_signature
from claudeproxyd.steps import STEP
from claudeproxyd.translate.content import as_text, read_content, system_text, unexpected
from claudeproxyd.translate.conversation import ProviderBlock, Text, Thought, ToolResult, ToolUse
from claudeproxyd.translate.field_policy import Action, not_carried
from claudeproxyd.translate.turns import MessageParts
from claudeproxyd.translate.wire import (
    Found,
    RawBlocks,
    decode_encrypted_input,
    is_marked,
    is_object,
    require,
    require_object,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Media
    from claudeproxyd.translate.field_policy import FieldPolicy
    from claudeproxyd.translate.tools import Toolbox
    from claudeproxyd.translate.wire import ContentBlock, Message


class History:
    """Reads ``messages`` once, in order; what they do to the tools is done to *toolbox*."""

    def __init__(
        self, body: bytes, family: str, policy: FieldPolicy, *, strict: bool, toolbox: Toolbox, warnings: list[str]
    ) -> None:
        """*family*: whose thinking is taken back. *strict*: by the rules of 2026-10-21."""
        self._family = family
        self._policy = policy
        self._strict = strict
        self._toolbox = toolbox
        self._warnings = warnings
        self._raw = RawBlocks(body)
        self._provider_calls: set[str] = set()
        """The ids of server tools' calls that the family has described in its own words."""
        self.messages: list[MessageParts] = []
        """What each message came to; a compaction takes the place of those before it."""
        self.effort = ""
        """The last that a system message asked for."""

    def read(self, messages: Sequence[Message]) -> Steps[None]:
        """Raises :class:`Unsupported`, with the place, for what the API would refuse and for what cannot be carried."""
        last_user = max((index for index, message in enumerate(messages) if message.role == "user"), default=-1)
        for index, message in enumerate(messages):
            content = message.content
            if message.role == "system":
                stale = message.clear_at == "next_user_message" and index < last_user
                yield from self._system(index, message, stale=stale)
            elif content is UNSET:
                raise Unsupported(f"messages.{index}.content: Field required")
            elif isinstance(content, str):
                self.messages.append(MessageParts(message.role, index, [Text(content)] if content else []))
            else:
                yield from self._blocks(index, message.role, content)
            if not index % STEP:
                yield

    def _system(self, index: int, message: Message, *, stale: bool) -> Steps[None]:
        """System text in mid-conversation. It stays where it is: the prefix must not change behind a cache's back."""
        texts: list[str] = []
        if message.output_config is not None and message.output_config.effort:
            self.effort = message.output_config.effort
        if isinstance(message.content, str):
            texts.append(message.content)
        elif message.content is not UNSET:
            for position, block in enumerate(message.content):
                place = f"messages.{index}.content.{position}"
                if block.type in ("tool_addition", "tool_removal"):
                    self._change_tools(block, place)
                else:
                    texts.append(system_text(block, place))
                if not (position + 1) % STEP:
                    yield
        elif message.output_config is None:
            raise Unsupported(f"messages.{index}.content: Field required")
        if (text := "\n\n".join(filter(None, texts))) and not stale:
            self.messages.append(MessageParts("user", index, [Text(f"<system-reminder>\n{text}\n</system-reminder>")]))

    def _blocks(self, index: int, role: Literal["user", "assistant"], blocks: Sequence[ContentBlock]) -> Steps[None]:
        message = MessageParts(role, index)
        self.messages.append(message)
        for position, block in enumerate(blocks):
            at = (index, position)
            action = self._policy.blocks.get(block.type, Action.AS_TEXT)
            if action is Action.REJECT:
                raise Unsupported(not_carried(_place(at), block.type))
            if action is Action.DROP:
                continue
            match block.type if action is Action.TRANSLATE else "":
                case "text" if block.text and block.citations is None:
                    message.parts.append(Text(block.text, cached=is_marked(block)))
                case "text" | "image" | "document" | "search_result":
                    place = _place(at)
                    if self._strict:
                        _refuse_by_2026(block, role, place)
                    message.parts += read_content(block, place, self._policy, self._warnings)
                case "thinking":
                    message.parts += self._thought(block, role)
                case "tool_use":
                    message.parts.append(_tool_use(block, role, at))
                case "tool_result":
                    result = yield from self._tool_result(block, role, at)
                    message.results.append((position, result))
                case "tool_addition" | "tool_removal":
                    self._change_tools(block, _place(at))
                case "compaction":
                    message = self._compaction(block, message, _place(at))
                case _:
                    message.parts += self._other(block, at)
            if not (position + 1) % STEP:
                yield

    def _thought(self, block: ContentBlock, role: str) -> list[Thought]:
        payload = read_signature(self._family, block.signature or "")
        thinking = block.thinking or ""
        if payload is None or role != "assistant" or not (thinking or payload):
            return []
        return [Thought(thinking, payload)]

    def _tool_result(self, block: ContentBlock, role: str, at: tuple[int, int]) -> Steps[ToolResult]:
        if role != "user":
            raise Unsupported(f"{_place(at)}: `tool_result` blocks can only be in `user` messages")
        tool_use_id = block.tool_use_id or require(block.tool_use_id, f"{_place(at)}.tool_result.tool_use_id")
        parts: list[Text | Media] = []
        if isinstance(block.content, str):
            parts += [Text(block.content)] if block.content else []
        elif isinstance(block.content, list):
            for position, member in enumerate(block.content):
                parts += self._result_block(member, at, position)
                if not (position + 1) % STEP:
                    yield
        elif block.content is not None:
            raise Unsupported(f"{_place(at)}.tool_result.content: Input should be a valid string or list")
        return ToolResult(tool_use_id, "", parts, is_error=bool(block.is_error))

    def _result_block(self, block: ContentBlock, at: tuple[int, int], position: int) -> list[Text | Media]:
        """Return the parts of one block of a tool_result's content."""
        place = f"{_place(at)}.tool_result.content.{position}"
        if block.type == "tool_reference":
            name = require(block.tool_name, f"{place}.tool_reference.tool_name")
            if self._toolbox.offer(name):
                return [Text(f"Tool {name} can be called from now on.")]
            self._warnings.append(f"a tool_reference names {name}, which is not among the tools")
            return [Text(f"Tool {name} is not available.")]
        match self._policy.result_blocks.get(block.type):
            case Action.TRANSLATE:
                return read_content(block, place, self._policy, self._warnings)
            case Action.REJECT:
                raise Unsupported(not_carried(place, block.type))
            case None:
                self._warnings.append(_unknown(block))
        return [as_text(self._raw(*at)["content"][position], self._warnings)]

    def _change_tools(self, block: ContentBlock, place: str) -> None:
        if block.type not in ("tool_addition", "tool_removal"):
            raise unexpected(place, block.type, "'tool_addition', 'tool_removal'")
        if block.tool is None:
            raise Unsupported(f"{place}.{block.type}.tool: Field required")
        change = self._toolbox.add if block.type == "tool_addition" else self._toolbox.remove
        change(block.tool, f"{place}.{block.type}")

    def _compaction(self, block: ContentBlock, message: MessageParts, place: str) -> MessageParts:
        """Put a summary in the place of all that was said before, if there is one. Return the message that goes on."""
        for position, change in enumerate(block.tool_changes or ()):
            self._change_tools(change, f"{place}.compaction.tool_changes.{position}")
        if not isinstance(block.content, str) or not block.content:
            return message
        rest = MessageParts(message.role, message.index)
        summary = Text(f"<summary>\n{block.content}\n</summary>")
        self.messages = [MessageParts("user", message.index, [summary]), rest]
        return rest

    def _other(self, block: ContentBlock, at: tuple[int, int]) -> list[Text]:
        """Return as text a block that has no counterpart: of a server tool, as a rule."""
        if block.type not in self._policy.blocks:
            self._warnings.append(_unknown(block))
        if isinstance(block.content, Found):
            for reference in block.content.tool_references or ():
                self._toolbox.offer(reference.tool_name or "")
        text = as_text(self._raw(*at), self._warnings)
        payload = self._provider_payload(block)
        return [text if payload is None else ProviderBlock(text.text, payload)]

    def _provider_payload(self, block: ContentBlock) -> bytes | None:
        """Return the family's own record of its server tool's call; b'' for the result, which is part of it."""
        if block.tool_use_id in self._provider_calls:
            return b""
        if block.type != "server_tool_use" or block.input is UNSET:
            return None
        try:
            payload = read_signature(self._family, decode_encrypted_input(block.input).encrypted_content)
        except msgspec.ValidationError:
            return None
        if payload is not None:
            self._provider_calls.add(block.id or "")
        return payload


def _place(at: tuple[int, int]) -> str:
    """Return the name of a message's block, for a refusal."""
    return f"messages.{at[0]}.content.{at[1]}"


def _tool_use(block: ContentBlock, role: str, at: tuple[int, int]) -> ToolUse:
    if role == "assistant" and block.id and block.name and is_object(block.input):  # nearly always
        return ToolUse(block.id, block.name, block.input)
    place = _place(at)
    if role != "assistant":
        raise Unsupported(f"{place}: `tool_use` blocks can only be in `assistant` messages")
    return ToolUse(
        require(block.id, f"{place}.tool_use.id"),
        require(block.name, f"{place}.tool_use.name"),
        require_object(block.input, f"{place}.tool_use.input"),
    )


def _refuse_by_2026(block: ContentBlock, role: str, place: str) -> None:
    """Raise :class:`Unsupported` for what anthropic-version 2026-10-21 no longer takes of messages."""
    if role == "assistant" and block.type == "document":
        raise Unsupported(f"{place}: `document` blocks are not permitted directly in `assistant` messages")
    if role == "user" and block.type == "text" and block.citations:
        raise Unsupported(f"{place}.text.citations: Extra inputs are not permitted on `text` blocks in `user` messages")


def _unknown(block: ContentBlock) -> str:
    return f"content block {block.type} was sent as text: it is not known here"
