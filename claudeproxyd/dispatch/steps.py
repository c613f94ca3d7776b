"""The steps that each request takes ahead of its routes, and who is told of its end."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed

from claudeproxyd.dispatch.admission import REFUSED, ConcurrencyAdmission, is_awaitable, limits_told
from claudeproxyd.dispatch.request import ApiRequest
from claudeproxyd.dispatch.verdict import RequestFailed
from claudeproxyd.errors import ClaudeError
from claudeproxyd.observe.failures import FirstFailures

if TYPE_CHECKING:
    from claudeproxyd.dispatch.body import Body
    from claudeproxyd.dispatch.request_log import RequestLog
    from claudeproxyd.headers import Headers
    from claudeproxyd.interfaces import IAdmission, IPermit, IRequestHook
    from claudeproxyd.messages.usage import Usage


Result = TypeVar("Result")


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


class TakenSteps:
    """The steps of one request: its permit, and the hooks that have seen it. Made by its runner."""

    def __init__(self, steps: RequestSteps, request: ApiRequest, body: Body) -> None:
        self.request = request
        """As it is served: hooks may have another in the place of the client's."""
        self.cancelled = False
        """The request was cancelled: a step may not keep that for itself. Set by the runner."""
        self._steps = steps
        self._body = body
        self._permit: IPermit | None = None
        self._hooks_asked = 0

    def begin(self) -> None:
        """Count the request, which :meth:`end` is called for."""
        self._steps.begin()

    async def take(self) -> None:
        """Have the request admitted, and the hooks see it. Raises RequestFailed: it was refused."""
        steps = self._steps
        try:
            permit: Any = steps.admission.admit(self.request)
            self._permit = await self._awaited(permit) if is_awaitable(permit) else permit
            self._stop_if_cancelled()
            for hook in steps.hooks:
                await self._ask(hook)
        except ClaudeError as error:
            error.__traceback__ = None
            # The same one may be raised each time, and this one is given headers.
            raise RequestFailed(error.copy(), kind=REFUSED) from None

    @property
    def limits(self) -> Headers:
        """The headers that tell the client of its limits, while it holds its permit."""
        return limits_told(self._permit)

    def give_back(self, usage: Usage | None, outcome: str) -> None:
        """Give the permit back, if it is still held."""
        permit, self._permit = self._permit, None
        if permit is not None:
            self._steps.give_back(permit, usage, outcome)

    def end(self, log: RequestLog) -> None:
        """Tell the hooks that were asked that the request is over."""
        self._steps.end(self._hooks_asked, self.request, log)

    async def _ask(self, hook: IRequestHook) -> None:
        """Go on with the request that *hook* returns."""
        before = self.request
        self._hooks_asked += 1
        answer: Any = hook.request(before)
        request = await self._awaited(answer) if is_awaitable(answer) else answer
        self._stop_if_cancelled()
        if request is before:
            return
        if not isinstance(request, ApiRequest):
            raise TypeError(f"{type(hook).__name__}.request returned {type(request).__name__}, and no ApiRequest")
        if (request.request_id, request.count_tokens, request.envelope.stream) != (
            before.request_id,
            before.count_tokens,
            before.envelope.stream,
        ):
            raise ValueError(f"{type(hook).__name__} changed request_id, count_tokens or stream")
        if request.envelope is not before.envelope:
            self._body.replace(request.envelope)
        self.request = request

    async def _awaited(self, step: Awaitable[Result]) -> Result:
        """Return what *step* comes to. Only our own cancellation passes for one."""
        try:
            return await step
        except CancelledError:
            if not self.cancelled:
                raise RuntimeError("a step ahead of the routes has cancelled itself") from None
            raise

    def _stop_if_cancelled(self) -> None:
        """Raise CancelledError, should a step have kept it for itself."""
        if self.cancelled:
            raise CancelledError
