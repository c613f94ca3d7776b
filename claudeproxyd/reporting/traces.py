"""The way of a daemon's spans to the collector that its configuration names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import uuid4

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed

import claudeproxyd
from claudeproxyd.config.reporting import traces_url
from claudeproxyd.reporting.posting import Poster
from claudeproxyd.reporting.sender import both
from claudeproxyd.reporting.span_exporter import SpanCounts, SpanExporter

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.config.schema import TracesSettings
    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.observe.tracing import Span


class Traces(Service):
    """Has an exporter for the collector that the configuration names. Kept by the daemon over reloads."""

    name = "traces"

    def __init__(self, clock: IReactorTime, poster: Callable[[str], Poster]) -> None:
        """*poster* makes a way out through a proxy."""
        self._clock = clock
        self._poster = poster
        self._counts = SpanCounts()
        self._instance = str(uuid4())
        self._settings: TracesSettings | None = None
        self._exporter: SpanExporter | None = None
        self._post: Poster | None = None
        self._closed: Deferred[None] = succeed(None)
        """Fires when what waited for the collectors before is sent, or given up."""

    def register(self, metrics: Registry) -> None:
        """Add the metrics of spans."""
        self._counts.register(metrics, lambda: 0 if self._exporter is None else self._exporter.waiting)

    def configure(self, settings: TracesSettings) -> None:
        """Send spans where *settings* say from now on."""
        if settings != self._settings:
            self._closed = both(self._closed, self._close())
            self._settings = settings
            if settings.endpoint:
                self._open(settings)

    def export(self, span: Span) -> None:
        """Take a span; of a request that began under another configuration, too."""
        if self._exporter is not None:
            self._exporter.export(span)

    def _open(self, settings: TracesSettings) -> None:
        self._post = self._poster(settings.proxy)
        self._exporter = SpanExporter(
            self._clock,
            self._post,
            traces_url(settings.endpoint),
            {name: value.reveal() for name, value in settings.headers.items()},
            {
                "service.name": settings.service_name,
                "service.version": claudeproxyd.__version__,
                "service.instance.id": self._instance,
            },
            self._counts,
        )

    def _close(self) -> Deferred[None]:
        """Send what is left, and let go."""
        exporter, self._exporter = self._exporter, None
        post, self._post = self._post, None
        if exporter is None or post is None:
            return succeed(None)
        return exporter.stopService().addCallback(lambda _: post.close())

    def stopService(self) -> Deferred[None]:
        """Send what is left, for a few seconds at most."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        return both(self._closed, self._close())
