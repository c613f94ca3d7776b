"""A house for one request: a pool, executors and a client that do as a test says, on a clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.config.schema import Model, Pool, Provider, RouteTo, Streaming, Timeouts
from claudeproxyd.dispatch.body import Body
from claudeproxyd.dispatch.dispatcher import Dispatcher
from claudeproxyd.dispatch.request import ApiRequest, CancelReason
from claudeproxyd.dispatch.retries import RetryBudget
from claudeproxyd.dispatch.runner import RequestRunner
from claudeproxyd.dispatch.served_models import ServedModels
from claudeproxyd.dispatch.services import DispatchServices
from claudeproxyd.errors import Unsupported
from claudeproxyd.interfaces import (
    IAttemptJournal,
    IBufferedResponse,
    ICredentialPool,
    IDispatcher,
    IEventConsumer,
    IExecutor,
    ILease,
    IPrepared,
    IRunningRequest,
    ISecretSource,
    IStreamingResponse,
    IUsageSink,
)
from claudeproxyd.leases import Candidate, Credential, Exhausted, Exhaustion, LeaseRequest
from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.estimate import Measure
from claudeproxyd.messages.text_tokens import TextCounts
from claudeproxyd.messages.usage import Usage
from claudeproxyd.observe.tracing import Tracer
from claudeproxyd.observe.usage import UsageRecord
from claudeproxyd.outcomes.types import Kind, Outcome
from claudeproxyd.routing import Router
from claudeproxyd.testing import EPOCH, FakeAccount, FakeDownlink, make_request

Headers = Sequence[tuple[bytes, bytes]]

SECRET = {"api_key": "sk-of-the-house"}


class _FakeUpstreamResponse:
    def __init__(self, headers: Headers = (), request_id: str = "req_up") -> None:
        self.headers = headers
        self.usage = Usage()
        self.stop_reason: str | None = None
        self.request_id = request_id
        self.exhausted: float | None = None
        self.anomaly = ""
        self.bytes_in = 0


@implementer(IBufferedResponse)
class FakeBuffered(_FakeUpstreamResponse):
    """A whole message, or a token count."""

    def __init__(self, body: bytes, headers: Headers = ()) -> None:
        super().__init__(headers)
        self.body = body


verifyClass(IBufferedResponse, FakeBuffered)
verifyObject(IBufferedResponse, FakeBuffered(b"{}"))


@implementer(IPushProducer)
class FakeProducer:
    """An upstream's socket, or what stands in front of one."""

    paused = False
    stopped = 0

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.stopped += 1


verifyClass(IPushProducer, FakeProducer)


@implementer(IStreamingResponse)
class FakeStreaming(_FakeUpstreamResponse, FakeProducer):
    """A stream whose events a test hands out."""

    def __init__(self, headers: Headers = ()) -> None:
        super().__init__(headers)
        self.consumer: Any = None
        self.at_once: list[Batch] = []
        """What came in one read with the head."""

    def deliver(self, consumer: IEventConsumer) -> None:
        self.consumer = consumer
        for batch in self.at_once:
            consumer.events(batch)

    def say(self, frames: bytes, content: bool = True, ended: bool = False) -> None:
        """One read."""
        self.consumer.events(Batch(frames, 1, content, ended=ended))


verifyClass(IStreamingResponse, FakeStreaming)
verifyObject(IStreamingResponse, FakeStreaming())


class Sent:
    """An attempt that went up."""

    def __init__(self, attempt: Any) -> None:
        self.attempt = attempt
        self.cancelled = False
        self.answered: Deferred[Any] = Deferred(self._cancel)

    def _cancel(self, _: Deferred[Any]) -> None:
        self.cancelled = True


@implementer(IPrepared)
class FakePrepared:
    """A translation."""

    body = b"translated"

    def __init__(self, warnings: Sequence[str]) -> None:
        self.warnings = warnings


verifyObject(IPrepared, FakePrepared(()))


@implementer(IExecutor)
class FakeExecutor:
    """Notes each attempt and answers as it is told: now if there is something in ``answers``, else when asked to."""

    kind = "fake"
    family = "anthropic"

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.answers: list[Any] = []
        """Answers, or exceptions, for the next attempts."""
        self.status = 0
        """Of the heads that come."""
        self.refuses: str | None = None
        self.losses: list[str] = []
        """What it warns of, where it translates."""
        self.asked = 0
        self.preparing: Deferred[None] | None = None
        """What its preparation waits for, where it is not done at once."""

    def prepare(self, request: Any, route: Any) -> Any:
        self.asked += 1
        return self._prepared() if self.preparing is None else self._prepare(self.preparing)

    async def _prepare(self, preparing: Deferred[None]) -> FakePrepared | None:
        await preparing
        return self._prepared()

    def _prepared(self) -> FakePrepared | None:
        if self.refuses is not None:
            raise Unsupported(self.refuses)
        return FakePrepared(self.losses) if self.losses else None

    async def messages(self, attempt: Any) -> Any:
        sent = Sent(attempt)
        attempt.status = self.status
        self.sent.append(sent)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return await sent.answered

    async def count_tokens(self, attempt: Any) -> Any:
        return await self.messages(attempt)

    async def models(self, credential: Any) -> list[dict[str, Any]]:
        return []


