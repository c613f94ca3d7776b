"""What models behind the Responses API differ in: a table of *capabilities* by the model's name.

From OpenAI's pages on each model, on reasoning and on web search. A name that the table does not know gets what every
server takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache

#: All efforts that there are, from the least to the most.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class ResponsesCapabilities:
    """The features and limits of one model. The defaults are those of an unknown one."""

    efforts: tuple[str, ...] = ()
    """Those that ``reasoning.effort`` takes, the least first; (): the model is told nothing of reasoning."""
    sealed: bool = False
    """Its reasoning comes encrypted, and is wanted back."""
    summarized: bool = False
    """It sums up what it reasons."""
    open_reasoning: bool = False
    """Its reasoning comes as text, and is wanted back."""
    sampling: bool = True
    """``temperature`` and ``top_p`` are taken."""
    max_output_tokens: int | None = None
    web_search: bool = False
    phases: bool = False
    """It wants to be told which of its messages were the last word, and which were said on the way."""


_CHAT = ResponsesCapabilities(max_output_tokens=16_384, web_search=True)
_REASONING = ResponsesCapabilities(
    efforts=("low", "medium", "high"),
    sealed=True,
    summarized=True,
    sampling=False,
    max_output_tokens=100_000,
    web_search=True,
)
_FIVE = replace(_REASONING, efforts=("minimal", "low", "medium", "high"), max_output_tokens=128_000)
_CODEX = replace(_FIVE, efforts=("low", "medium", "high"))
_CODEX_MAX = replace(_FIVE, efforts=("low", "medium", "high", "xhigh"))
_FIVE_ONE = replace(_FIVE, efforts=("none", "low", "medium", "high"))
_FIVE_TWO = replace(_FIVE, efforts=("none", "low", "medium", "high", "xhigh"))
_PRO = replace(_FIVE, efforts=("medium", "high", "xhigh"))
_LATEST = replace(_FIVE, efforts=("none", "low", "medium", "high", "xhigh", "max"), phases=True)

#: The first glob that fits holds.
_CAPABILITIES: tuple[tuple[str, ResponsesCapabilities], ...] = (
    ("gpt-oss*", ResponsesCapabilities(efforts=("low", "medium", "high"), open_reasoning=True)),
    ("gpt-5*-chat*", _CHAT),
    ("chatgpt-*", _CHAT),
    ("gpt-5-pro*", replace(_FIVE, efforts=("high",), max_output_tokens=272_000)),
    ("gpt-5-codex*", _CODEX),
    ("gpt-5-*", _FIVE),
    ("gpt-5", _FIVE),
    ("gpt-5.1-codex-max*", _CODEX_MAX),
    ("gpt-5.1-codex*", _CODEX),
    ("gpt-5.1*", _FIVE_ONE),
    ("gpt-5.2-codex*", _CODEX_MAX),
    ("gpt-5.2-pro*", _PRO),
    ("gpt-5.2*", _FIVE_TWO),
    ("gpt-5.3-codex*", replace(_CODEX_MAX, phases=True)),
    ("gpt-5.3*", _FIVE_TWO),
    ("gpt-5.[4-9]*-pro*", replace(_PRO, phases=True)),
    ("gpt-5.[45]*", replace(_FIVE_TWO, phases=True)),
    ("gpt-[5-9]*", _LATEST),
    ("o1*", replace(_REASONING, summarized=False, web_search=False)),
    ("o3-mini*", replace(_REASONING, summarized=False, web_search=False)),
    ("o[3-9]*", _REASONING),
    ("codex-mini*", replace(_REASONING, web_search=False)),
    ("gpt-4.1-nano*", replace(_CHAT, max_output_tokens=32_768, web_search=False)),
    ("gpt-4.1*", replace(_CHAT, max_output_tokens=32_768)),
    ("gpt-4o*", _CHAT),
    ("gpt-4-turbo*", ResponsesCapabilities(max_output_tokens=4_096)),
    ("gpt-4", ResponsesCapabilities(max_output_tokens=8_192)),
    ("gpt-3.5*", ResponsesCapabilities(max_output_tokens=4_096)),
)
_UNKNOWN = ResponsesCapabilities()


@lru_cache(maxsize=256)
def capabilities_of(model: str) -> ResponsesCapabilities:
    """Return the capabilities by an upstream's model name, which may have a path in front (``openai/gpt-5``), and those
    of a fine-tuned model's base (``ft:gpt-4.1:…``)."""
    name = model.removeprefix("ft:").rpartition("/")[2]
    return next((capabilities for glob, capabilities in _CAPABILITIES if fnmatchcase(name, glob)), _UNKNOWN)
