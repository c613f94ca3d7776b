"""Steps in a request's way: who is admitted, and what hooks of plugins do with a request and see of its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.config.schema import Model, Provider, RouteTo
from claudeproxyd.dispatch.admission import Admissions, ConcurrencyAdmission
from claudeproxyd.dispatch.request import CancelReason
from claudeproxyd.dispatch.steps import RequestSteps
from claudeproxyd.errors import ClaudeError
from claudeproxyd.interfaces import IAdmission, ILimitedPermit, IPermit, IRequestHook
from claudeproxyd.messages.usage import Usage
from claudeproxyd.outcomes.types import AttemptFailed, ErrorResponse, Kind, Outcome, Then
from claudeproxyd.principals import Principal
from claudeproxyd.routing import Router
from tests.dispatch.fakes import FakeAccount, FakeBuffered, FakeStreaming, House

OWN = (b"anthropic-ratelimit-requests-remaining", b"3")
UPSTREAMS = (b"anthropic-ratelimit-tokens-remaining", b"99999")
LIMIT = ClaudeError(429, "enough", headers=[(b"retry-after", b"7")])


@implementer(IPermit)
class FakePermit:
    """Notes its end."""

    def __init__(self, name: str, notes: list[Any]) -> None:
        self._name = name
        self._notes = notes
        self.breaks = False

    def done(self, usage: Usage | None, outcome: str) -> None:
        self._notes.append((self._name, "done", None if usage is None else usage.input, outcome))
        if self.breaks:
            raise ValueError("of a permit")


@implementer(ILimitedPermit)
class LimitedPermit(FakePermit):
    """Under a limit, until it is given back."""

    def headers(self) -> Any:
        return [] if self._notes and self._notes[-1][1] == "done" else [OWN]


@implementer(IAdmission)
class FakeAdmission:
    """Admits, or what a test puts in its place."""

    def __init__(self, name: str, notes: list[Any]) -> None:
        self.permit = FakePermit(name, notes)
        self.answer: Callable[[], Any] = lambda: self.permit
        self._name = name
        self._notes = notes

    def admit(self, request: Any) -> Any:
        self._notes.append((self._name, "admit"))
        return self.answer()


@implementer(IRequestHook)
class FakeHook:
    """Passes requests on, or what a test puts in its place."""

    def __init__(self, name: str, notes: list[Any]) -> None:
        self.name = name
        self._notes = notes
        self.answer: Callable[[Any], Any] = lambda request: request
        self.ends: list[tuple[Any, Any]] = []
        self.breaks = False

    def request(self, request: Any) -> Any:
        self._notes.append((self.name, "request"))
        return self.answer(request)

    def finished(self, request: Any, log: Any) -> None:
        self._notes.append((self.name, "finished", log.outcome))
        self.ends.append((request, log))
        if self.breaks:
            raise ValueError("of a hook")


verifyClass(IPermit, FakePermit)
verifyClass(ILimitedPermit, LimitedPermit)
verifyClass(IAdmission, FakeAdmission)
verifyClass(IAdmission, Admissions)
verifyClass(IAdmission, ConcurrencyAdmission)
verifyClass(IRequestHook, FakeHook)


def used(read: int, written: int | None = None) -> Usage:
    """So many tokens."""
    usage = Usage()
    usage.input, usage.output = read, written
    return usage


def raising(error: Exception) -> Callable[..., Any]:
    """A function that raises it."""

    def fails(*_: Any) -> Any:
        raise error

    return fails


class StepsTestCase(SynchronousTestCase):
    """A house with two admissions and two hooks."""

    def setUp(self) -> None:
        self.house = House("a", "b")
        self.notes: list[Any] = []
        self.admissions = [FakeAdmission(name, self.notes) for name in ("first", "second")]
        self.hooks = [FakeHook(name, self.notes) for name in ("one", "two")]
        self.use()

    def use(self) -> None:
        """Have the house ask these."""
        steps = RequestSteps(Admissions(self.admissions), self.hooks)
        self.house.dispatcher.services = replace(self.house.services, steps=steps)

    def answer(self, *answers: Any) -> None:
        """What attempts get."""
        self.house.executor.answers = list(answers)

    @property
    def steps(self) -> RequestSteps:
        return self.house.dispatcher.services.steps

    @property
    def finished(self) -> list[Any]:
        """Which hooks were told of an end, and which."""
        return [note for note in self.notes if note[1] == "finished"]

    @property
    def given_back(self) -> list[Any]:
        """Which permits, and with what."""
        return [note for note in self.notes if note[1] == "done"]


class OrderTests(StepsTestCase):
    """Who is asked when."""

    def test_order(self) -> None:
        """Admissions, then hooks, each in order; the permits go back ahead of the answer, the hooks are told last."""
        response = FakeBuffered(b"{}")
        response.usage = used(5, 6)
        self.answer(response)
        served = self.house.serve()
        self.assertEqual(
            self.notes,
            [
                ("first", "admit"),
                ("second", "admit"),
                ("one", "request"),
                ("two", "request"),
                ("first", "done", 5, "ok"),
                ("second", "done", 5, "ok"),
                ("one", "finished", "ok"),
                ("two", "finished", "ok"),
            ],
        )
        (_, log), *_ = self.hooks[0].ends
        self.assertIs(log, served.log)
        self.assertEqual((log.usage.output, log.provider), (6, "p"))

    def test_stream(self) -> None:
        """With a stream it is the same; a permit is back before the client sees the stream's end."""
        stream = FakeStreaming()
        stream.usage = used(5)
        self.answer(stream)
        served = self.house.serve(stream=True)
        written_at: list[int] = []
        self.admissions[0].permit.done = (  # type: ignore[method-assign]
            lambda usage, outcome: written_at.append(len(served.client.writes))
        )
        stream.say(b"one")
        self.assertEqual((self.finished, self.given_back), ([], []))
        stream.say(b"two", ended=True)
        self.assertTrue(served.done)
        self.assertEqual(written_at, [1])
        self.assertEqual(self.given_back, [("second", "done", 5, "ok")])
        self.assertEqual(self.finished, [("one", "finished", "ok"), ("two", "finished", "ok")])
        self.assertEqual(self.hooks[0].ends[0][1].events, 2)

    def test_count_tokens(self) -> None:
        """Counting is asked and told of as well; it uses nothing."""
        self.answer(FakeBuffered(b'{"input_tokens":5}'))
        self.house.serve(count_tokens=True)
        self.assertEqual(len(self.notes), 8)
        self.assertIn(("first", "done", None, "ok"), self.notes)

    def test_failed_upstream(self) -> None:
        """An upstream's failure is told by its name."""
        self.answer(AttemptFailed(Outcome(Kind.CLIENT_FAULT, then=Then.ANSWER)))
        self.house.serve()
        self.assertIn(("second", "done", None, "client_fault"), self.notes)
        self.assertIn(("two", "finished", "client_fault"), self.notes)

    def test_broken_stream(self) -> None:
        """So is the end of a stream that was cut after its first content, with what it used until then."""
        stream = FakeStreaming()
        stream.usage = used(5)
        self.answer(stream)
        self.house.serve(stream=True)
        stream.say(b"one")
        stream.consumer.broken(AttemptFailed(Outcome(Kind.BROKEN_STREAM)))
        self.assertEqual(self.given_back, [(name, "done", 5, "broken_stream") for name in ("first", "second")])

    def test_client_leaves(self) -> None:
        """A client that leaves its stream: all are told, once."""
        stream = FakeStreaming()
        self.answer(stream)
        served = self.house.serve(stream=True)
        stream.say(b"one")
        served.cancel()
        self.assertEqual([note[-1] for note in (*self.given_back, *self.finished)], ["cancelled"] * 4)


