"""The daemon as a service: what lives as long as the process, how one configuration replaces another, and the end.

What follows from a configuration alone is built in :mod:`claudeproxyd.graph`, anew for each.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from secrets import token_hex
from typing import IO, Any

from twisted.application.internet import TimerService
from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from claudeproxyd import configured, descriptors, graph, hangups, memory
from claudeproxyd.accounts.limits import UsageLimits
from claudeproxyd.accounts.opening import keys_of, ledger_of
from claudeproxyd.checkup import Checkup
from claudeproxyd.config.accounts import accounts_in_words
from claudeproxyd.config.diagnostics import ConfigError, Problem
from claudeproxyd.config.loading import Loaded
from claudeproxyd.config.schema import Config
from claudeproxyd.config.state import place_in_words
from claudeproxyd.dispatch.admission import ConcurrencyAdmission
from claudeproxyd.dispatch.limiting import LimitAdmission
from claudeproxyd.dispatch.served_models import LOOK_EVERY, ServedModels
from claudeproxyd.executors.turns import Turns
from claudeproxyd.happenings import OUTAGES, Happening
from claudeproxyd.interfaces import IAuthenticator, ICredentialPool, IPersistent, IStateStore, IUsageSink
from claudeproxyd.issuers.registry import Issuers
from claudeproxyd.log_files import LogFiles
from claudeproxyd.messages.corrections import Corrections
from claudeproxyd.observe.activity import MINUTE, ClientActivity
from claudeproxyd.observe.audit import AuditEntry
from claudeproxyd.observe.capture import Captures
from claudeproxyd.observe.console import banner
from claudeproxyd.observe.lines import LineFile
from claudeproxyd.observe.logging import for_twistd, observer
from claudeproxyd.observe.loop_lag import LAG_EVERY, LoopLag
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.observe.output import Output
from claudeproxyd.observe.scrub import configure, configure_forms, holds_secret
from claudeproxyd.observe.service_manager import ServiceManager
from claudeproxyd.observe.status import Status
from claudeproxyd.observe.transitions import Transition, Transitions
from claudeproxyd.observe.usage import Sinks, UsageLog
from claudeproxyd.plugin_loader import Plugins, PluginServices
from claudeproxyd.pool.service import CredentialPool
from claudeproxyd.pool.shares import Shares
from claudeproxyd.providers import executors_differ
from claudeproxyd.reloads import SHARE, Draft, Reloads, draft, unforeseen
from claudeproxyd.reporting.posting import Poster
from claudeproxyd.reporting.traces import Traces
from claudeproxyd.reporting.webhooks import Webhooks
from claudeproxyd.secrets.grants import Grants
from claudeproxyd.secrets.sources import Sources
from claudeproxyd.sockets import Hub
from claudeproxyd.store.changes import StateChanges
from claudeproxyd.store.opening import limits_store_for, store_for
from claudeproxyd.store.persistent import PersistentState
from claudeproxyd.store.service import StateService
from claudeproxyd.threads import InThread, thread_of_its_own, unawaited_threads
from claudeproxyd.translate.signatures import Signatures
from claudeproxyd.upstream.names import MAX_THREADS, Names
from claudeproxyd.web.admin import AdminRoot, Unserved
from claudeproxyd.web.answering import Gather
from claudeproxyd.web.buffers import BufferBudget
from claudeproxyd.web.listener import Listener
from claudeproxyd.web.public import PublicRoot
from claudeproxyd.web.site import GatewaySite

#: Seconds between two looks at whether there is memory to be given back.
TRIM_EVERY = 5.0
#: Seconds between two looks for garbage among what has been there for a while.
COLLECT_EVERY = 600.0
#: Seconds between two looks at which counters of limits say nothing: clients may have made their names up.
FORGET_EVERY = 60.0
#: Bytes that are held no more.
WORTH_A_TRIM = 33_554_432
#: Warnings of one reading that go into the log one by one.
WARNINGS = 20


class Daemon(MultiService):
    """claudeproxyd. Made by ``makeService``, run by twistd.

    What is otherwise where there are several processes is in methods of its own: see :mod:`claudeproxyd.workers`.
    """

    log = Logger()
    _shares: Shares | None = None
    """What of limits of attempts at once is this process's; None: all."""
    _counts_limits = True
    """``[[limits]]`` are counted in this process."""

    def __init__(
        self, reactor: Any, loaded: Loaded, load: Callable[[Config], Loaded], twistd_options: Mapping[str, Any]
    ) -> None:
        """*load* reads the configuration again, in the place of the one that it is given, and may block.

        *twistd_options* say where the log goes.
        """
        super().__init__()
        self._reactor = reactor
        self._loaded = loaded
        self._load = load
        self._reloads = Reloads(self._reload)
        self._twistd_options = twistd_options
        self._in_thread = self._new_thread("reloads")
        config, changes = loaded.config, StateChanges()
        configure(configured.secrets_of(config))
        self._make_observers(config)
        self._make_accounts(config)
        self._make_pool(config, changes)
        self._make_reporters(config)
        self._make_first_generation(loaded)
        self._make_timers()
        self._make_state(config, changes)
        self._generation.catalog.setServiceParent(self)
        self._make_sites(config)
        self._register_gauges()

    # -- making, in this order

    def _make_observers(self, config: Config) -> None:
        """Make what sees how things go, the resolver of names and the hub."""
        self.metrics = self._make_metrics()
        self.metrics.name_models(configured.named_models(config))
        names = Names(self._reactor, unawaited_threads(self._reactor, "names", MAX_THREADS))
        names.register(self.metrics)
        self._resolver_before = self._reactor.installNameResolver(names)
        self._hub = Hub(self._reactor)
        self._log_files = LogFiles(config.log, self._reactor, self._new_unawaited_thread)
        self._log_files.register(self.metrics)
        self.own_hop = self._make_hop()
        self._status = Status.begun(time.time())
        self._status.register(self.metrics)
        self._service_manager = ServiceManager(os.environ, self._reactor)
        self._concurrency = self._make_concurrency()
        self._activity = ClientActivity(self._concurrency.running)
        self._activity.register(self.metrics)
        self._transitions = Transitions(time.time)

    def _make_accounts(self, config: Config) -> None:
        """Make what knows who may use how much, and who did."""
        self._limits = self._make_limits(config)
        self._status.unknown_use = self._limits.unknown
        self._ledger = ledger_of(config.accounts, self._reactor, self._new_thread, self._hub.before_sending)
        if self._ledger is not None:
            self._ledger.register(self.metrics)
            self._ledger.setServiceParent(self)
            if config.limits and self._counts_limits:
                count = partial(self._ledger.count, configured.limits_of(config))
                self._limits.wait_for(self._limits.recall(count, told=True))
        self._keys = keys_of(config.accounts, self._reactor, self._new_thread)
        if self._keys is not None:
            self._keys.configure(configured.clients(config), is_open=config.server.open)
            self._keys.setServiceParent(self)
        self._issuers = Issuers(self._reactor, time.time)
        self._issuers.register(self.metrics)
        self._issuers.configure(config.issuers)
        self._issuers.setServiceParent(self)

    def _make_pool(self, config: Config, changes: StateChanges) -> None:
        """Make the pool, its credentials' secrets, and what else requests share."""
        self._buffers = BufferBudget(config.server.max_buffered_bytes)
        self._turns = Turns(self._reactor)
        self._grants = Grants(time.time, outlive=config.server.state != "memory:", changed=changes)
        self._sources = self._make_sources()
        self._signatures = Signatures(time.time, changed=changes, is_secret=holds_secret)
        self._corrections = Corrections()
        self._captures = Captures(self._reactor, self._new_unawaited_thread("captures"))
        self._captures.register(self.metrics)
        self._capture(config)
        self._sources.reload(config)
        self._known_models = graph.KnownModels()
        self.pool = CredentialPool(
            self._reactor,
            config.pool,
            configured.credentials(config, self._sources),
            provider_limits=configured.provider_limits(config),
            known_models=self._known_models,
            changed=changes,
            transitions=self._transitions,
            shares=self._shares,
        )

    def _make_reporters(self, config: Config) -> None:
        """Make what tells others."""
        self._traces = Traces(self._reactor, lambda proxy: Poster(self._reactor, proxy))
        self._traces.register(self.metrics)
        self._traces.setServiceParent(self)
        self._traces.configure(config.traces)
        self._webhooks = Webhooks(self._reactor, lambda proxy: Poster(self._reactor, proxy), time.time)
        self._webhooks.register(self.metrics)
        self._webhooks.setServiceParent(self)
        self._webhooks.configure(config.webhooks)
        self._transitions.subscribe(self._happened)

    def _make_first_generation(self, loaded: Loaded) -> None:
        """Make what serves by the configuration; :meth:`_put_in_force` makes those that follow."""
        self._models = ServedModels(self._reactor, lambda model: self._generation.outage(model), self._transitions)
        self._models.name_models(model.name for model in loaded.config.models)
        self._models.register(self.metrics)
        self._plugins = self._plug_in(loaded, None)
        self._plugins.start(self)
        authenticator = configured.authenticator(loaded.config, self._keys, self._issuers)
        self._generation = self._build(loaded, authenticator, self._plugins, None, ())
        self._known_models.generation = self._generation
        self.pool.setServiceParent(self)

    def _make_timers(self) -> None:
        """Make what looks or acts every so often."""
        self._every(TRIM_EVERY, self._trim)
        self._every(COLLECT_EVERY, memory.OldGarbage().look)
        self._every(MINUTE, self._activity.turn)
        self._every(LOOK_EVERY, self._models.look)
        lag = LoopLag(self._reactor.seconds)
        lag.register(self.metrics)
        self._every(LAG_EVERY, lag.look)
        if self._service_manager.alive_every:
            self._every(self._service_manager.alive_every, self._service_manager.alive)
        self._every(FORGET_EVERY, lambda: self._limits.limits.forget_idle(time.time()))

    def _make_state(self, config: Config, changes: StateChanges) -> None:
        """Make what keeps what is to outlive the process."""
        pool = self.pool
        parts = {
            "cooldown": pool,
            "affinity": pool,
            "disabled": pool,
            "signature": self._signatures,
            "grant": self._grants,
        }
        kept, store = self._make_store(config, PersistentState(parts, changes))
        store.register(self.metrics)
        self._state = StateService(self._reactor, kept, changes, store, self._grants.settle)
        self._state.setServiceParent(self)

    def _make_sites(self, config: Config) -> None:
        """Make the sites, and what listens."""
        self.site = GatewaySite(PublicRoot(), self._generation.public, self._reactor, self._hub)
        self._listeners = self._make_listeners(config)
        self.admin_site = GatewaySite(self._make_admin(), self._generation.admin, self._reactor, self._hub)
        self._admin_listener = (
            Listener(self._reactor, config.server.admin, self.admin_site) if config.server.admin else None
        )
        for listener in self._all_listeners:
            listener.setServiceParent(self)

    def _new_thread(self, name: str) -> InThread:
        return thread_of_its_own(self._reactor, name)

    def _new_unawaited_thread(self, name: str) -> InThread:
        return unawaited_threads(self._reactor, name, 1)

    # -- what several processes have otherwise

    def _make_hop(self) -> bytes:
        return token_hex(8).encode()

    def _make_metrics(self) -> Metrics:
        return Metrics()

    def _make_concurrency(self) -> ConcurrencyAdmission:
        return ConcurrencyAdmission()

    def _make_limits(self, config: Config) -> LimitAdmission:
        limits = UsageLimits(configured.limits_of(config))
        counted_in = limits_store_for(config.server.state, limits, configured.ledger_name(config), self._reactor)
        admission = LimitAdmission(limits, time.time, self._concurrency.admit, self._transitions, counted_in)
        admission.register(self.metrics)
        return admission

    def _make_sources(self) -> Sources:
        return Sources(self._reactor, grants=self._grants)

    def _make_store(self, config: Config, kept: IPersistent) -> tuple[IPersistent, IStateStore]:
        """Return where *kept* is stored, and what the store and its service are to take for it."""
        return kept, store_for(config.server.state, kept, self._reactor)

    def _make_listeners(self, config: Config) -> Sequence[Listener]:
        return [Listener(self._reactor, each, self.site) for each in config.server.listen]

    def _make_admin(self) -> AdminRoot:
        return self._admin_of(self.pool, self._models, self._activity)

    def _admin_of(
        self, pool: ICredentialPool, models: Unserved, activity: ClientActivity, gather: Gather | None = None
    ) -> AdminRoot:
        """Return the admin listener's tree; see it for what the arguments are."""
        return AdminRoot(
            pool,
            self.hang_up,
            self._status,
            activity,
            self._ledger,
            self._limits.store,
            self._keys,
            models=models,
            checkup=self._checkup,
            issuers=self._issuers.findings,
            gather=gather,
        )

    def _happened(self, transition: Transition) -> None:
        """Tell people."""
        if transition.what in OUTAGES:
            self.log.warn("{told}", told=transition.message)
        self._webhooks.take(transition)

    @property
    def _all_listeners(self) -> Sequence[Listener]:
        return (*self._listeners, *filter(None, [self._admin_listener]))

    # -- beginning

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """twistd asks its application for a log observer: give it ours, in the configured form."""
        log = self._loaded.config.log
        out = for_twistd(self._twistd_options)
        if out is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, observer(out, log.format, log.level))
        self.use_output(out)
        super().setServiceParent(parent)

    def use_output(self, out: IO[str] | Output | None) -> None:
        """See to what the log is written to; None: twistd does."""
        if isinstance(out, Output):
            out.register(self.metrics)
            self._every(1.0, out.flush)

    def startService(self) -> None:
        """Serve; say where, and listen for signals."""
        descriptors.raise_limit()
        sys.setswitchinterval(SHARE)  # the ledger's thread runs every second
        try:
            super().startService()
        except ConfigError as error:  # of a plugin
            raise SystemExit(f"claudeproxyd: {error}") from None
        memory.freeze_gc()
        memory.keep_pages()
        self._limits.begin()
        self._warn(self._loaded.warnings)
        wanted, allowed = self._loaded.config.server.max_connections, descriptors.connections_allowed()
        if allowed < wanted:
            self.log.warn(
                "server.max_connections is {wanted}, but the limit of open files is enough for {allowed}:"
                " raise it (LimitNOFILE=, ulimit -n)",
                wanted=wanted,
                allowed=allowed,
            )
        self._announce(self._loaded.config)

    def _announce(self, config: Config) -> None:
        """Say where, and listen for SIGHUP."""
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._signalled))
        hangups.let_come()
        self.log.info(
            "{banner}",
            banner=banner(
                [listener.place for listener in self._listeners],
                [
                    (provider.name, provider.kind, [credential.name for credential in provider.credentials])
                    for provider in config.providers
                ],
                self._admin_listener.place if self._admin_listener is not None else "",
                config.is_keyed,
                bool(config.models) or configured.serves_claude(self._loaded),
                place_in_words(config.server.state),
                accounts_in_words(config.accounts),
                config.server.processes,
            ),
        )
        places = " and ".join(listener.place for listener in self._listeners)
        self._service_manager.ready_when(self._is_settled, f"serving on {places}")

    def _every(self, seconds: float, what: Callable[[], object]) -> None:
        """As long as the daemon runs."""
        timer = TimerService(seconds, what)
        timer.clock = self._reactor
        timer.setServiceParent(self)

    def _trim(self) -> None:
        """Give back what large bodies have left, when they are over."""
        if self._buffers.peak - self._buffers.held >= WORTH_A_TRIM:
            self._buffers.peak = self._buffers.held
            memory.give_back()

    # -- another configuration

    def reload(self) -> Deferred[str]:
        """Read the configuration again and put it in force; fires with what changed.

        Fails with :class:`~claudeproxyd.config.diagnostics.ConfigError`, and the running configuration stays.
        """
        return self._reloads.ask()

    async def _reload(self) -> str:
        self._service_manager.reloading()
        try:
            drafted = await self._drafted()
            self._put_in_force(drafted)
            await self._hand_on()
        except Exception as error:
            mistake = str(unforeseen(error))
            self._status.not_reloaded(mistake, time.time())
            self._service_manager.reloaded(f"serving; the last reload changed nothing: {mistake}")
            self._transitions.begin(Happening.RELOAD_FAILED, mistake)
            if isinstance(error, ConfigError):
                self.log.error("the configuration stays as it was: {error}", error=str(error))
            raise
        self._status.reloaded(str(drafted.changes), time.time())
        self._service_manager.reloaded(f"serving; reloaded: {drafted.changes}")
        self._transitions.end(Happening.RELOAD_FAILED)
        self.log.info("reloaded: {changes}", changes=str(drafted.changes))
        self._warn(drafted.loaded.warnings)
        return str(drafted.changes)

    def _drafted(self) -> Deferred[Draft]:
        """Read the configuration again, in a thread. Fails with ConfigError."""
        return self._in_thread(lambda: draft(self._load, self._loaded.config, self._keys, self._issuers))

    async def _hand_on(self) -> None:
        """Have other processes of this daemon serve by what is in force now, before anybody is told that it is."""

    def _put_in_force(self, drafted: Draft) -> None:
        """Serve by another configuration from now on."""
        if not drafted.differs:
            return
        loaded, config = drafted.loaded, drafted.loaded.config
        configure_forms(drafted.secrets)
        self.metrics.name_models(configured.named_models(config))
        keep = () if executors_differ(self._loaded.config, config) else drafted.changes.unchanged
        plugins = self._plug_in(loaded, self._plugins)
        plugins.start(self)
        sources = self._sources.reload(config)
        try:
            generation = self._build(loaded, drafted.authenticator, plugins, self._generation, keep)
        except Exception as error:
            plugins.discard()
            self._sources.restore(sources)
            raise unforeseen(error) from None
        plugins_before, self._plugins = self._plugins, plugins
        before, self._generation, self._loaded = self._generation, generation, loaded
        self._known_models.generation = generation
        self._models.name_models(model.name for model in config.models)
        before.upstreams.executors.give_way(generation.upstreams.executors)
        self._capture(config)
        self._traces.configure(config.traces)
        self._webhooks.configure(config.webhooks)
        if self._keys is not None:
            self._keys.configure(configured.clients(config), is_open=config.server.open)
        self._issuers.configure(config.issuers)
        self._buffers.limit = config.server.max_buffered_bytes
        fresh = self._limits.limits.reload(configured.limits_of(config))
        if fresh and self._ledger is not None and self._counts_limits:
            self._limits.recall(partial(self._ledger.count, fresh))
        self._limits.begin()
        if self._ledger is not None:
            self._ledger.keep = config.accounts.keep
        self.pool.reload(configured.credentials(config, self._sources), config.pool, configured.provider_limits(config))
        before.catalog.disownServiceParent()
        generation.catalog.setServiceParent(self)
        self.site.gateway = generation.public
        self.admin_site.gateway = generation.admin
        before.upstreams.close(keep=generation.upstreams)
        plugins_before.give_way(plugins)

    def _warn(self, warnings: Sequence[Problem]) -> None:
        for warning in warnings[:WARNINGS]:
            self.log.warn("{found}", found=str(warning))
        if len(warnings) > WARNINGS:
            self.log.warn("and {more} more, which --check shows", more=len(warnings) - WARNINGS)

    def hang_up(self) -> Deferred[str]:
        """Do all that a SIGHUP asks for: the configuration, the certificates, the files of access log and audit.

        Fires, or fails, as :meth:`reload` does; whether a certificate could be read is told by the log.
        """
        self.reopen()
        return self.reload()

    def reopen(self) -> None:
        """Open the files of access log and audit anew, and read the certificates."""
        self._log_files.reopen()
        self._plugins.reopen()
        for listener in self._all_listeners:
            try:
                listener.renew()
            except Exception as error:  # the parsers of endpoints and of certificates raise what they like
                self.log.error("{place} keeps its certificate: {error}", place=listener.place, error=str(error))

    def _signalled(self) -> None:
        """Hang up, and have the audit say what came of it: whoever may send signals needs no key."""
        write = self._log_files.audit()

        def audit(after: object = None, error: str = "") -> None:
            now = time.time()
            write(
                AuditEntry(
                    time=now, operator="", address="", action="reload", target="SIGHUP", after=after, error=error
                )
            )

        def failed(failure: Failure) -> None:
            failure.trap(ConfigError)
            audit(error=str(failure.value))

        self.hang_up().addCallbacks(lambda changes: audit({"changes": changes}), failed)

    def _capture(self, config: Config) -> None:
        capture = config.capture
        self._captures.reload(capture.when, capture.directory, capture.max_bytes, capture.keep)

    def _plug_in(self, loaded: Loaded, before: Plugins | None) -> Plugins:
        """Make the objects of ``[[plugins]]``; those of unchanged sections are taken from *before*."""

        def open_file(path: str) -> LineFile:
            return LineFile(path, self._reactor, self._new_unawaited_thread("lines of a plugin"))

        return Plugins(loaded, self._limits, lambda: PluginServices(self._reactor, open_file), before)

    def _build(
        self,
        loaded: Loaded,
        authenticator: IAuthenticator,
        plugins: Plugins,
        before: graph.Generation | None,
        keep: tuple[str, ...],
    ) -> graph.Generation:
        return graph.Generation(
            self._reactor,
            loaded,
            authenticator,
            graph.SharedServices(
                sources=self._sources,
                pool=self.pool,
                models=self._models,
                metrics=self.metrics,
                sinks=self._sinks(loaded, plugins),
                journal=self._ledger,
                access_log=self._activity.counting(self._log_files.access(loaded.config.log)),
                plugins=plugins,
                limits=self._limits,
                export=self._traces.export,
                keys=self._keys,
                audit=self._log_files.audit(),
                buffers=self._buffers,
                turns=self._turns,
                hub=self._hub,
                signatures=self._signatures,
                corrections=self._corrections,
                captures=self._captures,
                own_hop=self.own_hop,
                connections_allowed=descriptors.connections_allowed(),
                ready=lambda: self._is_settled() and not self.site.draining,
            ),
            before,
            keep,
        )

    def _is_settled(self) -> bool:
        return bool(self.running) and self._state.settled and (self._keys is None or self._keys.settled)

    def _checkup(self) -> Checkup:
        config = self._loaded.config
        executors = self._generation.upstreams.executors
        return Checkup(self._reactor, config, executors, configured.credentials(config, self._sources))

    def _sinks(self, loaded: Loaded, plugins: Plugins) -> Sinks:
        """Usage records go to the metrics, to the log where that is for machines, and to plugins."""
        sinks: list[IUsageSink] = [self.metrics, *plugins.providing(IUsageSink)]
        if self._ledger is not None:
            sinks.insert(0, self._ledger)
        if loaded.config.limits:
            sinks.append(self._limits)
        if loaded.config.log.format == "json":
            sinks.append(UsageLog(self._log_files.usage()))
        return Sinks(sinks)

    # -- the end

    def stopService(self) -> Deferred[None]:
        """Be not ready for ``server.lame_duck``, accept no more, let the streams finish within ``server.drain``, stop.

        A second signal ends the waits.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        hurry = self._hurried()
        await self._leave()
        seconds = self._loaded.config.server.lame_duck
        if seconds:
            self._say_leaving(f"leaving: not ready any more, and open for another {seconds:g} s")
            noticed: Deferred[None] = Deferred()
            over = self._reactor.callLater(seconds, _fire, noticed)
            await DeferredList([noticed, hurry], fireOnOneCallback=True)
            if over.active():
                over.cancel()
        await self._drain(hurry)
        self._service_manager.stopping("ending")
        self._generation.upstreams.close()
        await super().stopService()
        await self._limits.store.stop()
        self._reactor.installNameResolver(self._resolver_before)
        await self._plugins.close()
        await self._log_files.close()

    async def _leave(self) -> None:
        """Be ready no more."""
        self.site.leave()

    async def _drain(self, hurry: Deferred[None]) -> None:
        """Take no more connections, and let those that there are end within ``server.drain`` or until *hurry* fires."""
        await gatherResults([listener.stopService() for listener in self._listeners])
        wait = self._loaded.config.server.drain
        drained = self.site.drain()
        connections = len(self.site.channels)
        if connections:
            self._say_leaving(f"draining: {connections} connections, for up to {wait:g} s")
            over = self._reactor.callLater(wait, self.site.abort_all)
            await DeferredList([drained, hurry], fireOnOneCallback=True)
            if over.active():
                over.cancel()
            if hurry.called:
                self.site.abort_all()

    def _hurried(self) -> Deferred[None]:
        """Return what fires with a second signal: the end is wanted now."""
        hurry: Deferred[None] = Deferred()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._reactor.callFromThread(_fire, hurry))
        return hurry

    def _say_leaving(self, how: str) -> None:
        self.log.info("{how}", how=how)
        self._service_manager.stopping(how)

    def _register_gauges(self) -> None:
        self.pool.register(self.metrics)
        gauge = self.metrics.gauge
        gauge("claudeproxyd_connections", "Client connections.", lambda: len(self.site.channels))
        gauge("claudeproxyd_buffered_bytes", "Bodies held for clients.", lambda: self._buffers.held)
        gauge("claudeproxyd_signatures", "Signatures of thoughts remembered.", lambda: len(self._signatures))
        gauge("claudeproxyd_signature_bytes", "What they take.", lambda: self._signatures.size)
        gauge(
            "claudeproxyd_estimate_corrections",
            "Models whose token estimates are corrected by what was counted.",
            lambda: len(self._corrections),
        )
        gauge(
            "claudeproxyd_certificate_expiry_timestamp_seconds",
            "When the certificate that a listener shows expires.",
            self._certificates,
            ("listener",),
        )
        graph.register(self.metrics, lambda: self._generation)

    def _certificates(self) -> Mapping[tuple[str, ...], float]:
        ends = {(each.place,): each.certificate_ends for each in self._all_listeners}
        return {place: when for place, when in ends.items() if when is not None}


def _fire(deferred: Deferred[None]) -> None:
    if not deferred.called:
        deferred.callback(None)
