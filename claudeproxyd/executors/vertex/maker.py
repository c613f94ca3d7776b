"""The kind ``vertex`` as a configuration has it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from claudeproxyd.executors.google import check_safety_settings
from claudeproxyd.executors.maker import Maker
from claudeproxyd.executors.vertex.claude import is_claude
from claudeproxyd.executors.vertex.executor import NOT_FOR_KEYS, VertexExecutor
from claudeproxyd.executors.vertex.locations import GLOBAL, place_of, project
from claudeproxyd.secrets.google import mistake_in

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Credential, Provider
    from claudeproxyd.executors.services import Services

_LOCATION = re.compile(r"global|us|eu|[a-z]+(-[a-z]+)+\d+", re.ASCII)
_PROJECT = re.compile(r"[a-z0-9]([a-z0-9.:-]*[a-z0-9])?", re.ASCII)


class VertexMaker(Maker):
    """Makes :class:`~claudeproxyd.executors.vertex.executor.VertexExecutor`."""

    kind = "vertex"
    default_base_url = GLOBAL
    credential_schema = ("service_account", "bearer_token", "api_key")

    def check(self, section: Provider) -> Sequence[tuple[str, str]]:
        """A credential is of a project and a location, an API key of neither."""
        return check_safety_settings(section) + [
            (f"credentials[{index}].{member}", mistake)
            for index, credential in enumerate(section.credentials)
            for member, mistake in (
                _of_key(section, credential) if credential.api_key is not None else _of_account(credential)
            )
        ]

    def base_urls(self, section: Provider) -> Sequence[str]:
        """Each location has its own."""
        return sorted({place_of(credential, section.base_url).base_url for credential in section.credentials})

    def make(self, section: Provider, services: Services) -> VertexExecutor:
        """See :class:`~claudeproxyd.interfaces.IExecutorMaker`."""
        return VertexExecutor(section, services)


def _of_key(section: Provider, credential: Credential) -> Iterator[tuple[str, str]]:
    for member in ("project", "location"):
        if getattr(credential, member):
            yield member, "is nothing to an API key, which has its own; leave it out, or take a service_account"
    globs = section.models if credential.models == ["*"] else credential.models
    if globs and all(is_claude(glob) for glob in globs):
        yield "api_key", f"can serve none of its models: {NOT_FOR_KEYS}; take a service_account"


def _of_account(credential: Credential) -> Iterator[tuple[str, str]]:
    if not credential.location:
        yield "location", 'is missing: "global", "us", "eu", or a region such as "us-east5"'
    elif not _LOCATION.fullmatch(credential.location):
        yield "location", 'is no location of Google Cloud: "global", "us", "eu", or a region such as "us-east5"'
    if mistake := mistake_in(credential.service_account, os.environ):
        yield "service_account", mistake
    elif not (named := project(credential)):
        yield "project", "is missing, and no key file names it: the id of the Google Cloud project"
    elif not _PROJECT.fullmatch(named):
        yield "project", "is no id or number of a Google Cloud project"
