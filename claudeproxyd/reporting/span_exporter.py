"""Sends spans to a collector in batches, by OTLP over HTTP.

Theory of operation. Requests hand a span over and go on: it is put into a queue with a bound, and one that finds it
full is dropped and counted. One batch is under way at a time. By OTLP's rules it is sent again where there was no
response, or one of a few statuses, and given up otherwise. What the collector's absence costs is the queue.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from claudeproxyd.observe.scrub import scrub
from claudeproxyd.reporting.posting import IPost, NoReply, Reply, pause
from claudeproxyd.sockets import NEXT_TURN

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.observe.tracing import Attribute, Span

#: Spans that may wait.
MAX_WAITING = 4096
#: Spans in one request: they take some 5 ms to encode.
BATCH = 128
#: Seconds that a span may wait for others.
INTERVAL = 2.0
#: Seconds after which a batch is given up that nobody takes.
PATIENCE = 120.0
#: Seconds that the end of the daemon waits for what is left.
CLOSE_TIMEOUT = 5.0

#: The statuses after which a batch is sent again.
_AGAIN = frozenset((429, 502, 503, 504))


class SpanCounts:
    """How many spans went where, over all configurations of a process."""

    def __init__(self) -> None:
        self.exported = 0
        self.dropped: Counter[str] = Counter()
        """By reason: full, refused, unreachable, closing."""

    def register(self, metrics: Registry, waiting: Callable[[], int]) -> None:
        """Add their metrics; *waiting* tells how long the queue is."""
        metrics.counter("claudeproxyd_spans_exported_total", "Spans that the collector took.", lambda: self.exported)
        metrics.counter(
            "claudeproxyd_spans_dropped_total",
            "Spans lost: the queue was full, or the collector refused them or could not be reached.",
            self._dropped,
            ("reason",),
        )
        metrics.gauge("claudeproxyd_spans_waiting", "Spans that are to be sent.", waiting)

    def _dropped(self) -> Mapping[tuple[str, ...], float]:
        return {(reason,): count for reason, count in self.dropped.items()}


class SpanExporter(Service):
    """Takes spans and sends them to one endpoint."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        post: IPost,
        url: str,
        headers: Mapping[str, str],
        resource: Mapping[str, Attribute],
        counts: SpanCounts,
    ) -> None:
        """*resource* says who makes the spans."""
        self._clock = clock
        self._post = post
        self._url = url
        self._headers = headers
        self._resource = resource
        self._counts = counts
        self._queue: deque[Span] = deque()
        self._sending: Deferred[None] | None = None
        self._sleep: Deferred[None] | None = None
        self._gathers = False
        """It waits for a batch to be full."""
        self._closing = False
        self._over = False
        """Nothing is sent any more."""
        self._failing = False
        """Told already, and not over yet."""

    def __len__(self) -> int:
        """How many spans wait."""
        return len(self._queue)

    def __bool__(self) -> bool:
        return True

    def export(self, span: Span) -> None:
        """Take a span; called on the data path."""
        if len(self._queue) >= MAX_WAITING or self._closing:
            self._counts.dropped["closing" if self._closing else "full"] += 1
            return
        self._queue.append(span)
        if self._sending is None:
            self._sending = Deferred.fromCoroutine(self._send())
        elif self._gathers and len(self._queue) == BATCH:
            self._clock.callLater(NEXT_TURN, self._full)

    def stopService(self) -> Deferred[None]:
        """Send what is left, for a few seconds at most. Takes no more."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        self._closing = True
        sending = self._sending
        if sending is None:
            return succeed(None)
        limit = self._clock.callLater(CLOSE_TIMEOUT, self._end)
        self._wake()
        return sending.addBoth(lambda _: limit.cancel() if limit.active() else None)

    def _end(self) -> None:
        self._over = True
        if self._sending is not None:
            self._sending.cancel()

    def _full(self) -> None:
        if self._gathers:
            self._wake()

    def _wake(self) -> None:
        """End a wait."""
        if self._sleep is not None:
            self._sleep.cancel()

    async def _wait(self, seconds: float) -> None:
        if self._closing:
            return
        self._sleep = deferLater(self._clock, seconds)
        try:
            await self._sleep
        except CancelledError:
            pass  # what comes next looks at why
        finally:
            self._sleep = None

    async def _send(self) -> None:
        """Send until nothing waits any more. Raises nothing."""
        batch: list[Span] = []
        try:
            while self._queue and not self._over:
                if len(self._queue) < BATCH:
                    self._gathers = True
                    await self._wait(INTERVAL)
                    self._gathers = False
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                await self._send_batch(batch)
        except Exception:
            self._log.failure("spans are lost for a fault of ours")
            self._counts.dropped["fault"] += len(batch)
        finally:
            self._give_up("closing", len(self._queue), "the daemon ends")
            self._queue.clear()
            self._sending = None

    async def _send_batch(self, batch: list[Span]) -> None:
        from claudeproxyd.reporting.otlp import CONTENT_TYPE, encode_spans

        body = encode_spans(self._resource, batch)
        headers = {**self._headers, "content-type": CONTENT_TYPE}
        until = self._clock.seconds() + PATIENCE
        tries = 0
        while True:
            reply, why = Reply(0), ""
            try:
                reply = await self._post(self._url, headers, body)
            except (NoReply, CancelledError) as reason:
                why = str(reason)
            if 200 <= reply.status < 300:
                self._taken(reply, batch)
                return
            why = (
                why or "was given no time"
                if not reply.status
                else f"answers {reply.status}: {scrub(reply.body[:200].decode('utf-8', 'replace'))!r}"
            )
            tries += 1
            seconds = pause(tries, reply.retry_after)
            if reply.status and reply.status not in _AGAIN:
                self._give_up("refused", len(batch), why)
                return
            if self._closing or self._clock.seconds() + seconds > until:
                self._give_up("unreachable", len(batch), why)
                return
            self._tell(why)
            await self._wait(seconds)

    def _taken(self, reply: Reply, batch: list[Span]) -> None:
        from claudeproxyd.reporting.otlp import rejected

        refused, why = rejected(reply.body)
        refused = min(max(refused, 0), len(batch))
        self._counts.exported += len(batch) - refused
        if refused:
            self._give_up("refused", refused, scrub(why[:200]) or "it does not say why")
        elif self._failing:
            self._failing = False
            self._log.info("traces reach {url} again", url=self._url)

    def _give_up(self, reason: str, count: int, why: str) -> None:
        if count:
            self._counts.dropped[reason] += count
            self._tell(why)

    def _tell(self, why: str) -> None:
        """Say once that spans do not arrive."""
        if not self._failing:
            self._failing = True
            self._log.warn("traces do not reach {url}: {why}", url=self._url, why=why)
