"""The settings that the kind ``openai-chat`` has of its own: what a server takes, where the tables do not know it."""

from __future__ import annotations

from dataclasses import dataclass

from claudeproxyd.config.setting import setting
from claudeproxyd.executors.messages_api import check_url_sources
from claudeproxyd.translate.openai_chat.dialects import EFFORTS, FEATURES, REASONING_BACK, SERVERS, THINKING, Overrides

_FEATURES = ", ".join(FEATURES)


@dataclass(frozen=True, kw_only=True)
class ChatSettings:
    """Settings of a provider of kind ``openai-chat``."""

    dialect: str = setting(
        "",
        "Which server it is, where its host does not tell: what it takes is then known. Left out: by the host, and"
        " the least that all servers take where that is not known.",
        choices=("", *SERVERS),
    )
    api_version: str = setting(
        "",
        "Azure's `api-version`. With it a model's name is a deployment's, unless `base_url` ends with /openai/v1.",
    )
    max_tokens: str = setting(
        "",
        "The member that bounds an answer; left out: as the dialect has it.",
        choices=("", "max_tokens", "max_completion_tokens"),
    )
    system: str = setting(
        "",
        "Who says the system prompt: user, where a model's template has no other.",
        choices=("", "system", "developer", "user"),
    )
    thinking: str = setting("", "How it is told to think; none: it is not.", choices=("", *THINKING))
    efforts: list[str] = setting([], f"The efforts that its models have, the least first, of {', '.join(EFFORTS)}.")
    reasoning_back: str = setting(
        "", "The member in which it takes its own reasoning back.", choices=("", *REASONING_BACK)
    )
    takes: list[str] = setting([], f"What it takes beside what its dialect has, of {_FEATURES}.")
    refuses: list[str] = setting([], "What it does not take, of the same.")
    url_sources: list[str] = setting(
        [],
        "Hosts that clients may name in sources by URL, beside public hosts by https, such as http://images.corp:8080."
        " The server fetches them.",
    )

    @property
    def overrides(self) -> Overrides:
        """What goes over the tables."""
        return Overrides(
            max_tokens=self.max_tokens,
            system=self.system,
            thinking=self.thinking,
            efforts=tuple(self.efforts),
            reasoning_back=self.reasoning_back,
            takes=tuple(self.takes),
            refuses=tuple(self.refuses),
        )


def check_settings(settings: ChatSettings) -> list[tuple[str, str]]:
    """Return the errors in the settings, for the maker."""
    errors = check_url_sources(settings)
    for name, words, known in (
        ("takes", settings.takes, FEATURES),
        ("refuses", settings.refuses, FEATURES),
        ("efforts", settings.efforts, EFFORTS),
    ):
        errors += [
            (f"{name}[{index}]", f"is none of {', '.join(known)}")
            for index, word in enumerate(words)
            if word not in known
        ]
    return errors
