"""Starts the workers, and another one where one has died."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger

from claudeproxyd.workers.channel import ControlChannel, Handler, Refused

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall
    from twisted.python.failure import Failure

#: The descriptor of its end of the channel, in a worker; the sockets follow.
CHANNEL = 3
#: Seconds that a worker must have lived for its death to count as the first.
STEADY = 10.0
#: Seconds to the start of another one: none after the first death in a row, then this, then doubled up to the last.
FIRST_DELAY = 0.5
LAST_DELAY = 30.0
#: Seconds that a worker's answer is waited for.
ANSWER_TIMEOUT = 5.0
#: Seconds between two looks at whether workers still answer. They are counted, and no time: when the machine was
#: suspended nobody has hung.
HANG_LOOK_EVERY = 5.0
#: Looks without an answer after which others do a worker's work; after which it is killed; and after which one is that
#: has never answered: where there is little of a processor the start takes its time.
SILENT_LOOKS, HANG_LOOKS, START_LOOKS = 1, 6, 36
#: Seconds after ``server.drain`` that a worker may take to end, until it is killed.
END_TIMEOUT = 20.0


class Worker(ProcessProtocol):
    """One process, from its start to its end. Made by the supervisor."""

    def __init__(self, slot: int, started: float, supervisor: Workers) -> None:
        self.slot = slot
        """Which of the workers it is, from 0."""
        self.started = started
        """On the reactor's clock."""
        self.channel: ControlChannel
        self.ready = False
        """It accepts connections."""
        self.covers: set[int] = set()
        """Slots of others on whose sockets it accepts too."""
        self.looks = 0
        """Since it was asked whether it is alive, and has not answered."""
        self.patience = START_LOOKS
        """How many of them it is left alone for."""
        self._supervisor = supervisor
        self._half_line = b""
        self._has_hung_up = False
        self._end: Failure | None = None
        self.pid = 0
        """Its process id."""

    def connectionMade(self) -> None:
        """It runs."""
        self.pid = getattr(self.transport, "pid", 0)

    def outReceived(self, data: bytes) -> None:
        """Pass on what it logs, where it cannot write that itself."""
        *lines, self._half_line = (self._half_line + data).split(b"\n")
        assert self._supervisor.write is not None
        for line in lines:
            self._supervisor.write(line.decode("utf-8", "backslashreplace") + "\n")

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """It is over, once all that it has said is read."""
        self._end = reason
        self._over()

    def hung_up(self) -> None:
        """The channel is closed: nothing more comes."""
        self.ready = False
        self._has_hung_up = True
        self._over()

    @property
    def is_silent(self) -> bool:
        """It has not answered lately."""
        return self.looks > SILENT_LOOKS

    @property
    def serves(self) -> bool:
        """It accepts connections, and answers."""
        return self.ready and not self.is_silent

    def answers(self, _: object) -> None:
        """It is alive."""
        self.looks, self.patience = 0, HANG_LOOKS
        self._supervisor.answered(self)

    def refuses(self, failure: Failure) -> None:
        """It is, unless it has hung up."""
        if failure.check(Refused):
            self.answers(failure)

    def _over(self) -> None:
        if self._has_hung_up and self._end is not None:
            self._supervisor.ended(self, self._end)

    def kill(self) -> None:
        """End it at once."""
        if self.transport is not None:
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")


