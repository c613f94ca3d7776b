"""Exceptions of an executor that are no outcomes: faults of a plugin's code, or of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from claudeproxyd.errors import ClaudeError
from claudeproxyd.leases import Route
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Outcome, Scope, Then
from claudeproxyd.testing import FakeAccount
from tests.dispatch.fakes import FakeBuffered, FakeStreaming, House, Served
from tests.dispatch.test_runner import DispatchTestCase

SECRET_WORDS = "sk-ant-api03-AbCdEf_123-x"


class Broken(Exception):
    """What nobody expects of an executor."""


def at_once(attempt: Any) -> Any:
    """Raise before anything is returned."""
    raise Broken(SECRET_WORDS)


async def in_a_coroutine(attempt: Any) -> Any:
    """Raise when it is awaited."""
    raise Broken(SECRET_WORDS)


async def after_a_wait(attempt: Any) -> Any:
    """Raise after an upstream's head came."""
    await succeed(None)
    attempt.status = 200
    raise Broken(SECRET_WORDS)


def in_a_deferred(attempt: Any) -> Any:
    """Fail as a Deferred does."""
    return fail(Broken(SECRET_WORDS))


def nothing_awaitable(attempt: Any) -> Any:
    """Return what cannot be awaited."""


def no_response(attempt: Any) -> Any:
    """Return what is no response."""
    return succeed({"type": "message"})


def cancelled_by_itself(attempt: Any) -> Any:
    """Pass a cancellation off as the client's."""
    return fail(CancelledError())


def an_error_for_clients(attempt: Any) -> Any:
    """Raise what only steps ahead of the routes may."""
    raise ClaudeError(400, SECRET_WORDS)


FAULTS: tuple[tuple[Callable[[Any], Any], type[Exception]], ...] = (
    (at_once, Broken),
    (in_a_coroutine, Broken),
    (after_a_wait, Broken),
    (in_a_deferred, Broken),
    (nothing_awaitable, TypeError),
    (no_response, AttributeError),
    (cancelled_by_itself, CancelledError),
    (an_error_for_clients, ClaudeError),
)


class FaultTestCase(DispatchTestCase):
    """Has executors fail in ways that are none of an upstream's."""

    def logged(self, *kinds: type[Exception]) -> int:
        """How many tracebacks there are of these exceptions."""
        return len(self.flushLoggedErrors(*kinds))


