"""The life of one request: candidates, lease, attempt, outcome; again, or answer."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, assert_never

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.input_estimate import InputEstimate
from claudeproxyd.dispatch.relay import Relay
from claudeproxyd.dispatch.request import ApiRequest, CancelReason
from claudeproxyd.dispatch.request_log import RequestLog
from claudeproxyd.dispatch.retries import RetryState, costs_budget
from claudeproxyd.dispatch.session import in_tool_loop, session_of
from claudeproxyd.dispatch.size import Size
from claudeproxyd.dispatch.steps import TakenSteps
from claudeproxyd.dispatch.usage_records import begun_record, completed_records, unsent_record
from claudeproxyd.dispatch.verdict import RequestFailed, broken_off, final_error
from claudeproxyd.errors import ClaudeError, Refusal, Unsupported, shutting_down
from claudeproxyd.interfaces import IRunningRequest, IStreamingResponse, IUpstreamResponse
from claudeproxyd.leases import Exhausted, LeaseRequest
from claudeproxyd.messages.headers import without_rate_limits
from claudeproxyd.messages.rectify import without_thinking
from claudeproxyd.messages.threads import NOT_FOUND, continues_thread
from claudeproxyd.observe.usage import foreign
from claudeproxyd.outcomes.bodies import shortened
from claudeproxyd.outcomes.tables import INTERNAL
from claudeproxyd.outcomes.types import CANCELLED, OK, AttemptFailed, Family, Kind, Outcome, Then
from claudeproxyd.sockets import NEXT_TURN

if TYPE_CHECKING:
    from claudeproxyd.dispatch.body import Body
    from claudeproxyd.dispatch.services import DispatchServices
    from claudeproxyd.interfaces import (
        ICapture,
        IDownlink,
        IExecutor,
        ILease,
    )
    from claudeproxyd.leases import Candidate, Route
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.observe.usage import UsageRecord

Result = TypeVar("Result")

_OK = Kind.OK.value

#: Nobody else is asked after these; of the repetitions, when they are used up.
_ANSWERED = (Then.ANSWER, Then.REPEAT_ONCE, Then.RECTIFY_ONCE)

#: A request that is refused so may be one of many for a model that nobody serves.
_FOUND_NOBODY = (Refusal.NO_CREDENTIAL, Refusal.OVERLOAD)

#: Bytes of a body that it takes milliseconds to read.
_LARGE_BYTES = 1_048_576


@implementer(IRunningRequest)
class RequestRunner:
    """One request being served. Made by the dispatcher."""

    _log = Logger()
    done: Deferred[None]

    def __init__(
        self, services: DispatchServices, request: ApiRequest, body: Body, downlink: IDownlink, capture: ICapture | None
    ) -> None:
        self.log = RequestLog()
        self._services = services
        self._request = request
        """As it is served: hooks may have another in the place of the client's."""
        self._model_asked = request.envelope.model
        """By the client."""
        self._steps = TakenSteps(services.steps, request, body)
        self._body = body
        self._downlink = downlink
        self._capture = capture
        self._retries = RetryState(services.settings.max_attempts)
        self._relay: Relay | None = None
        self._cancelled: CancelReason | None = None
        self._rectified = False
        """The client's own bytes were refused for the thinking in them: whoever is asked now gets them without."""
        self._unsupported = ""
        """Why the first of the routes that cannot carry the request cannot."""
        self._unprepared: AttemptFailed | None = None
        """What the last of the routes came to whose executor failed to prepare the request."""
        self._estimate = InputEstimate(lambda: body.data, services.corrections, services.measure)
        self._size = Size(self._estimate.tokens)
        self._first_route: Route | None = None

    def start(self) -> None:
        """Begin; called once."""
        if self._services.tracer is not None:
            self.log.trace = self._services.tracer.begin(self._request.headers, self._request.principal)
        self.done = Deferred.fromCoroutine(self._run())

    def cancel(self, reason: CancelReason) -> None:
        """See :meth:`IRunningRequest.cancel <claudeproxyd.interfaces.IRunningRequest.cancel>`."""
        if self._cancelled is None:
            self._cancelled = reason
            self._steps.cancelled = True
        self.done.cancel()

    async def _run(self) -> None:
        """Serve the request to its end; raises nothing."""
        services, log = self._services, self.log
        total = services.clock.callLater(services.total, self.cancel, CancelReason.TOTAL) if services.total else None
        keep_alive = self._keep_alive()
        self._steps.begin()
        try:
            if len(self._body.data) > _LARGE_BYTES:
                await deferLater(services.clock, NEXT_TURN)  # web has read it in this one
            await self._steps.take()
            self._request = self._steps.request
            await self._serve()
            self._over(_OK)
        except RequestFailed as failed:
            self._fail(failed)
        except CancelledError:
            self._ended_from_outside()
        except Exception:
            self._log.failure("Request {request_id} failed for a fault of ours", request_id=self._request.request_id)
            self._fail(RequestFailed(ClaudeError(500, "Internal error of the gateway"), kind="internal"))
        finally:
            if self._relay is not None:
                log.events = self._relay.events_sent
                self._relay.close()
                services.relays.discard(self._relay)
                self._relay = None  # it and we hold each other
            if keep_alive is not None:
                keep_alive.stop()
            if total is not None and total.active():
                total.cancel()
            self._body.release()
            self._over(log.outcome)
            self._steps.end(log)

    def _over(self, outcome: str) -> None:
        """Note what the request came to, and give its permit back.

        Called ahead of the last of the response: with that out, the client's next request may begin at once.
        """
        self.log.outcome = outcome
        self._steps.give_back(self.log.usage, outcome)

    def _keep_alive(self) -> LoopingCall | None:
        """``nonstream_keepalive``: whitespace ahead of a JSON body, which costs it its true status."""
        every = self._services.streaming.nonstream_keepalive
        if not every or self._request.envelope.stream or self._request.count_tokens:
            return None
        keep_alive = LoopingCall(self._downlink.whitespace)
        keep_alive.clock = self._services.clock
        keep_alive.start(every, now=False)
        return keep_alive

    # -- candidates and leases

    async def _serve(self) -> None:
        services, request = self._services, self._request
        wanted = self._lease_request()
        if request.envelope.stream and not request.count_tokens:
            self._relay = Relay(request, self._downlink, services.clock, services.streaming, self.cancel)
            services.relays.add(self._relay)
        services.budget.request(services.clock.seconds())
        try:
            while not await self._try_next(wanted):
                pass
        finally:
            wanted.suspects.clear()  # they are leases, which hold it

    async def _try_next(self, wanted: LeaseRequest) -> bool:
        """Try the next candidate; False: it was in vain, and another may be tried. Raises RequestFailed."""
        lease = await self._lease(wanted)
        try:
            failure = await self._on_one_lease(lease)
        except BaseException:
            lease.release(CANCELLED)
            raise
        if failure is not None:
            self._consider(failure, lease.candidate, wanted)
        return failure is None

    def _lease_request(self) -> LeaseRequest:
        """What to ask the pool for. Raises RequestFailed: the model is unknown."""
        services, request = self._services, self._request
        envelope = request.envelope
        routes = services.router.routes(envelope.model)
        if not routes:
            raise RequestFailed(ClaudeError(404, f"model: {envelope.model}"), kind=Kind.MODEL_UNAVAILABLE.value)
        self._first_route = routes[0]
        self.log.session = session_of(request)
        return LeaseRequest(
            routes=routes,
            client=request.principal.name,
            session=self.log.session if services.settings.affinity else "",
            count_tokens=request.count_tokens,
            size=len(envelope.body),
            in_tool_loop=len(routes) > 1 and in_tool_loop(envelope.messages),
        )

    async def _prepare(self, route: Route) -> bool:
        """Return whether *route* can carry the request and has a window for it; prepare the request for it, once.

        Raises RequestFailed where it could, had the client brought the whole conversation: which it does when told so.
        """
        if not self._request.count_tokens and not self._size.fits(route):
            return False
        if route in self._body.prepared:
            return True
        try:
            prepared = self._services.executors[route.provider].prepare(self._request, route)
            if prepared is not None and isinstance(prepared, Awaitable):
                prepared = await prepared
        except Unsupported as e:
            reason = str(e)
            if continues_thread(self._body.data):
                error = ClaudeError(404, reason, details={"error_code": NOT_FOUND})
                raise RequestFailed(error, kind=Kind.UNSUPPORTED.value) from None
            self._unsupported = self._unsupported or reason
            return False
        except Exception as error:
            self._unprepared = self._failure(error, route)
            return False
        self._body.keep(route, prepared)
        return True

    async def _lease(self, wanted: LeaseRequest) -> ILease:
        """The next candidate; one that failed this request before only after a moment."""
        lease = None
        if len(wanted.routes) > 1 and any(route not in self._body.prepared for route in wanted.routes):
            lease = await self._lease_now(wanted)
        if lease is None:
            lease = await self._wait(wanted)
        pause = self._retries.pause(lease.candidate.credential, self._services.jitter)
        if pause:
            try:
                await deferLater(self._services.clock, pause)
            except BaseException:
                lease.release(CANCELLED)
                raise
        return lease

    async def _lease_now(self, wanted: LeaseRequest) -> ILease | None:
        """Return a lease on the first route that has a ready credential and can carry the request; None: none has.

        So a route is prepared for when it is its turn, and hardly ever one behind another.
        """
        may_wait, wanted.may_wait = wanted.may_wait, False
        try:
            while wanted.routes:
                lease = await self._services.pool.lease(wanted)
                route, carries = lease.candidate.route, False
                try:
                    carries = await self._prepare(route)
                finally:
                    if not carries:
                        lease.return_unused()
                if carries:
                    return lease
                wanted.routes = [other for other in wanted.routes if other is not route]
        except Exhausted:
            pass
        finally:
            wanted.may_wait = may_wait
        return None

    async def _wait(self, wanted: LeaseRequest) -> ILease:
        """Return a lease as soon as there is one; no request waits for a route that cannot carry it."""
        services = self._services
        wanted.routes = [route for route in wanted.routes if await self._prepare(route)]
        granted = services.pool.lease(wanted)
        waits = not granted.called
        since = services.clock.seconds() if waits else 0.0
        try:
            return await granted
        except Exhausted as exhausted:
            exhausted.__traceback__ = None  # which leads here, and from here to what it came in
            raise self._final_error(wanted, exhausted) from None
        finally:
            if waits:
                self.log.upstream_time += services.clock.seconds() - since

    def _consider(self, failure: AttemptFailed, candidate: Candidate, wanted: LeaseRequest) -> None:
        """Leave what is left to try in *wanted*, or raise the RequestFailed that ends the request."""
        if wanted.to_blame:
            # Another credential answered alike: it is the request, and its client is told what the upstream said.
            failure = AttemptFailed(replace(failure.outcome, kind=Kind.CLIENT_FAULT, then=Then.ANSWER), failure.answer)
        outcome, route = failure.outcome, candidate.route
        self._retries.failed(candidate.credential, failure)
        if self._downlink.message_committed:
            raise broken_off(failure)
        overflowed = self._size.overflowed(route, failure)
        if outcome.then is Then.NEXT_ROUTE or overflowed:
            wanted.routes = [other for other in wanted.routes if other is not route]
        elif outcome.then is Then.NEXT_PROVIDER:
            wanted.routes = [other for other in wanted.routes if other.provider != route.provider]
        goes_on = (
            wanted.routes
            # A stream that broke after its first content event, all of it in one read, has reached nobody.
            and (outcome.then not in _ANSWERED or outcome.kind is Kind.BROKEN_STREAM or overflowed)
            and self._retries.may_go_on(wanted.odds)
            and (not costs_budget(outcome) or self._services.budget.take(self._services.clock.seconds()))
        )
        if not goes_on:
            raise self._final_error(wanted, None)
        wanted.tried |= {candidate.credential}
        wanted.excluded |= self._retries.excluded
        wanted.may_wait = not self._downlink.head_committed

    def _final_error(self, wanted: LeaseRequest, exhausted: Exhausted | None) -> RequestFailed:
        services = self._services
        ready_in = exhausted.ready_in if exhausted is not None else services.pool.ready_in(wanted)
        failures = self._retries.failures
        if not failures and self._unprepared is not None and not wanted.routes:
            failures = [self._unprepared]
        if not wanted.routes and not failures:
            if self._size.too_large_for:
                return RequestFailed(ClaudeError(400, self._size.refusal), kind=Kind.CLIENT_FAULT.value)
            return RequestFailed(ClaudeError(400, self._unsupported), kind=Kind.UNSUPPORTED.value)
        model = self._request.envelope.model
        failed = final_error(model, failures, exhausted, ready_in, services.settings)
        if failed.error.status >= 429 and failed.answer is None:
            failed.error.message += self._size.passed_over
            failed.error.logged += self._size.passed_over
        return failed

    # -- attempts

    async def _on_one_lease(self, lease: ILease) -> AttemptFailed | None:
        """What can be had with this lease; gives it back unless the request is cancelled."""
        try:
            outcome = await self._try(lease)
        except Exception as error:
            failure = self._failure(error, lease.candidate.route)
            lease.release(failure.outcome)
            return failure
        lease.release(outcome)
        return None

    async def _try(self, lease: ILease) -> Outcome:
        """One attempt, and the repetitions that stay with its lease. Raises AttemptFailed."""
        request, (route, credential) = self._request, lease.candidate
        executor = self._services.executors[route.provider]  # once: the one after a reload may not know the credential
        prepared = self._body.prepared[route]
        if prepared is not None and prepared.warnings:
            self._services.note_losses(request.principal.name, route.provider, prepared.warnings)
        secret = credential.source.present() or await credential.source.refresh()
        while True:
            self.log.attempts += 1
            attempt = Attempt(
                request,
                credential,
                secret,
                route,
                self.log.attempts,
                prepared=prepared,
                capture=self._capture,
                estimate=self._estimate,
            )
            if not request.count_tokens:
                self._estimate.take_lesson(route)
            attempt.last = not self._retries.may_repeat(Then.REPEAT_ONCE, credential)
            if self._rectified:
                attempt.body = without_thinking(request.envelope.with_model(route.model))
            try:
                return await self._attempt(attempt, executor, lease)
            except AttemptFailed as failure:
                then = failure.outcome.then
                if self._downlink.message_committed or not self._retries.once(then, credential):
                    raise
            if then is Then.REFRESH_ONCE:
                # Another request's refresh may have brought a new one since.
                newer = credential.source.present()
                secret = newer if newer not in (None, secret) else await credential.source.refresh()
            elif then is Then.RECTIFY_ONCE:
                self._rectified = True

    async def _attempt(self, attempt: Attempt, executor: IExecutor, lease: ILease) -> Outcome:
        """Send it, and bring what comes back to the client. Raises AttemptFailed."""
        services, log = self._services, self.log
        count_tokens = self._request.count_tokens
        record = self._begun(attempt)
        outcome = CANCELLED
        response: IUpstreamResponse | None = None
        try:
            try:
                sent = executor.count_tokens(attempt) if count_tokens else executor.messages(attempt)
                response = answered = await sent
            finally:
                log.attempts = attempt.number
            log.first_byte = attempt.head_at
            limits = self._steps.limits
            upstream = without_rate_limits(answered.headers) if limits else answered.headers
            headers = [*upstream, *limits, *self._own_headers()]
            if IStreamingResponse.providedBy(answered):
                await self._relay_stream(attempt, answered, headers, executor.family, lease)
            else:
                self._answered(attempt)
                self._note_usage(answered.usage)
                if attempt.trace is not None and executor.family == Family.ANTHROPIC:
                    attempt.trace.answered(answered.body)
                self._over(_OK)
                self._downlink.whole(headers, answered.body)
            if answered.anomaly:
                services.note_anomaly(attempt.credential.provider, answered.anomaly)
            outcome = OK if answered.exhausted is None else Outcome(Kind.OK, exhausted=answered.exhausted)
            return outcome
        except Exception as error:
            failure = self._failure(error, attempt.route, attempt)
            outcome = failure.outcome
            if attempt.status == 200 and failure.answer is None and not count_tokens:
                attempt.paid = True
                self._retries.paid += 1
            if not IUpstreamResponse.providedBy(response):
                response = None
            try:
                raise failure from None
            finally:
                del failure  # which leads here
        finally:
            self._record(record, attempt, response, outcome)

    def _begun(self, attempt: Attempt) -> UsageRecord:
        """Note that an attempt begins, in the log, the trace and the journal. Return its record."""
        services, log = self._services, self.log
        log.provider = attempt.credential.provider
        log.credential = attempt.credential.name
        log.model_served = attempt.model
        attempt.started = services.clock.seconds()
        record = begun_record(attempt, log, self._model_asked, services.wall())
        if log.trace is not None:
            attempt.trace = log.trace.attempt()
            record.trace_id = attempt.trace.exported_id
        if services.journal is not None and not self._request.count_tokens:
            record.nano_usd = services.prices.cost(record)
            services.journal.begun(record)
        return record

    def _failure(self, error: Exception, route: Route, attempt: Attempt | None = None) -> AttemptFailed:
        """Return the failure that *error* is, or what an exception comes to that no executor may raise, and log that.

        Called while *error* is handled. Raises CancelledError where the request was cancelled, whatever an executor
        made of that.
        """
        if self._cancelled is not None:
            raise CancelledError
        if isinstance(error, AttemptFailed):
            return error
        self._log.failure(
            "Request {request_id} met a fault in the code of the executor of {provider}",
            request_id=self._request.request_id,
            provider=route.provider,
        )
        reason = f"a fault in its code for provider {route.provider}"
        if attempt is not None:
            if attempt.abandon is not None:
                attempt.abandon()
            if attempt.transcript is not None:
                attempt.transcript.failed(reason)
        return AttemptFailed(replace(INTERNAL, reason=reason))

    def _relay_stream(
        self,
        attempt: Attempt,
        response: IStreamingResponse,
        headers: list[tuple[bytes, bytes]],
        family: str,
        lease: ILease,
    ) -> Deferred[None]:
        assert self._relay is not None
        content = self._services.timeouts[attempt.credential.provider].content
        content_by = attempt.started + content if content else None

        def committed(frames: bytes) -> None:
            self._answered(attempt)
            if attempt.trace is not None and family == Family.ANTHROPIC:
                attempt.trace.answered(frames)
            self._body.release()
            lease.probe_succeeded()

        def ending() -> None:
            self._note_usage(response.usage)
            self._over(_OK)

        return self._relay.carry(response, headers, family, content_by, committed, ending)

    def _answered(self, attempt: Attempt) -> None:
        """Note that content for the client is there."""
        self.log.first_content = self._services.clock.seconds()
        models, model = self._services.models, self._request.envelope.model
        if (models.outages or model not in models.served) and not self._request.count_tokens:
            models.answered(model, attempt.started)

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        log = self.log
        headers = [(b"x-claudeproxyd-request-id", self._request.request_id.encode())]
        if log.attempts:
            headers.append((b"x-claudeproxyd-provider", log.provider.encode()))
            headers.append((b"x-claudeproxyd-attempts", b"%d" % log.attempts))
        return headers

    # -- ends

    def _fail(self, failed: RequestFailed) -> None:
        limits = self._steps.limits
        self._over(failed.kind)
        if self._request.count_tokens and failed.kind == Kind.UNSUPPORTED.value:
            self._count_here()
            return
        error, answer = failed.error, failed.answer
        self.log.error = shortened(error.logged)
        self.log.refusal = error.refusal or ""
        if error.refusal in _FOUND_NOBODY and not self._request.count_tokens:
            self._services.models.refused(self._request.envelope.model)
        self._note_unsent(error.refusal or failed.kind, error.status)
        error.headers = (*error.headers, *limits, *self._own_headers())
        if limits and answer is not None:
            answer = replace(answer, headers=without_rate_limits(answer.headers))
        self._downlink.fail(error, answer)

    def _count_here(self) -> None:
        """No upstream can count: a guess, marked as one, is better for the client than an error."""
        assert self._first_route is not None
        body = b'{"input_tokens":%d}' % self._estimate.tokens(self._first_route)
        headers = [(b"content-type", b"application/json"), (b"x-claudeproxyd-estimate", b"true"), *self._own_headers()]
        self._downlink.whole(headers, body)

    def _ended_from_outside(self) -> None:
        reason = self._cancelled or CancelReason.CLIENT_GONE
        self.log.outcome = Kind.CANCELLED.value
        self.log.error = reason.value
        match reason:
            case CancelReason.CLIENT_GONE:
                self._note_unsent(Kind.CANCELLED.value, 0)
            case CancelReason.STALLED:
                self._downlink.abort()
            case CancelReason.DRAIN:
                self._fail(RequestFailed(shutting_down(), kind=Kind.CANCELLED.value))
            case CancelReason.TOTAL:
                self._fail(RequestFailed(ClaudeError(504, "The request took too long"), kind=Kind.CANCELLED.value))
            case _:
                assert_never(reason)

    def _record(
        self, begun: UsageRecord, attempt: Attempt, response: IUpstreamResponse | None, outcome: Outcome
    ) -> None:
        """Record what an attempt used, whatever became of it."""
        services, log = self._services, self.log
        now = services.clock.seconds()
        log.upstream_time += now - attempt.started
        usage = attempt.usage if response is None else response.usage
        self._note_usage(usage)
        if usage is not None and outcome.kind is Kind.OK and attempt.body is None and not self._request.count_tokens:
            self._estimate.counted(attempt.route, usage)
        if response is not None:
            log.stop_reason = None if response.stop_reason is None else foreign(response.stop_reason)
        records = completed_records(begun, attempt, response, outcome, log, now, services.wall())
        for record in records:
            record.nano_usd = services.prices.cost(record)
            services.sinks.record(record)
        if attempt.trace is not None:
            attempt.trace.end(records, outcome, self._request.envelope.max_tokens)

    def _note_unsent(self, outcome: str, status: int) -> None:
        """Note that the request ends, where no attempt tells of it."""
        services, request = self._services, self._request
        if services.journal is not None and not self.log.attempts:
            session = self.log.session or session_of(request)
            duration = services.clock.seconds() - request.started
            model = request.envelope.model if services.router.routes(request.envelope.model) else ""
            services.journal.unsent(unsent_record(request, model, session, outcome, status, duration, services.wall()))

    def _note_usage(self, usage: Usage | None) -> None:
        """Note what an attempt used; to count tokens uses none."""
        if usage is not None and not self._request.count_tokens:
            self.log.usage = usage