class AdmissionTests(StepsTestCase):
    """Who is refused, and what is given back."""

    def test_refused(self) -> None:
        """One that refuses: those before it are given back, nothing else is asked, and the client is told why."""
        self.admissions[1].answer = raising(LIMIT)
        served = self.house.serve()
        self.assertEqual(self.notes, [("first", "admit"), ("second", "admit"), ("first", "done", None, "refused")])
        self.assertEqual((served.told, served.headers[b"retry-after"]), ((429, "rate_limit_error"), b"7"))
        self.assertEqual((served.log.outcome, served.log.error, served.log.attempts), ("refused", "enough", 0))
        self.assertEqual(self.house.pool.lease_requests, [])

    def test_refusals_are_alike(self) -> None:
        """An error that is raised again and again is not filled with headers, or with what it led to."""
        self.admissions[1].answer = raising(LIMIT)
        first, second = self.house.serve(), self.house.serve()
        self.assertEqual(len(first.client.error.headers), len(second.client.error.headers))
        self.assertEqual(len(LIMIT.headers), 1)
        self.assertIsNone(LIMIT.__traceback__)

    def test_fault(self) -> None:
        """One that breaks is a fault of ours, and the place before it is given back."""
        self.admissions[1].answer = raising(ValueError("oh"))
        served = self.house.serve()
        self.assertEqual(served.told, (500, "api_error"))
        self.assertEqual(self.given_back, [("first", "done", None, "internal")])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_no_permit(self) -> None:
        """One that returns no permit has admitted nobody: it is named in the log, and the place is given back."""
        self.admissions[1].answer = lambda: None
        served = self.house.serve()
        self.assertEqual(served.told, (500, "api_error"))
        self.assertEqual(self.given_back, [("first", "done", None, "internal")])
        (logged,) = self.flushLoggedErrors(TypeError)
        self.assertIn("admit returned NoneType, and no IPermit", str(logged.value))

    def test_awaited(self) -> None:
        """A permit that has to be asked for elsewhere is waited for; it may be refused there."""
        answers: list[Deferred[Any]] = [Deferred(), Deferred()]
        self.admissions[0].answer = lambda: answers[0]
        self.admissions[1].answer = lambda: answers[1]
        self.answer(FakeBuffered(b"{}"))
        served = self.house.serve()
        answers[0].callback(self.admissions[0].permit)
        self.assertEqual(self.notes, [("first", "admit"), ("second", "admit")])
        answers[1].callback(self.admissions[1].permit)
        self.assertTrue(served.done)
        self.assertEqual(len(self.given_back), 2)
        self.admissions[0].answer = lambda: fail(LIMIT)
        self.assertEqual(self.house.serve().told[0], 429)

    def test_client_leaves(self) -> None:
        """Who leaves while it is waited for gives back what it has."""
        asked: Deferred[Any] = Deferred()
        self.admissions[1].answer = lambda: asked
        served = self.house.serve()
        served.cancel()
        self.assertTrue(served.done)
        self.assertEqual(self.given_back, [("first", "done", None, "cancelled")])
        self.assertEqual(served.log.outcome, "cancelled")

    def test_granted_too_late(self) -> None:
        """One that is granted although the client has left is given back like any other."""

        async def stubborn() -> Any:
            try:
                await Deferred()
            except CancelledError:
                return self.admissions[1].permit

        for admissions in (self.admissions, self.admissions[1:]):
            self.notes.clear()
            steps = RequestSteps(Admissions(admissions) if len(admissions) > 1 else admissions[0], self.hooks)
            self.house.dispatcher.services = replace(self.house.services, steps=steps)
            self.admissions[1].answer = stubborn
            served = self.house.serve()
            served.cancel()
            self.assertTrue(served.done)
            self.assertEqual([note[-1] for note in self.given_back], ["cancelled"] * len(admissions))
            self.assertEqual(self.finished, [])

    def test_done_that_breaks(self) -> None:
        """A permit that breaks at its end hurts nobody, and is logged once."""
        self.admissions[0].permit.breaks = True
        for _ in range(2):
            self.answer(FakeBuffered(b"{}"))
            self.assertEqual(self.house.serve().client.body, b"{}")
        self.assertEqual([note[0] for note in self.given_back], ["first", "second"] * 2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_concurrency(self) -> None:
        """Each principal has a count of its own; what is given back is free; counting takes no place."""
        admission = ConcurrencyAdmission()
        one, two = (
            self.house.request(principal=Principal(name, max_concurrency=most)) for name, most in (("1", 1), ("2", 0))
        )
        permit = admission.admit(one)
        verifyObject(IPermit, permit)
        others = [admission.admit(two) for _ in range(3)]
        self.assertEqual(self.assertRaises(ClaudeError, admission.admit, one).status, 429)
        counting = replace(one, count_tokens=True)
        for _ in range(27):
            admission.admit(counting).done(None, "ok")
        self.assertEqual(self.assertRaises(ClaudeError, admission.admit, one).status, 429)
        permit.done(None, "ok")
        admission.admit(one).done(None, "ok")
        for other in others:
            other.done(None, "ok")
        self.assertEqual(admission.running, {})

    def test_limit_changes(self) -> None:
        """After a reload the new limit counts, for requests that run already too."""
        admission = ConcurrencyAdmission()
        for _ in range(3):
            admission.admit(self.house.request(principal=Principal("1")))
        limited = self.house.request(principal=Principal("1", max_concurrency=3))
        self.assertRaises(ClaudeError, admission.admit, limited)


class HookTests(StepsTestCase):
    """What a hook may do."""

    def setUp(self) -> None:
        super().setUp()
        router = Router(
            [
                Model(name="m", routes=[RouteTo(provider="p", model="p-m")]),
                Model(name="other", routes=[RouteTo(provider="p", model="p-other")]),
            ],
            [Provider(name="p", kind="fake")],
        )
        self.house.services = replace(self.house.services, router=router)
        self.use()

    def sent(self) -> Any:
        """The attempt that went up."""
        (sent,) = self.house.executor.sent
        return sent.attempt

    def test_refused(self) -> None:
        """A hook may refuse with any status; the next is not asked, and those that were are told."""
        self.hooks[0].answer = raising(ClaudeError(451, "not this"))
        served = self.house.serve()
        self.assertEqual(served.told, (451, "invalid_request_error"))
        self.assertEqual(self.finished, [("one", "finished", "refused")])
        self.assertEqual(self.given_back, [(name, "done", None, "refused") for name in ("first", "second")])

    def test_streams_are_refused_as_errors(self) -> None:
        """The refusal of a stream is an HTTP error, for nothing is out yet."""
        self.hooks[1].answer = raising(ClaudeError(403, "no"))
        served = self.house.serve(stream=True)
        self.assertEqual((served.told[0], served.client.writes), (403, []))
        self.assertEqual(len(self.finished), 2)

    def test_fault(self) -> None:
        """One that breaks is a fault of ours, each time logged."""
        self.hooks[1].answer = raising(ValueError("oh"))
        for _ in range(2):
            self.assertEqual(self.house.serve().told, (500, "api_error"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertEqual(len(self.finished), 4)

    def test_no_request(self) -> None:
        """So is one that returns something else, or what the client did not ask for."""
        for answer in (
            lambda request: None,
            lambda request: request.with_body(b'{"model":"m","max_tokens":9,"messages":[],"stream":true}'),
            lambda request: replace(request, count_tokens=True),
            lambda request: replace(request, request_id="other"),
        ):
            self.hooks[0].answer = answer
            self.assertEqual(self.house.serve().told, (500, "api_error"))
        self.assertEqual(len(self.flushLoggedErrors(TypeError, ValueError)), 4)

    def test_body_that_is_none(self) -> None:
        """What a hook made wrong is its own fault, not the client's."""
        self.hooks[0].answer = lambda request: request.with_body(b'{"model":"m"}')
        self.assertEqual(self.house.serve().told, (500, "api_error"))
        (error,) = self.flushLoggedErrors(ValueError)
        self.assertIn("messages: Field required", error.getErrorMessage())

    def test_rename(self) -> None:
        """Another model is another route: for whole messages, streams and counts. What was asked for is recorded."""
        self.hooks[0].answer = lambda request: request.with_body(request.envelope.with_model("other"))
        seen = []

        def look(request: Any) -> Any:
            seen.append(request.envelope.model)
            return request

        self.hooks[1].answer = look
        for options in ({}, {"stream": True}, {"count_tokens": True}):
            self.house.serve(**options)
            self.assertEqual(self.sent().model, "p-other")
            self.assertEqual(self.sent().request.envelope.model, "other")
            self.house.executor.sent.pop().answered.callback(FakeBuffered(b"{}"))
        self.assertEqual(seen, ["other"] * 3)
        self.assertEqual({record.model_asked for record in self.house.sink.records}, {"m"})
        self.assertEqual({record.model_served for record in self.house.sink.records}, {"p-other"})
        self.assertEqual(self.hooks[0].ends[0][0].envelope.model, "other")

    def test_accounted(self) -> None:
        """A body that was rewritten is counted in the place of the client's, and released like that one."""
        for text in ("x" * 100, ""):
            changes: list[int] = []
            body = b'{"model":"m","max_tokens":9,"messages":[],"x":"%b"}' % text.encode()
            self.hooks[0].answer = lambda request, body=body: request.with_body(body)  # type: ignore[misc]
            served = self.house.serve(account=FakeAccount(changes))
            self.assertEqual(sum(changes), len(body))
            self.assertEqual(served.request.envelope.body, b"")
            self.assertEqual(self.sent().request.envelope.body, body)
            self.house.executor.sent.pop().answered.callback(FakeBuffered(b"{}"))
            self.assertEqual(sum(changes), 0)

    def test_too_large(self) -> None:
        """One that does not fit beside the others' is refused, as the client's would be."""

        class Full(FakeAccount):
            def reserve(self, client: str, size: int) -> None:
                raise ClaudeError(529, "Too many large requests at once")

        self.hooks[0].answer = lambda request: request.with_body(request.envelope.body.replace(b"[]", b"[  ]"))
        self.assertEqual(self.house.serve(account=Full([])).told[0], 529)

    def test_headers(self) -> None:
        """Other headers, by lower-case names."""
        self.hooks[0].answer = lambda request: request.with_headers([(b"X-Claude-Code-Session-Id", b"s2")])
        self.house.serve()
        self.assertEqual(list(self.sent().request.headers), [(b"x-claude-code-session-id", b"s2")])
        self.assertEqual(self.house.pool.lease_requests[0].session, "s2")

    def test_awaited(self) -> None:
        """One that has to ask elsewhere is waited for, a coroutine or a Deferred."""
        asked: Deferred[Any] = Deferred()

        async def wait(request: Any) -> Any:
            await asked
            return request.with_body(request.envelope.with_model("other"))

        self.hooks[0].answer = wait
        self.hooks[1].answer = succeed
        self.house.serve()
        self.assertEqual(self.house.executor.sent, [])
        asked.callback(None)
        self.assertEqual(self.sent().model, "p-other")

    def test_client_leaves_between(self) -> None:
        """A client that leaves while one is waited for: the next is not asked, whatever the first makes of it."""

        async def stubborn(request: Any) -> Any:
            try:
                await Deferred()
            except BaseException:
                return request

        for wait in (lambda request: Deferred(), stubborn):
            self.notes.clear()
            self.hooks[0].answer = wait
            served = self.house.serve()
            served.cancel(CancelReason.CLIENT_GONE)
            self.assertTrue(served.done)
            self.assertEqual(self.finished, [("one", "finished", "cancelled")])
            self.assertEqual([note[-1] for note in self.given_back], ["cancelled"] * 2)
            self.assertEqual(self.house.executor.sent, [])

    def test_gives_itself_up(self) -> None:
        """One whose own wait is cancelled, by a time-out of its own, fails; the client is told, and not forgotten."""

        def give_up(request: Any) -> Any:
            asked: Deferred[Any] = Deferred()
            asked.cancel()
            return asked

        self.hooks[0].answer = give_up
        self.assertEqual(self.house.serve().told, (500, "api_error"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_total(self) -> None:
        """``timeouts.total`` ends a hook that takes for ever."""
        self.house.services = replace(self.house.services, total=5.0)
        self.use()
        self.hooks[0].answer = lambda request: Deferred()
        served = self.house.serve()
        self.house.clock.advance(5.0)
        self.assertEqual(served.told, (504, "timeout_error"))

    def test_finished_that_breaks(self) -> None:
        """One that breaks at the end hurts nobody, and is logged once for each hook."""
        for hook in self.hooks:
            hook.breaks = True
        for _ in range(3):
            self.answer(FakeBuffered(b"{}"))
            with capturedLogs() as events:
                self.assertEqual(self.house.serve().client.body, b"{}")
        self.assertEqual([formatEvent(event) for event in events], [])
        self.assertEqual(len(self.finished), 6)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_idle(self) -> None:
        """Whoever waits for the last request that these steps know is told at its end."""
        self.successResultOf(self.steps.idle())
        first, second = self.house.serve(), self.house.serve()
        idle = self.steps.idle()
        first.cancel()
        self.assertNoResult(idle)
        self.house.executor.sent[1].answered.callback(FakeBuffered(b"{}"))
        self.assertTrue(second.done)
        self.successResultOf(idle)


class LimitsTold(StepsTestCase):
    """What answers tell clients of their limits."""

    def told(self, answer: Any, stream: bool = False) -> list[bytes]:
        """The names of such headers in the answer to a request whose first attempt gets *answer*."""
        self.answer(answer)
        served = self.house.serve(stream=stream)
        if stream:
            answer.say(b"one", ended=True)
        self.assertTrue(served.done)
        passed = () if served.client.answer is None else served.client.answer.headers
        return [name for name, _ in (*passed, *served.headers.items()) if name.startswith(b"anthropic-ratelimit-")]

    def each(self) -> list[list[bytes]]:
        """Of every kind of answer: whole, a stream, the upstream's refusal, and our own."""
        refused = ErrorResponse(400, [UPSTREAMS], b"{}", True)
        return [
            self.told(FakeBuffered(b"{}", [UPSTREAMS])),
            self.told(FakeStreaming([UPSTREAMS]), stream=True),
            self.told(AttemptFailed(Outcome(Kind.CLIENT_FAULT, then=Then.ANSWER), refused)),
            self.told(AttemptFailed(Outcome(Kind.CONFIGURATION, then=Then.ANSWER))),
        ]

    def test_their_own(self) -> None:
        """A client that has limits sees these in the place of the upstream's, which are not its own."""
        self.admissions[1].permit = LimitedPermit("second", self.notes)
        self.assertEqual(self.each(), [[OWN[0]]] * 4)

    def test_none(self) -> None:
        """Another gets what the upstream says."""
        self.assertEqual(self.each(), [[UPSTREAMS[0]]] * 3 + [[]])
