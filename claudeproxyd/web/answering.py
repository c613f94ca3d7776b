"""Answers that take long to write, with turns for everybody else in between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.python.failure import Failure

    from claudeproxyd.web.request import GatewayRequest

_log = Logger()


def answer_in_turns(request: GatewayRequest, content_type: bytes, pieces: Iterator[bytes]) -> None:
    """Answer with all *pieces*, of which each turn of the reactor makes one: others are served in between."""
    made: list[bytes] = []

    def make() -> Iterator[None]:
        for piece in pieces:
            if request.channel is None:
                return
            made.append(piece)
            yield None

    def answer(_: object) -> None:
        if request.channel is not None:
            request.answer(200, ((b"content-type", content_type),), b"".join(made))

    def fault(failure: Failure) -> None:
        _log.failure("Request {request_id} failed for a fault of ours", failure, request_id=request.request_id)
        request.fault()

    turns = Cooperator(lambda: lambda: True, partial(request.site.clock.callLater, 0))
    turns.cooperate(make()).whenDone().addCallback(answer).addErrback(fault)


#: Has what other processes of this daemon know of something here, by its name: ``metrics``, ``pool``, ``clients``.
Gather = Callable[[str, object], Deferred[None]]


def when_gathered(request: GatewayRequest, gathered: Deferred[None] | None, answer: Callable[[], None]) -> None:
    """Have *answer* called once what it tells of is *gathered*; at once where there is nothing to be."""
    if gathered is None:
        answer()
        return

    def go_on(_: object) -> None:
        if request.channel is not None:
            answer()

    def fault(failure: Failure) -> None:
        _log.failure("Request {request_id} failed for a fault of ours", failure, request_id=request.request_id)
        request.fault()

    gathered.addCallback(go_on).addErrback(fault)
