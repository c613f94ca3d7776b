"""Sends spans to a collector in batches, by OTLP over HTTP.

Theory of operation. Requests hand a span over and go on: it is put into a queue with a bound, and one that finds it
full is dropped and counted. One batch is under way at a time. By OTLP's rules it is sent again where there was no
response, or one of a few statuses, and given up otherwise. What the collector's absence costs is the queue.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from twisted.logger import Logger

from claudeproxyd.observe.scrub import scrub
from claudeproxyd.reporting.posting import Post, Reply
from claudeproxyd.reporting.sender import MAX_TOLD, NotSent, Sender
from claudeproxyd.sockets import NEXT_TURN

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.observe.tracing import Attribute, Span

#: Spans that may wait.
MAX_WAITING = 4096
#: Spans in one request.
BATCH = 128
#: Spans that are encoded before the reactor runs again: they take some 1 ms.
PIECE = 16
#: Seconds that a span may wait for others.
INTERVAL = 2.0
#: Seconds after which a batch is given up that nobody takes.
PATIENCE = 120.0

_REASONS = ("full", "refused", "unreachable", "closing")
"""Why spans are lost."""
#: The statuses after which a batch is sent again.
_AGAIN = frozenset((429, 502, 503, 504))


class SpanCounts:
    """How many spans went where, over all configurations of a process."""

    def __init__(self) -> None:
        self.exported = 0
        self.dropped: Counter[str] = Counter()
        """By reason."""

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
        # From the start: rate() misses what a series begins with.
        return {(reason,): self.dropped[reason] for reason in _REASONS}


class SpanExporter(Sender):
    """Takes spans and sends them to one endpoint."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        post: Post,
        url: str,
        headers: Mapping[str, str],
        resource: Mapping[str, Attribute],
        counts: SpanCounts,
    ) -> None:
        """*resource* says who makes the spans."""
        super().__init__(clock, post)
        self._url = url
        self._headers = headers
        self._resource = resource
        self._counts = counts
        self._queue: deque[Span] = deque()
        self._gathers = False
        """It waits for a batch to be full."""
        self._failing = False
        """Told already, and not over yet."""

    @property
    def waiting(self) -> int:
        """How many spans are to be sent."""
        return len(self._queue)

    def export(self, span: Span) -> None:
        """Take a span; called on the data path."""
        if len(self._queue) >= MAX_WAITING or self.closing:
            self._counts.dropped["closing" if self.closing else "full"] += 1
            return
        self._queue.append(span)
        self.send()
        if self._gathers and len(self._queue) == BATCH:
            self._clock.callLater(NEXT_TURN, self._full)

    def _full(self) -> None:
        if self._gathers:
            self.wake()

    async def send_waiting(self) -> None:
        """See the base."""
        while self._queue and not self.over:
            if len(self._queue) < BATCH:
                self._gathers = True
                await self.wait(INTERVAL)
                self._gathers = False
            await self._send_batch([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])
        self._lose("closing", len(self._queue), "the daemon ends")
        self._queue.clear()

    async def _send_batch(self, batch: list[Span]) -> None:
        from claudeproxyd.reporting.otlp import CONTENT_TYPE  # needs the extra

        headers = {**self._headers, "content-type": CONTENT_TYPE}
        body = await self._encoded(batch)
        try:
            reply = await self.deliver(
                self._url, lambda: (headers, body), lambda status: status not in _AGAIN, PATIENCE, self._tell
            )
        except NotSent as reason:
            self._lose("refused" if reason.refused else "unreachable", len(batch), str(reason))
        else:
            self._taken(reply, len(batch))

    async def _encoded(self, batch: list[Span]) -> bytes:
        """Return a batch as it is sent. Several messages of protobuf in a row are one, with what each repeats."""
        from claudeproxyd.reporting.otlp import encode_spans

        pieces = []
        for start in range(0, len(batch), PIECE):
            if start:
                await self.wait(NEXT_TURN)
            pieces.append(encode_spans(self._resource, batch[start : start + PIECE]))
        return b"".join(pieces)

    def _taken(self, reply: Reply, count: int) -> None:
        from claudeproxyd.reporting.otlp import rejected

        refused, why = rejected(reply.body)
        refused = min(max(refused, 0), count)
        self._counts.exported += count - refused
        if refused:
            self._lose("refused", refused, scrub(why)[:MAX_TOLD] or "it does not say why")
        elif self._failing:
            self._failing = False
            self._log.info("traces reach {url} again", url=self._url)

    def _lose(self, reason: str, count: int, why: str) -> None:
        if count:
            self._counts.dropped[reason] += count
            self._tell(why)

    def _tell(self, why: str) -> None:
        """Say once that spans do not arrive."""
        if not self._failing:
            self._failing = True
            self._log.warn("traces do not reach {url}: {why}", url=self._url, why=why)
