"""The daemon of the parent: it has what there is once, and no clients.

State, the admin listener, reloads, and what counts over all workers are here.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, cast

from twisted.internet.defer import Deferred, DeferredList

from claudeproxyd.daemon import FORGET_EVERY, Daemon
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.observe.output import Output
from claudeproxyd.store.opening import store_for
from claudeproxyd.workers.channel import ControlChannel, Handler, Refused
from claudeproxyd.workers.figures import Figures, Part
from claudeproxyd.workers.limits import LimitsForWorkers
from claudeproxyd.workers.permits import PermitBook, keyed, limits_in
from claudeproxyd.workers.sockets import Inherited, SharedListener
from claudeproxyd.workers.state import Changes, SharedState
from claudeproxyd.workers.supervisor import CHANNEL, END_TIMEOUT, HANG_LOOK_EVERY, Worker, Workers
from claudeproxyd.workers.tokens import answered
from claudeproxyd.workers.told_once import ToldOnce
from claudeproxyd.workers.view import ActivityOfAll, PoolOfAll
from claudeproxyd.workers.worker import Greeting

if TYPE_CHECKING:
    from claudeproxyd.config.loading import Loaded
    from claudeproxyd.config.schema import Config
    from claudeproxyd.interfaces import IPersistent, IStateStore
    from claudeproxyd.observe.exposition import Labels
    from claudeproxyd.observe.transitions import Transition
    from claudeproxyd.web.admin import AdminRoot
    from claudeproxyd.web.listener import Listener

#: Seconds between two times that workers are asked for their counters: what of them a death may cost.
FIGURES_EVERY = 1.0


class MetricsOfAll(Metrics):
    """The parent's metrics, with those of the workers in them."""

    def __init__(self) -> None:
        super().__init__()
        self._living = Figures()
        self._gone = Figures()
        self._counters: dict[int, Sequence[Part]] = {}
        """What each process, by its id, has told last."""
        self._each: dict[str, Figures] = {}
        """Of each worker, by its number."""
        each = self._by_worker
        names = ("worker",)
        self.gauge(
            "claudeproxyd_worker_connections",
            "Client connections, by worker.",
            lambda: each("claudeproxyd_connections"),
            names,
        )
        self.gauge(
            "claudeproxyd_worker_resident_bytes",
            "Memory, by worker.",
            lambda: each("process_resident_memory_bytes"),
            names,
        )
        self.counter(
            "claudeproxyd_worker_cpu_seconds_total",
            "Time of a processor, by worker.",
            lambda: each("process_cpu_seconds_total"),
            names,
        )

    def _by_worker(self, of: str) -> Mapping[Labels, float]:
        return {(number,): figures.value(of) for number, figures in self._each.items()}

    def gathered(self, answers: Iterable[tuple[Worker, Iterable[Sequence[Part]]]]) -> None:
        """Take what each worker has answered, in batches; of one that has not, what it told last counts on."""
        self._living = Figures()
        self._living.add(self._gone)
        self._each.clear()
        silent = dict(self._counters)
        for worker, batches in answers:
            parts = self._counters[worker.pid] = list(chain.from_iterable(batches))
            figures = self._each[str(worker.slot + 1)] = Figures()
            figures.add_written(parts)
            self._living.add(figures)
            silent.pop(worker.pid, None)
        for before in silent.values():
            self._living.add_written(before, lasting=True)

    def told(self, pid: int, batches: Iterable[Sequence[Part]]) -> None:
        """Take a worker's counters, which stay when it is gone."""
        self._counters[pid] = list(chain.from_iterable(batches))

    def ended(self, pid: int) -> None:
        """Keep what a worker has counted."""
        self._gone.add_written(self._counters.pop(pid, ()), lasting=True)

    def pieces(self, *, open_metrics: bool = False) -> Iterator[bytes]:
        """See :meth:`Metrics.pieces`: as they were gathered last."""
        living, names = self._living, []
        for family in self.families():
            names.append(family.name)
            yield from self.text(living.with_own(family), open_metrics)
        for family in living.others(names):
            yield from self.text(family, open_metrics)
        if open_metrics:
            yield b"# EOF\n"


