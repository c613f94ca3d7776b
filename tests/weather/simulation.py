"""Minutes of traffic in seconds: clients, the real dispatch and the real pool, and an upstream with a weather."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from claudeproxyd.config.schema import Model, Pool, Provider, RouteTo, Streaming, Timeouts
from claudeproxyd.dispatch.body import Body
from claudeproxyd.dispatch.dispatcher import Dispatcher
from claudeproxyd.dispatch.request import ApiRequest, CancelReason
from claudeproxyd.dispatch.retries import RetryBudget
from claudeproxyd.dispatch.served_models import ServedModels
from claudeproxyd.dispatch.services import DispatchServices
from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import IDownlink, IExecutor, IRunningRequest
from claudeproxyd.leases import Credential
from claudeproxyd.outcomes.classify import classify
from claudeproxyd.outcomes.hints import foreseen
from claudeproxyd.outcomes.types import AttemptFailed, AttemptPhase, ErrorResponse, Evidence, Failure
from claudeproxyd.pool.service import CredentialPool
from claudeproxyd.principals import Principal
from claudeproxyd.routing import Router
from claudeproxyd.testing import FakeAccount, FakeDownlink
from tests.dispatch.fakes import FakeBuffered, FakeSink, FakeSource, by_length
from tests.weather.oracle import OraclePool
from tests.weather.upstream import EPOCH, Ask, Headers, Latency, Reply, Weather

#: Seconds of one entry of :attr:`Result.goodput`.
BIN = 0.25
#: For so many of a session's requests a key that served one keeps what is cached of it.
CACHED = 8
_BODY = b'{"type":"error","error":{"type":"%b","message":"weather"}}'
_TYPES = {429: b"rate_limit_error", 529: b"overloaded_error"}


@dataclass(kw_only=True)
class Scenario:
    """A weather, and who sends what into it."""

    name: str
    weather: Callable[[Random, Latency], Weather]
    keys: int = 1
    clients: int = 40
    rate: float = 0.0
    """Requests a second that come whatever happens; 0: each client sends its next one when the one before is over."""
    latency: tuple[float, ...] = (0.3,)
    seconds: float = 30.0
    tokens: Callable[[Random], int] = lambda random: 100
    models: Sequence[str] = ("m",)
    """Clients take them in turn."""
    first_byte: float = 120.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    daemons: int = 1
    """Pools that know nothing of each other; clients are spread over them."""
    stagger: float = 0.0
    """Seconds by which each further daemon's clients begin later."""
    bad: tuple[float, float] | None = None
    """An outage to look at: from, to."""
    priorities: Sequence[int] = ()
    providers: Sequence[str] = ("p",)
    """Those that serve each model, the preferred one first, each with so many keys; they are numbered through."""
    cache: float = 0.0
    """Seconds that an answer takes longer at a key that has not served one of its session's last few requests."""

    @property
    def bound(self) -> bool:
        """Whether it matters where a request is served."""
        return len(self.providers) > 1 or self.cache > 0


