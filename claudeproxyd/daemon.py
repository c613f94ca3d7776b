"""The daemon as a service: what lives as long as the process, how one configuration replaces another, and the end.

What follows from a configuration alone is built in :mod:`claudeproxyd.graph`, anew for each.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.defer import Deferred, DeferredList, fail, gatherResults, succeed
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from claudeproxyd import graph
from claudeproxyd.config.loading import Loaded
from claudeproxyd.config.mistakes import ConfigError
from claudeproxyd.config.reload import difference
from claudeproxyd.observe.access_log import text_line
from claudeproxyd.observe.capture import Captures
from claudeproxyd.observe.console import banner
from claudeproxyd.observe.lines import LineFile, json_line, to_file, to_log
from claudeproxyd.observe.logging import for_twistd, observer
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.observe.output import Output
from claudeproxyd.observe.scrub import remember
from claudeproxyd.observe.thread import OwnThread
from claudeproxyd.observe.usage import Sinks, UsageLog
from claudeproxyd.pool.service import CredentialPool
from claudeproxyd.secrets.sources import Sources
from claudeproxyd.store.opening import store_for
from claudeproxyd.store.parts import Parts
from claudeproxyd.store.service import StateService
from claudeproxyd.translate.signatures import Signatures
from claudeproxyd.web.access import ConcurrencyAdmission
from claudeproxyd.web.admin import AdminRoot
from claudeproxyd.web.buffers import BufferBudget
from claudeproxyd.web.listener import Listener
from claudeproxyd.web.public import PublicRoot
from claudeproxyd.web.site import GatewaySite

TRIM_EVERY = 5.0
"""Seconds between two looks at whether there is memory to be given back."""
WORTH_A_TRIM = 33_554_432
"""Bytes that are held no more."""


class Daemon(MultiService):
    """claudeproxyd. Made by ``makeService``, run by twistd."""

    log = Logger()

    def __init__(
        self, reactor: Any, loaded: Loaded, load: Callable[[], Loaded], twistd_options: Mapping[str, Any]
    ) -> None:
        """*load* reads the configuration again; *twistd_options* say where the log goes."""
        super().__init__()
        self._reactor = reactor
        self._loaded = loaded
        self._load = load
        self._twistd_options = twistd_options
        config = loaded.config
        remember(graph.secrets_of(config))
        self.metrics = Metrics()
        self._access_file = self._open_access_file()
        self._admission = ConcurrencyAdmission()
        self._buffers = BufferBudget(config.server.max_buffered_bytes)
        self._sources = Sources(reactor)
        self._signatures = Signatures(time.time)
        self._captures = Captures(reactor, OwnThread(reactor, "captures"))
        self._captures.register(self.metrics)
        self._sources.reload(config)
        self.pool = CredentialPool(
            reactor,
            config.pool,
            graph.credentials(config, self._sources),
            provider_limits=graph.provider_limits(config),
            known_models=lambda model: self._plant.knows(model),
        )
        self._plant = self._build(loaded, None, ())
        self.pool.setServiceParent(self)
        self._every(TRIM_EVERY, self._trim)
        pool = self.pool
        kept = Parts({"cooldown": pool, "affinity": pool, "disabled": pool, "signature": self._signatures})
        store = store_for(config.server.state, kept, reactor)
        store.register(self.metrics)
        self._state = StateService(reactor, kept, store)
        self._state.setServiceParent(self)
        self._plant.catalog.setServiceParent(self)
        self.site = GatewaySite(PublicRoot(), self._plant.public, reactor)
        self._listeners = [Listener(reactor, each, self.site) for each in config.server.listen]
        self.admin_site = GatewaySite(AdminRoot(self.pool, self.reload), self._plant.admin, reactor)
        self._admin_listener = Listener(reactor, config.server.admin, self.admin_site) if config.server.admin else None
        for listener in (*self._listeners, *filter(None, [self._admin_listener])):
            listener.setServiceParent(self)
        self._register_gauges()

    # -- beginning

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """twistd asks its application for a log observer: give it ours, in the configured form."""
        log = self._loaded.config.log
        out = for_twistd(self._twistd_options)
        if out is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, observer(out, log.format, log.level))
        if isinstance(out, Output):
            out.register(self.metrics)
            self._every(1.0, out.flush)
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Serve; say where, and listen for signals."""
        _raise_file_limit()
        super().startService()
        _spare_the_collector()
        for warning in self._loaded.warnings:
            self.log.warn("{warning}", warning=str(warning))
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._hang_up))
        config = self._loaded.config
        self.log.info(
            "{banner}",
            banner=banner(
                [listener.place for listener in self._listeners],
                [
                    (provider.name, provider.kind, [credential.name for credential in provider.credentials])
                    for provider in config.providers
                ],
                self._admin_listener.place if self._admin_listener is not None else "",
                bool(config.clients),
                bool(config.models),
            ),
        )

    def _every(self, seconds: float, what: Callable[[], object]) -> None:
        """As long as the daemon runs."""
        timer = TimerService(seconds, what)
        timer.clock = self._reactor
        timer.setServiceParent(self)

    def _trim(self) -> None:
        """Large bodies leave holes in the heap, which glibc keeps for later: give them back when they are over."""
        if self._buffers.peak - self._buffers.held >= WORTH_A_TRIM:
            self._buffers.peak = self._buffers.held
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
            if trim is not None:
                trim(0)

    # -- another configuration

    def reload(self) -> Deferred[str]:
        """Read the configuration again and put it in force; fires with what changed.

        Fails with :class:`~claudeproxyd.config.mistakes.ConfigError`, and the running configuration stays.
        """
        try:
            loaded = self._load()
        except ConfigError as mistakes:
            self.log.error("the configuration stays as it was: {mistakes}", mistakes=str(mistakes))
            return fail(mistakes)
        config = loaded.config
        changes = difference(self._loaded.config, config)
        keep = () if graph.executors_differ(self._loaded.config, config) else changes.unchanged
        remember(graph.secrets_of(config))
        self._sources.reload(config)
        before, self._plant = self._plant, self._build(loaded, self._plant, keep)
        self._loaded = loaded
        self._buffers.limit = config.server.max_buffered_bytes
        self.pool.reload(graph.credentials(config, self._sources), config.pool, graph.provider_limits(config))
        before.catalog.disownServiceParent()
        self._plant.catalog.setServiceParent(self)
        self.site.gateway = self._plant.public
        self.admin_site.gateway = self._plant.admin
        before.upstreams.close(keep=self._plant.upstreams)
        self.log.info("reloaded: {changes}", changes=str(changes))
        for warning in loaded.warnings:
            self.log.warn("{warning}", warning=str(warning))
        return succeed(str(changes))

    def _hang_up(self) -> None:
        """SIGHUP: the configuration, the certificates, and the access log's file."""
        if self._access_file is not None:
            self._access_file.reopen()
        self.reload().addErrback(Failure.trap, ConfigError)
        for listener in self._listeners:
            try:
                listener.renew()
            except Exception as error:  # the parsers of endpoints and of certificates raise what they like
                self.log.error("{place} keeps its certificate: {error}", place=listener.place, error=str(error))

    def _build(self, loaded: Loaded, before: graph.Plant | None, keep: tuple[str, ...]) -> graph.Plant:
        capture = loaded.config.capture
        self._captures.reload(capture.when, capture.directory, capture.max_bytes, capture.keep)
        return graph.Plant(
            self._reactor,
            loaded.config,
            graph.Fixtures(
                sources=self._sources,
                pool=self.pool,
                metrics=self.metrics,
                sinks=self._sinks(loaded),
                access_log=self._access_log(loaded),
                admission=self._admission,
                buffers=self._buffers,
                signatures=self._signatures,
                captures=self._captures,
                ready=lambda: bool(self.running) and self._state.settled and not self.site.draining,
            ),
            before,
            keep,
        )

    # -- lines

    def _open_access_file(self) -> LineFile | None:
        path = self._loaded.config.log.access
        if path in ("", "off"):
            return None
        try:
            file = LineFile(path, self._reactor, OwnThread(self._reactor, "access log"))
        except OSError as e:
            raise SystemExit(f"claudeproxyd: log.access: {e}: name a file that can be written") from None
        file.register(self.metrics)
        return file

    def _access_log(self, loaded: Loaded) -> Callable[[Any], None]:
        log = loaded.config.log
        if log.access == "off":
            return lambda entry: None
        if self._access_file is None:
            return to_log("claudeproxyd.access")
        return to_file(self._access_file, json_line if log.format == "json" else text_line)

    def _sinks(self, loaded: Loaded) -> Sinks:
        """Usage records go to the metrics, and to the log where that is for machines."""
        if loaded.config.log.format != "json":
            return Sinks([self.metrics])
        to = to_log("claudeproxyd.usage") if self._access_file is None else to_file(self._access_file, json_line)
        return Sinks([self.metrics, UsageLog(to)])

    # -- the end

    def stopService(self) -> Deferred[None]:
        """Accept no more, let the streams finish within ``server.drain``, then stop. A second signal ends the wait."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await gatherResults([listener.stopService() for listener in self._listeners])
        self.site.draining = True
        streams = len(self.site.channels)
        if streams:
            wait = self._loaded.config.server.drain
            self.log.info("draining: {streams} connections, for up to {wait:g} s", streams=streams, wait=wait)
            hurry: Deferred[None] = Deferred()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self._reactor.callFromThread(_fire, hurry))
            drained = self.site.drain()
            over = self._reactor.callLater(wait, self.site.abort_all)
            await DeferredList([drained, hurry], fireOnOneCallback=True)
            if over.active():
                over.cancel()
            if hurry.called:
                self.site.abort_all()
        self._plant.upstreams.close()
        await super().stopService()
        if self._access_file is not None:
            await self._access_file.close()

    def _register_gauges(self) -> None:
        self.pool.register(self.metrics)
        gauge = self.metrics.gauge
        gauge("claudeproxyd_connections", "Client connections.", lambda: len(self.site.channels))
        gauge("claudeproxyd_buffered_bytes", "Bodies held for clients.", lambda: self._buffers.held)
        gauge("claudeproxyd_signatures", "Signatures of thoughts remembered.", lambda: len(self._signatures))
        gauge("claudeproxyd_signature_bytes", "What they take.", lambda: self._signatures.size)
        gauge("claudeproxyd_open_streams", "Streams on their way.", lambda: len(self._plant.relays))
        gauge(
            "claudeproxyd_paused_streams",
            "Streams whose client does not keep up.",
            lambda: sum(relay.paused for relay in self._plant.relays),
        )
        self.metrics.counter(
            "claudeproxyd_odd_streams_total",
            "Whole streams that were out of the grammar's order, by provider.",
            self._odd_streams,
            ("provider",),
        )
        gauge(
            "claudeproxyd_upstream_connections",
            "Connections to upstreams, by provider and state.",
            lambda: self._plant.upstreams.connections(),
            ("provider", "state"),
        )

    def _odd_streams(self) -> Mapping[tuple[str, ...], float]:
        return {(provider,): count for provider, count in self._plant.public.dispatcher.oddities.items()}


def _fire(deferred: Deferred[None]) -> None:
    if not deferred.called:
        deferred.callback(None)


def _spare_the_collector() -> None:
    """What is here now stays, so the garbage collector need not look at it again and again; and it may look seldom,
    since a request leaves next to nothing in cycles. It takes a tenth of a request's time otherwise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _raise_file_limit() -> None:
    """Each stream takes two descriptors; the soft limit is often 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
