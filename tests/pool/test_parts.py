"""The deadline heap, affinities and the queue, each by itself."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.pool.affinity import Affinity, SessionAffinities
from claudeproxyd.pool.deadlines import DeadlineHeap
from claudeproxyd.pool.queue import Queue


class AgendaTests(SynchronousTestCase):
    """What falls due."""

    def test_order(self) -> None:
        """Items come when they are due, in order, and no more than asked for."""
        deadlines: DeadlineHeap[str] = DeadlineHeap(lambda when, item: True)
        for when, item in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (9.0, "z")):
            deadlines.put(when, item)
        self.assertEqual(deadlines.next(), 1.0)
        self.assertEqual(deadlines.due(3.0, 2), ["a", "b"])
        self.assertEqual(deadlines.due(3.0, 2), ["c"])
        self.assertEqual(deadlines.due(3.0, 2), [])

    def test_withdrawn(self) -> None:
        """An item that was moved comes at its new time alone."""
        times = {"a": 5.0}
        deadlines: DeadlineHeap[str] = DeadlineHeap(lambda when, item: times.get(item) == when)
        deadlines.put(1.0, "a")
        deadlines.put(5.0, "a")
        self.assertEqual(deadlines.next(), 5.0)
        del times["a"]
        self.assertIsNone(deadlines.next())

    def test_bounded(self) -> None:
        """A million changes of a few items take the memory of a few."""
        times: dict[int, float] = {}
        deadlines: DeadlineHeap[int] = DeadlineHeap(lambda when, item: times.get(item) == when)
        for number in range(20_000):
            times[number % 10] = float(number)
            deadlines.put(float(number), number % 10)
        self.assertLess(len(deadlines), 100)
        self.assertEqual(len(deadlines.due(1e9, 100)), 10)


class AffinityTests(SynchronousTestCase):
    """Session affinities."""

    def setUp(self) -> None:
        """Keep what is reported."""
        self.reported: list[tuple[str, str | None]] = []

        def changed(session: str, model: str, affinity: Affinity[str] | None) -> None:
            self.reported.append((session, None if affinity is None else affinity.target))

        self.affinities = SessionAffinities(100.0, 3, changed)

    def target(self, session: str, now: float) -> str | None:
        """The target of its affinity."""
        affinity = self.affinities.find(session, "m", now)
        return None if affinity is None else affinity.target

    def test_bounded(self) -> None:
        """The one that was unused for longest goes first."""
        for session in ("1", "2", "3", "1", "4"):
            self.affinities.bind(session, "m", "a", 0.0)
        self.assertEqual([self.target(session, 0.0) for session in "1234"], ["a", None, "a", "a"])
        self.assertEqual(len(self.affinities), 3)
        self.assertEqual(self.reported[-1], ("2", None))

    def test_expiry(self) -> None:
        """It ends after its ttl without a use, and is reported once."""
        self.affinities.bind("1", "m", "a", 0.0)
        self.assertEqual(self.target("1", 100.0), "a")
        self.assertIsNone(self.target("1", 100.1))
        self.assertIsNone(self.target("1", 100.1))
        self.assertEqual(self.reported, [("1", "a"), ("1", None)])

    def test_news_alone_are_told(self) -> None:
        """Uses are reported now and then; a move is at once; what is long over is dropped by the way."""
        for second in range(60):
            self.affinities.bind("1", "m", "a", float(second))
        self.assertEqual(len(self.reported), 3)
        self.affinities.bind("1", "m", "b", 60.0)
        self.assertEqual(self.reported[-1], ("1", "b"))
        self.affinities.bind("2", "m", "a", 300.0)
        self.assertEqual(self.reported[-1], ("1", None))
        self.assertEqual(len(self.affinities), 1)


class QueueTests(SynchronousTestCase):
    """Who waits."""

    def test_turns(self) -> None:
        """Clients take turns in a line, and each one's requests go in order."""
        queue: Queue[str] = Queue()
        for one in ("x1", "x2", "x3", "y1", "z1", "y2"):
            queue.join("line", one[0], one)
        order = []
        while len(queue):
            one = queue.lines()[0][1].first()
            queue.turn("line", one[0])
            queue.leave("line", one[0], one)
            order.append(one)
        self.assertEqual(order, ["x1", "y1", "z1", "x2", "y2", "x3"])
        self.assertNotIn("line", queue)

    def test_leaving(self) -> None:
        """Who leaves from the middle leaves the others as they were."""
        queue: Queue[str] = Queue()
        for one in ("x1", "y1", "x2"):
            queue.join("line", one[0], one)
        queue.leave("line", "x", "x1")
        self.assertEqual(queue.lines()[0][1].first(), "x2")
        queue.leave("line", "x", "x2")
        self.assertEqual(queue.lines()[0][1].first(), "y1")
        self.assertEqual(len(queue), 1)