class Attempts(FaultTestCase):
    """In ``messages`` and ``count_tokens``."""

    def faulty(self) -> Iterator[tuple[House, type[Exception], dict[str, bool]]]:
        """Yield a house whose first provider has each fault in turn, in each way to be asked."""
        for fault, error in FAULTS:
            for options in ({"stream": False}, {"stream": True}, {"count_tokens": True}):
                house = House("p/a", "q/b")
                house.executors["p"].messages = fault  # type: ignore[method-assign]
                house.executors["p"].count_tokens = fault  # type: ignore[method-assign]
                yield house, error, options

    def test_next(self) -> None:
        """The next candidate serves, and the attempt is one that failed for nobody's credential."""
        for house, error, options in self.faulty():
            served = house.serve(**options)
            answer = FakeStreaming() if options.get("stream") else FakeBuffered(b"{}")
            house.executors["q"].sent[0].answered.callback(answer)
            if isinstance(answer, FakeStreaming):
                answer.say(b"x", ended=True)
            self.assertEqual((served.done, served.client.error), (True, None))
            self.assertEqual((served.log.provider, served.log.outcome, served.log.attempts), ("q", "ok", 2))
            self.assertEqual(house.pool.leases[0].outcome.scope, Scope.NONE)
            self.assertEqual(house.pool.outcomes, ["internal", "ok"])
            self.assertEqual([record.outcome for record in house.sink.records], ["internal", "ok"])
            self.assertEqual(self.logged(error), 1)

    def test_another_credential(self) -> None:
        """It need not be another provider: what comes back may differ. The same credential is not asked again."""
        house = House("a", "b")
        served = self.served(house, Broken(), FakeBuffered(b"{}"))
        self.assertEqual((served.client.body, house.pool.outcomes), (b"{}", ["internal", "ok"]))
        served = self.served(House("a"), Broken(), FakeBuffered(b"{}"))
        self.assertEqual((served.told, served.log.attempts), ((503, "api_error"), 1))
        self.assertEqual(self.logged(Broken), 2)

    def test_told(self) -> None:
        """Where nobody is left the client is told that it was the gateway, and nothing of the exception."""
        for house, error, options in self.faulty():
            house.executors["q"].answers = [AttemptFailed(Outcome(Kind.UNSUPPORTED, then=Then.NEXT_ROUTE))]
            served = self.ended(house, house.serve(**options))
            self.assertEqual((served.told, served.log.outcome), ((503, "api_error"), "internal"))
            self.assertIn("provider p", served.client.error.message)
            self.assertNotIn(SECRET_WORDS, served.client.error.message + served.log.error)
            self.assertEqual(self.logged(error), 1)

    def test_upstreams_failure_counts_more(self) -> None:
        """A quota that is used up is what the client can act on."""
        house = House("a", "b")
        served = self.served(house, AttemptFailed(Outcome(Kind.QUOTA, then=Then.NEXT)), Broken())
        self.assertEqual(served.told, (429, "rate_limit_error"))
        self.assertEqual(self.logged(Broken), 1)

    def test_paid(self) -> None:
        """What crashes over an answer of 200 may have been paid for: it is asked for three times at most."""
        house = House(*"abcdefgh", settings={"max_attempts": 8})
        house.executor.status = 200
        served = self.served(house, *(Broken() for _ in range(8)))
        self.assertEqual((served.log.attempts, self.logged(Broken)), (3, 3))

    def test_capture(self) -> None:
        """The upstream's connection is closed, and the recording says that there was no whole response."""

        class Transcript:
            told = ""

            def failed(self, why: str) -> None:
                self.told = why

        transcript = Transcript()

        abandoned: list[bool] = []

        async def messages(attempt: Any) -> Any:
            attempt.transcript = transcript
            attempt.abandon = lambda: abandoned.append(True)
            raise Broken(SECRET_WORDS)

        house = House("a")
        house.executor.messages = messages  # type: ignore[method-assign]
        house.serve()
        self.assertIn("provider p", transcript.told)
        self.assertNotIn(SECRET_WORDS, transcript.told)
        self.assertEqual((abandoned, self.logged(Broken)), ([True], 1))

    def test_secret(self) -> None:
        """A source of secrets that breaks is a fault of ours, and not of the credential."""
        house = House("p/a", "q/b")
        house.executors["q"].answers = [FakeBuffered(b"{}")]
        house.sources["a"].present = lambda: 1 / 0  # type: ignore[method-assign,return-value]
        served = house.serve()
        self.assertEqual((served.client.body, house.pool.outcomes), (b"{}", ["internal", "ok"]))
        self.assertEqual(self.logged(ZeroDivisionError), 1)

    def test_client_leaves(self) -> None:
        """An executor that turns the client's end into an exception of its own does not keep the request."""
        house = House("a", "b")

        def cancelled(waiting: Deferred[Any]) -> None:
            waiting.errback(Broken())

        house.executor.messages = lambda attempt: Deferred(cancelled)  # type: ignore[method-assign]
        served = house.serve()
        served.cancel()
        self.assertEqual((served.done, house.pool.outcomes, served.log.outcome), (True, ["cancelled"], "cancelled"))
        self.assertEqual(self.logged(Broken), 0)


