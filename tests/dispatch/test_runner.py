"""One request's life: leases, attempts, outcomes, and what the client gets."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.dispatch.request import CancelReason
from claudeproxyd.errors import ClaudeError
from claudeproxyd.leases import Exhausted
from claudeproxyd.messages.usage import Usage
from claudeproxyd.outcomes.types import AttemptFailed, ErrorResponse, Kind, Outcome, Scope, Then
from claudeproxyd.testing import EPOCH, FakeAccount
from tests.dispatch.fakes import SECRET, FakeBuffered, FakeExecutor, FakeStreaming, House, Served

SAID = b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}'


def failure(
    kind: Kind, then: Then = Then.NEXT, *, status: int = 0, body: bytes = SAID, verbatim: bool = True, **more: Any
) -> AttemptFailed:
    """An attempt's end, with the upstream's answer if there is a status."""
    answer = ErrorResponse(status, [(b"content-type", b"application/json")], body, verbatim) if status else None
    return AttemptFailed(Outcome(kind, Scope.MODEL, then, reason="a reason", **more), answer)


def transient() -> AttemptFailed:
    """A failure that is worth another try."""
    return failure(Kind.TRANSIENT, status=500, repeatable=True)


BODY = b'{"model":"m","max_tokens":9,"messages":[]}'


class DispatchTestCase(SynchronousTestCase):
    """Serves requests in a house."""

    def served(self, house: House, *answers: Any, **options: Any) -> Served:
        """A request whose attempts get these answers, to its end."""
        for executor in house.executors.values():
            executor.answers = list(answers)
        return self.ended(house, house.serve(**options))

    def ended(self, house: House, served: Served) -> Served:
        """Have time pass until a request is over, and nothing of it left."""
        house.clock.pump([1.0] * 20)
        self.assertTrue(served.done)
        self.assertNotIn(None, house.pool.outcomes)
        self.assertEqual(house.clock.getDelayedCalls(), [])
        return served


class Told(DispatchTestCase):
    """What logs and records have of others' words."""

    KEY = "sk-ant-api03-AbCdEf_123-x"

    def test_prompts_are_not_logged(self) -> None:
        """A client is told what the upstream said; the log has the outcome's reason, and no more than a line."""
        answer = ErrorResponse(400, [], b"", message="Dear diary, " + "x" * 1_000)
        outcome = Outcome(Kind.CLIENT_FAULT, then=Then.ANSWER, reason="status 400: 1012 bytes of text")
        served = self.served(House(), AttemptFailed(outcome, answer))
        assert served.client.error is not None
        self.assertEqual(served.client.error.message, answer.message)
        self.assertEqual(served.log.error, "status 400: 1012 bytes of text")
        long = AttemptFailed(Outcome(Kind.MODEL_FAULT, then=Then.ANSWER, reason="x" * 1_000))
        self.assertLessEqual(len(self.served(House(), long).log.error), 200)

    def test_records(self) -> None:
        """What an upstream made up may hold our key: its request's id, why it stopped."""
        house = House()
        answer = FakeBuffered(b"{}")
        answer.request_id = self.KEY
        answer.stop_reason = f"because of {self.KEY} " + "x" * 1_000
        served = self.served(house, answer)
        (record,) = house.sink.records
        self.assertEqual(record.upstream_request_id, "***")
        self.assertTrue(record.stop_reason.startswith("because of ***"))
        self.assertEqual(len(record.stop_reason), 200)
        self.assertEqual(served.log.stop_reason, record.stop_reason)


