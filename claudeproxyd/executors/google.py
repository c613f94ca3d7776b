"""The parts that Google's kinds share: authorization, safety settings, time-outs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from claudeproxyd.config.setting import setting

#: Time-outs: the head of an answer comes with its first token.
FIRST_BYTE: Mapping[str, float] = MappingProxyType({"first_byte": 300.0})

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


@dataclass(frozen=True, kw_only=True)
class SafetySettings:
    """Settings of a provider that serves Gemini models."""

    safety_settings: dict[str, str] = setting(
        {}, 'Thresholds by category, such as { HARASSMENT = "OFF" }; those left out are Google\'s own.'
    )


def check_safety_settings(settings: SafetySettings) -> list[tuple[str, str]]:
    """Return the errors in ``safety_settings``, for makers."""
    errors = []
    for category, threshold in settings.safety_settings.items():
        place = f"safety_settings.{category}"
        if category not in _CATEGORIES:
            errors.append((place, f"is no category; there are {', '.join(_CATEGORIES)}"))
        elif threshold not in _THRESHOLDS:
            errors.append((place, f"is no threshold; there are {', '.join(_THRESHOLDS)}"))
    return errors