verifyClass(IExecutor, FakeExecutor)


@implementer(ISecretSource)
class FakeSource:
    """A secret that may have to be fetched."""

    def __init__(self, refreshable: bool = False) -> None:
        self.refreshable = refreshable
        self.is_present = True
        self.refreshes: list[Deferred[Mapping[str, str]]] = []

    def present(self) -> Mapping[str, str] | None:
        return SECRET if self.is_present else None

    def refresh(self) -> Deferred[Mapping[str, str]]:
        refreshed: Deferred[Mapping[str, str]] = Deferred()
        self.refreshes.append(refreshed)
        return refreshed


verifyClass(ISecretSource, FakeSource)


@implementer(ILease)
class FakeLease:
    """Can be released once."""

    def __init__(self, candidate: Candidate, lease_request: LeaseRequest, pool: FakePool) -> None:
        self.candidate = candidate
        self._lease_request = lease_request
        self._pool = pool
        self.outcome: Outcome | None = None
        self.was_proved = False

    def probe_succeeded(self) -> None:
        assert self.outcome is None, "proved after its end"
        self.was_proved = True

    def return_unused(self) -> None:
        assert self.outcome is None, "released twice"
        self._pool.leases.remove(self)

    def release(self, outcome: Outcome) -> None:
        assert self.outcome is None, "released twice"
        self.outcome = outcome
        self._lease_request.odds *= self._pool.odds
        self._pool.blames_after -= 1
        self._lease_request.to_blame = self._pool.blames_after == 0
        if outcome.doubtful:
            self._lease_request.suspects.append((self, outcome))


verifyClass(ILease, FakeLease)


class PoolWithoutOperators:
    """A part of fake pools: nothing is shown, cleared, disabled or reloaded."""

    def outage(self, routes: Sequence[Any]) -> Exhausted | None:
        return None

    def snapshot(self) -> Sequence[Mapping[str, Any]]:
        return []

    def queued(self) -> Sequence[Mapping[str, Any]]:
        return []

    def gauges(self) -> Mapping[str, int]:
        return {}

    def clear(self, provider: str | None, credential: str | None, model: str | None) -> int:
        return 0

    def is_enabled(self, provider: str, credential: str) -> bool | None:
        return None

    def set_enabled(self, provider: str, credential: str, enabled: bool) -> bool:
        return False

    def reload(
        self, credentials: Sequence[Any], settings: Any, provider_limits: Mapping[str, int] | None = None
    ) -> None:
        pass


@implementer(ICredentialPool)
class FakePool(PoolWithoutOperators):
    """Offers its credentials in order, those that failed last, those given up never."""

    def __init__(self, *credentials: Credential) -> None:
        self.credentials = credentials
        self.leases: list[FakeLease] = []
        self.lease_requests: list[LeaseRequest] = []
        self.waiting: list[Deferred[Any]] = []
        self.hold = False
        self.reason: Kind | Exhaustion = Kind.QUOTA
        self.soonest: float | None = None
        self.odds = 1.0
        """Of each failure: how likely it was the place's."""
        self.blames_after = 0
        """After so many failures it is the request's own doing; 0: never."""

    @property
    def outcomes(self) -> list[str | None]:
        """How each lease was given back; None for one that is out."""
        return [lease.outcome and lease.outcome.kind.value for lease in self.leases]

    def lease(self, lease_request: Any) -> Deferred[Any]:
        self.lease_requests.append(lease_request)
        if self.hold and not lease_request.may_wait:
            return fail(Exhausted(Exhaustion.BUSY, None))
        if self.hold:
            waiting: Deferred[Any] = Deferred()
            self.waiting.append(waiting)
            return waiting
        return self.grant(lease_request)

    def grant(self, lease_request: LeaseRequest) -> Deferred[Any]:
        """What a request gets that waits for nothing."""
        candidates = [
            Candidate(route, credential)
            for route in lease_request.routes
            for credential in self.credentials
            if credential.provider == route.provider and credential not in lease_request.excluded
        ]
        candidates.sort(key=lambda candidate: candidate.credential in lease_request.tried)
        candidate = next(iter(candidates), None)
        if candidate is None:
            return fail(Exhausted(self.reason, self.soonest))
        lease = FakeLease(candidate, lease_request, self)
        self.leases.append(lease)
        return succeed(lease)

    def ready_in(self, lease_request: Any) -> float | None:
        return self.soonest


