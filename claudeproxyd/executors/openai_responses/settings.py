"""The settings that the kind ``openai-responses`` has of its own."""

from __future__ import annotations

from dataclasses import dataclass

from claudeproxyd.config.setting import setting


@dataclass(frozen=True, kw_only=True)
class ResponsesSettings:
    """Settings of a provider of kind ``openai-responses``."""

    reasoning_summary: str = setting(
        "auto",
        'How thoughts are summed up for clients that want to read them; "none" for an organisation that OpenAI has not'
        " verified, whose requests for a summary it refuses.",
        choices=("auto", "concise", "detailed", "none"),
    )
    models_like: dict[str, str] = setting(
        {},
        'The models behind names that say nothing, such as { team-deployment = "gpt-5.1" }: what can be asked of a'
        " model depends on which one it is.",
    )
    count_tokens: str = setting(
        "auto",
        'Who counts tokens: "auto" is the upstream, unless it has shown that it cannot; "estimate" is this daemon.',
        choices=("auto", "estimate"),
    )
    api_version: str = setting(
        "", "Azure's `api-version`, for a `base_url` that ends with /openai; /openai/v1 needs none."
    )
    url_sources: list[str] = setting(
        [],
        "Hosts that clients may name in sources by URL, beside public hosts by https, such as http://images.corp:8080."
        " The server fetches them.",
    )
