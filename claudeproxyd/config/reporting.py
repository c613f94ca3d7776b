"""Checks and reads ``[traces]``."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from claudeproxyd.config.endpoints import is_loopback
from claudeproxyd.config.providers import check_header_name, check_proxy, check_secret, parsed_url

if TYPE_CHECKING:
    from claudeproxyd.config.diagnostics import Diagnostics
    from claudeproxyd.config.merging import SourceMap
    from claudeproxyd.config.schema import Config

_TRACES_PATH = "/v1/traces"


def check_reporting(config: Config, source_map: SourceMap, diagnostics: Diagnostics) -> None:
    """Look at where spans go."""
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


def traces_url(endpoint: str) -> str:
    """Return where spans are posted to: *endpoint*, with the usual path where it has none."""
    has_path = parsed_url(endpoint).path not in ("", "/")
    return endpoint if has_path else endpoint.rstrip("/") + _TRACES_PATH
