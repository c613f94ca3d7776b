"""Checks and reads ``[traces]`` and ``[[webhooks]]``."""

from __future__ import annotations

import base64
from importlib.util import find_spec
from typing import TYPE_CHECKING

from claudeproxyd.config.diagnostics import check_unique_names
from claudeproxyd.config.endpoints import is_loopback
from claudeproxyd.config.providers import check_header_name, check_proxy, check_secret, parsed_url
from claudeproxyd.happenings import Happening

if TYPE_CHECKING:
    from claudeproxyd.config.config_paths import ConfigPath
    from claudeproxyd.config.diagnostics import Diagnostics
    from claudeproxyd.config.merging import SourceMap
    from claudeproxyd.config.schema import Config, WebhookSection

_TRACES_PATH = "/v1/traces"
_IN_BASE64 = "whsec_"


def check_reporting(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Look at where spans and events go."""
    _check_traces(config, source_map, diagnostics)
    check_unique_names(
        ((hook.name, source_map.at("webhooks", index)) for index, hook in enumerate(config.webhooks)), diagnostics
    )
    for index, hook in enumerate(config.webhooks):
        _check_webhook(hook, source_map.at("webhooks", index), diagnostics)


def _check_traces(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    traces = config.traces
    at = source_map.at("traces")
    if not 0 <= traces.sample <= 1:
        diagnostics.error(at / "sample", "must be from 0 to 1", "0.1 traces every tenth request")
    check_proxy(traces.proxy, at / "proxy", diagnostics)
    for name, value in traces.headers.items():
        check_header_name(name, at / "headers" / name, diagnostics)
        check_secret(value, at / "headers" / name, diagnostics)
    if not traces.endpoint:
        if traces.headers:
            diagnostics.warn(at / "headers", "are sent nowhere", "traces are off without an endpoint")
        return
    try:
        url = parsed_url(traces.endpoint)
    except ValueError as error:
        diagnostics.error(at / "endpoint", str(error), "such as http://127.0.0.1:4318")
    else:
        if url.scheme == "http" and traces.headers and not is_loopback(url.hostname or ""):
            diagnostics.warn(at / "endpoint", "is not encrypted: the headers are sent in the clear", "use https://")
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.proto") is None:
        diagnostics.error(
            at / "endpoint",
            "needs the package opentelemetry-proto, which is not installed",
            "pip install 'claudeproxyd[traces]'",
        )


def _check_webhook(hook: WebhookSection, at: ConfigPath, diagnostics: Diagnostics) -> None:
    check_proxy(hook.proxy, at / "proxy", diagnostics)
    known = [happening.value for happening in Happening]
    for index, event in enumerate(hook.events):
        if event not in known:
            diagnostics.error(at / "events" / index, f'there is no event "{event}"', f"there are {', '.join(known)}")
    if not hook.events:
        diagnostics.warn(at / "events", "are none: nothing is ever sent", "leave it out for all")
    if hook.secret is not None and diagnostics.was_read(at / "secret"):
        try:
            signing_key(hook.secret.reveal())
        except ValueError:
            diagnostics.error(at / "secret", "is no base64 behind whsec_", "any other text is taken as it is")
    if not hook.url.known or not diagnostics.was_read(at / "url"):
        return
    where, _, query = hook.url.reveal().partition("?")
    try:
        url = parsed_url(where)
        if not query.isascii() or not query.isprintable() or " " in query or "#" in query:
            raise ValueError("must hold no blanks, no fragment and only ASCII")
    except ValueError as error:
        diagnostics.error(at / "url", str(error), "such as https://hooks.example.com/T0/B0")
        return
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        diagnostics.warn(at / "url", "is not encrypted: what happens is sent in the clear", "use https://")


def signing_key(secret: str) -> bytes:
    """Return what requests are signed with: a text, or bytes in base64 behind ``whsec_``. Raises ValueError."""
    if not secret.startswith(_IN_BASE64):
        return secret.encode()
    return base64.b64decode(secret.removeprefix(_IN_BASE64), validate=True)


def traces_url(endpoint: str) -> str:
    """Return where spans are posted to: *endpoint*, with the usual path where it has none."""
    has_path = parsed_url(endpoint).path not in ("", "/")
    return endpoint if has_path else endpoint.rstrip("/") + _TRACES_PATH
