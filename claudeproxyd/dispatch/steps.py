"""The steps that each request takes ahead of its routes, and who is told of its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from claudeproxyd.dispatch.admission import ConcurrencyAdmission
from claudeproxyd.observe.failures import FirstFailures

if TYPE_CHECKING:
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.dispatch.request_log import RequestLog
    from claudeproxyd.interfaces import IAdmission, IPermit, IRequestHook
    from claudeproxyd.messages.usage import Usage


class RequestSteps:
    """The admission and the hooks of one configuration. It counts the requests that use them."""

    def __init__(self, admission: IAdmission | None = None, hooks: Sequence[IRequestHook] = ()) -> None:
        self.admission: IAdmission = admission or ConcurrencyAdmission()
        self.hooks = tuple(hooks)
        self._under_way = 0
        self._idle: list[Deferred[None]] = []
        self._failures = FirstFailures("{who} failed when a request was over")

    @property
    def is_used(self) -> bool:
        """Whether a request is under way."""
        return self._under_way > 0

    def begin(self) -> None:
        """Count a request, which :meth:`end` is called for."""
        self._under_way += 1

    def give_back(self, permit: IPermit, usage: Usage | None, outcome: str) -> None:
        """Call ``permit.done``, and log what it raises."""
        try:
            permit.done(usage, outcome)
        except Exception:
            self._failures.note(type(permit), permit)

    def end(self, asked: int, request: ApiRequest, log: RequestLog) -> None:
        """Tell the first *asked* hooks that a request is over."""
        for place in range(asked):
            try:
                self.hooks[place].finished(request, log)
            except Exception:
                self._failures.note(place, self.hooks[place])
        self._under_way -= 1
        if self._idle and not self._under_way:
            waiting, self._idle = self._idle, []
            for idle in waiting:
                idle.callback(None)

    def idle(self) -> Deferred[None]:
        """Return what fires when no request is under way."""
        if not self._under_way:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle
