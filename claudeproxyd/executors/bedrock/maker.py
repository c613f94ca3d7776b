"""The kind ``bedrock`` as a configuration has it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from claudeproxyd.executors.bedrock.executor import BedrockExecutor
from claudeproxyd.executors.bedrock.names import PROFILES
from claudeproxyd.executors.bedrock.places import ANYWHERE, place_of, region_for
from claudeproxyd.executors.bedrock.settings import BedrockCredential, BedrockSettings
from claudeproxyd.executors.maker import Maker, provider

if TYPE_CHECKING:
    from claudeproxyd.config.schema import CredentialSection, Provider
    from claudeproxyd.executors.services import Services

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+", re.ASCII)


class BedrockMaker(Maker):
    """Makes :class:`~claudeproxyd.executors.bedrock.executor.BedrockExecutor`."""

    kind = "bedrock"
    traced_as = "aws.bedrock"
    about = "Claude's models and all others on Amazon Bedrock; see [bedrock](bedrock.md)."
    default_base_url = ANYWHERE
    added_paths = ("/model",)
    credential_schema = ("aws", "bearer_token", "api_key")
    settings = BedrockSettings
    credential_settings = BedrockCredential
    environment_doc = (
        "bedrock",
        "`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` (`AWS_SESSION_TOKEN`), or `AWS_BEARER_TOKEN_BEDROCK`"
        " (`AWS_REGION`, `AWS_ENDPOINT_URL_BEDROCK_RUNTIME`)",
    )

    def from_environment(self, environ: Mapping[str, str]) -> Mapping[str, object] | None:
        """By the variables of AWS's tools. A key of Bedrock's goes before keys that may be there for other programs."""
        base_url = environ.get("AWS_ENDPOINT_URL_BEDROCK_RUNTIME") or self.default_base_url
        region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        if environ.get("AWS_BEARER_TOKEN_BEDROCK"):
            return provider("bedrock", base_url, bearer_token={"env": "AWS_BEARER_TOKEN_BEDROCK"}, region=region)
        given = {
            name.removeprefix("AWS_").lower(): {"env": name}
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
            if environ.get(name)
        }
        if not {"access_key_id", "secret_access_key"} <= given.keys():
            return None
        return provider("bedrock", base_url, aws=given, region=region)

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """Look at regions too: each credential has one."""
        return [
            (f"credentials[{index}].{member}", error)
            for index, credential in enumerate(section.credentials)
            for member, error in _of(credential)
        ]

    def base_urls(self, section: Provider) -> Sequence[str]:
        """Return one for each region."""
        places = (place_of(each, section.base_url, os.environ) for each in section.credentials)
        return sorted({place.base_url for place in places})

    def make(self, section: Provider, services: Services) -> BedrockExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return BedrockExecutor(section, services)


def _of(credential: CredentialSection) -> Iterator[tuple[str, str]]:
    own: BedrockCredential = credential.own
    region = region_for(credential, os.environ)
    if not region:
        yield "region", "is missing, and neither AWS_REGION nor a profile names one: a region such as us-east-1"
    elif not _REGION.fullmatch(region):
        yield "region", "is no region of AWS: such as us-east-1"
    if own.inference_profile and own.inference_profile not in PROFILES:
        yield "inference_profile", f"is none of {', '.join(PROFILES)}"
