"""A configuration from the environment alone: each provider key that is set gives one provider."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from claudeproxyd.config.mistakes import Findings
from claudeproxyd.config.places import Place, Source
from claudeproxyd.config.resolving import BadSecret, resolve


def from_environment(environ: Mapping[str, str], kinds: Collection[str], findings: Findings) -> Source:
    """The tree that a file would have. A provider whose kind is not among *kinds* is left out with a warning."""
    source = Source("the environment", {"providers": []})
    for provider in [*_providers(environ), *_vertex(environ, Place(source), findings)]:
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
    return providers


def _vertex(environ: Mapping[str, str], place: Place, findings: Findings) -> Iterator[dict[str, Any]]:
    """A key file may be there for other programs alone: it has to be known whose project pays."""
    path = environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if not path:
        return
    project = environ.get("GOOGLE_CLOUD_PROJECT", "")
    if not project and not _names_project(path):
        findings.warn(
            place,
            "GOOGLE_APPLICATION_CREDENTIALS is set, and neither its file nor GOOGLE_CLOUD_PROJECT names a project",
            "no provider is made of it",
        )
        return
    location = environ.get("GOOGLE_CLOUD_LOCATION") or environ.get("CLOUD_ML_REGION") or "global"
    yield _provider("vertex", "vertex", service_account={"file": path}, project=project, location=location)


def _names_project(path: str) -> bool:
    try:
        key = json.loads(resolve({"file": path}, {}, "", digest=False)[0].reveal())
    except (BadSecret, ValueError):
        return False
    return isinstance(key, dict) and bool(key.get("project_id") or key.get("quota_project_id"))


def _provider(name: str, kind: str, base_url: str = "", **credential: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "base_url": base_url,
        "credentials": [{"name": "environment", **credential}],
    }
