"""What Google's kinds have in common: who asks, and the settings of safety."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider

_USER_PROJECT = "x-goog-user-project"
_CATEGORIES = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY", "JAILBREAK")
_THRESHOLDS = ("OFF", "BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE")


def authorization(secret: Mapping[str, str], own: Mapping[str, str]) -> bytes:
    """The header lines for an API key or a token; a user's token says which project is charged.

    *own* are the operator's headers, which say it in their place.
    """
    key = secret.get("api_key")
    if key is not None:
        return b"x-goog-api-key: %b\r\n" % key.encode()
    lines = b"authorization: Bearer %b\r\n" % secret["bearer_token"].encode()
    project = secret.get("quota_project")
    if project and not any(name.lower() == _USER_PROJECT for name in own):
        lines += f"{_USER_PROJECT}: {project}\r\n".encode()
    return lines


def check_safety_settings(section: Provider) -> list[tuple[str, str]]:
    """Return the errors in a provider's ``safety_settings``, for the makers of Google's kinds."""
    mistakes = []
    for category, threshold in section.safety_settings.items():
        place = f"safety_settings.{category}"
        if category not in _CATEGORIES:
            mistakes.append((place, f"is no category; there are {', '.join(_CATEGORIES)}"))
        elif threshold not in _THRESHOLDS:
            mistakes.append((place, f"is no threshold; there are {', '.join(_THRESHOLDS)}"))
    return mistakes
