"""Starting workers, and starting others in their place."""

from __future__ import annotations

import errno
import os
import signal
from typing import Any

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.workers.channel import ControlChannel
from claudeproxyd.workers.supervisor import (
    ANSWER_TIMEOUT,
    CHANNEL,
    HANG_LOOKS,
    LAST_DELAY,
    SILENT_LOOKS,
    START_LOOKS,
    STEADY,
    Worker,
    Workers,
)


class Process:
    """One that was started: what it was given, and the other end of its channel."""

    def __init__(self, worker: Worker, argv: list[str], env: dict[str, str], files: dict[int, Any]) -> None:
        self.worker = worker
        self.argv, self.env, self.files = argv, env, files
        self.pid = 1000 + id(self) % 1000
        self.signals: list[str] = []

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)


class Reactor(MemoryReactorClock):
    """Starts no process, and connects in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.connections: list[StringTransport] = []

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> Any:
        os.fstat(descriptor)
        transport: Any = StringTransport()
        transport.protocol = factory.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        self.connections.append(transport)
        return transport

    def spawnProcess(self, protocol: Any, executable: str, argv: Any, env: Any, path: Any, childFDs: Any) -> None:
        process = Process(protocol, argv, env, childFDs)
        self.processes.append(process)
        protocol.makeConnection(process)


class SupervisorTests(SynchronousTestCase):
    """Three slots."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.lost: list[int] = []
        self.workers = Workers(
            self.reactor,
            3,
            handlers={},
            greeting=lambda slot: {"slot": slot},
            descriptors=lambda: [7, 8],
            lost=lambda worker: self.lost.append(worker.slot),
        )
        self.workers.startService()
        self.ends: dict[Process, ControlChannel] = {}
        self.heard: dict[Process, list[tuple[str, object]]] = {}
        self.answers: dict[str, Any] = {"leave": None, "pool": "figures"}
        self.stopped: set[Process] = set()
        """They read nothing for now."""

    def hear(self) -> None:
        """Have every process read what it was told, and answer."""
        for process, transport in zip(self.reactor.processes, self.reactor.connections, strict=True):
            if process not in self.ends:
                heard = self.heard[process] = []
                names = ("start", "cover", "uncover", "drain", "hurry", "leave", "pool", "note", "heard")

                def handler(name: str, heard: Any = heard) -> Any:
                    def note(channel: ControlChannel, body: object) -> object:
                        heard.append((name, body))
                        return self.answers.get(name)

                    return note

                end = self.ends[process] = ControlChannel(
                    self.reactor, {name: handler(name) for name in names}, lambda channel: None
                )
                end.makeConnection(StringTransport())
            if process in self.stopped:
                continue
            data = transport.value()
            transport.clear()
            self.ends[process].dataReceived(data)
            there: Any = self.ends[process].transport
            said = there.value()
            there.clear()
            process.worker.channel.dataReceived(said)

    def ready(self, *processes: Process) -> None:
        """They say that they serve."""
        self.hear()
        for process in processes:
            self.ends[process].tell("ready", 1)
        self.hear()
        self.hear()

    def end(self, process: Process, reason: Exception | None = None) -> None:
        """A process is over."""
        process.worker.channel.connectionLost()
        process.worker.processEnded(Failure(reason or ProcessTerminated(signal=signal.SIGKILL)))

    def test_started(self) -> None:
        """Each has its number, its channel and the sockets, what it needs to find the package, and a greeting."""
        first, *_ = processes = self.reactor.processes
        self.assertEqual([process.argv[-3:] for process in processes][1], ["-m", "claudeproxyd.workers", "1"])
        self.assertEqual((first.files[1], first.files[2]), (1, 2))
        self.assertEqual((first.files[CHANNEL + 1], first.files[CHANNEL + 2]), (7, 8))
        self.assertIn(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), first.env["PYTHONPATH"])
        self.hear()
        self.assertEqual([self.heard[process] for process in processes][2], [("start", {"slot": 2})])
        self.assertFalse(self.workers.all_ready)
        self.ready(*processes)
        self.assertTrue(self.workers.all_ready)

    def test_output(self) -> None:
        """What workers log goes where the parent's log goes, whole lines at a time; or they write it themselves."""
        lines: list[str] = []
        self.workers.write = lines.append
        self.end(self.reactor.processes[0])
        self.reactor.advance(0)
        first, second = self.reactor.processes[-1], self.reactor.processes[1]
        self.assertEqual((first.files[1], first.files[2]), ("r", "r"))
        for process, data in ((first, b"one l"), (second, b"another\n"), (first, b"ine\nrest")):
            process.worker.outReceived(data)
        self.assertEqual(lines, ["another\n", "one line\n"])

    def test_death(self) -> None:
        """Another worker takes what comes meanwhile; the next one is started at once, and takes over."""
        processes = list(self.reactor.processes)
        self.ready(*processes)
        self.reactor.advance(STEADY)
        with capturedLogs() as events:
            self.end(processes[1])
        (told,) = [formatEvent(event) for event in events if "worker" in formatEvent(event)]
        self.assertRegex(told, r"worker 2, process \d+, has ended after 10 s \(by signal 9\); another one starts now")
        self.assertEqual(self.lost, [1])
        self.hear()
        self.assertEqual([self.heard[process][1:] for process in processes], [[("cover", 1)], [], []])
        self.reactor.advance(0)
        self.assertEqual(len(self.reactor.processes), 4)
        self.ready(self.reactor.processes[3])
        self.assertEqual(self.heard[processes[0]][1:], [("cover", 1), ("uncover", 1)])
        self.assertEqual(self.workers.restarted, 1)

    def test_death_of_who_covers(self) -> None:
        """What it accepted for is taken over with its own."""
        processes = list(self.reactor.processes)
        self.ready(*processes)
        self.end(processes[1])
        self.end(processes[0])
        self.hear()
        self.assertEqual(self.heard[processes[2]][1:], [("cover", 0), ("cover", 1)])

    def test_again_and_again(self) -> None:
        """One that dies young waits ever longer for the next, and no longer once it has lived."""
        delays = []
        for _ in range(9):
            self.end(self.reactor.processes[-1], ProcessTerminated(status=256))
            (due,) = [call.getTime() for call in self.reactor.getDelayedCalls()]
            delays.append(due - self.reactor.seconds())
            self.reactor.advance(delays[-1])
        self.assertEqual(delays, [0, 0.5, 1, 2, 4, 8, 16, LAST_DELAY, LAST_DELAY])
        self.reactor.advance(STEADY)
        self.end(self.reactor.processes[-1], ProcessDone(0))
        self.reactor.advance(0)
        self.assertEqual(len(self.reactor.processes), 13)

    def test_half_over(self) -> None:
        """A process is over when all that it had said is read: of both, whichever is told first."""
        first, second, _ = self.reactor.processes
        first.worker.processEnded(Failure(ProcessDone(0)))
        second.worker.channel.connectionLost()
        self.assertEqual(self.lost, [])
        first.worker.channel.connectionLost()
        second.worker.processEnded(Failure(ProcessDone(0)))
        self.assertEqual(self.lost, [0, 1])

    def test_ask(self) -> None:
        """Those that serve are asked; who dies meanwhile is left out."""
        first, second, third = self.reactor.processes
        self.ready(first, second)
        answers = self.workers.ask("pool")
        self.end(second)
        self.hear()
        self.hear()
        self.assertEqual([(worker.slot, told) for worker, told in self.successResultOf(answers)], [(0, "figures")])
        self.workers.tell("note", 1, but=first.worker.channel)
        self.hear()
        self.assertEqual([("note", 1) in self.heard[process] for process in (first, third)], [False, True])

    def test_end(self) -> None:
        """All leave, drain and end; none is started again. A second signal is passed on."""
        processes = list(self.reactor.processes)
        self.ready(*processes)
        left = self.workers.leave()
        self.hear()
        self.successResultOf(left)
        gone = self.workers.drain()
        self.workers.hurry()
        self.hear()
        for process in processes:
            self.assertEqual(self.heard[process][1:], [("leave", None), ("drain", None), ("hurry", None)])
            self.assertNoResult(gone)
            self.end(process, ProcessDone(0))
        self.successResultOf(gone)
        self.assertEqual(len(self.reactor.processes), 3)
        self.successResultOf(self.workers.stopService())

    def test_end_while_one_is_awaited(self) -> None:
        """One that was about to be started is not; one that hangs is not waited for, and killed in the end."""
        first, second, third = self.reactor.processes
        self.ready(first, second, third)
        self.end(first)
        left = self.workers.leave()
        self.reactor.advance(ANSWER_TIMEOUT)
        self.successResultOf(left)
        self.reactor.advance(100)
        self.assertEqual(len(self.reactor.processes), 3)
        gone = self.workers.stopService()
        self.assertEqual([process.signals for process in (second, third)], [["KILL"], ["KILL"]])
        self.end(second)
        self.end(third)
        self.successResultOf(gone)

    def test_replaced(self) -> None:
        """One that is to give way drains, while another accepts in its place."""
        processes = list(self.reactor.processes)
        self.ready(*processes)
        self.workers.replace(processes[2].worker)
        self.hear()
        self.assertEqual([self.heard[process][1:] for process in processes], [[("cover", 2)], [], [("drain", None)]])

    def test_cannot_start(self) -> None:
        """A process that cannot be started is tried again as one that died is; the end waits for none."""
        self.end(self.reactor.processes[0])
        spawn = self.reactor.spawnProcess
        descriptors = os.listdir("/proc/self/fd")

        def lacking(*_: Any, **__: Any) -> None:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

        self.patch(self.reactor, "spawnProcess", lacking)
        with capturedLogs() as events:
            self.reactor.advance(0)
        self.assertIn(
            "worker 1 cannot be started ([Errno 11] Resource temporarily unavailable); another try is in 0.5 s",
            [formatEvent(event) for event in events],
        )
        self.assertEqual(len(self.workers.living), 2)
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(descriptors))
        self.reactor.spawnProcess = spawn  # type: ignore[method-assign]
        self.reactor.advance(0.5)
        self.assertEqual(len(self.workers.living), 3)

    def look(self, times: int = 1) -> None:
        """The supervisor asks whether they are alive, and those that read answer."""
        for _ in range(times):
            self.workers.look()
            self.hear()
            self.hear()

    def test_falls_silent(self) -> None:
        """For one that does not answer another accepts meanwhile, and nobody waits for its word: it is only told."""
        first, second, third = self.reactor.processes
        self.ready(first, second, third)
        self.look()
        self.stopped.add(second)
        self.look()
        self.assertEqual(len(self.workers.ready), 3)
        self.look()
        self.assertEqual([worker.slot for worker in self.workers.ready], [0, 2])
        self.assertEqual([("cover", 1) in self.heard[process] for process in (first, third)], [True, False])
        answers = self.workers.ask("pool")
        self.hear()
        self.assertEqual([worker.slot for worker, _ in self.successResultOf(answers)], [0, 2])
        self.stopped.clear()
        self.hear()
        self.hear()
        self.assertEqual(self.heard[second][-2:], [("heard", None), ("pool", None)])
        self.assertTrue(self.workers.all_ready)
        self.assertEqual(self.heard[first][-1], ("uncover", 1))

    def test_hangs(self) -> None:
        """One that does not answer any more is ended; one that does is let be."""
        first, second, third = self.reactor.processes
        self.ready(first, second, third)
        self.look()
        self.stopped.add(third)
        with capturedLogs() as events:
            self.look(HANG_LOOKS)
            self.assertEqual(third.signals, [])
            self.look(HANG_LOOKS)
        self.assertEqual([process.signals for process in (first, second, third)], [[], [], ["KILL"]])
        (told,) = [formatEvent(event) for event in events if "worker" in formatEvent(event)]
        self.assertRegex(told, r"^worker 3, process \d+, has not answered for 30 s, and is ended$")

    def test_hangs_at_its_start(self) -> None:
        """One that has not answered yet has more time: where there is little of a processor it begins slowly."""
        first, second, third = self.reactor.processes
        self.ready(first, second)
        self.stopped.add(third)
        self.look(START_LOOKS)
        self.assertEqual(third.signals, [])
        self.look()
        self.assertEqual(third.signals, ["KILL"])

    def test_hangs_at_its_end(self) -> None:
        """One that has hung up, and goes on running, is ended too; and so is one that hangs while the daemon drains."""
        first, second, third = self.reactor.processes
        self.ready(first, second, third)
        self.look()
        first.worker.channel.connectionLost()
        self.stopped.add(second)
        self.workers.leave()
        self.look(HANG_LOOKS + 1)
        self.assertEqual([process.signals for process in (first, second, third)], [["KILL"], ["KILL"], []])

    def test_hangs_and_is_hurried(self) -> None:
        """A second signal ends one that hangs at once."""
        first, second, third = self.reactor.processes
        self.ready(first, second, third)
        self.look()
        self.stopped.add(second)
        self.look(SILENT_LOOKS + 1)
        self.workers.leave()
        self.workers.drain()
        self.workers.hurry()
        self.assertEqual([process.signals for process in (first, second, third)], [[], ["KILL"], []])
