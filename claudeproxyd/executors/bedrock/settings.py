"""The settings of the kind ``bedrock``."""

from __future__ import annotations

from dataclasses import dataclass

from claudeproxyd.config.setting import setting
from claudeproxyd.executors.messages_api import Betas


@dataclass(frozen=True, kw_only=True)
class BedrockSettings:
    """Settings of a provider of kind ``bedrock``."""

    betas: Betas = setting(Betas, "Changes to the betas that Claude's models are sent.")
    drop_fields: list[str] = setting([], "Top-level request fields that Claude's models are not sent.")
    claude_models: list[str] = setting(
        [],
        "Globs of models that are Claude's though their names do not say so: ARNs of application inference profiles.",
    )


@dataclass(frozen=True, kw_only=True)
class BedrockCredential:
    """Settings of a credential of kind ``bedrock``."""

    region: str = setting("", "The region; that of the environment or of the profile, if left out.")
    inference_profile: str = setting(
        "",
        'What stands ahead of a model that a client names as the API does: "us", "eu", "jp", "au", "apac", "us-gov",'
        ' "global", or "none"; that of the region, if left out.',
    )