class ParentDaemon(Daemon):
    """claudeproxyd with ``server.workers`` above 1. Made by ``makeService``."""

    def __init__(
        self, reactor: Any, loaded: Loaded, load: Callable[[Config], Loaded], twistd_options: Mapping[str, object]
    ) -> None:
        """See :class:`Daemon`."""
        self.count = loaded.config.server.processes
        self._have_served = False
        self._told_once = ToldOnce()
        self._write: Callable[[str], object] | None = None
        self._permits = PermitBook(
            self.count, lambda: {worker.slot: worker.channel for worker in self.workers.ready}, reactor
        )
        super().__init__(reactor, loaded, load, twistd_options)
        self._limits_for_workers = LimitsForWorkers(self._limits, time.time)
        self.workers = Workers(
            reactor,
            self.count,
            handlers=self._handlers(),
            greeting=self._greet,
            descriptors=lambda: [each.fileno() for listener in self._shared for each in listener.sockets],
            lost=self._lost_worker,
        )
        self.workers.setServiceParent(self)
        self.metrics.gauge("claudeproxyd_workers", "Workers that serve.", lambda: len(self.workers.ready))
        self.metrics.gauge(
            "claudeproxyd_workers_configured",
            "Workers that are to serve; 0 while the daemon ends.",
            lambda: self.count if self.workers.running else 0,
        )
        self.metrics.counter(
            "claudeproxyd_worker_restarts_total",
            "Workers that were started in the place of others.",
            lambda: self.workers.restarted,
        )

    # -- what is otherwise here

    def _make_metrics(self) -> Metrics:
        self._metrics_of_all = MetricsOfAll()
        return self._metrics_of_all

    def _make_store(self, config: Config, kept: IPersistent) -> tuple[IPersistent, IStateStore]:
        self._shared_state = SharedState(kept, self._tell_changes)
        self._shared_state.stored_in(store_for(config.server.state, self._shared_state, self._reactor))
        return self._shared_state, self._shared_state

    def _make_listeners(self, config: Config) -> Sequence[Listener]:
        self._shared = [
            SharedListener(self._reactor, each, self.site, config.server.processes) for each in config.server.listen
        ]
        return self._shared

    def _make_admin(self) -> AdminRoot:
        self._pool_of_all = PoolOfAll(self.pool, lambda name, body: self.workers.tell(name, body))
        self._activity_of_all = ActivityOfAll()
        return self._admin_of(self._pool_of_all, self._pool_of_all, self._activity_of_all, self.gather)

    def _is_settled(self) -> bool:
        """Once all workers serve, and then as long as one does: the others are replaced."""
        self._have_served |= self.workers.all_ready
        return super()._is_settled() and self._have_served and bool(self.workers.ready)

    def use_output(self, out: IO[str] | Output | None) -> None:
        """See :meth:`Daemon.use_output`: what workers log goes where ours does."""
        super().use_output(out)
        if not isinstance(out, Output):  # which is a descriptor that they inherit
            self._write = self._log_line if out is None else out.write

    def _log_line(self, line: str) -> None:
        self.log.info("{line}", line=line.rstrip())

    def startService(self) -> None:
        """See :meth:`Daemon.startService`."""
        self.workers.write = self._write
        if self._keys is not None:
            self._keys.announce = lambda: self.workers.ask("keys").addCallback(lambda _: None)
        super().startService()
        self._every(FIGURES_EVERY, lambda: self.gather("counters"))
        self._every(HANG_LOOK_EVERY, self.workers.look)
        self._every(FORGET_EVERY, lambda: Deferred.fromCoroutine(self._permits.forget_idle()))

    async def _hand_on(self) -> None:
        workers = self.workers.living
        pickled = pickle.dumps((self._loaded.config, self._loaded.files))
        configured: Deferred[list[tuple[bool, object]]] = DeferredList(
            [worker.channel.ask("configure", pickled) for worker in workers], consumeErrors=True
        )
        for worker, (good, failure) in zip(workers, await configured, strict=True):
            if not good and worker.ready and worker.channel.is_open:
                self.log.error(
                    "worker {number} cannot take the new configuration, and gives way to another: {why}",
                    number=worker.slot + 1,
                    why=str(failure),
                )
                self.workers.replace(worker)
        self._permits.changed(limits_in(self._loaded.config))

    def reopen(self) -> None:
        """See :meth:`Daemon.reopen`."""
        super().reopen()
        self.workers.tell("reopen")

    async def _leave(self) -> None:
        """Be ready no more; each worker is then the only one that has its socket."""
        await super()._leave()
        for listener in self._shared:
            listener.let_go()
        await self.workers.leave()

    async def _drain(self, hurry: Deferred[None]) -> None:
        """See :meth:`Daemon.stopService`: it is the workers that have connections."""
        for listener in self._shared:
            await listener.stopService()
        wait = self._loaded.config.server.drain
        drained = self.workers.drain()
        hurry.addCallback(lambda _: self.workers.hurry())
        over = self._reactor.callLater(wait + END_TIMEOUT, self.workers.stopService)
        if self.workers.ready:
            self._say_leaving(f"draining: {len(self.workers.ready)} workers, for up to {wait:g} s")
        await drained
        if over.active():
            over.cancel()

    # -- what operators ask

    def gather(self, what: str, body: object = None) -> Deferred[None]:
        """Have the workers' part of ``metrics``, ``pool`` or ``clients`` here; or have them have ``heard``."""
        asked = self.workers.ask(what, body)
        return asked.addCallback(self._gathered, what)

    def _gathered(self, found: Sequence[tuple[Worker, Any]], what: str) -> None:
        # What one had told that has died meanwhile is counted already.
        answers = [(worker, answer) for worker, answer in found if self.workers.of(worker.channel) is worker]
        if what == "metrics":
            self._metrics_of_all.gathered(answers)
        elif what == "pool":
            self._pool_of_all.gathered([parts for _, parts in answers])
        elif what == "counters":
            for worker, batches in answers:
                self._metrics_of_all.told(worker.pid, batches)
        elif what == "clients":
            self._activity_of_all.gathered([answer for _, answer in answers])

    # -- what workers say

    def _handlers(self) -> dict[str, Handler]:
        return {
            "changes": self._shared_state.changed_by,
            "state": lambda channel, body: self._shared_state.tell_all(self._reactor, channel),
            "counters": self._told,
            "bye": lambda channel, body: None,
            "want": lambda channel, body: self._permits.wanted(self._slot_of(channel), *keyed(body)),
            "borrow": lambda channel, body: self._permits.borrowed(self._slot_of(channel), *keyed(body)),
            "yielded": lambda channel, body: self._permits.yielded(self._slot_of(channel), *keyed(body)),
            "reserve": self._limits_for_workers.reserve,
            "release": self._limits_for_workers.release,
            "settle": self._limits_for_workers.settle,
            "token": self._token,
            "happened": self._worker_tells,
        }

    def _happened(self, transition: Transition) -> None:
        """See :meth:`Daemon._happened`: what several processes find is told once."""
        if self._told_once.is_new(transition, None):
            super()._happened(transition)

    def _worker_tells(self, channel: ControlChannel, body: object) -> None:
        transition: Transition = pickle.loads(cast("bytes", body))  # noqa: S301 - a worker's
        if self._told_once.is_new(transition, channel):
            super()._happened(transition)

    def _slot_of(self, channel: ControlChannel) -> int:
        worker = self.workers.of(channel)
        if worker is None:
            raise Refused("it has ended")
        return worker.slot

    def _token(self, channel: ControlChannel, body: object) -> Deferred[object]:
        provider, credential, held = cast("tuple[str, str, str]", body)
        return answered(self._sources.source(provider, credential), held)

    def _told(self, channel: ControlChannel, batches: object) -> None:
        worker = self.workers.of(channel)
        if worker is not None:
            self._metrics_of_all.told(worker.pid, cast("Sequence[Sequence[Part]]", batches))

    def _tell_changes(self, changes: Changes, but: ControlChannel | None) -> None:
        self.workers.tell("changed", changes, but)

    def _greet(self, slot: int) -> object:
        loaded = self._loaded
        descriptor, sockets = CHANNEL + 1, []
        for listener, description in zip(self._shared, loaded.config.server.listen, strict=True):
            have = range(descriptor, descriptor + len(listener.sockets))
            sockets.append(Inherited(description, listener.family, tuple(have)))
            descriptor = have.stop
        return pickle.dumps(
            Greeting(
                slot=slot,
                count=self.count,
                config=loaded.config,
                files=loaded.files,
                sockets=sockets,
                own_hop=self.own_hop,
                state=dict(next(self._shared_state.export_state())),
                held=dict(self._permits.held_by(slot)),
            )
        )

    def _lost_worker(self, worker: Worker) -> None:
        self._metrics_of_all.ended(worker.pid)
        self._permits.died(worker.slot)
        self._limits_for_workers.gone(worker.channel)
        self._told_once.gone(worker.channel)
