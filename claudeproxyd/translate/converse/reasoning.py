"""Reasoning that travels through a client and back: in the minted signature of a thinking block.

The API wants a ``reasoningContent`` back as it came: text and signature unchanged, what is encrypted as it is. The
signature's payload is the JSON of ``[maker, reasoningContent]``, whose text is left out where the thinking block shows
it. Models refuse each other's: so the maker stands in front.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.json_guards import UNREADABLE

if TYPE_CHECKING:
    from claudeproxyd.translate.conversation import Thought
    from claudeproxyd.translate.converse.models import ConverseCapabilities


class ReasoningText(msgspec.Struct, omit_defaults=True, gc=False):
    """Reasoning that can be read."""

    text: str | None = None
    signature: str | None = None


class ReasoningContent(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    """One of the two; in answers and in requests."""

    reasoning_text: ReasoningText | None = None
    redacted_content: str | None = None
    """Base64."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[str, ReasoningContent]).decode


def seal(content: ReasoningContent, capabilities: ConverseCapabilities) -> bytes:
    """Return the payload of a signature that brings *content* back; b'' if its model would not take it."""
    sealed = content.redacted_content is not None or (
        content.reasoning_text is not None and bool(content.reasoning_text.signature)
    )
    if not (capabilities.takes_sealed if sealed else capabilities.takes_unsigned):
        return b""
    return _encode((capabilities.maker, content))


def unseal(thought: Thought, capabilities: ConverseCapabilities) -> ReasoningContent | None:
    """Return what a thinking block brings back; None if it is another model's, or not to be read."""
    try:
        maker, content = _decode(thought.payload)
    except UNREADABLE:
        return None
    if maker != capabilities.maker:
        return None
    text = content.reasoning_text
    if text is not None and text.text is None:
        text.text = thought.thinking
    return content
