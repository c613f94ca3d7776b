"""Tells others what happens, by POSTs of JSON that are signed as Standard Webhooks has it.

Each webhook has a queue with a bound, and sends one event after the other, in the order in which they happened: an end
does not arrive ahead of its beginning. An event is sent until it is taken, and given up after a while.
"""

from __future__ import annotations

import base64
import hmac
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

import claudeproxyd
from claudeproxyd.config.reporting import signing_key
from claudeproxyd.observe.scrub import scrub
from claudeproxyd.reporting.posting import Post, Poster
from claudeproxyd.reporting.sender import NotSent, Sender, both

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.config.schema import WebhookSection
    from claudeproxyd.observe.exposition import Registry
    from claudeproxyd.observe.transitions import Transition

#: Events of one webhook that may wait.
MAX_WAITING = 200
#: Seconds after which an event is given up that nobody takes.
PATIENCE = 3600.0

#: Nobody is there any more, and nobody will be.
_GONE = 410

_RESULTS = ("sent", "given_up", "dropped")
Counts = Counter[tuple[str, ...]]
"""Of events, by webhook and what became of them."""


def sign(secret: str, event_id: str, time: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``."""
    signature = hmac.digest(signing_key(secret), b"%b.%d.%b" % (event_id.encode(), time, body), "sha256")
    return f"v1,{base64.b64encode(signature).decode()}"


def body_of(event: Transition) -> bytes:
    """Return what is posted of an event."""
    return msgspec.json.encode(
        {
            "id": event.id,
            "event": event.what.value,
            "time": datetime.fromtimestamp(event.time, UTC).isoformat(timespec="milliseconds"),
            "message": scrub(event.message),
            "subject": {name: scrub(value) for name, value in event.subject.items()},
            "daemon": {"host": socket.gethostname(), "version": claudeproxyd.__version__},
        }
    )


class Webhook(Sender):
    """One of the operator's."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, post: Post, section: WebhookSection, counts: Counts, now: Callable[[], float]
    ) -> None:
        """*now*: since the epoch."""
        super().__init__(clock, post)
        self._section = section
        self._counts = counts
        self._now = now
        self._queue: deque[Transition] = deque()
        self._tried = 0
        """Times that the present event was sent in vain."""

    @property
    def waiting(self) -> int:
        """How many events are to be sent."""
        return len(self._queue)

    def take(self, event: Transition) -> None:
        """Send an event, if it is one of those that are wanted."""
        if event.what.value not in self._section.events:
            return
        if len(self._queue) >= MAX_WAITING or self.closing:
            self._lose(event, "dropped", "the daemon ends" if self.closing else f"{MAX_WAITING} others wait")
            return
        self._queue.append(event)
        self.send()

    async def send_waiting(self) -> None:
        """See the base."""
        await self.wait(0)  # whoever tells of it does not wait
        while self._queue and not self.over:
            event = self._queue[0]
            try:
                await self._send_event(event)
            except Exception:
                self._log.failure(
                    "{event} {id} cannot be sent for a fault of ours", event=event.what.value, id=event.id
                )
                self._count("given_up")
            self._queue.popleft()
        for event in self._queue:
            self._lose(event, "given_up", "the daemon ends")
        self._queue.clear()

    async def _send_event(self, event: Transition) -> None:
        body = body_of(event)
        try:
            await self.deliver(
                self._section.url.reveal(),
                lambda: (self._headers(event, body), body),
                lambda status: status == _GONE,
                PATIENCE,
                lambda why: self._later(event, why),
            )
        except NotSent as reason:
            self._lose(event, "given_up", str(reason))
        else:
            self._count("sent")
        self._tried = 0

    def _headers(self, event: Transition, body: bytes) -> Mapping[str, str]:
        time = int(self._now())
        headers = {"content-type": "application/json", "webhook-id": event.id, "webhook-timestamp": str(time)}
        if self._section.secret is not None:
            headers["webhook-signature"] = sign(self._section.secret.reveal(), event.id, time, body)
        return headers

    def _later(self, event: Transition, why: str) -> None:
        """Say once for each event that it is not taken yet."""
        self._tried += 1
        if self._tried == 1:
            self._tell(self._log.warn, "does not yet take", event, why)

    def _lose(self, event: Transition, what: str, why: str) -> None:
        self._count(what)
        self._tell(self._log.error, "never gets", event, why)

    def _tell(self, log: Callable[..., None], how: str, event: Transition, why: str) -> None:
        log(
            "the webhook {name} {how} {event} {id}: {why}",
            name=self._section.name,
            how=how,
            event=event.what.value,
            id=event.id,
            why=why,
        )

    def _count(self, what: str) -> None:
        self._counts[self._section.name, what] += 1


class Webhooks(Service):
    """All webhooks of the configuration. Kept by the daemon over reloads."""

    name = "webhooks"

    def __init__(self, clock: IReactorTime, poster: Callable[[str], Poster], now: Callable[[], float]) -> None:
        """*poster* makes a way out through a proxy. *now*: since the epoch."""
        self._clock = clock
        self._poster = poster
        self._now = now
        self._counts: Counts = Counter()
        self._hooks: dict[str, _Open] = {}
        """By name."""
        self._closed: Deferred[None] = succeed(None)
        """Fires when what waited for those before is sent, or given up."""

    def register(self, metrics: Registry) -> None:
        """Add the metrics of webhooks."""
        metrics.counter(
            "claudeproxyd_webhook_events_total",
            "Events for webhooks, by what became of them.",
            self._results,
            ("webhook", "result"),
        )
        metrics.gauge(
            "claudeproxyd_webhook_events_waiting",
            "Events that are to be sent.",
            self._waiting,
            ("webhook",),
        )

    def _results(self) -> Mapping[tuple[str, ...], float]:
        # From the start: rate() misses what a series begins with.
        return {**{(name, result): 0 for name in self._hooks for result in _RESULTS}, **self._counts}

    def _waiting(self) -> Mapping[tuple[str, ...], float]:
        return {(name,): each.hook.waiting for name, each in self._hooks.items()}

    def configure(self, sections: Sequence[WebhookSection]) -> None:
        """Have these from now on. One that stays as it is keeps what waits; what waits for others has a few seconds."""
        before, self._hooks = self._hooks, {}
        for section in sections:
            kept = before.get(section.name)
            if kept is not None and kept.section == section:
                self._hooks[section.name] = before.pop(section.name)
                continue
            post = self._poster(section.proxy)
            self._hooks[section.name] = _Open(
                section, Webhook(self._clock, post, section, self._counts, self._now), post
            )
        for each in before.values():
            self._closed = both(self._closed, each.close())

    def take(self, event: Transition) -> None:
        """Send an event to all who want it."""
        for each in self._hooks.values():
            each.hook.take(event)

    def stopService(self) -> Deferred[None]:
        """Send what waits, for a few seconds at most."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        for each in self._hooks.values():
            self._closed = both(self._closed, each.close())
        return self._closed


class _Open(NamedTuple):
    """A webhook and its way out."""

    section: WebhookSection
    hook: Webhook
    post: Poster

    def close(self) -> Deferred[None]:
        """Send what waits, for a few seconds at most."""
        return self.hook.stopService().addCallback(lambda _: self.post.close())