@dataclass
class Result:
    """What came of it."""

    succeeded: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    seconds: float = 0.0
    goodput: list[int] = field(default_factory=list)
    """Successes for each :data:`BIN`."""
    at_best: list[int] = field(default_factory=list)
    """Those of them that were served where they should be: by the first route, where the cache is."""
    waited: list[float] = field(default_factory=list)
    """Of each success: the seconds beyond its last attempt."""
    sent: list[float] = field(default_factory=list)
    """When each attempt was that the preferred route got."""
    by_client: Counter[int] = field(default_factory=Counter)
    by_daemon: Counter[int] = field(default_factory=Counter)
    by_tokens: Counter[bool] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Successes a second."""
        return self.succeeded / self.seconds

    @property
    def failures(self) -> float:
        """Requests that failed, as a share."""
        failed = self.failed.total()
        return failed / max(1, failed + self.succeeded)

    @property
    def well_placed(self) -> float:
        """Successes that were served where they should be, as a share."""
        return sum(self.at_best) / max(1, self.succeeded)

    def late(self, share: float) -> float:
        """That quantile of the added seconds."""
        waited = sorted(self.waited)
        return waited[min(len(waited) - 1, int(len(waited) * share))] if waited else 0.0


@lru_cache(maxsize=1024)
def _judged(reply: Reply, second: int) -> AttemptFailed:
    """What a failure comes to, as an executor would have it. *second*: of the wall clock."""
    body, answer, failure = b"", None, None
    if reply.status > 0:
        body = _BODY % _TYPES.get(reply.status, b"api_error")
        answer = ErrorResponse(reply.status, list(reply.headers), body, verbatim=True)
    else:
        failure = {0: Failure.CUT, -1: Failure.CONNECT, -2: Failure.FIRST_BYTE_TIMEOUT}[reply.status]
    phase = AttemptPhase.ANSWER if reply.status > 0 else AttemptPhase.HEAD
    status = max(reply.status, 0)
    evidence = Evidence("anthropic", phase, status, reply.headers, body, failure, now=EPOCH + second)
    return AttemptFailed(classify(evidence), answer)


@implementer(IExecutor)
class WeatherExecutor:
    """Answers as the weather says."""

    kind = "weather"
    family = "anthropic"

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def prepare(self, request: Any, route: Any) -> None:
        return None

    def messages(self, attempt: Any) -> Deferred[Any]:
        simulation = self._simulation
        clock, weather = simulation.clock, simulation.weather
        ask = simulation.asks[attempt.request.principal.name]
        ask = ask._replace(key=int(attempt.credential.name[1:]), model=attempt.route.model)
        now = clock.seconds()
        simulation.result.attempts += 1
        if ask.key < simulation.scenario.keys:
            simulation.result.sent.append(now)
        reply = weather.reply(ask, now)
        if reply.status == 200 and not simulation.has_cache(ask.client, ask.key):
            reply = reply._replace(after=reply.after + simulation.scenario.cache)
        first_byte = simulation.scenario.first_byte
        if reply.after > first_byte:
            reply = Reply(first_byte, -2)

        def cancelled(_: Deferred[Any]) -> None:
            ending.cancel()
            if reply.status == 200:
                weather.done(ask, clock.seconds())

        answered: Deferred[Any] = Deferred(cancelled)

        def end() -> None:
            if reply.status == 200:
                weather.done(ask, clock.seconds())
                simulation.served(ask)
                answer = FakeBuffered(b"{}")
                answer.exhausted, answer.allowances = simulation.told(reply.headers)
                answered.callback(answer)
            else:
                judged = _judged(reply, int(clock.seconds()))
                answered.errback(AttemptFailed(judged.outcome, judged.answer))

        ending = clock.callLater(reply.after, end)
        simulation.began[attempt.request.principal.name] = now
        return answered

    def count_tokens(self, attempt: Any) -> Deferred[Any]:
        return self.messages(attempt)

    def models(self, credential: Any) -> Deferred[list[dict[str, Any]]]:
        raise NotImplementedError


@implementer(IDownlink)
class SimulatedDownlink(FakeDownlink):
    """Tells the client how its request ended."""

    def __init__(self, clock: Clock, ended: Callable[[int, float | None, bool], None]) -> None:
        super().__init__(clock)
        self._told = ended

    def whole(self, headers: Any, body: bytes) -> None:
        super().whole(headers, body)
        self._told(200, None, True)

    def fail(self, error: ClaudeError, answer: ErrorResponse | None = None) -> None:
        super().fail(error, answer)
        pairs = dict(answer.headers if answer is not None else ()) | dict(error.headers)
        after = pairs.get(b"retry-after")
        self._told(error.status, float(after) if after else None, pairs.get(b"x-should-retry") != b"false")


class Simulation:
    """One run of one scenario."""

    def __init__(self, scenario: Scenario, seed: int, *, oracle: bool = False) -> None:
        self.scenario = scenario
        self.random = Random(seed)
        self.clock = Clock()
        self.weather = scenario.weather(Random(seed + 1), Latency(*scenario.latency))
        self.result = Result(seconds=scenario.seconds)
        self.result.goodput = [0] * int(scenario.seconds / BIN)
        self.result.at_best = [0] * int(scenario.seconds / BIN)
        self.asks: dict[str, Ask] = {}
        """By client: what it asks for now."""
        self.began: dict[str, float] = {}
        """By client: when its last attempt did."""
        self._caches: dict[int, deque[int]] = {}
        """By client: the keys that served its last requests."""
        self.pools: list[Any] = []
        self._open: dict[IRunningRequest, None] = {}
        """Requests that are being served."""
        # The oracle is one, however many daemons there are.
        self._dispatchers = [self._daemon(number, oracle) for number in range(1 if oracle else scenario.daemons)]
        self._bodies = {
            model: b'{"model":"%b","max_tokens":9,"messages":[]}' % model.encode() for model in scenario.models
        }

    def _daemon(self, number: int, oracle: bool) -> Dispatcher:
        scenario = self.scenario
        credentials = [
            Credential(
                provider,
                f"k{number * scenario.keys + key}",
                FakeSource(),
                priority=scenario.priorities[key] if scenario.priorities else 0,
            )
            for number, provider in enumerate(scenario.providers)
            for key in range(scenario.keys)
        ]
        settings = Pool(**scenario.settings)
        pool: Any
        if oracle:
            pool = OraclePool(self.clock, self.weather, credentials)
            pool.asks = self.asks
            pool.has_cache = self.has_cache
        else:
            pool = CredentialPool(
                self.clock,  # type: ignore[arg-type]  # it is one in all but its declaration
                settings,
                credentials,
                jitter=Random(self.random.random()),
                wall_clock=lambda: EPOCH + self.clock.seconds(),
            )
            if scenario.daemons > 1:
                # Its state is shared, so each hears of the others.
                pool.merge({})
        self.pools.append(pool)
        services = DispatchServices(
            clock=self.clock,  # type: ignore[arg-type]
            pool=pool,
            router=Router(
                [
                    Model(name=model, routes=[RouteTo(provider=name, model=model) for name in scenario.providers])
                    for model in scenario.models
                ],
                [Provider(name=name, kind="weather") for name in scenario.providers],
            ),
            models=ServedModels(self.clock, lambda model: None),  # type: ignore[arg-type]
            executors={name: WeatherExecutor(self) for name in scenario.providers},
            sinks=FakeSink(),
            settings=settings,
            streaming=Streaming(),
            timeouts={name: Timeouts() for name in scenario.providers},
            measure=by_length,
            budget=RetryBudget(settings.retry_budget),
            jitter=Random(self.random.random()),
            wall=lambda: EPOCH + self.clock.seconds(),
        )
        return Dispatcher(services)

    def told(self, headers: Headers) -> tuple[float | None, Any]:
        """What a good answer's headers say of limits."""
        return foreseen(headers, "anthropic", EPOCH + self.clock.seconds()), None

    def has_cache(self, client: int, key: int) -> bool:
        """Whether that key served one of the client's last requests."""
        return key in self._caches.get(client, ())

    def served(self, ask: Ask) -> None:
        """An answer is there."""
        scenario, now = self.scenario, self.clock.seconds()
        best = ask.key < scenario.keys and (not scenario.cache or self.has_cache(ask.client, ask.key))
        if best and now < scenario.seconds:
            self.result.at_best[min(len(self.result.at_best) - 1, int(now / BIN))] += 1
        self._caches.setdefault(ask.client, deque(maxlen=CACHED)).append(ask.key)

    # -- clients

    def run(self) -> Result:
        """To its end."""
        scenario = self.scenario
        clock = self.clock
        if scenario.rate:
            self.clock.callLater(self.random.expovariate(scenario.rate), self._arrive, 0)
        else:
            for number in range(scenario.clients):
                clock.callLater(number % scenario.daemons * scenario.stagger, self._ask, number, 0)
        while clock.calls and clock.seconds() < scenario.seconds:
            clock.advance(max(0.0, clock.calls[0].getTime() - clock.seconds()))
        result, self.result = self.result, Result(seconds=1.0)
        for served in list(self._open):
            served.cancel(CancelReason.CLIENT_GONE)
        for pool in self.pools:
            pool.stopService()
        return result

    def _arrive(self, number: int) -> None:
        self._ask(number, 0)
        self.clock.callLater(self.random.expovariate(self.scenario.rate), self._arrive, number + 1)

    def _ask(self, number: int, tries: int, began: float | None = None, tokens: int = 0) -> None:
        """A client's request, the first time or again."""
        scenario, clock = self.scenario, self.clock
        began = clock.seconds() if began is None else began
        tokens = tokens or scenario.tokens(self.random)
        model = scenario.models[number % len(scenario.models)]
        name = f"c{number}"
        self.asks[name] = Ask(0, model, tokens, number)

        def ended(status: int, after: float | None, retry: bool) -> None:
            if status == 200:
                self._succeeded(number, clock.seconds() - began, clock.seconds() - self.began[name], tokens)
                self._again(number, 0.0)
            elif retry and tries < 2 and (status in (408, 409, 429) or status >= 500):
                wait = after if after is not None and after <= 60 else 0.5 * 2**tries * (1 - self.random.random() / 4)
                clock.callLater(wait, self._ask, number, tries + 1, began, tokens)
            else:
                if clock.seconds() <= scenario.seconds:
                    self.result.failed[str(status)] += 1
                self._again(number, 0.2)

        body = Body(self._bodies[model], FakeAccount([]))
        request = ApiRequest(
            request_id="req",
            principal=Principal(name),
            envelope=body.envelope(count_tokens=False),
            headers=[(b"x-claude-code-session-id", name.encode())],
            query=b"",
            count_tokens=False,
            started=clock.seconds(),
        )
        self.began[name] = clock.seconds()
        dispatcher = self._dispatchers[number % len(self._dispatchers)]
        served = dispatcher.serve(request, body, SimulatedDownlink(clock, ended))
        if not served.done.called:
            self._open[served] = None
            served.done.addBoth(lambda _: self._open.pop(served, None))

    def _succeeded(self, number: int, took: float, last: float, tokens: int) -> None:
        result, now = self.result, self.clock.seconds()
        if now >= self.scenario.seconds:
            return
        result.succeeded += 1
        result.goodput[min(len(result.goodput) - 1, int(now / BIN))] += 1
        result.waited.append(took - last)
        result.by_client[number] += 1
        result.by_daemon[number % self.scenario.daemons] += 1
        result.by_tokens[tokens > 1000] += 1

    def _again(self, number: int, pause: float) -> None:
        # Not at once: a client that is answered within its own call would never give the clock a turn.
        if not self.scenario.rate:
            self.clock.callLater(pause, self._ask, number, 0)
