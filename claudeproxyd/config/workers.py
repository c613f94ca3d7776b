"""Checks what does not go with several workers."""

from __future__ import annotations

from collections.abc import Sequence

from claudeproxyd.config.cores import MAX_WORKERS
from claudeproxyd.config.diagnostics import Diagnostics
from claudeproxyd.config.endpoints import ListenAddress
from claudeproxyd.config.merging import SourceMap
from claudeproxyd.config.schema import Config


def check_workers(
    config: Config, public: Sequence[tuple[int, ListenAddress]], source_map: SourceMap, diagnostics: Diagnostics
) -> None:
    """Add to *diagnostics* what stands in the way of ``server.workers``; *public* are the listeners, by their place."""
    server = config.server
    if server.processes > MAX_WORKERS:
        diagnostics.error(source_map.at("server", "workers"), f"must be at most {MAX_WORKERS}")
    if server.processes == 1:
        return
    if not server.admin:
        hint = 'such as "unix:/run/claudeproxyd/admin.sock:mode=600"'
        diagnostics.warn(source_map.at("server", "admin"), "is off: nothing tells how the workers fare", hint)
    for index, listener in public:
        if not (listener.path or listener.backlog or server.listen[index].startswith("systemd:")):
            diagnostics.error(
                source_map.at("server", "listen", index),
                "cannot be shared by workers",
                "tcp:, ssl:, unix: and systemd: can; or workers = 1",
            )
    for index, provider in enumerate(config.providers):
        if 0 < provider.max_connections < server.processes:
            diagnostics.error(
                source_map.at("providers", index, "max_connections"),
                f"is less than the {server.processes} workers, each of which needs one",
            )
