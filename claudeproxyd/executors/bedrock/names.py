"""What models are called on Amazon Bedrock, and where they are. Pure.

A model is asked for by its id (``anthropic.claude-opus-4-8``), by an inference profile, which serves it from several
regions (``us.anthropic.…``, ``global.…``), or by an ARN of either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Models that the API knows by a name without a date too.
_DATED_NAMES: Mapping[str, str] = {
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-opus-4-0": "claude-opus-4-20250514",
    "claude-opus-4-1": "claude-opus-4-1-20250805",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    "claude-sonnet-4-0": "claude-sonnet-4-20250514",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
}
#: Ids that end otherwise than their likes: with a date ``-v1:0``, without one nothing.
_ENDS: Mapping[str, str] = {"claude-opus-4-6": "-v1", "claude-3-5-sonnet-20241022": "-v2:0"}
_DATED = re.compile(r"claude-.+-\d{8}", re.ASCII)
_ANTHROPICS = re.compile(r"(?:^|[./])anthropic\.")
_CLAUDE = re.compile(r"(?:^|[./])anthropic\.(claude-[\w.-]+?)(?:-v\d+)?(?::[\w.:]*)?$", re.ASCII)

PROFILES = ("us", "eu", "jp", "au", "apac", "us-gov", "global", "none")
"""What may stand ahead of a model's id; ``none``: nothing does."""

#: The profile of a region, by how its name begins. Elsewhere there is none that keeps prompts on the continent.
_PROFILE_OF_REGION = (
    ("us-gov-", "us-gov"),
    ("us-", "us"),
    ("ca-", "us"),
    ("eu-", "eu"),
    ("ap-northeast-1", "jp"),
    ("ap-northeast-3", "jp"),
    ("ap-southeast-2", "au"),
    ("ap-southeast-4", "au"),
)


def is_claude(model: str) -> bool:
    """Whether Anthropic made the model of that name, as far as the name tells."""
    return model.startswith("claude-") or _ANTHROPICS.search(model) is not None


def api_name(model: str) -> str:
    """Return what the API itself calls a model of Claude's; '' where its name does not tell."""
    if model.startswith("claude-"):
        return model
    named = _CLAUDE.search(model)
    return named[1] if named else ""


def model_id(model: str, region: str, profile: str = "") -> str:
    """Return Bedrock's id of a model: of those by the API's names (``claude-opus-4-8``) in an inference profile.

    *profile*: one of :data:`PROFILES`; '' for that of the *region*.
    """
    if not model.startswith("claude-"):
        return model
    name = _DATED_NAMES.get(model, model)
    end = _ENDS.get(name, "-v1:0" if _DATED.fullmatch(name) else "")
    if not profile:
        profile = next((each for start, each in _PROFILE_OF_REGION if region.startswith(start)), "none")
    return f"{'' if profile == 'none' else profile + '.'}anthropic.{name}{end}"


def runtime_url(region: str) -> str:
    """Return the base URL of the models in a region."""
    return f"https://bedrock-runtime.{region}.{_domain(region)}"


def control_url(region: str) -> str:
    """Return the base URL of what lists them."""
    return f"https://bedrock.{region}.{_domain(region)}"


def _domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
