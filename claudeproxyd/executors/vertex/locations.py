"""Where on Google Cloud a credential's models are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from claudeproxyd.config.setting import setting
from claudeproxyd.secrets.google import project_of

if TYPE_CHECKING:
    from claudeproxyd.config.schema import CredentialSection

#: The host of the location ``global``, and of API keys; as a provider's ``base_url`` it stands for each location's.
GLOBAL = "https://aiplatform.googleapis.com"

_MULTI_REGIONS = ("us", "eu")


@dataclass(frozen=True, kw_only=True)
class VertexCredential:
    """Settings of a credential of kind ``vertex``."""

    project: str = setting("", "The project; the one that the key file names, if left out.")
    location: str = setting("", '"global", "us", "eu", or a region such as "us-east5".')


@dataclass(frozen=True, slots=True)
class Place:
    """The host, and the paths at whose end a model's name goes. Made by :func:`place_of`."""

    base_url: str
    google: bytes
    anthropic: bytes
    """b'' for an API key: it serves Google's own models alone."""


def place_of(credential: CredentialSection, base_url: str) -> Place:
    """Return the place of a credential that ``VertexMaker.check`` found no error in.

    *base_url* is the provider's.
    """
    if credential.api_key is not None:
        return Place(base_url, b"/v1beta1/publishers/google/models/", b"")
    location = credential.own.location
    parent = f"/projects/{quote(project(credential), safe=':')}/locations/{location}/publishers/"
    return Place(
        base_url if base_url != GLOBAL else host(location),
        f"/v1beta1{parent}google/models/".encode(),
        f"/v1{parent}anthropic/models/".encode(),
    )


def project(credential: CredentialSection) -> str:
    """Return the configured project, else the one that the key file names, else ''."""
    own: VertexCredential = credential.own
    return own.project or project_of(credential.service_account, os.environ)


def host(location: str) -> str:
    """Return the host that serves a location, with its scheme."""
    if location == "global":
        return GLOBAL
    if location in _MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"
