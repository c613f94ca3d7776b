"""The life of one request: candidates, lease, attempt, outcome; again, or answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.call import CancelReason
from claudeproxyd.dispatch.relay import Relay
from claudeproxyd.dispatch.retries import Tries, costs_budget
from claudeproxyd.dispatch.session import in_tool_loop, session_of
from claudeproxyd.dispatch.size import Size
from claudeproxyd.dispatch.verdict import Refusal, broken_off, refusal
from claudeproxyd.errors import ClaudeError, shutting_down
from claudeproxyd.interfaces import IStreamingResponse
from claudeproxyd.leases import Exhausted, LeaseRequest
from claudeproxyd.messages.rectify import without_thinking
from claudeproxyd.messages.threads import NOT_FOUND, continues_thread
from claudeproxyd.observe.usage import COUNT_TOKENS, MESSAGES, UsageRecord, foreign
from claudeproxyd.outcomes.bodies import shortened
from claudeproxyd.outcomes.tables import STALE
from claudeproxyd.outcomes.types import CANCELLED, OK, AttemptFailed, Kind, Outcome, Then
from claudeproxyd.sockets import NEXT_TURN

if TYPE_CHECKING:
    from collections.abc import Callable

    from claudeproxyd.dispatch.call import Call
    from claudeproxyd.dispatch.dispatcher import Dispatcher
    from claudeproxyd.interfaces import IExecutor, ILease, IUpstreamResponse
    from claudeproxyd.leases import Candidate, Route

#: Nobody else is asked after these; of the repetitions, when they are used up.
_ANSWERED = (Then.ANSWER, Then.REPEAT_ONCE, Then.RECTIFY_ONCE)

#: Bytes of a body that it takes milliseconds to read.
_LARGE = 1_048_576


class Exchange:
    """One call being served. Made by the dispatcher, which it reads its surroundings from."""

    _log = Logger()

    def __init__(self, house: Dispatcher, call: Call) -> None:
        self._house = house
        self._call = call
        self._downlink = call.downlink
        self._tries = Tries(house.settings.max_attempts)
        self._relay: Relay | None = None
        self._rectified = False
        """The client's own bytes were refused for the thinking in them: whoever is asked now gets them without."""
        self._reasons: dict[Route, str | None] = {}
        """Why routes cannot carry the request, None for those that can; of the routes that the pool asked for."""
        self._size = Size(lambda: house.estimate(call.envelope.body))
        self.served: Deferred[None] | None = None
        """Set by the dispatcher: what :meth:`run` will come to, for ending it from inside."""

    async def run(self) -> None:
        """Serve the call to its end; raises nothing."""
        house, call = self._house, self._call
        total = house.clock.callLater(house.total, self._give_up, CancelReason.TOTAL) if house.total else None
        blanks = self._blanks()
        try:
            if len(call.envelope.body) > _LARGE:
                await deferLater(house.clock, NEXT_TURN)  # web has read it in this one
            await self._answer()
            call.outcome = Kind.OK.value
        except Refusal as refused:
            self._refuse(refused)
        except CancelledError:
            self._ended_from_outside()
        except Exception:
            self._log.failure("Request {request_id} failed for a fault of ours", request_id=call.request_id)
            self._refuse(Refusal(ClaudeError(500, "Internal error of the gateway"), kind="internal"))
        finally:
            if self._relay is not None:
                call.events = self._relay.events_sent
                self._relay.close()
                house.relays.discard(self._relay)
                self._relay = None  # it and we hold each other
            if blanks is not None:
                blanks.stop()
            if total is not None and total.active():
                total.cancel()

    def _give_up(self, reason: CancelReason) -> None:
        assert self.served is not None
        self._house.cancel(self._call, self.served, reason)

    def _blanks(self) -> LoopingCall | None:
        """``nonstream_keepalive``: blanks ahead of a JSON body, which cost it its true status."""
        every = self._house.streaming.nonstream_keepalive
        if not every or self._call.envelope.stream or self._call.count_tokens:
            return None
        blanks = LoopingCall(self._downlink.blank)
        blanks.clock = self._house.clock
        blanks.start(every, now=False)
        return blanks

    # -- candidates and leases

    async def _answer(self) -> None:
        house, call = self._house, self._call
        lease_request = self._lease_request()
        if call.envelope.stream and not call.count_tokens:
            self._relay = Relay(call, house.clock, house.streaming, self._give_up)
            house.relays.add(self._relay)
        house.budget.request(house.clock.seconds())
        try:
            while not await self._try_next(lease_request):
                pass
        finally:
            lease_request.suspects.clear()  # they are leases, which hold it

    async def _try_next(self, lease_request: LeaseRequest) -> bool:
        """Try the next candidate; False: it was in vain, and another may be tried. Raises Refusal."""
        lease = await self._lease(lease_request)
        try:
            failure = await self._on_one_lease(lease)
        except BaseException:
            lease.release(CANCELLED)
            raise
        if failure is not None:
            self._consider(failure, lease.candidate, lease_request)
        return failure is None

    def _lease_request(self) -> LeaseRequest:
        """What to ask the pool for. Raises Refusal: the model is unknown."""
        house, call = self._house, self._call
        envelope = call.envelope
        routes = house.router.routes(envelope.model)
        if not routes:
            raise Refusal(ClaudeError(404, f"model: {envelope.model}"), kind=Kind.MODEL_UNAVAILABLE.value)
        call.session = session_of(call)
        return LeaseRequest(
            routes=routes,
            supports=self._supports,
            client=call.principal.name,
            session=call.session if house.settings.affinity else "",
            count_tokens=call.count_tokens,
            size=len(envelope.body),
            in_tool_loop=len(routes) > 1 and in_tool_loop(envelope.messages),
        )

    def _supports(self, route: Route) -> bool:
        """Whether *route* can carry the request, and has a window for it; see
        :attr:`LeaseRequest.supports <claudeproxyd.leases.LeaseRequest.supports>`.

        Raises Refusal where it might, had the client brought the whole conversation: which it does when told so.
        """
        if not self._call.count_tokens and not self._size.fits(route):
            return False
        if route not in self._reasons:
            reason = self._house.executors[route.provider].cannot_carry(self._call, route)
            if reason is not None and continues_thread(self._call.envelope.body):
                raise Refusal(ClaudeError(404, reason, details={"error_code": NOT_FOUND}), kind=Kind.UNSUPPORTED.value)
            self._reasons[route] = reason
        return self._reasons[route] is None

    async def _lease(self, lease_request: LeaseRequest) -> ILease:
        """The next candidate; one that failed this request before only after a moment."""
        granted = self._house.pool.lease(lease_request)
        waits = not granted.called
        since = self._house.clock.seconds() if waits else 0.0
        try:
            lease: ILease = await granted
        except Exhausted as exhausted:
            exhausted.__traceback__ = None  # which leads here, and from here to what it came in
            raise self._refusal(lease_request, exhausted) from None
        finally:
            if waits:
                self._call.upstream_time += self._house.clock.seconds() - since
        credential = lease.candidate.credential
        pause = self._tries.pause(credential, self._house.jitter)
        if pause:
            try:
                await deferLater(self._house.clock, pause)
            except BaseException:
                lease.release(CANCELLED)
                raise
        return lease

    def _consider(self, failure: AttemptFailed, candidate: Candidate, lease_request: LeaseRequest) -> None:
        """Leave what is left to try in *lease_request*, or raise the Refusal that ends the request."""
        if lease_request.to_blame:
            # Another credential answered alike: it is the request, and its client is told what the upstream said.
            failure = AttemptFailed(replace(failure.outcome, kind=Kind.CLIENT_FAULT, then=Then.ANSWER), failure.answer)
        outcome, route = failure.outcome, candidate.route
        self._tries.failed(candidate.credential, failure)
        if self._downlink.message_committed:
            raise broken_off(failure)
        overflowed = self._size.overflowed(route, failure)
        if outcome.then is Then.NEXT_ROUTE or overflowed:
            lease_request.routes = [other for other in lease_request.routes if other is not route]
        elif outcome.then is Then.NEXT_PROVIDER:
            lease_request.routes = [other for other in lease_request.routes if other.provider != route.provider]
        goes_on = (
            lease_request.routes
            # A stream that broke after its first content event, all of it in one read, has reached nobody.
            and (outcome.then not in _ANSWERED or outcome.kind is Kind.BROKEN_STREAM or overflowed)
            and self._tries.may_go_on(lease_request.odds)
            and (not costs_budget(outcome) or self._house.budget.take(self._house.clock.seconds()))
        )
        if not goes_on:
            raise self._refusal(lease_request, None)
        lease_request.tried.add(candidate.credential)
        lease_request.excluded.update(self._tries.excluded)
        lease_request.may_wait = not self._downlink.head_committed

    def _refusal(self, lease_request: LeaseRequest, exhausted: Exhausted | None) -> Refusal:
        ready_in = exhausted.ready_in if exhausted is not None else self._house.pool.ready_in(lease_request)
        if not lease_request.routes and not self._tries.failures:
            if self._size.too_large_for:
                return Refusal(ClaudeError(400, self._size.refusal), kind=Kind.CLIENT_FAULT.value)
            reason = next(reason for reason in self._reasons.values() if reason is not None)
            return Refusal(ClaudeError(400, reason), kind=Kind.UNSUPPORTED.value)
        model = self._call.envelope.model
        refused = refusal(model, self._tries.failures, exhausted, ready_in, self._house.settings)
        if refused.error.status >= 429 and refused.answer is None:
            refused.error.message += self._size.passed_over
            refused.error.logged += self._size.passed_over
        return refused

    # -- attempts

    async def _on_one_lease(self, lease: ILease) -> AttemptFailed | None:
        """What can be had with this lease; gives it back unless the request is cancelled."""
        try:
            outcome = await self._try(lease)
        except AttemptFailed as failure:
            lease.release(failure.outcome)
            return failure
        lease.release(outcome)
        return None

    async def _try(self, lease: ILease) -> Outcome:
        """One attempt, and the repetitions that stay with its lease. Raises AttemptFailed."""
        call, (route, credential) = self._call, lease.candidate
        executor = self._house.executors[route.provider]  # once: the one after a reload may not know the credential
        secret = credential.source.present() or await credential.source.refresh()
        while True:
            call.attempts += 1
            attempt = Attempt(call, credential, secret, route, call.attempts)
            attempt.last = not self._tries.may_repeat(Then.REPEAT_ONCE, credential)
            if self._rectified:
                attempt.body = without_thinking(call.envelope.with_model(route.model))
            try:
                return await self._attempt(attempt, executor, lease.probe_succeeded)
            except AttemptFailed as failure:
                then = failure.outcome.then
                if self._downlink.message_committed or not self._tries.once(then, credential):
                    raise
            if then is Then.REFRESH_ONCE:
                # Another request's refresh may have brought a new one since.
                newer = credential.source.present()
                secret = newer if newer not in (None, secret) else await credential.source.refresh()
            elif then is Then.RECTIFY_ONCE:
                self._rectified = True

    async def _attempt(self, attempt: Attempt, executor: IExecutor, begun: Callable[[], None]) -> Outcome:
        """Send it, and bring what comes back to the client; *begun* hears of content. Raises AttemptFailed."""
        house, call = self._house, self._call
        provider = attempt.credential.provider
        call.provider = provider
        call.credential = attempt.credential.name
        call.model_served = attempt.model
        attempt.started = house.clock.seconds()
        outcome = CANCELLED
        response: IUpstreamResponse | None = None
        try:
            sent = executor.count_tokens(attempt) if call.count_tokens else executor.messages(attempt)
            response = answered = await sent
            prepared = call.prepared.get(attempt.route)
            if prepared is not None and prepared.warnings:
                house.note_losses(call.principal.name, provider, prepared.warnings)
            call.first_byte = attempt.head_at
            headers = [*answered.headers, *self._ours()]
            if IStreamingResponse.providedBy(answered):
                assert self._relay is not None
                content = house.timeouts[provider].content
                content_by = attempt.started + content if content else None
                await self._relay.carry(answered, headers, executor.family, content_by, begun)
            else:
                call.first_content = house.clock.seconds()
                self._downlink.whole(headers, answered.body)
            if answered.anomaly:
                house.note_anomaly(provider, answered.anomaly)
            outcome = OK if answered.exhausted is None else Outcome(Kind.OK, exhausted=answered.exhausted)
            return outcome
        except AttemptFailed as failure:
            outcome = failure.outcome
            if attempt.status == 200 and failure.answer is None and not call.count_tokens:
                self._tries.paid += 1
            raise
        finally:
            self._record(attempt, response, outcome)

    def _ours(self) -> list[tuple[bytes, bytes]]:
        call = self._call
        ours = [(b"x-claudeproxyd-request-id", call.request_id.encode())]
        if call.attempts:
            ours.append((b"x-claudeproxyd-provider", call.provider.encode()))
            ours.append((b"x-claudeproxyd-attempts", b"%d" % call.attempts))
        return ours

    # -- ends

    def _refuse(self, refused: Refusal) -> None:
        call = self._call
        call.outcome = refused.kind
        if call.count_tokens and refused.kind == Kind.UNSUPPORTED.value:
            self._estimate()
            return
        error = refused.error
        call.error = shortened(error.logged)
        error.headers = (*error.headers, *self._ours())
        self._downlink.fail(error, refused.answer)

    def _estimate(self) -> None:
        """No upstream can count: a guess, marked as one, is better for the client than an error."""
        body = b'{"input_tokens":%d}' % self._house.estimate(self._call.envelope.body)
        headers = [(b"content-type", b"application/json"), (b"x-claudeproxyd-estimate", b"true"), *self._ours()]
        self._downlink.whole(headers, body)

    def _ended_from_outside(self) -> None:
        reason = self._call.cancelled or CancelReason.CLIENT_GONE
        self._call.outcome = Kind.CANCELLED.value
        self._call.error = reason.value
        if reason is CancelReason.STALLED:
            self._downlink.abort()
        elif reason is CancelReason.DRAIN:
            self._refuse(Refusal(shutting_down(), kind=Kind.CANCELLED.value))
        elif reason is CancelReason.TOTAL:
            self._refuse(Refusal(ClaudeError(504, "The request took too long"), kind=Kind.CANCELLED.value))

    def _record(self, attempt: Attempt, response: IUpstreamResponse | None, outcome: Outcome) -> None:
        """One usage record for every attempt, whatever became of it."""
        house, call = self._house, self._call
        now = house.clock.seconds()
        call.upstream_time += now - attempt.started
        began = attempt.started
        if attempt.stale_at is not None:
            began = attempt.stale_at
            house.sinks.record(self._record_of(attempt, attempt.number - 1, STALE, began - attempt.started))
        record = self._record_of(attempt, attempt.number, outcome, now - began)
        record.status = attempt.status
        if attempt.head_at is not None:
            record.time_to_first_byte = attempt.head_at - began
        usage = attempt.usage if response is None else response.usage
        if usage is not None and not call.count_tokens:
            call.usage = usage
            record.input_tokens = usage.input
            record.output_tokens = usage.output
            record.cache_read_tokens = usage.cache_read
            record.cache_write_tokens = usage.cache_write
            record.thinking_tokens = usage.thinking
            record.estimated = usage.estimated
        if response is not None:
            call.stop_reason = None if response.stop_reason is None else foreign(response.stop_reason)
            record.upstream_request_id = foreign(response.request_id)
            record.stop_reason = call.stop_reason
            record.bytes_in = response.bytes_in
            if call.first_content is not None:
                record.time_to_first_content = call.first_content - began
        house.sinks.record(record)

    def _record_of(self, attempt: Attempt, number: int, outcome: Outcome, duration: float) -> UsageRecord:
        """What there is to say of an attempt before its answer."""
        call = self._call
        return UsageRecord(
            time=self._house.wall(),
            request_id=call.request_id,
            client=call.principal.name,
            labels=call.principal.labels,
            session=call.session,
            model_asked=foreign(call.envelope.model),
            model_served=foreign(attempt.model),
            provider=attempt.credential.provider,
            credential=attempt.credential.name,
            attempt=number,
            operation=COUNT_TOKENS if call.count_tokens else MESSAGES,
            outcome=outcome.kind.value,
            duration=duration,
            bytes_out=attempt.bytes_out,
        )