class Streams(FaultTestCase):
    """In a stream that an executor handed out."""

    def broken(self, *, at: str, stops: bool = True) -> tuple[House, Served, FakeStreaming]:
        """Serve a stream of a house with two credentials, which breaks *at* some point, and if it is to stop."""
        house = House("a", "b")
        served = house.serve(stream=True)
        stream = FakeStreaming()
        stream.usage.input = 7
        if at == "deliver":
            stream.deliver = lambda consumer: 1 / 0  # type: ignore[method-assign,assignment]
        if not stops:
            stream.stopProducing = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        house.executor.sent[0].answered.callback(stream)
        if at == "start":
            stream.consumer.broken(ZeroDivisionError())
        elif at == "middle":
            stream.say(b"x")
            stream.consumer.broken(ZeroDivisionError())
        return house, served, stream

    def test_before_the_commit(self) -> None:
        """The next candidate serves."""
        for at in ("deliver", "start"):
            house, served, stream = self.broken(at=at)
            house.clock.advance(0.1)
            second = FakeStreaming()
            house.executor.sent[1].answered.callback(second)
            second.say(b"y", ended=True)
            self.assertEqual((served.client.writes, house.pool.outcomes), ([b"y"], ["internal", "ok"]), at)
            self.assertEqual((house.sink.records[0].outcome, house.sink.records[0].input_tokens), ("internal", 7))
            self.assertEqual((stream.stopped, self.logged(ZeroDivisionError)), (int(at == "deliver"), 1))

    def test_stop(self) -> None:
        """One that breaks when it is to stop does not keep a request whose client left, nor one that goes on."""
        house, served, _ = self.broken(at="", stops=False)
        served.cancel()
        self.assertEqual((served.done, house.pool.outcomes), (True, ["cancelled"]))
        self.assertEqual(self.logged(ZeroDivisionError), 1)
        house, served, _ = self.broken(at="deliver", stops=False)
        house.clock.advance(0.1)
        self.assertEqual((len(house.executor.sent), house.pool.outcomes), (2, ["internal", None]))
        self.assertEqual(self.logged(ZeroDivisionError), 2)
        served.cancel()

    def test_after_the_commit(self) -> None:
        """The stream ends with an error, and nobody else is asked."""
        house, served, _ = self.broken(at="middle")
        self.assertEqual((served.done, served.client.error.type, served.log.outcome), (True, "api_error", "internal"))
        self.assertEqual((house.pool.outcomes, len(house.executor.sent)), (["internal"], 1))
        self.assertEqual(self.logged(ZeroDivisionError), 1)


class Preparing(FaultTestCase):
    """In ``prepare``, which has no credential: its route is passed over."""

    @staticmethod
    def at_once(request: Any, route: Route) -> Any:
        """Raise before anything is returned."""
        raise Broken(SECRET_WORDS)

    @staticmethod
    async def when_awaited(request: Any, route: Route) -> Any:
        """Raise after that."""
        raise Broken(SECRET_WORDS)

    @staticmethod
    async def cancelled_by_itself(request: Any, route: Route) -> Any:
        """Pass a cancellation off as the client's."""
        raise CancelledError

    def faulty(self, *keys: str) -> Iterator[House]:
        """Yield houses whose first provider has each fault in turn."""
        for fault in (self.at_once, self.when_awaited, self.cancelled_by_itself):
            house = House(*keys)
            house.executors["p"].prepare = fault  # type: ignore[method-assign]
            yield house

    def test_next_route(self) -> None:
        """The next route serves; no lease was used, and the fault is logged once."""
        for options in ({}, {"count_tokens": True}):
            for house in self.faulty("p/a", "p/b", "q/c"):
                house.executors["q"].answers = [FakeBuffered(b"{}")]
                changes: list[int] = []
                served = house.serve(account=FakeAccount(changes), **options)
                self.assertEqual((served.client.body, served.log.attempts), (b"{}", 1))
                self.assertEqual((house.pool.outcomes, sum(changes)), (["ok"], 0))
                self.assertEqual(self.logged(Broken, CancelledError), 1)

    def test_told(self) -> None:
        """Where no other route is left it is the gateway's failure, whatever another cannot carry."""
        for options in ({}, {"stream": True}, {"count_tokens": True}):
            for keys in (("p/a",), ("p/a", "q/b"), ("o/a", "p/b")):
                for house in self.faulty(*keys):
                    for name, executor in house.executors.items():
                        executor.refuses = None if name == "p" else "no"
                    served = house.serve(**options)
                    self.assertEqual((served.told, served.log.outcome), ((503, "api_error"), "internal"))
                    self.assertEqual((house.pool.leases, served.log.attempts), ([], 0))
                    self.assertNotIn(SECRET_WORDS, served.client.error.message + served.log.error)
                    self.assertEqual(self.logged(Broken, CancelledError), 1)

    def test_failures_count_more(self) -> None:
        """What an upstream said of the request is told, if one was asked."""
        for house in self.faulty("p/a", "q/b"):
            house.executors["q"].answers = [AttemptFailed(Outcome(Kind.OVERLOADED, then=Then.NEXT))]
            served = house.serve()
            self.assertEqual(served.told, (529, "overloaded_error"))
            self.assertEqual(self.logged(Broken, CancelledError), 1)