class Workers(Service):
    """All workers of a daemon. Made by the parent's daemon; handlers get the channel of the worker that asks."""

    name = "workers"
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        count: int,
        *,
        handlers: Mapping[str, Handler],
        greeting: Callable[[int], object],
        descriptors: Callable[[], Sequence[int]],
        lost: Callable[[Worker], None],
    ) -> None:
        """*greeting* returns what a worker begins with, by its slot; *descriptors* the sockets that it is to have.

        *lost* is called with a worker that has ended, before another takes its place.
        """
        self._reactor = reactor
        self._count = count
        self._handlers: dict[str, Handler] = {**handlers, "ready": self._is_ready}
        self._greeting = greeting
        self._descriptors = descriptors
        self.write: Callable[[str], object] | None = None
        """Takes what workers log, line by line; None: they write to this process's own output themselves."""
        self._lost = lost
        self._workers: dict[int, Worker] = {}
        """Those that run, by slot."""
        self._vacant: set[int] = set()
        """Slots whose worker has ended, leaves or has fallen silent, until one serves there."""
        self._deaths: dict[int, int] = {}
        """How often in a row one has died before it was steady."""
        self._restarts: dict[int, IDelayedCall] = {}
        self._stopped: list[Deferred[None]] = []
        self.restarted = 0
        """How many were started in the place of others."""

    def startService(self) -> None:
        """Start all. They are unprivileged from the first: twistd has given privileges up."""
        super().startService()
        for slot in range(self._count):
            self._start(slot)

    def stopService(self) -> Deferred[None]:
        """See :meth:`drain`; what is still there is ended at once."""
        super().stopService()
        for worker in self._workers.values():
            worker.kill()
        return self._gone()

    def leave(self) -> Deferred[None]:
        """Have all be ready no more; none is started again. Fires when they have heard."""
        self.running = False
        for restart in self._restarts.values():
            restart.cancel()
        self._restarts.clear()
        return self.ask("leave").addCallback(lambda answers: None)

    def drain(self) -> Deferred[None]:
        """Have all finish what they have begun, and end. Fires when the last has."""
        self.tell("drain")
        return self._gone()

    def hurry(self) -> None:
        """Have those that drain cut what is left, and end those that have fallen silent."""
        self.tell("hurry")
        for worker in self.living:
            if worker.is_silent:
                worker.kill()

    def _gone(self) -> Deferred[None]:
        gone: Deferred[None] = Deferred()
        self._stopped.append(gone)
        self._all_gone()
        return gone

    def _all_gone(self) -> None:
        if not self._workers:
            stopped, self._stopped = self._stopped, []
            for gone in stopped:
                gone.callback(None)

    # -- what to say to them

    @property
    def living(self) -> Sequence[Worker]:
        """All, those that are being started among them."""
        return list(self._workers.values())

    @property
    def ready(self) -> Sequence[Worker]:
        """Those that serve."""
        return [worker for worker in self._workers.values() if worker.serves]

    @property
    def all_ready(self) -> bool:
        """Whether every slot has one that serves."""
        return len(self.ready) == self._count

    def of(self, channel: ControlChannel) -> Worker | None:
        """Return the worker at the other end of a channel, while it lives."""
        return next((worker for worker in self._workers.values() if worker.channel is channel), None)

    def tell(self, name: str, body: object = None, but: ControlChannel | None = None) -> None:
        """Tell all that were greeted, *but* one."""
        for worker in list(self._workers.values()):
            if worker.channel is not but:
                worker.channel.tell(name, body)

    def ask(self, name: str, body: object = None) -> Deferred[list[tuple[Worker, object]]]:
        """Return what each that serves answers. One that dies, fails, or does not answer is left out. Never fails.

        One that has fallen silent is told, should it go on.
        """
        asked = list(self.ready)
        for worker in self._workers.values():
            if worker.ready and worker.is_silent:
                worker.channel.tell(name, body)

        def of_good(found: list[tuple[bool, object]]) -> list[tuple[Worker, object]]:
            return [(worker, answer) for worker, (good, answer) in zip(asked, found, strict=True) if good]

        questions = [worker.channel.ask(name, body) for worker in asked]
        for question in questions:
            question.addTimeout(ANSWER_TIMEOUT, self._reactor)
        answers: Deferred[list[tuple[bool, object]]] = DeferredList(questions, consumeErrors=True)
        return answers.addCallback(of_good)

    def replace(self, worker: Worker) -> None:
        """Have a worker finish what it has, and another begin in its place."""
        worker.ready = False
        worker.channel.tell("drain")
        self._vacant.add(worker.slot)
        self._cover()

    # -- their lives

    def look(self) -> None:
        """Ask whether all are alive, and kill those that hang. Called every :data:`HANG_LOOK_EVERY` seconds."""
        for worker in self.living:
            if not worker.looks:
                worker.channel.ask("heard").addCallbacks(worker.answers, worker.refuses)
            worker.looks += 1
            if worker.is_silent and worker.ready and worker.slot not in self._vacant:
                self._vacant.add(worker.slot)
                self._cover()
            if worker.looks == worker.patience + 1:
                self._log.error(
                    "worker {number}, process {pid}, has not answered for {silent:g} s, and is ended",
                    number=worker.slot + 1,
                    pid=worker.pid,
                    silent=worker.patience * HANG_LOOK_EVERY,
                )
                worker.kill()

    def answered(self, worker: Worker) -> None:
        """Have one that had fallen silent do its work again. Called by one that is alive."""
        if worker.ready and worker.slot in self._vacant:
            self._vacant.discard(worker.slot)
            self._cover()

    def _start(self, slot: int) -> None:
        try:
            worker = self._workers[slot] = self._spawned(slot)
        except OSError as error:
            self._log.error(
                "worker {number} cannot be started ({error}); another try is in {delay:g} s",
                number=slot + 1,
                error=str(error),
                delay=self._start_later(slot),
            )
        else:
            worker.channel.tell("start", self._greeting(slot))

    def _spawned(self, slot: int) -> Worker:
        """Return a worker that has begun to run. Raises OSError where there can be no other process now."""
        worker = Worker(slot, self._reactor.seconds(), self)
        factory = Factory.forProtocol(lambda: ControlChannel(self._reactor, self._handlers, self._hung_up))
        factory.noisy = False
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            worker.channel = self._connect(ours, factory)
            try:
                self._spawn(worker, theirs.fileno())
            except OSError:
                worker.channel.close()
                raise
        return worker

    def _spawn(self, worker: Worker, channel: int) -> None:
        passed: dict[int, int | str] = {CHANNEL + at: fd for at, fd in enumerate([channel, *self._descriptors()])}
        outputs: dict[int, int | str] = {1: 1, 2: 2} if self.write is None else {1: "r", 2: "r"}
        self._reactor.spawnProcess(
            worker,
            sys.executable,
            [sys.executable, "-P", "-m", "claudeproxyd.workers", str(worker.slot)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            path=None,
            childFDs={0: 0, **outputs, **passed},
        )

    def _connect(self, ours: socket.socket, factory: Factory[ControlChannel]) -> ControlChannel:
        with ours:
            transport = self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
        channel: ControlChannel = transport.protocol
        return channel

    def _is_ready(self, channel: ControlChannel, _: object) -> None:
        worker = self.of(channel)
        if worker is not None:
            worker.ready = True
            self._vacant.discard(worker.slot)
            self._cover()

    def _hung_up(self, channel: ControlChannel) -> None:
        worker = self.of(channel)
        if worker is not None:
            worker.hung_up()

    def ended(self, worker: Worker, reason: Failure) -> None:
        """Start another one in its place. Called by a process that is over."""
        del self._workers[worker.slot]
        self._lost(worker)
        if not self.running:
            self._all_gone()
            return
        lived = self._reactor.seconds() - worker.started
        if lived >= STEADY:
            self._deaths[worker.slot] = 0
        delay = self._start_later(worker.slot)
        self._log.warn(
            "worker {number}, process {pid}, has ended after {lived:.0f} s ({how}); another one starts {when}",
            number=worker.slot + 1,
            pid=worker.pid,
            lived=lived,
            how=_in_words(reason),
            when=f"in {delay:g} s" if delay else "now",
        )
        self._vacant.add(worker.slot)
        self._cover()
        self.restarted += 1

    def _start_later(self, slot: int) -> float:
        """Start another one. Return in how many seconds: ever later where they die early."""
        deaths = self._deaths[slot] = self._deaths.get(slot, 0) + 1
        delay = 0.0 if deaths == 1 else min(FIRST_DELAY * 2.0 ** (min(deaths, 16) - 2), LAST_DELAY)
        self._restarts[slot] = self._reactor.callLater(delay, self._start_again, slot)
        return delay

    def _start_again(self, slot: int) -> None:
        del self._restarts[slot]
        self._start(slot)

    def _cover(self) -> None:
        """Have somebody accept for each vacant slot, and nobody for one that is not."""
        ready = self.ready
        for worker in ready:
            for slot in worker.covers - self._vacant:
                worker.covers.discard(slot)
                worker.channel.tell("uncover", slot)
        covered = {slot for worker in ready for slot in worker.covers}
        for slot in sorted(self._vacant - covered):
            if ready:
                least = min(ready, key=lambda worker: len(worker.covers))
                least.covers.add(slot)
                least.channel.tell("cover", slot)


def _in_words(reason: Failure) -> str:
    """Return how a process ended."""
    if reason.check(ProcessDone):
        return "by itself"
    ended = reason.value
    signal, status = getattr(ended, "signal", None), getattr(ended, "exitCode", None)
    return f"by signal {signal}" if signal is not None else f"with status {status}"
