"""One streamed request's way to its client: the commit gate, the pings, the deadlines, and the pauses.

The relay lives as long as the request; attempts come and go behind it. Its one timer is re-armed lazily: events only
write down when they passed.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.dispatch.request import CancelReason
from claudeproxyd.interfaces import IEventConsumer
from claudeproxyd.outcomes.classify import classify
from claudeproxyd.outcomes.types import AttemptFailed, AttemptPhase, Evidence, Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from claudeproxyd.config.schema import Streaming
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.headers import Headers
    from claudeproxyd.interfaces import IDownlink, IStreamingResponse
    from claudeproxyd.messages.batch import Batch


#: Seconds that the timer sleeps at most, so that a deadline which comes up while it sleeps is met.
_MAX_SLEEP_SECONDS = 60.0


@implementer(IEventConsumer, IPushProducer)
class Relay:
    """Made by dispatch for each streamed request, closed by it at the end.

    It is the one producer that the downlink pauses and resumes; it passes that on to the upstream of the moment.
    """

    _log = Logger()

    __slots__ = (
        "_carried",
        "_clock",
        "_commit_by",
        "_committed",
        "_content_by",
        "_downlink",
        "_family",
        "_give_up",
        "_headers",
        "_held",
        "_held_bytes",
        "_held_count",
        "_on_commit",
        "_on_end",
        "_paused_since",
        "_request_id",
        "_response",
        "_settings",
        "_tick_every",
        "_timer",
        "events_sent",
    )

    def __init__(
        self,
        request: ApiRequest,
        downlink: IDownlink,
        clock: IReactorTime,
        settings: Streaming,
        give_up: Callable[[CancelReason], None],
    ) -> None:
        self._request_id = request.request_id
        self._commit_by = request.started + settings.head_commit
        self._clock = clock
        self._settings = settings
        self._give_up = give_up
        """Called to end the whole request."""
        self._downlink = downlink
        self.events_sent = 0
        """Events of the message that the client was sent."""
        self._response: IStreamingResponse | None = None
        self._on_commit: Callable[[bytes], None] | None = None
        self._on_end: Callable[[], None] | None = None
        self._carried: Deferred[None] | None = None
        self._headers: Headers = ()
        self._family = ""
        self._held: list[bytes] = []
        self._held_bytes = self._held_count = 0
        self._committed = False
        self._content_by: float | None = None
        self._paused_since: float | None = None
        waits = (settings.head_commit, settings.keepalive, settings.stall)
        self._tick_every = min(wait for wait in (*waits, _MAX_SLEEP_SECONDS) if wait > 0)
        self._timer: IDelayedCall | None = None
        self._look_at(min(self._commit_by, clock.seconds() + self._tick_every))
        self._downlink.attach(self)

    def carry(
        self,
        response: IStreamingResponse,
        headers: Headers,
        family: str,
        content_by: float | None,
        committed: Callable[[bytes], None],
        ending: Callable[[], None],
    ) -> Deferred[None]:
        """Bring one attempt's stream to the client.

        Fires when the message is whole. Fails with AttemptFailed; whether another attempt may follow is to be seen
        from the downlink's ``message_committed``. *headers* go out with the head, should it be committed by this
        attempt; *content_by* is the latest moment for its first content event. *committed* is called when that is out,
        with all frames up to it, *ending* before the message's last frames go out.
        """
        self._response = response
        self._headers = headers
        self._family = family
        self._content_by = content_by
        self._on_commit = committed
        self._on_end = ending
        self._held = []
        self._held_bytes = self._held_count = 0
        carried = self._carried = Deferred(self._cancelled)
        if content_by is not None and not self._committed:
            self._look_at(content_by)
        if self._paused_since is not None:
            response.pauseProducing()
        try:
            response.deliver(self)
        except Exception:
            self._cancelled(carried)
            raise
        return carried

    def close(self) -> None:
        """Stop the timer: the request is over."""
        self._on_commit = self._on_end = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- IEventConsumer

    def events(self, batch: Batch) -> None:
        """Pass the events on, or hold them until the first content event is among them."""
        frames, committed = batch.frames, None
        if not self._committed:
            if not batch.content:
                self._hold(batch)
                return
            self._committed = True
            committed, self._on_commit = self._on_commit, None
            if self._held:
                self._held.append(frames)
                frames = b"".join(self._held)
                self._held = []
                self.events_sent = self._held_count
        self.events_sent += batch.count
        if batch.ended and self._on_end is not None:
            self._on_end()
        self._downlink.frames(self._headers, frames, batch.ended)
        if committed is not None:
            committed(frames)
        if batch.ended:
            self._end(None)

    def broken(self, reason: Exception) -> None:
        """Fail the attempt."""
        self._end(reason)

    def _hold(self, batch: Batch) -> None:
        """Hold what comes before the commit, within a bound. A stream that ends there was cut."""
        self._held.append(batch.frames)
        self._held_bytes += len(batch.frames)
        self._held_count += batch.count
        if batch.ended:
            self._fail(Failure.CUT, "the stream ended before its first content event")
        elif self._held_bytes > self._settings.max_event_bytes:
            self._fail(Failure.MALFORMED, "too much came before the first content event")

    def _fail(self, failure: Failure, why: str) -> None:
        response = self._response
        evidence = Evidence(family=self._family, phase=AttemptPhase.STREAM, failure=failure, body=why.encode())
        self._end(AttemptFailed(classify(evidence)))
        if response is not None:
            response.stopProducing()

    def _end(self, failure: Exception | None) -> None:
        carried, self._carried = self._carried, None
        self._response = None
        self._content_by = None
        if carried is None:
            return
        if failure is None:
            carried.callback(None)
        else:
            carried.errback(failure)

    def _cancelled(self, carried: Deferred[None]) -> None:
        response, self._response = self._response, None
        self._carried = None
        if response is not None:
            try:
                response.stopProducing()
            except Exception:  # of a plugin's: it must not keep the request
                self._log.failure("A stream of {kind} failed to stop", kind=type(response).__name__)

    # -- IPushProducer, for the downlink

    def pauseProducing(self) -> None:
        """Pause the upstream: the client's socket is full."""
        self._paused_since = self._clock.seconds()
        if self._response is not None:
            self._response.pauseProducing()

    def resumeProducing(self) -> None:
        """Resume the upstream: the client took what there was."""
        self._paused_since = None
        if self._response is not None:
            self._response.resumeProducing()

    def stopProducing(self) -> None:
        """Do nothing: the client is gone, and web cancels the whole request."""

    @property
    def paused(self) -> bool:
        """For the gauge of paused streams."""
        return self._paused_since is not None

    # -- time

    def _look_at(self, due: float) -> None:
        """Have the deadlines looked at by *due*."""
        after = max(0.0, due - self._clock.seconds())
        if self._timer is None:
            self._timer = self._clock.callLater(after, self._tick)
        elif due < self._timer.getTime():
            self._timer.reset(after)

    def _tick(self) -> None:
        """Look at every deadline at once."""
        self._timer = None
        now = self._clock.seconds()
        downlink, settings = self._downlink, self._settings
        due = now + self._tick_every
        if not downlink.head_committed:
            if now >= self._commit_by:
                downlink.commit_head(((b"x-claudeproxyd-request-id", self._request_id.encode()),))
            else:
                due = min(due, self._commit_by)
        cut_at = content_by = inf
        if self._paused_since is not None:
            cut_at = self._paused_since + settings.stall
        elif downlink.head_committed and settings.keepalive:
            ping_at = downlink.last_write + settings.keepalive
            if now >= ping_at:
                downlink.ping()
                ping_at = now + settings.keepalive
            due = min(due, ping_at)
        if self._content_by is not None and not self._committed:
            content_by = self._content_by
        # Set before anything ends: the end takes the timer away.
        self._look_at(min(due, max(now, cut_at), max(now, content_by)))
        if now >= cut_at:
            self._give_up(CancelReason.STALLED)
        elif now >= content_by:
            self._fail(Failure.CONTENT_TIMEOUT, "no content event came in time")
