"""Answers of Gemini's that are odd beside what they say."""

from __future__ import annotations

from claudeproxyd.translate.fitting import LooseReader
from claudeproxyd.translate.gemini.responses import GenerateContentResponse

#: Numbers may be strings, as in protobuf's JSON.
read_loosely = LooseReader(
    GenerateContentResponse,
    said=("candidates", "content", "parts", "text", "functionCall", "name", "args", "partialArgs"),
    instead={"finishReason": "OTHER"},
).read
