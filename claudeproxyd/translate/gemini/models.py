"""What Google's models differ in: a table of *capabilities* by the model's name.

From Google's pages on thinking, thought signatures, function calling, structured output and tool combination. A name
that the table does not know gets what every model takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class ThinkingLevels:
    """Thinking is told by ``thinkingLevel``; it cannot be switched off."""

    levels: tuple[str, ...]
    """Those it has, the least first."""


@dataclass(frozen=True, slots=True)
class ThinkingBudgets:
    """Thinking is told by ``thinkingBudget``, in tokens; -1 leaves it to the model."""

    least: int
    most: int
    can_be_off: bool


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """The features and limits of one model. The defaults are those of an unknown one."""

    thinking: ThinkingLevels | ThinkingBudgets | None = None
    """None: it does not think, or nobody knows how to tell it."""
    max_output_tokens: int | None = None
    """On the Developer API; see :meth:`output_limit`."""
    most_top_k: int | None = None
    """It refuses a ``topK`` beyond, and one below 1."""
    system_instruction: bool = True
    """Else the user has to say it."""
    signed_calls: bool = False
    """It refuses a conversation in whose present turn a step's first call lacks its ``thoughtSignature``."""
    json_schema: bool = False
    """It reads JSON Schema as it is: ``parametersJsonSchema``, ``responseJsonSchema``. Others want Google's own."""
    schema_with_tools: bool = False
    """An output schema may stand beside tools."""
    search_with_functions: bool = False
    """``googleSearch`` may stand beside functions."""
    media_in_results: bool = False
    """Images of a tool's result go into ``functionResponse.parts``; else they follow it."""
    fetches: bool = False
    """Images and PDFs may be given by https URLs on the Developer API too; on Vertex AI every model fetches."""

    def output_limit(self, on_vertex: bool) -> int | None:
        """Return the most ``maxOutputTokens``, where it is known."""
        if self.max_output_tokens is None or not on_vertex:
            return self.max_output_tokens
        return min(self.max_output_tokens, _MAX_OUTPUT_ON_VERTEX)


#: In its words: "the supported range is from 1 (inclusive) to 65536 (exclusive)".
_MAX_OUTPUT_ON_VERTEX = 65_535


_THREE = ModelCapabilities(
    thinking=ThinkingLevels(("LOW", "MEDIUM", "HIGH")),
    max_output_tokens=65_536,
    signed_calls=True,
    json_schema=True,
    schema_with_tools=True,
    search_with_functions=True,
    media_in_results=True,
    fetches=True,
)
_THREE_MINIMAL = replace(_THREE, thinking=ThinkingLevels(("MINIMAL", "LOW", "MEDIUM", "HIGH")))
_TWO_AND_A_HALF = ModelCapabilities(
    thinking=ThinkingBudgets(0, 24_576, True), max_output_tokens=65_536, json_schema=True, fetches=True
)
_TWO = ModelCapabilities(max_output_tokens=8_192, most_top_k=40)
_GEMMA = ModelCapabilities(system_instruction=False)

#: The first glob that fits holds.
_CAPABILITIES: tuple[tuple[str, ModelCapabilities], ...] = (
    ("gemini-1.*", _TWO),
    ("gemini-2.0-*", _TWO),
    ("gemini-2.5-pro*", replace(_TWO_AND_A_HALF, thinking=ThinkingBudgets(128, 32_768, False))),
    ("gemini-2.5-flash-lite*", replace(_TWO_AND_A_HALF, thinking=ThinkingBudgets(512, 24_576, True))),
    ("gemini-2.5-flash-image*", replace(_TWO, max_output_tokens=32_768, most_top_k=None)),
    ("gemini-2.5-*", _TWO_AND_A_HALF),
    ("gemini-3*-image*", replace(_THREE, thinking=None, max_output_tokens=32_768)),
    ("gemini-3-pro*", replace(_THREE, thinking=ThinkingLevels(("LOW", "HIGH")))),
    ("gemini-3-flash*", _THREE_MINIMAL),
    ("gemini-3.1-flash*", _THREE_MINIMAL),
    ("gemini-3.5-flash*", _THREE_MINIMAL),
    ("gemini-3.6-flash*", _THREE_MINIMAL),
    ("gemini-[3-9]*", _THREE),
    ("gemini-pro-latest", _THREE),
    ("gemini-flash*-latest", _THREE),
    ("gemma-[1-3]*", _GEMMA),
    ("gemma-7b*", _GEMMA),
)
_UNKNOWN = ModelCapabilities()


@lru_cache(maxsize=256)
def capabilities_of(model: str) -> ModelCapabilities:
    """Return the capabilities by an upstream's model name, which may have a path in front
    (``publishers/google/models/…``)."""
    name = model.rpartition("/")[2]
    return next((capabilities for glob, capabilities in _CAPABILITIES if fnmatchcase(name, glob)), _UNKNOWN)
