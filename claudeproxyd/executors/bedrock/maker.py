"""The kind ``bedrock`` as a configuration has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from claudeproxyd.config.schema import setting
from claudeproxyd.executors.maker import Maker, provider


@dataclass(frozen=True, kw_only=True)
class BedrockCredential:
    """Settings of a credential of kind ``bedrock``."""

    region: str = setting("", "The region.")


class BedrockMaker(Maker):
    """Keeps the name, the settings and what the environment says; makes nothing yet."""

    kind = "bedrock"
    about = "Claude's models on Amazon Bedrock."
    is_built = False
    default_base_url = "https://bedrock-runtime.us-east-1.amazonaws.com"
    added_paths = ("/model",)
    credential_schema = ("aws", "api_key")
    credential_settings = BedrockCredential
    environment_doc = ("bedrock", "`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` (`AWS_SESSION_TOKEN`, `AWS_REGION`)")

    def from_environment(self, environ: Mapping[str, str]) -> Mapping[str, object] | None:
        """By the variables of AWS's tools."""
        given = {
            name.removeprefix("AWS_").lower(): {"env": name}
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
            if environ.get(name)
        }
        if not {"access_key_id", "secret_access_key"} <= given.keys():
            return None
        return provider("bedrock", aws=given, region=environ.get("AWS_REGION") or "us-east-1")
