"""A configuration from the environment alone: each provider key that is set gives one provider."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from claudeproxyd.config.mistakes import Findings
from claudeproxyd.config.places import Place, Source


def from_environment(environ: Mapping[str, str], kinds: Collection[str], findings: Findings) -> Source:
    """The tree that a file would have. A provider whose kind is not among *kinds* is left out with a warning."""
    source = Source("the environment", {"providers": []})
    for provider in _providers(environ):
        if provider["kind"] in kinds:
            source.tree["providers"].append(provider)
        else:
            findings.warn(
                Place(source),
                f"it has a key for {provider['name']}, whose kind {provider['kind']} is not built yet in this version",
                "that provider is left out",
            )
    if not source.tree["providers"]:
        source.tree["providers"].append({"name": "sandbox", "kind": "sandbox"})
    return source


def _providers(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    given = {name for name, value in environ.items() if value}
    providers = []
    if "ANTHROPIC_API_KEY" in given:
        base_url = environ.get("ANTHROPIC_BASE_URL", "")
        providers.append(_provider("anthropic", "anthropic", base_url, api_key={"env": "ANTHROPIC_API_KEY"}))
    if gemini := next((name for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY") if name in given), None):
        providers.append(_provider("gemini", "gemini", api_key={"env": gemini}))
    if "OPENAI_API_KEY" in given:
        base_url = environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        providers.append(_provider("openai", "openai-chat", base_url, api_key={"env": "OPENAI_API_KEY"}))
    if {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= given:
        aws = {
            name.removeprefix("AWS_").lower(): {"env": name}
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
            if name in given
        }
        providers.append(_provider("bedrock", "bedrock", aws=aws, region=environ.get("AWS_REGION") or "us-east-1"))
    if {"GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"} <= given:
        vertex: dict[str, Any] = {
            "service_account": {"file": environ["GOOGLE_APPLICATION_CREDENTIALS"]},
            "project": environ["GOOGLE_CLOUD_PROJECT"],
            "location": environ.get("GOOGLE_CLOUD_LOCATION") or environ.get("CLOUD_ML_REGION") or "global",
        }
        providers.append(_provider("vertex", "vertex", **vertex))
    return providers


def _provider(name: str, kind: str, base_url: str = "", **credential: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "base_url": base_url,
        "credentials": [{"name": "environment", **credential}],
    }
