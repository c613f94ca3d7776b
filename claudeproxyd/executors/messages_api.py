"""The settings that kinds share whose requests are those of the Messages API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from claudeproxyd.config.setting import setting
from claudeproxyd.messages.url_sources import is_place


@dataclass(frozen=True, kw_only=True)
class Betas:
    """``betas``: changes to the anthropic-beta header on its way up."""

    drop: list[str] = setting([], "Betas that this upstream does not take.")
    add: list[str] = setting([], "Betas that are always sent.")


@dataclass(frozen=True, kw_only=True)
class MessagesSettings:
    """Settings of a provider whose requests are those of the Messages API."""

    betas: Betas = setting(Betas, "Changes to the anthropic-beta header.")
    drop_fields: list[str] = setting([], "Top-level request fields that this upstream does not take.")
    url_sources: list[str] = setting(
        [],
        "Buckets and hosts that clients may name in sources by URL, beside public hosts by https, such as"
        " gs://team-docs or http://images.corp:8080. All of it is then read for them with the provider's rights.",
    )


class UrlSources(Protocol):
    """Settings that name such places."""

    @property
    def url_sources(self) -> Sequence[str]:
        """Buckets and hosts."""


def check_url_sources(settings: UrlSources) -> list[tuple[str, str]]:
    """Return the errors in ``url_sources``, for makers."""
    message = "is no bucket and no host: such as gs://bucket or https://host:port, in small letters and without a path"
    return [(f"url_sources[{index}]", message) for index, text in enumerate(settings.url_sources) if not is_place(text)]
