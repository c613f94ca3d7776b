"""The families of upstream APIs that there are cases for, each with its judge: README.md tells how another is added."""

from __future__ import annotations

from collections.abc import Mapping

from tests.golden.families.converse import Converse
from tests.golden.families.family import Family
from tests.golden.families.gemini import Gemini
from tests.golden.families.openai_chat import OpenAIChat
from tests.golden.families.openai_responses import OpenAIResponses

#: By the folder that has a family's cases.
FAMILIES: Mapping[str, Family] = {
    "converse": Converse(),
    "gemini": Gemini(),
    "openai_chat": OpenAIChat(),
    "openai_responses": OpenAIResponses(),
}
