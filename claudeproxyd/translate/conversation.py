"""What a Claude request amounts to, in a form that every other protocol can be written from.

:func:`claudeproxyd.translate.reading.read_conversation` makes one of a body: checked, its turns merged and paired, its
tools chosen, everything that no other protocol knows (server tools of the past, say) resolved. A backend's
translator then only says each part in its own words, and raises
:class:`~claudeproxyd.errors.Unsupported` for what it cannot say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import msgspec


@dataclass(slots=True)
class Text:
    """Text, never empty."""

    text: str
    cached: bool = field(default=False, kw_only=True)
    """The client wants what was said up to its end to be cached; backends that need not be told do not look."""


@dataclass(slots=True)
class ProviderBlock(Text):
    """A block of a server tool of the backend's own, as text, with the backend's own record of it."""

    payload: bytes
    """Those words, as :func:`~claudeproxyd.messages.ids.mint_signature` was given them; b'' where an earlier part has
    them. Every other backend, and the same one where it does not take them, reads the text."""


@dataclass(slots=True)
class Media:
    """An image, or a document that is not text (those become :class:`Text`)."""

    kind: Literal["image", "document"]
    media_type: str
    """As the client said; of a URL ''."""
    data: str = ""
    """Base64, or '' where there is a URL."""
    url: str = ""
    title: str = ""
    """Of a document."""


@dataclass(slots=True)
class Thought:
    """A thinking block with a signature of the backend's own family; others are gone already."""

    thinking: str
    payload: bytes
    """What :func:`~claudeproxyd.messages.ids.mint_signature` was given; b'' where the backend had signed nothing."""


@dataclass(slots=True)
class ToolUse:
    """A call of a tool in an assistant turn; its result leads the next turn."""

    id: str
    name: str
    input: msgspec.Raw
    """A JSON object."""


@dataclass(slots=True)
class ToolResult:
    """The result of a call."""

    id: str
    name: str
    """Of the tool that was called, found through the conversation."""
    content: list[Text | Media]
    is_error: bool = False


Part = Text | Media | Thought | ToolUse | ToolResult


@dataclass(slots=True)
class Turn:
    """Everything one side said until the other spoke; never empty."""

    role: Literal["user", "assistant"]
    parts: list[Part]


@dataclass(slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str
    schema: msgspec.Raw
    """A JSON Schema, as the client gave it or as the API's documentation publishes it."""


@dataclass(slots=True)
class WebSearch:
    """The web_search server tool."""

    name: str = "web_search"
    allowed_domains: list[str] = field(default_factory=list)
    blocked_domains: list[str] = field(default_factory=list)
    max_uses: int | None = None
    user_location: dict[str, msgspec.Raw] | None = None


@dataclass(slots=True)
class ToolChoice:
    """Whether tools must be called."""

    kind: Literal["auto", "any", "none", "tool"] = "auto"
    name: str = ""
    """Of the one tool."""
    parallel: bool = True
    """False: at most one call a turn."""


@dataclass(slots=True)
class Thinking:
    """How the client wants the model to think."""

    kind: Literal["default", "disabled", "budget", "adaptive"] = "default"
    """``default``: it said nothing. ``between_tools`` is adaptive."""
    budget: int = 0
    """Tokens, of ``budget``; below max_tokens."""
    effort: str = ""
    """low, medium, high, xhigh, max, or '': ``output_config.effort``, the last one said."""
    shown: bool = True
    """False for ``display: omitted``: thinking may happen, and be signed, but is not to be read."""


@dataclass(slots=True)
class Conversation:
    """One request."""

    system: list[str]
    """Texts of the prefix, none of them empty."""
    cached_system: list[int] = field(default_factory=list, kw_only=True)
    """Places in ``system`` up to whose end the client wants it to be cached."""
    turns: list[Turn]
    """Alternating, the first a user's; a trailing assistant turn is a prefill."""
    tools: list[Tool] = field(default_factory=list)
    web_search: WebSearch | None = None
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    thinking: Thinking = field(default_factory=Thinking)
    max_tokens: int | None = None
    """As asked; None for count_tokens."""
    stop_sequences: list[str] = field(default_factory=list)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    output_schema: msgspec.Raw | None = None
    """``output_config.format``: the JSON Schema that the answer has to follow."""
    user_id: str = ""
    """``metadata.user_id``."""
    warnings: list[str] = field(default_factory=list)
    """What was dropped and may be missed, each in words that name it. Translators add theirs; dispatch logs them."""

    @property
    def is_prefilled(self) -> bool:
        """Whether the model is to go on with words that the client put into its mouth."""
        return bool(self.turns) and self.turns[-1].role == "assistant"
