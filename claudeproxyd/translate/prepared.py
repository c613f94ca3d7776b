"""What a translator makes of a conversation, whatever the upstream's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from zope.interface import implementer

from claudeproxyd.interfaces import IPrepared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claudeproxyd.translate.conversation import Conversation
    from claudeproxyd.translate.names import ToolNames


@implementer(IPrepared)
@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedRequest:
    """A request as it is sent, with what the answer's reader has to know of it. Families add to it."""

    body: bytes
    """What goes up."""
    names: ToolNames
    warnings: Sequence[str]
    stop_sequences: Sequence[str]
    """Watched for here: other APIs leave out what they stopped at, and do not say what that was."""
    thinks: bool
    """The client expects thinking blocks: signatures may travel in them."""
    shows: bool
    """What is thought is to be read."""
    empty: bool
    """The answer is to be empty: nothing is sent upstream."""


class Expected(TypedDict):
    """Those members of :class:`TranslatedRequest` that a conversation says by itself."""

    stop_sequences: Sequence[str]
    thinks: bool
    shows: bool
    empty: bool


def expected(conversation: Conversation) -> Expected:
    """Return what the client expects of the answer."""
    return Expected(
        stop_sequences=conversation.stop_sequences,
        thinks=conversation.thinking.kind in ("budget", "adaptive"),
        shows=conversation.thinking.shown,
        empty=conversation.max_tokens == 0,
    )
