"""Sends what is reported, by HTTP, and says when to try again."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, cast

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from claudeproxyd.secrets.endpoint import EndpointFactory, PlainAgent, cause_of, collected

#: Seconds for a request and its response together.
TIMEOUT = 10.0
#: Seconds that a connection is kept: many servers close theirs after five, and a request that meets that is in vain.
KEPT = 4
#: Bytes of a response that are read; the connection of a longer one is closed.
MAX_RESPONSE_BYTES = 65_536
#: Seconds to the second try, and the most between two.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 120.0


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    body: bytes = b""
    retry_after: float | None = None
    """Seconds that it asks to be left alone for."""


class NoReply(Exception):
    """Nothing came back; the message says why."""


class _Enough(Exception):
    """No more of a body is of use."""


#: Sends a body to a URL with headers. Fires with what came back, of whichever status, or fails with :class:`NoReply`.
Post = Callable[[str, Mapping[str, str], bytes], Deferred[Reply]]


class Poster:
    """Sends requests over connections that are kept."""

    def __init__(self, reactor: Any, proxy: str = "") -> None:
        """*proxy*: as a provider has one."""
        self._reactor = reactor
        self._pool = HTTPConnectionPool(reactor)  # type: ignore[no-untyped-call]  # Twisted gives no types here
        self._pool.maxPersistentPerHost = 1
        self._pool.retryAutomatically = False
        self._pool.cachedConnectionTimeout = KEPT
        ways = EndpointFactory(reactor, proxy)
        agent = Agent.usingEndpointFactory(reactor, ways, pool=self._pool)  # type: ignore[no-untyped-call]  # as above
        self._http = HTTPClient(PlainAgent(agent))

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Deferred[Reply]:
        """See :data:`Post`."""
        sent = Deferred.fromCoroutine(self._post(url, headers, body))
        return sent.addTimeout(TIMEOUT, self._reactor, _too_late)

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        lines = Headers({name: [value] for name, value in headers.items()})
        taken = bytearray()

        def take(data: bytes) -> None:
            taken.extend(data[: MAX_RESPONSE_BYTES + 1 - len(taken)])
            if len(taken) > MAX_RESPONSE_BYTES:
                raise _Enough

        try:
            # Unbuffered: treq would keep all of a body, and there may be no end to it.
            response = await self._http.post(url, headers=lines, data=body, allow_redirects=False, unbuffered=True)
            with suppress(_Enough):
                await collected(response, take)
        except Exception as error:
            reason = cause_of(error)
            raise NoReply(f"cannot be reached: {str(reason) or type(reason).__name__}") from None
        asked = response.headers.getRawHeaders("retry-after") or [""]
        date = response.headers.getRawHeaders("date") or [""]
        return Reply(response.code, bytes(taken[:MAX_RESPONSE_BYTES]), retry_after(asked[0], date[0]))

    def close(self) -> Deferred[None]:
        """Close the connections that are kept."""
        return cast("Deferred[None]", self._pool.closeCachedConnections())  # type: ignore[no-untyped-call]  # as above


def _too_late(_: object, seconds: float) -> NoReturn:
    raise NoReply(f"did not answer within {seconds:g} s")


def retry_after(value: str, date: str = "") -> float | None:
    """Return a ``Retry-After`` in seconds; None where it says nothing that can be read.

    It may be a moment, which is counted from the server's own *date*.
    """
    if value.strip().isdecimal() and value.isascii():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(date)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def pause(tries: int, asked: float | None, chance: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after so many *tries* in vain: what was *asked* for, or twice as long each time.

    With some chance in it: many daemons that lost one collector do not come back to it as one.
    """
    if asked is not None:
        return min(max(asked, FIRST_PAUSE), LONGEST_PAUSE)
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (min(tries, 16) - 1))
    return longest * (0.5 + chance() / 2)
