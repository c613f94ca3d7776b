"""The kind ``vertex`` as a configuration has it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claudeproxyd.config.resolving import BadSecret, resolve
from claudeproxyd.executors.google import FIRST_BYTE, SafetySettings, check_safety_settings
from claudeproxyd.executors.maker import Maker, provider
from claudeproxyd.executors.messages_api import MessagesSettings, check_url_sources
from claudeproxyd.executors.vertex.claude import is_claude
from claudeproxyd.executors.vertex.executor import NOT_FOR_KEYS, VertexExecutor
from claudeproxyd.executors.vertex.locations import GLOBAL, VertexCredential, place_of, project
from claudeproxyd.secrets.google import mistake_in

if TYPE_CHECKING:
    from claudeproxyd.config.schema import CredentialSection, Provider
    from claudeproxyd.executors.services import Services

_LOCATION = re.compile(r"global|us|eu|[a-z]+(-[a-z]+)+\d+", re.ASCII)
_PROJECT = re.compile(r"[a-z0-9]([a-z0-9.:-]*[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class VertexSettings(MessagesSettings, SafetySettings):
    """Settings of a provider of kind ``vertex``."""


class VertexMaker(Maker):
    """Makes :class:`~claudeproxyd.executors.vertex.executor.VertexExecutor`."""

    kind = "vertex"
    traced_as = "gcp.vertex_ai"
    about = "Claude's models and Google's own on Vertex AI; see [vertex](vertex.md)."
    default_base_url = GLOBAL
    added_paths = ("/v1beta1", "/v1")
    credential_schema = ("service_account", "bearer_token", "api_key")
    settings = VertexSettings
    credential_settings = VertexCredential
    timeouts = FIRST_BYTE
    environment_doc = (
        "vertex",
        "`GOOGLE_APPLICATION_CREDENTIALS` (`GOOGLE_CLOUD_PROJECT`, `GOOGLE_CLOUD_LOCATION` or `CLOUD_ML_REGION`)",
    )

    def from_environment(self, environ: Mapping[str, str]) -> Mapping[str, object] | None:
        """By the variables of Google Cloud's tools. A key file may be there for other programs alone: it has to be
        known whose project pays."""
        path = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        if not path:
            return None
        project = environ.get("GOOGLE_CLOUD_PROJECT", "")
        if not project and not _names_project(path):
            raise ValueError(
                "GOOGLE_APPLICATION_CREDENTIALS is set, and neither its file nor GOOGLE_CLOUD_PROJECT names a project"
            )
        location = environ.get("GOOGLE_CLOUD_LOCATION") or environ.get("CLOUD_ML_REGION") or "global"
        return provider("vertex", service_account={"file": path}, project=project, location=location)

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """Look at projects and locations too: each credential has both, and an API key neither."""
        return (
            check_safety_settings(section.own)
            + check_url_sources(section.own)
            + [
                (f"credentials[{index}].{member}", error)
                for index, credential in enumerate(section.credentials)
                for member, error in (
                    _of_key(section, credential) if credential.api_key is not None else _of_account(credential)
                )
            ]
        )

    def base_urls(self, section: Provider) -> Sequence[str]:
        """Return one for each location."""
        return sorted({place_of(credential, section.base_url).base_url for credential in section.credentials})

    def make(self, section: Provider, services: Services) -> VertexExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return VertexExecutor(section, services)


def _of_key(section: Provider, credential: CredentialSection) -> Iterator[tuple[str, str]]:
    for member in ("project", "location"):
        if getattr(credential.own, member):
            yield member, "is nothing to an API key, which has its own; leave it out, or take a service_account"
    globs = section.models if credential.models == ["*"] else credential.models
    if globs and all(is_claude(glob) for glob in globs):
        yield "api_key", f"can serve none of its models: {NOT_FOR_KEYS}; take a service_account"


def _of_account(credential: CredentialSection) -> Iterator[tuple[str, str]]:
    location = credential.own.location
    if not location:
        yield "location", 'is missing: "global", "us", "eu", or a region such as "us-east5"'
    elif not _LOCATION.fullmatch(location):
        yield "location", 'is no location of Google Cloud: "global", "us", "eu", or a region such as "us-east5"'
    if error := mistake_in(credential.service_account, os.environ):
        yield "service_account", error
    elif not (named := project(credential)):
        yield "project", "is missing, and no key file names it: the id of the Google Cloud project"
    elif not _PROJECT.fullmatch(named):
        yield "project", "is no id or number of a Google Cloud project"


def _names_project(path: str) -> bool:
    try:
        key = json.loads(resolve({"file": path}, {}, "", digest=False)[0].reveal())
    except (BadSecret, ValueError):
        return False
    return isinstance(key, dict) and bool(key.get("project_id") or key.get("quota_project_id"))