verifyClass(ICredentialPool, FakePool)


@implementer(IAttemptJournal, IUsageSink)
class FakeSink:
    """Keeps the records."""

    def __init__(self) -> None:
        self.records: list[UsageRecord] = []
        self.under_way: list[UsageRecord] = []
        self.without_attempt: list[UsageRecord] = []

    def begun(self, record: Any) -> None:
        self.under_way.append(copy(record))  # as it was then

    def unsent(self, record: Any) -> None:
        self.without_attempt.append(record)

    def record(self, record: Any) -> None:
        self.records.append(record)


verifyClass(IUsageSink, FakeSink)
verifyClass(IAttemptJournal, FakeSink)
verifyClass(IDispatcher, Dispatcher)
verifyClass(IRunningRequest, RequestRunner)


class HighestJitter(Random):
    """Each backoff is as long as it may be."""

    def random(self) -> float:
        return 1.0


def by_length(body: bytes) -> Measure:
    """Measure a body so that each byte is a token."""
    return Measure(TextCounts((), ()), len(body))


class House:
    """A dispatcher with all that it needs; ``keys`` names the credentials, as ``a`` or ``provider/a``."""

    def __init__(
        self,
        *keys: str,
        settings: Mapping[str, Any] | None = None,
        contexts: Mapping[str, int] | None = None,
        total: float = 0.0,
        pool: Any = None,
        tracer: Tracer | None = None,
        **streaming: Any,
    ) -> None:
        """*contexts*: the windows of providers' models. *pool*: the class of one, made with the credentials."""
        self.clock = Clock()
        self.clock.advance(1000.0)
        pairs = [key.rpartition("/") for key in keys or ("a",)]
        self.sources = {name: FakeSource() for _, _, name in pairs}
        self.pool: Any = (pool or FakePool)(
            *(Credential(provider or "p", name, self.sources[name]) for provider, _, name in pairs)
        )
        names = list(dict.fromkeys(provider or "p" for provider, _, _ in pairs))
        self.executors = {name: FakeExecutor() for name in names}
        self.executor = self.executors[names[0]]
        self.sink = FakeSink()
        pool_settings = Pool(**(settings or {}))
        self.timeouts = dict.fromkeys(names, Timeouts())
        self.services = DispatchServices(
            clock=self.clock,  # type: ignore[arg-type]  # it is one in all but its declaration
            pool=self.pool,
            router=Router(
                [
                    Model(
                        name="m",
                        routes=[
                            RouteTo(provider=name, model=f"{name}-m", context=(contexts or {}).get(name, 0))
                            for name in names
                        ],
                    )
                ],
                [Provider(name=name, kind="fake") for name in names],
            ),
            models=ServedModels(self.clock, lambda model: None),  # type: ignore[arg-type]
            executors=self.executors,
            sinks=self.sink,
            journal=self.sink,
            settings=pool_settings,
            budget=RetryBudget(pool_settings.retry_budget),
            streaming=Streaming(**streaming),
            timeouts=self.timeouts,
            measure=by_length,
            total=total,
            tracer=tracer,
            jitter=HighestJitter(),
            wall=lambda: EPOCH,
        )
        self.dispatcher = Dispatcher(self.services)

    def request(
        self, stream: bool = False, count_tokens: bool = False, body: bytes = b"", **changes: Any
    ) -> ApiRequest:
        """What a client asks."""
        return make_request(
            body, stream=stream, count_tokens=count_tokens, **{"started": self.clock.seconds(), **changes}
        )

    def serve(self, *, account: FakeAccount | None = None, **options: Any) -> Served:
        """Start a request."""
        return Served(self, self.request(**options), account or FakeAccount([]))


class Served:
    """A request on its way."""

    def __init__(self, house: House, request: ApiRequest, account: FakeAccount) -> None:
        self.house = house
        self.body = Body(request.envelope.body, account)
        self.request = replace(request, envelope=self.body.envelope(count_tokens=request.count_tokens))
        self.client: Any = FakeDownlink(house.clock)
        self.done = False
        self.runner = house.dispatcher.serve(self.request, self.body, self.client)
        self.log = self.runner.log
        self.runner.done.addCallback(self._done)

    def _done(self, _: None) -> None:
        self.done = True

    def cancel(self, reason: CancelReason = CancelReason.CLIENT_GONE) -> None:
        """End it from outside."""
        self.runner.cancel(reason)

    @property
    def told(self) -> tuple[int, str]:
        """Status and type of the error that the client got."""
        return self.client.error.status, self.client.error.type

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Those of the error, or of the answer."""
        return dict(self.client.error.headers if self.client.error is not None else self.client.head)