class Answers(DispatchTestCase):
    """Whole answers."""

    def test_whole(self) -> None:
        """The client gets the upstream's body, its headers and ours; the lease comes back ok."""
        house = House()
        served = self.served(house, FakeBuffered(b"{}", [(b"x-up", b"1"), (b"request-id", b"req_up")]))
        self.assertEqual(served.client.body, b"{}")
        self.assertEqual(
            served.client.head,
            [
                (b"x-up", b"1"),
                (b"request-id", b"req_up"),
                (b"x-claudeproxyd-request-id", b"req_ours"),
                (b"x-claudeproxyd-provider", b"p"),
                (b"x-claudeproxyd-attempts", b"1"),
            ],
        )
        self.assertEqual(house.pool.outcomes, ["ok"])
        log = served.log
        self.assertEqual((log.outcome, log.provider, log.credential, log.model_served), ("ok", "p", "a", "p-m"))

    def test_what_goes_up(self) -> None:
        """An attempt has the credential's secret, the route's model and its number; the pool knows who asks."""
        house = House()
        self.served(house, FakeBuffered(b"{}"))
        (sent,) = house.executor.sent
        self.assertEqual((sent.attempt.secret, sent.attempt.model, sent.attempt.number), (SECRET, "p-m", 1))
        self.assertIsNone(sent.attempt.body)
        (lease_request,) = house.pool.lease_requests
        self.assertEqual(
            (lease_request.client, lease_request.session, lease_request.count_tokens), ("client", "session", False)
        )

    def test_refused_is_freed_at_once(self) -> None:
        """What a refused request was made of, its body above all, is nothing for the garbage collector to look for."""
        self.addCleanup(gc.enable)
        refused = failure(Kind.CLIENT_FAULT, Then.ANSWER, status=400)
        doubtful = [failure(Kind.PERMISSION, status=403, doubtful=True) for _ in range(2)]
        for failures in ([refused], [transient() for _ in range(12)], [transient(), refused], doubtful):
            for stream in (False, True):
                house = House("a", "b")
                gc.disable()
                served = self.served(house, *failures, stream=stream)
                client = weakref.ref(served.client)
                served.client.producer = None  # as the real one does
                del served
                house.executor.answers.clear()
                for sent in house.executor.sent:
                    del sent.attempt  # it is in a cycle of the fake's own
                for kept in (house.executor.sent, house.pool.lease_requests, house.pool.leases):
                    kept.clear()
                self.assertIsNone(client(), failures)
                gc.enable()

    def test_foreseen_limit(self) -> None:
        """A limit that a good answer shows as used up reaches the pool."""
        house = House()
        answer = FakeBuffered(b"{}")
        answer.exhausted = 30.0
        self.served(house, answer)
        self.assertEqual(house.pool.leases[0].outcome, Outcome(Kind.OK, exhausted=30.0))

    def test_unknown_model(self) -> None:
        """A model without a route is a 404, and no lease is asked for."""
        house = House()
        served = self.served(house, body=b'{"model":"other","max_tokens":1,"messages":[]}')
        self.assertEqual(served.told, (404, "not_found_error"))
        self.assertEqual(house.pool.lease_requests, [])

    def test_no_route_can(self) -> None:
        """What no route can carry is a 400 in the first one's words; routes that can are used."""
        house = House("one/a", "two/b")
        house.executors["one"].refuses = "no toolsets"
        self.assertEqual(self.served(house, FakeBuffered(b"{}")).log.provider, "two")
        house.executors["two"].refuses = "no images"
        served = self.served(house)
        self.assertEqual((served.told, served.client.error.message), ((400, "invalid_request_error"), "no toolsets"))

    def test_routes_are_asked_in_their_turn(self) -> None:
        """A translation costs nothing while the route ahead of it serves, and is made once for all attempts."""
        house = House("one/a", "two/b", "two/c")
        self.served(house, FakeBuffered(b"{}"))
        self.assertEqual((house.executors["one"].asked, house.executors["two"].asked), (1, 0))
        house.executor.answers = [failure(Kind.QUOTA, status=429)]
        house.executors["two"].answers = [failure(Kind.QUOTA, status=429), FakeBuffered(b"{}")]
        self.assertEqual(house.serve().log.attempts, 3)
        self.assertEqual((house.executors["one"].asked, house.executors["two"].asked), (2, 1))

    def test_next_route_cannot(self) -> None:
        """The failure of the route that could is told, not that another could not."""
        house = House("one/a", "two/b")
        house.executors["two"].refuses = "no images"
        served = self.served(house, failure(Kind.QUOTA, status=429))
        self.assertEqual(served.told, (429, "rate_limit_error"))

    def test_thread_that_lies_elsewhere(self) -> None:
        """A client whose conversation the first route keeps is told to bring it whole once the next one is to answer,
        and no wait or error of the first comes before that."""
        body = b'{"model":"m","max_tokens":1,"messages":[],"thread":{"type":"continue","previous_message_id":"msg_1"}}'
        house = House("one/a", "two/b")
        house.executors["two"].refuses = "a conversation that lies elsewhere"
        self.assertEqual(self.served(house, FakeBuffered(b"{}"), body=body).log.provider, "one")
        served = self.served(house, failure(Kind.QUOTA, status=429), body=body)
        self.assertEqual(served.told, (404, "not_found_error"))
        error = served.client.error
        self.assertEqual(
            (error.details, error.message), ({"error_code": "thread_not_found"}, "a conversation that lies elsewhere")
        )

    def test_losses(self) -> None:
        """What a translation leaves out is logged once for each client and kind, and only where it was sent."""
        house = House("one/a", "two/b")
        two = house.executors["two"]
        two.losses = ["citations"]
        self.served(house, FakeBuffered(b"{}"))
        self.assertEqual(len(house.services.losses), 0)
        with capturedLogs() as logs:
            for _ in range(2):
                house.executor.answers = [failure(Kind.QUOTA, status=429)]
                two.answers = [FakeBuffered(b"{}")]
                house.serve()
            told = [event for event in logs if event.get("loss") == "citations"]
        self.assertEqual([event["client"] for event in told], ["client"])
        house.services.note_losses("client", "two", [f"kind {n}" for n in range(5000)])
        self.assertEqual(len(house.services.losses), 1000)

    def test_translations_go_with_the_body(self) -> None:
        """Once a stream is committed nobody needs the body again, nor what was made of it; until then it is counted."""
        house = House()
        house.executor.losses = ["citations"]
        answer = FakeStreaming()
        house.executor.answers = [answer]
        changes: list[int] = []
        served = house.serve(stream=True, account=FakeAccount(changes))
        self.assertTrue(served.body.prepared)
        self.assertEqual(changes, [len(b"translated")])
        answer.say(b"delta", ended=True)
        self.assertEqual((served.body.prepared, served.request.envelope.body), ({}, b""))
        served.body.release()
        self.assertEqual(sum(changes), 0)

    def test_fault_of_ours(self) -> None:
        """An exception that nobody expected is a 503, is logged, and the lease comes back without blame."""
        house = House()
        served = self.served(house, ZeroDivisionError("ours"))
        self.assertEqual(served.told, (503, "api_error"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(house.pool.outcomes, ["internal"])
        self.assertNotIn("ours", served.client.error.message)


class Failover(DispatchTestCase):
    """From one candidate to the next."""

    def test_next(self) -> None:
        """Another credential takes over at once, and the client sees nothing of it but the count."""
        house = House(*"ab")
        house.executor.answers = [failure(Kind.QUOTA, status=429), FakeBuffered(b"{}")]
        served = house.serve()
        self.assertTrue(served.done)
        self.assertEqual(served.client.body, b"{}")
        self.assertEqual(served.headers[b"x-claudeproxyd-attempts"], b"2")
        self.assertEqual(house.pool.outcomes, ["quota", "ok"])
        self.assertEqual([sent.attempt.credential.name for sent in house.executor.sent], ["a", "b"])

    def test_client_fault(self) -> None:
        """No other credential is bothered with what is the client's fault."""
        house = House(*"ab")
        served = self.served(house, failure(Kind.CLIENT_FAULT, Then.ANSWER, status=400))
        self.assertEqual(served.client.answer.body, SAID)
        self.assertEqual(house.pool.outcomes, ["client_fault"])

    def test_what_one_account_has(self) -> None:
        """A file or a container is known to the account that made it alone: the others are asked, each once, and rest
        for nothing. If none has it, the client hears so from the first."""
        missing = [
            failure(Kind.CLIENT_FAULT, status=404, body=SAID.replace(b"no", b"no %d" % number)) for number in range(3)
        ]
        house = House(*"abc")
        served = self.served(house, missing[0], FakeBuffered(b"{}"))
        self.assertEqual((served.client.body, house.pool.outcomes), (b"{}", ["client_fault", "ok"]))
        house = House(*"abc")
        served = self.served(house, *missing)
        self.assertEqual((served.client.answer.body, len(house.executor.sent)), (SAID.replace(b"no", b"no 0"), 3))

    def test_it_is_to_blame(self) -> None:
        """What a second credential refuses alike is told in the upstream's words, and nobody else is asked."""
        house = House(*"abc")
        house.executor.answers = [failure(Kind.PERMISSION, status=403) for _ in range(3)]
        house.pool.blames_after = 2
        served = house.serve()
        self.assertEqual(served.client.answer.status, 403)
        self.assertEqual(len(house.executor.sent), 2)

    def test_next_route(self) -> None:
        """What is too large for one route's provider is tried on the next route, not on the next credential."""
        house = House("one/a", "one/b", "two/c")
        house.executors["two"].answers = [FakeBuffered(b"{}")]
        house.executor.answers = [failure(Kind.TOO_LARGE, Then.NEXT_ROUTE, status=413)]
        self.assertEqual(house.serve().log.credential, "c")
        self.assertEqual(house.pool.outcomes, ["too_large", "ok"])

    def test_next_provider(self) -> None:
        """Where a provider does not serve this place, its other credentials do not either."""
        house = House("one/a", "one/b", "two/c")
        house.executors["two"].answers = [FakeBuffered(b"{}")]
        house.executor.answers = [failure(Kind.LOCATION, Then.NEXT_PROVIDER, status=400)]
        self.assertEqual(house.serve().log.credential, "c")

    def test_no_route_left(self) -> None:
        """The last route's 413 is the client's answer."""
        served = self.served(House(), failure(Kind.TOO_LARGE, Then.NEXT_ROUTE, status=413))
        self.assertEqual(served.client.answer.status, 413)

    def test_max_attempts(self) -> None:
        """No more attempts than ``max_attempts``, however many credentials there are."""
        house = House(*"abcdefgh", settings={"max_attempts": 3})
        self.served(house, *[failure(Kind.QUOTA, status=429) for _ in range(8)])
        self.assertEqual(len(house.executor.sent), 3)

    def test_paid_attempts(self) -> None:
        """What an upstream answered with a 200 is asked for twice more, whoever is asked and however it failed.

        Each of these may have been paid for. Errors that it told of in its stream, and counts, are not paid.
        """
        spoilt = [failure(kind, repeatable=kind is Kind.TRANSIENT) for kind in (Kind.TRANSIENT, Kind.MODEL_FAULT)] * 3
        told = [failure(Kind.OVERLOADED, status=529, repeatable=True) for _ in range(6)]
        for failures, options, attempts in (
            (spoilt, {}, 3),
            (spoilt, {"stream": True}, 3),
            ([failure(Kind.TRANSIENT), failure(Kind.MODEL_FAULT, Then.REPEAT_ONCE), *spoilt], {}, 3),
            (told, {"stream": True}, 6),
            (spoilt, {"count_tokens": True}, 6),
        ):
            house = House(*"abcdef", settings={"max_attempts": 6})
            house.executor.status = 200
            self.served(house, *failures, **options)
            self.assertEqual(len(house.executor.sent), attempts)

    def test_same_again(self) -> None:
        """The only candidate is tried until ``max_attempts``, with some milliseconds between."""
        house = House(settings={"max_attempts": 4})
        house.executor.answers = [transient() for _ in range(9)]
        served = house.serve()
        for seconds, tries in ((0.019, 1), (0.001, 2), (0.02, 3), (0.02, 4)):
            house.clock.advance(seconds + 1e-9)
            self.assertEqual(len(house.executor.sent), tries)
        self.assertTrue(served.done)
        self.assertEqual(served.told, (500, "api_error"))
        self.assertEqual(house.pool.outcomes, ["transient"] * 4)

    def test_it_is_the_request(self) -> None:
        """What fails where nothing else does is given up early: nobody else would answer otherwise."""
        house = House(*"abcdefgh")
        house.pool.odds = 0.02
        self.served(house, *[transient() for _ in range(8)])
        self.assertEqual(len(house.executor.sent), 3)

    def test_not_again(self) -> None:
        """Nor is one tried again after a time-out or when the upstream forbids it."""
        house = House()
        self.served(house, failure(Kind.TRANSIENT, timed_out=True))
        self.assertEqual(len(house.executor.sent), 1)

    def test_budget(self) -> None:
        """With the fuse in, an upstream that fails everything is not met with a multiple of its load."""
        house = House(settings={"retry_budget": 0.2})
        for _ in range(20):
            house.executor.answers = [transient() for _ in range(9)]
            house.serve()
            house.clock.pump([0.03] * 5)
        self.assertTrue(25 < len(house.executor.sent) <= 30, len(house.executor.sent))

    def test_quota_is_free(self) -> None:
        """Moving on from a used-up credential costs no budget."""
        house = House(*"ab", settings={"retry_budget": 0.2})
        for _ in range(30):
            house.executor.answers = [failure(Kind.QUOTA, status=429), FakeBuffered(b"{}")]
            self.assertEqual(house.serve().client.body, b"{}")

    def test_no_wait_after_head(self) -> None:
        """After an early head commit no new wait in the queue begins."""
        house = House(*"ab")
        served = house.serve(stream=True)
        house.clock.advance(45.0)
        self.assertTrue(served.client.head_committed)
        house.executor.sent[0].answered.errback(transient())
        self.assertEqual(
            [lease_request.may_wait for lease_request in house.pool.lease_requests], [False, False]
        )  # one and the same object
        house.executor.sent[1].answered.errback(failure(Kind.CLIENT_FAULT, Then.ANSWER, status=400))
        self.assertEqual(served.told, (400, "invalid_request_error"))


class Repetitions(DispatchTestCase):
    """What stays with the lease."""

    def test_rectify(self) -> None:
        """A signature that is not accepted: once more without thinking, on the same lease."""
        house = House(*"ab")
        turns = b'[{"role":"assistant","content":[{"type":"thinking"}]}]'
        body = b'{"model":"m","max_tokens":9,"thinking":{},"messages":%b}' % turns
        served = self.served(
            house, failure(Kind.RECTIFY, Then.RECTIFY_ONCE, status=400), FakeBuffered(b"{}"), body=body
        )
        self.assertEqual(served.client.body, b"{}")
        self.assertEqual(house.pool.outcomes, ["ok"])
        self.assertEqual(
            json.loads(house.executor.sent[1].attempt.body), {"model": "p-m", "max_tokens": 9, "messages": []}
        )
        self.assertEqual([record.outcome for record in house.sink.records], ["rectify", "ok"])

    def test_rectified_for_the_whole_request(self) -> None:
        """Whoever takes over after that gets the rectified request too: the refused one would be refused again."""
        house = House("one/a", "two/b")
        house.executor.answers = [failure(Kind.RECTIFY, Then.RECTIFY_ONCE, status=400), failure(Kind.QUOTA, status=429)]
        house.executors["two"].answers = [FakeBuffered(b"{}")]
        served = house.serve()
        self.assertEqual(served.client.body, b"{}")
        (sent,) = house.executors["two"].sent
        self.assertEqual(
            json.loads(sent.attempt.body), {"model": "two-m", "max_tokens": 9, "messages": [], "stream": False}
        )

    def test_rectify_is_had_once(self) -> None:
        """A second refusal is the client's answer, and no other credential is bothered."""
        house = House(*"ab")
        served = self.served(house, *[failure(Kind.RECTIFY, Then.RECTIFY_ONCE, status=400) for _ in range(4)])
        self.assertEqual(served.client.answer.body, SAID)
        self.assertEqual(len(house.executor.sent), 2)
        self.assertEqual(house.pool.outcomes, ["rectify"])

    def test_model_fault(self) -> None:
        """An answer that the model spoilt is asked for once more, then it is a 502."""
        house = House(*"ab")
        served = self.served(house, *[failure(Kind.MODEL_FAULT, Then.REPEAT_ONCE) for _ in range(4)])
        self.assertEqual(served.told, (502, "api_error"))
        self.assertEqual(len(house.executor.sent), 2)

    def test_last_word(self) -> None:
        """An attempt is told when nothing that the model spoils is asked for again."""
        house = House()
        self.served(house, failure(Kind.MODEL_FAULT, Then.REPEAT_ONCE), FakeBuffered(b"{}"))
        self.assertEqual([sent.attempt.last for sent in house.executor.sent], [False, True])
        house = House(settings={"max_attempts": 1})
        self.served(house, FakeBuffered(b"{}"))
        self.assertEqual([sent.attempt.last for sent in house.executor.sent], [True])

    def test_refresh(self) -> None:
        """A 401 of a secret that can be refreshed: refreshed once, and repeated on the same lease."""
        house = House()
        source = house.sources["a"]
        house.executor.answers = [failure(Kind.AUTH, Then.REFRESH_ONCE, status=401), FakeBuffered(b"{}")]
        served = house.serve()
        self.assertEqual((served.done, len(house.executor.sent)), (False, 1))
        source.refreshes[0].callback(SECRET)
        self.assertEqual(served.client.body, b"{}")
        self.assertEqual(house.pool.outcomes, ["ok"])

    def test_refreshed_meanwhile(self) -> None:
        """A 401 of a secret that another request has had replaced since: repeated with the new one, none is fetched."""
        house = House()
        source = house.sources["a"]
        newer = {"api_key": "newer"}
        presents = [SECRET, newer]
        self.patch(source, "present", lambda: presents.pop(0))
        house.executor.answers = [failure(Kind.AUTH, Then.REFRESH_ONCE, status=401), FakeBuffered(b"{}")]
        served = house.serve()
        self.assertEqual((served.client.body, source.refreshes), (b"{}", []))
        self.assertEqual([sent.attempt.secret for sent in house.executor.sent], [SECRET, newer])

    def test_reload_while_refreshing(self) -> None:
        """A lease stays with the executor that knows its credential, whatever a reload puts there meanwhile."""
        house = House()
        house.executor.answers = [failure(Kind.AUTH, Then.REFRESH_ONCE, status=401), FakeBuffered(b"{}")]
        served = house.serve()
        house.executors["p"] = FakeExecutor()
        house.sources["a"].refreshes[0].callback(SECRET)
        self.assertEqual((served.client.body, house.executors["p"].sent), (b"{}", []))

    def test_refresh_once(self) -> None:
        """A second 401 is the credential's own; the next one may refresh its secret as well."""
        house = House(*"ab")
        house.executor.answers = [failure(Kind.AUTH, Then.REFRESH_ONCE, status=401) for _ in range(4)]
        served = house.serve()
        for name in "ab":
            house.sources[name].refreshes[0].callback(SECRET)
        self.assertEqual(house.pool.outcomes, ["auth", "auth"])
        self.assertEqual(len(house.executor.sent), 4)
        self.assertEqual(served.told, (503, "api_error"))

    def test_refresh_fails(self) -> None:
        """A refresh that fails is a failed attempt of that credential: the next one takes over."""
        house = House(*"ab")
        house.executor.answers = [failure(Kind.AUTH, Then.REFRESH_ONCE, status=401), FakeBuffered(b"{}")]
        served = house.serve()
        house.sources["a"].refreshes[0].errback(failure(Kind.AUTH))
        self.assertEqual(served.client.body, b"{}")
        self.assertEqual(house.pool.outcomes, ["auth", "ok"])

    def test_secret_cannot_be_fetched(self) -> None:
        """So is one without which there is no secret at all."""
        house = House(*"ab")
        house.sources["a"].is_present = False
        house.executor.answers = [FakeBuffered(b"{}")]
        served = house.serve()
        house.sources["a"].refreshes[0].errback(failure(Kind.TRANSIENT))
        self.assertEqual(served.client.body, b"{}")
        self.assertEqual(house.pool.outcomes, ["transient", "ok"])


class Cancelling(DispatchTestCase):
    """A request that is ended from outside, wherever it stands."""

    def gone(self, served: Served) -> None:
        """The request is over; its client gets nothing; whatever lease it had is back, without blame."""
        self.assertTrue(served.done)
        self.assertEqual((served.client.body, served.client.error), (None, None))
        self.assertEqual(set(served.house.pool.outcomes) - {"transient", "auth"}, {"cancelled"})
        self.assertEqual(served.log.outcome, "cancelled")
        self.assertEqual(served.house.clock.getDelayedCalls(), [])

    def test_in_the_queue(self) -> None:
        """Its place in the queue is given up."""
        house = House()
        house.pool.hold = True
        served = house.serve()
        left: list[object] = []
        house.pool.waiting[0].addErrback(left.append)
        served.cancel()
        self.assertTrue(served.done)
        self.assertTrue(house.pool.waiting[0].called)
        self.assertEqual(house.pool.leases, [])

    def test_in_a_refresh(self) -> None:
        """While its secret is fetched."""
        house = House()
        house.sources["a"].is_present = False
        served = house.serve()
        served.cancel()
        self.gone(served)

    def test_in_a_second_refresh(self) -> None:
        """While its secret is fetched anew."""
        house = House()
        house.executor.answers = [failure(Kind.AUTH, Then.REFRESH_ONCE, status=401)]
        served = house.serve()
        served.cancel()
        self.gone(served)

    def test_before_the_head(self) -> None:
        """While the upstream thinks: its request is cancelled at once, and recorded."""
        house = House()
        served = house.serve()
        served.cancel()
        self.assertTrue(house.executor.sent[0].cancelled)
        self.gone(served)
        self.assertEqual([record.outcome for record in house.sink.records], ["cancelled"])

    def test_in_the_stream(self) -> None:
        """While events pass: the upstream's socket is closed at once."""
        house = House()
        served = house.serve(stream=True)
        answer = FakeStreaming()
        house.executor.sent[0].answered.callback(answer)
        answer.say(b"one\n\n")
        served.cancel()
        self.assertEqual(answer.stopped, 1)
        self.gone(served)

    def test_in_a_backoff(self) -> None:
        """While it waits before another try."""
        house = House()
        house.executor.answers = [transient()]
        served = house.serve()
        self.assertEqual(len(house.pool.leases), 2)
        served.cancel()
        self.gone(served)
        self.assertEqual(house.pool.outcomes, ["transient", "cancelled"])

    def test_twice(self) -> None:
        """The first reason stands; cancelling what is over does nothing."""
        house = House()
        served = house.serve()
        served.cancel(CancelReason.CLIENT_GONE)
        served.cancel(CancelReason.DRAIN)
        self.gone(served)
        self.assertEqual(served.log.error, "client_gone")

    def test_drain(self) -> None:
        """A client whose request is ended by a shutdown is told so, and may try elsewhere."""
        served = House().serve()
        served.cancel(CancelReason.DRAIN)
        self.assertEqual(served.told, (529, "overloaded_error"))
        self.assertEqual(served.headers[b"retry-after"], b"1")

    def test_total(self) -> None:
        """``timeouts.total`` ends a request with a 504."""
        house = House(total=60.0)
        served = house.serve()
        house.clock.advance(59.9)
        self.assertFalse(served.done)
        house.clock.advance(0.1)
        self.assertEqual(served.told, (504, "timeout_error"))
        self.assertEqual(house.pool.outcomes, ["cancelled"])
        self.served(house, FakeBuffered(b"{}"))


class CountTokens(DispatchTestCase):
    """``/v1/messages/count_tokens``."""

    def test_counted(self) -> None:
        """An upstream's count is the answer, streamed request or not."""
        house = House()
        served = self.served(house, FakeBuffered(b'{"input_tokens":3}'), count_tokens=True, stream=True)
        self.assertEqual(served.client.body, b'{"input_tokens":3}')
        self.assertTrue(house.pool.lease_requests[0].count_tokens)

    def test_no_usage(self) -> None:
        """A count is no usage: its record says what it is of, and holds no tokens; neither does its access log."""
        house = House()
        answer = FakeBuffered(b'{"input_tokens":3}')
        answer.usage.input = 3
        served = self.served(house, answer, count_tokens=True)
        self.served(house, FakeBuffered(b"{}"))
        count, message = house.sink.records
        self.assertEqual((count.operation, message.operation), ("count_tokens", "messages"))
        self.assertEqual((count.outcome, count.input_tokens, served.log.usage), ("ok", None, None))

    def test_estimate(self) -> None:
        """Where no upstream can count, a guess is marked as one."""
        house = House(*"ab")
        served = self.served(
            house, *[failure(Kind.UNSUPPORTED, status=404) for _ in range(2)], count_tokens=True, body=BODY
        )
        self.assertEqual(json.loads(served.client.body), {"input_tokens": len(BODY)})
        self.assertEqual(served.headers[b"x-claudeproxyd-estimate"], b"true")
        self.assertEqual(len(house.executor.sent), 2)

    def test_estimate_without_a_route(self) -> None:
        """Also where no route can carry the question."""
        house = House()
        house.executor.refuses = "cannot"
        self.assertIn(b"input_tokens", self.served(house, count_tokens=True).client.body)

    def test_other_failures(self) -> None:
        """A failure that passes is told, not papered over."""
        served = self.served(House(), failure(Kind.QUOTA, status=429), count_tokens=True)
        self.assertEqual(served.told, (429, "rate_limit_error"))


class Blanks(DispatchTestCase):
    """``nonstream_keepalive``."""

    def test_blanks(self) -> None:
        """Blanks go ahead of a body that takes long, and stop with it."""
        house = House(nonstream_keepalive=5.0)
        served = house.serve()
        house.clock.pump([5.0, 5.0])
        self.assertEqual(served.client.writes, [b" ", b" "])
        house.executor.sent[0].answered.callback(FakeBuffered(b"{}"))
        self.assertEqual(served.client.body, b"{}")
        self.assertEqual(house.clock.getDelayedCalls(), [])

    def test_not_for_streams(self) -> None:
        """A stream has pings, a count is fast."""
        for options in ({"stream": True}, {"count_tokens": True}):
            house = House(nonstream_keepalive=5.0)
            served = house.serve(**options)  # type: ignore[arg-type]  # both are flags
            house.clock.advance(5.0)
            self.assertEqual(served.client.writes, [])


class Records(DispatchTestCase):
    """One usage record for every attempt."""

    def test_figures(self) -> None:
        """Each attempt's own outcome, credential, times and figures."""
        house = House(*"ab")
        served = house.serve()
        house.clock.advance(2.0)
        first = house.executor.sent[0].attempt
        first.status, first.head_at, first.bytes_out = 429, house.clock.seconds(), 11
        first.usage = Usage()
        first.usage.output = 3
        house.executor.sent[0].answered.errback(failure(Kind.QUOTA, status=429))
        house.clock.advance(3.0)
        second = house.executor.sent[1].attempt
        second.status, second.head_at, second.bytes_out = 200, house.clock.seconds(), 11
        house.clock.advance(1.0)
        answer = FakeBuffered(b"{}")
        answer.usage.input, answer.usage.output, answer.usage.cache_read = 5, 7, 3
        answer.stop_reason, answer.bytes_in = "end_turn", 2
        house.executor.sent[1].answered.callback(answer)
        self.assertTrue(served.done)
        failed, ok = house.sink.records
        self.assertEqual((failed.outcome, failed.credential, failed.attempt, failed.status), ("quota", "a", 1, 429))
        self.assertEqual((failed.time_to_first_byte, failed.duration), (2.0, 2.0))
        self.assertEqual((failed.input_tokens, failed.output_tokens), (None, 3))
        self.assertEqual((ok.outcome, ok.credential, ok.attempt, ok.status), ("ok", "b", 2, 200))
        self.assertEqual((ok.time_to_first_byte, ok.duration), (3.0, 4.0))
        self.assertEqual((ok.input_tokens, ok.output_tokens, ok.cache_read_tokens, ok.estimated), (5, 7, 3, False))
        self.assertEqual(
            (ok.bytes_in, ok.bytes_out, ok.stop_reason, ok.upstream_request_id), (2, 11, "end_turn", "req_up")
        )
        for record in house.sink.records:
            self.assertEqual((record.time, record.request_id, record.client), (EPOCH, "req_ours", "client"))
            self.assertEqual((record.labels, record.session, record.provider), ({"team": "x"}, "session", "p"))
            self.assertEqual((record.model_asked, record.model_served), ("m", "p-m"))

    def test_begun(self) -> None:
        """Each attempt is noted when it begins, with what is known; to count tokens uses none, and is not."""
        house = House(*"ab")
        body = b'{"model":"m","max_tokens":9,"messages":[],"x":"%b"}' % (b"x" * 350)
        house.serve(body=body)
        (first,) = house.sink.under_way
        self.assertEqual((first.outcome, first.estimated, first.attempt, first.credential), ("lost", True, 1, "a"))
        self.assertEqual((first.input_tokens, first.output_tokens, first.time), (len(body) // 4, None, EPOCH))
        self.assertEqual(
            (first.client, first.session, first.model_asked, first.model_served), ("client", "session", "m", "p-m")
        )
        house.executor.sent[0].answered.errback(failure(Kind.QUOTA, status=429))
        self.assertEqual([(each.attempt, each.credential) for each in house.sink.under_way], [(1, "a"), (2, "b")])
        house.serve(count_tokens=True)
        self.assertEqual(len(house.sink.under_way), 2)

    def test_no_attempt(self) -> None:
        """A request that ends without one is noted with what its client was told; one that had some is not."""
        house = House()
        house.serve(body=b'{"model":"other","max_tokens":1,"messages":[]}')
        house.pool.hold = True
        house.serve().cancel()
        house.pool.hold = False
        house.clock.advance(5)
        house.serve()
        house.executor.sent[-1].answered.errback(failure(Kind.CLIENT_FAULT, Then.ANSWER, status=400))
        noted = [(each.attempt, each.outcome, each.status) for each in house.sink.without_attempt]
        self.assertEqual(noted, [(0, "bad_request", 404), (0, "cancelled", 0)])
        record = house.sink.without_attempt[0]
        self.assertEqual((record.client, record.session, record.model_asked), ("client", "session", ""))
        self.assertEqual(house.sink.without_attempt[1].model_asked, "m")
        self.assertEqual((record.request_id, record.time, record.provider), ("req_ours", EPOCH, ""))

    def test_sent_and_never_answered(self) -> None:
        """What went up counts by its bytes where we left before an answer, or the answer was cut before it had a count;
        what the upstream refused, and what did not go up, uses nothing."""
        body = b'{"model":"m","max_tokens":9,"messages":[],"x":"%b"}' % (b"x" * 350)
        counted = len(body) // 4
        for way, size, tokens in (("leave", 1, counted), ("leave", 0, None), ("cut", 1, counted), ("refuse", 1, None)):
            house = House()
            served = house.serve(body=body)
            (sent,) = house.executor.sent
            sent.attempt.bytes_out = size
            if way == "leave":
                served.cancel()
            elif way == "cut":
                sent.attempt.status = 200
                sent.answered.errback(failure(Kind.TRANSIENT))
            else:
                sent.attempt.status = 529
                sent.answered.errback(failure(Kind.OVERLOADED, status=529))
            record = house.sink.records[0]
            self.assertEqual((record.input_tokens, record.estimated), (tokens, tokens is not None), way)
            self.assertIs(record.output_tokens, None)

    def test_sent_again(self) -> None:
        """A request that met a closed connection, and went out once more, leaves a record of either."""
        for failing in (False, True):
            house = House()
            served = house.serve()
            (sent,) = house.executor.sent
            sent.attempt.bytes_out = 11
            house.clock.advance(2.0)
            sent.attempt.went_stale(house.clock.seconds())
            house.clock.advance(3.0)
            if failing:
                sent.answered.errback(failure(Kind.CLIENT_FAULT, Then.ANSWER, status=400))
            else:
                sent.answered.callback(FakeBuffered(b"{}"))
            stale, last = house.sink.records
            self.assertEqual((stale.outcome, stale.attempt, stale.status, stale.duration), ("stale", 1, 0, 2.0))
            self.assertEqual((stale.bytes_out, stale.credential, stale.input_tokens), (11, "a", None))
            self.assertEqual((last.outcome, last.attempt, last.duration), ("client_fault" if failing else "ok", 2, 3.0))
            self.assertEqual(served.headers[b"x-claudeproxyd-attempts"], b"2")
            self.assertEqual((served.log.upstream_time, house.pool.outcomes), (5.0, [last.outcome]))


class NothingToOffer(DispatchTestCase):
    """The pool has no candidate at all."""

    def test_told(self) -> None:
        """The client is told when to come back, and no attempt was made."""
        house = House()
        house.pool.credentials = ()
        house.pool.soonest = 20.5
        served = self.served(house)
        self.assertEqual(served.told, (429, "rate_limit_error"))
        self.assertEqual(served.headers[b"retry-after"], b"21")
        self.assertEqual(house.sink.records, [])

    def test_failures_count(self) -> None:
        """After failures, what they were is told, with the pool's word on when."""
        house = House()
        house.pool.soonest = 7.0
        served = self.served(house, failure(Kind.OVERLOADED, status=529))
        self.assertEqual(served.client.answer.body, SAID)
        self.assertEqual(served.headers[b"retry-after"], b"7")

    def test_pool_fails(self) -> None:
        """A pool that raises anything else is a fault of ours."""
        house = House()
        house.pool.hold = True
        served = house.serve()
        house.pool.waiting[0].errback(ZeroDivisionError())
        self.assertEqual(served.told, (500, "api_error"))
        self.flushLoggedErrors(ZeroDivisionError)

    def test_waits(self) -> None:
        """A request waits for as long as the pool lets it."""
        house = House()
        house.pool.hold = True
        served = house.serve()
        self.assertFalse(served.done)
        house.pool.waiting[0].errback(Exhausted(Kind.TRANSIENT, 9.0))
        self.assertIsInstance(served.client.error, ClaudeError)
        self.assertEqual(served.told, (503, "api_error"))

    def test_anomaly(self) -> None:
        """An answer that is out of order passes; the first of a provider is logged, all are counted."""
        house = House("a")
        for stream in (True, False):
            served = house.serve(stream=stream)
            answer = FakeStreaming() if stream else FakeBuffered(b"{}")
            answer.anomaly = "a second message_start"
            house.executor.sent[-1].answered.callback(answer)
            if stream:
                answer.say(b"x", ended=True)
            self.assertTrue(served.done)
        self.assertEqual(list(house.services.anomalies.values()), [2])


class Awaitables(DispatchTestCase):
    """What an executor may give back."""

    def test_deferred(self) -> None:
        """A plugin's executor need not be a coroutine: a Deferred serves as well, and is cancelled with the request."""
        house = House("a")
        cancelled: list[Any] = []
        house.executor.messages = lambda attempt: Deferred(cancelled.append)  # type: ignore[method-assign]
        served = house.serve()
        served.cancel()
        self.assertEqual((len(cancelled), house.pool.outcomes, served.done), (1, ["cancelled"], True))
        house.executor.messages = lambda attempt: succeed(FakeBuffered(b"{}"))  # type: ignore[method-assign]
        self.assertEqual(house.serve().client.body, b"{}")


class Windows(DispatchTestCase):
    """Routes that say how large a request they take. The estimate of these tests is a token a byte."""

    def body(self, size: int) -> bytes:
        start, end = b'{"model":"m","max_tokens":9,"messages":["', b'"]}'
        return start + b"x" * (size - len(start) - len(end)) + end

    def overflow(self, tokens: int, maximum: int) -> AttemptFailed:
        """As every executor puts it."""
        said = f"prompt is too long: {tokens} tokens > {maximum} maximum"
        answer = ErrorResponse(400, [], SAID, verbatim=False, message=said)
        return AttemptFailed(Outcome(Kind.CLIENT_FAULT, Scope.NONE, Then.ANSWER), answer)

    def sent(self, house: House) -> dict[str, int]:
        return {name: len(executor.sent) for name, executor in house.executors.items()}

    def test_passed_over(self) -> None:
        """A request that is too large for a route goes to the next; one that may fit is left to the upstream."""
        for size, expected in ((500, {"p": 1, "q": 0}), (1_200, {"p": 1, "q": 0}), (1_300, {"p": 0, "q": 1})):
            house = House("p/a", "q/b", contexts={"p": 1_000})
            served = self.served(house, FakeBuffered(b"{}"), body=self.body(size))
            self.assertEqual((served.client.body, self.sent(house)), (b"{}", expected), size)

    def test_counted(self) -> None:
        """An upstream's own count, where the estimate was too low, leads past it, and past all that are too small."""
        house = House("p/a", "q/b", "r/c", contexts={"p": 1_000, "q": 1_100, "r": 2_000})
        house.executors["p"].answers = [self.overflow(1_150, 1_000)]
        house.executors["r"].answers = [FakeBuffered(b"{}")]
        served = house.serve(body=self.body(900))
        self.assertEqual((served.client.body, self.sent(house)), (b"{}", {"p": 1, "q": 0, "r": 1}))
        self.assertEqual(house.pool.outcomes, ["client_fault", "ok"])

    def test_without_a_count(self) -> None:
        """An upstream that does not say how large it is says that it is larger than its window."""
        said = ErrorResponse(400, [], SAID, verbatim=False, message="Input is too long.")
        house = House("p/a", "q/b", "r/c", contexts={"p": 1_000, "q": 1_000, "r": 1_001})
        house.executors["p"].answers = [AttemptFailed(Outcome(Kind.CLIENT_FAULT, Scope.NONE, Then.ANSWER), said)]
        house.executors["r"].answers = [FakeBuffered(b"{}")]
        served = house.serve(body=self.body(900))
        self.assertEqual((served.client.body, self.sent(house)), (b"{}", {"p": 1, "q": 0, "r": 1}))

    def test_none_is_left(self) -> None:
        """The client hears it in the words by which it compacts, with the widest window and whose it is."""
        house = House("p/a", "q/b", contexts={"p": 1_000, "q": 2_000})
        served = self.served(house, body=self.body(3_000))
        self.assertEqual(served.told, (400, "invalid_request_error"))
        self.assertEqual(served.client.error.message, "prompt is too long: 3000 tokens > 2000 maximum for q-m")
        self.assertEqual(self.sent(house), {"p": 0, "q": 0})

    def test_none_is_left_but_small_ones(self) -> None:
        """The upstream's own words, where it was asked and nobody else takes more."""
        house = House("p/a", "q/b", contexts={"p": 1_000, "q": 1_000})
        house.executors["p"].answers = [self.overflow(1_150, 1_000)]
        served = house.serve(body=self.body(900))
        self.assertEqual(served.client.error.message, "prompt is too long: 1150 tokens > 1000 maximum")
        self.assertEqual(self.sent(house), {"p": 1, "q": 0})

    def test_named(self) -> None:
        """Where others fail, the error names the route that was not asked."""
        house = House("p/a", "q/b", contexts={"q": 100}, settings={"max_attempts": 2})
        served = self.served(house, *[transient() for _ in range(4)], body=self.body(900))
        self.assertIn("not asked, as the request is too large for it: q-m", served.client.error.message)

    def test_without_a_window(self) -> None:
        """Of a route that names none, an overflow stays the client's answer, and nobody else is bothered."""
        house = House("p/a", "q/b")
        served = self.served(house, self.overflow(1_150, 1_000), body=self.body(900))
        self.assertEqual((served.told[0], self.sent(house)), (400, {"p": 1, "q": 0}))

    def test_counting(self) -> None:
        """A request is counted wherever its tokens are to be known, however large it is."""
        house = House("p/a", contexts={"p": 100})
        served = self.served(house, FakeBuffered(b'{"input_tokens":9}'), count_tokens=True, body=self.body(900))
        self.assertEqual(served.client.body, b'{"input_tokens":9}')
