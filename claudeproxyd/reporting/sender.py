"""The base of what sends to one place: one request at a time, again where that may help, and in bounds at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from claudeproxyd.observe.scrub import scrub
from claudeproxyd.reporting.posting import NoReply, Post, Reply, pause

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

#: Seconds that the end of the daemon waits for what is left.
CLOSE_TIMEOUT = 5.0
#: Characters of a refusal that are logged; and bytes of it in which secrets are looked for, which may be longer.
MAX_TOLD = 200
MAX_SEARCHED_BYTES = 8192


class NotSent(Exception):
    """A request was given up; the message says why."""

    def __init__(self, why: str, *, refused: bool) -> None:
        super().__init__(why)
        self.refused = refused
        """It was answered so that nothing else is to be expected; else nobody was there, or had time."""


class Sender(Service, ABC):
    """Runs :meth:`send_waiting` while there is something to send."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, post: Post) -> None:
        self._clock = clock
        self._post = post
        self._is_sending = False
        self._sent: Deferred[None] = succeed(None)
        """Fires when nothing is sent any more."""
        self._sleep: Deferred[None] | None = None
        self.closing = False
        """Nothing more is taken, and nothing is sent twice."""
        self.over = False
        """Nothing is sent any more."""

    @abstractmethod
    async def send_waiting(self) -> None:
        """Send all that waits, unless it is :attr:`over`; then count as lost what is left. Raises nothing."""

    def send(self) -> None:
        """Have what waits sent; called with each thing that does."""
        if not self._is_sending:
            self._is_sending = True
            self._sent = Deferred.fromCoroutine(self._send())

    async def _send(self) -> None:
        try:
            await self.send_waiting()
        except Exception:
            self._log.failure("what was to be reported is lost for a fault of ours")
        finally:
            self._is_sending = False

    def stopService(self) -> Deferred[None]:
        """Send what is left, for a few seconds at most."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's is not annotated
        self.closing = True
        if not self._is_sending:
            return succeed(None)
        limit = self._clock.callLater(CLOSE_TIMEOUT, self._end)
        self.wake()
        return self._sent.addBoth(lambda _: limit.cancel() if limit.active() else None)

    def _end(self) -> None:
        self.over = True
        self._sent.cancel()

    def wake(self) -> None:
        """End a wait."""
        if self._sleep is not None:
            self._sleep.cancel()

    async def wait(self, seconds: float) -> None:
        """Return after so long, or as soon as somebody wakes us."""
        if self.closing:
            return
        self._sleep = deferLater(self._clock, seconds)
        try:
            await self._sleep
        except CancelledError:
            pass  # what comes next looks at why
        finally:
            self._sleep = None

    async def deliver(
        self,
        url: str,
        request: Callable[[], tuple[Mapping[str, str], bytes]],
        final: Callable[[int], bool],
        patience: float,
        told: Callable[[str], None],
    ) -> Reply:
        """Post what *request* makes for each try, and return the reply that takes it. Raises :class:`NotSent`.

        *final* says of a status whether it is the last word; *patience* are the seconds to try for; *told* hears of
        each failure after which it is tried again.
        """
        until = self._clock.seconds() + patience
        tries = 0
        while True:
            reply = Reply(0)
            try:
                reply = await self._post(url, *request())
                why = f"it answers {reply.status} {_shown(reply.body)}"
            except NoReply as reason:
                why = str(reason)
            except CancelledError:
                why = "there was no time left"
            if 200 <= reply.status < 300:
                return reply
            tries += 1
            seconds = pause(tries, reply.retry_after)
            refused = bool(reply.status) and final(reply.status)
            if refused or self.closing or self._clock.seconds() + seconds > until:
                raise NotSent(why.strip(), refused=refused)
            told(why.strip())
            await self.wait(seconds)


def both(one: Deferred[None], other: Deferred[None]) -> Deferred[None]:
    """Fire when both have, which never fail."""
    return DeferredList([one, other]).addCallback(lambda _: None)


def _shown(body: bytes) -> str:
    """Return what a refusal says, as a log may have it."""
    text = body[:MAX_SEARCHED_BYTES].decode("utf-8", "replace")
    if len(body) > MAX_SEARCHED_BYTES:  # its last word may be half a secret, which nobody would know
        before, *last = text.rsplit(maxsplit=1) or [""]
        text = before if last else ""
    return " ".join(scrub(text).split())[:MAX_TOLD]
