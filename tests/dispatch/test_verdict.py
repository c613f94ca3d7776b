"""What the client is told when nobody could serve: row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import Pool
from claudeproxyd.dispatch.verdict import MAX_RELAYED_BYTES, RequestFailed, broken_off, final_error
from claudeproxyd.errors import Refusal
from claudeproxyd.leases import Exhausted, Exhaustion
from claudeproxyd.outcomes.types import AttemptFailed, ErrorResponse, Kind, Outcome, Scope, Then


def body(type: str, message: str) -> bytes:
    """An error in the API's shape."""
    return f'{{"type":"error","error":{{"type":"{type}","message":"{message}"}}}}'.encode()


def failed(kind: Kind, answer: ErrorResponse | None = None, **more: Any) -> AttemptFailed:
    """One attempt's end."""
    return AttemptFailed(Outcome(kind, then=Then.NEXT, **({"reason": "a reason"} | more)), answer)


def said(status: int, type: str = "api_error", message: str = "upstream's words") -> Any:
    """What an Anthropic upstream said."""
    headers = [
        (b"request-id", b"req_up"),
        (b"retry-after", b"999"),
        (b"retry-after-ms", b"9"),
        (b"x-should-retry", b"true"),
    ]
    return ErrorResponse(status, headers, body(type, message), verbatim=True)


def told(*failures: AttemptFailed, ready_in: float | None = None, **settings: Any) -> RequestFailed:
    """What comes of these failures."""
    return final_error("m", failures, None, ready_in, Pool(**settings))


def pool_said(reason: Kind | Exhaustion, ready_in: float | None = None, **settings: Any) -> RequestFailed:
    """What comes of an empty pool, without any attempt."""
    return final_error("m", [], Exhausted(reason, ready_in), ready_in, Pool(**settings))


class VerdictTestCase(SynchronousTestCase):
    """Compares what a client gets."""

    def check(self, refused: RequestFailed, status: int, type: str, *headers: tuple[bytes, bytes]) -> None:
        """Status, type and headers."""
        error = refused.error
        self.assertEqual((error.status, error.type), (status, type))
        self.assertEqual(sorted(error.headers), sorted(headers))


AGAIN = (b"x-should-retry", b"false")


class Refusals(VerdictTestCase):
    """What the end of a request is counted as."""

    def test_nobody_is_ready(self) -> None:
        """Our credentials cannot; whether they were asked, or are known to rest."""
        for kind in (Kind.QUOTA, Kind.AUTH, Kind.BILLING, Kind.PERMISSION, Kind.LOCATION):
            for refused in (told(failed(kind)), pool_said(kind, 20.0)):
                self.assertIs(refused.error.refusal, Refusal.NO_CREDENTIAL)
        self.assertIs(pool_said(Exhaustion.DISABLED).error.refusal, Refusal.NO_CREDENTIAL)
        self.assertIs(pool_said(Kind.TRANSIENT, 3.0).error.refusal, Refusal.NO_CREDENTIAL)

    def test_crowded(self) -> None:
        """They serve as many others as they can."""
        for reason in (Exhaustion.BUSY, Exhaustion.QUEUE_FULL):
            self.assertIs(pool_said(reason, 1.0).error.refusal, Refusal.OVERLOAD)

    def test_bad_requests(self) -> None:
        """Nobody can serve it, whoever says so."""
        for kind in (Kind.CLIENT_FAULT, Kind.TOO_LARGE, Kind.UNSUPPORTED, Kind.MODEL_UNAVAILABLE):
            self.assertIs(told(failed(kind, said(404))).error.refusal, Refusal.BAD_REQUEST)
        self.assertIs(pool_said(Exhaustion.NONE).error.refusal, Refusal.BAD_REQUEST)

    def test_failures(self) -> None:
        """It was not refused: its attempts failed, while others might have served it."""
        for kind in (Kind.TRANSIENT, Kind.OVERLOADED, Kind.BROKEN_STREAM, Kind.INTERNAL, Kind.MODEL_FAULT):
            self.assertIsNone(told(failed(kind, said(529))).error.refusal)
        self.assertIsNone(broken_off(failed(Kind.TRANSIENT, said(529))).error.refusal)


class Rows(VerdictTestCase):
    """One kind of failure on every candidate."""

    def test_client_fault(self) -> None:
        """An Anthropic upstream's answer passes verbatim; without one, its words under 400."""
        for kind, status in ((Kind.CLIENT_FAULT, 422), (Kind.TOO_LARGE, 413), (Kind.UNSUPPORTED, 404)):
            answer = said(status, "invalid_request_error")
            refused = told(failed(kind, answer), ready_in=5.0)
            self.assertIs(refused.answer, answer)
            self.check(refused, status, refused.error.type)
        self.check(told(failed(Kind.CLIENT_FAULT)), 400, "invalid_request_error")
        self.check(told(failed(Kind.TOO_LARGE)), 413, "request_too_large")
        self.check(told(failed(Kind.UNSUPPORTED)), 400, "invalid_request_error")

    def test_too_large_with_another_status(self) -> None:
        """Too many bytes are a 413, also where the upstream has another status for that."""
        answer = ErrorResponse(400, [], b"", message="Request payload size exceeds the limit: 9 bytes.")
        refused = told(failed(Kind.TOO_LARGE, answer))
        self.assertEqual(refused.error.message, answer.message)
        self.check(refused, 413, "request_too_large")

    def test_foreign_types_stay(self) -> None:
        """Another provider's message is kept, its own type strings never are."""
        answer = ErrorResponse(400, [], b'{"error":{"status":"INVALID_ARGUMENT"}}', message="no such tool")
        refused = told(failed(Kind.CLIENT_FAULT, answer))
        self.assertIsNone(refused.answer)
        self.assertEqual(refused.error.message, "no such tool")
        self.check(refused, 400, "invalid_request_error")

    def test_model_unavailable(self) -> None:
        """404 in the upstream's words."""
        refused = told(failed(Kind.MODEL_UNAVAILABLE, said(404, "not_found_error", "model: m")), ready_in=600.0)
        self.assertEqual(refused.error.message, "model: m")
        self.check(refused, 404, "not_found_error")
        self.check(pool_said(Kind.MODEL_UNAVAILABLE, 600.0), 404, "not_found_error")
        self.check(pool_said(Exhaustion.NONE), 404, "not_found_error")

    def test_quota(self) -> None:
        """429 with the pool's word on when; the upstream's own headers do not pass."""
        for refused in (told(failed(Kind.QUOTA, said(429)), ready_in=12.2), pool_said(Kind.QUOTA, 12.2)):
            self.check(refused, 429, "rate_limit_error", (b"retry-after", b"13"))
            self.assertIn("13 s", refused.error.message)
            self.assertIsNone(refused.answer)

    def test_overloaded(self) -> None:
        """An upstream's own 529 is relayed with its body and the pool's retry-after, once."""
        refused = told(failed(Kind.OVERLOADED, said(529, "overloaded_error", "Overloaded")), ready_in=3.0)
        answer = refused.answer
        assert answer is not None
        self.assertEqual((answer.status, answer.body), (529, body("overloaded_error", "Overloaded")))
        self.assertEqual(
            [*answer.headers, *refused.error.headers], [(b"request-id", b"req_up"), (b"retry-after", b"3")]
        )

    def test_overloaded_in_the_pool(self) -> None:
        """The pool's own refusal is 503: Claude Code gives up after three 529s."""
        self.check(pool_said(Kind.OVERLOADED, 3.0), 503, "api_error", (b"retry-after", b"3"))

    def test_ours(self) -> None:
        """What our credentials may not is 503, says so, and is never the client's 401; with the true time."""
        for kind in (Kind.AUTH, Kind.BILLING, Kind.PERMISSION):
            for refused in (told(failed(kind, said(401)), ready_in=20.0), pool_said(kind, 20.0)):
                self.check(refused, 503, "api_error", (b"retry-after", b"20"), AGAIN)
                self.assertIn("credentials", refused.error.message)
                self.assertNotIn("upstream's words", refused.error.message)
                self.assertIn("20 s", refused.error.message)
                self.assertIsNone(refused.answer)
        self.check(told(failed(Kind.LOCATION)), 503, "api_error", AGAIN)

    def test_internal(self) -> None:
        """A lack of ours is a 503, worth another try in a moment; an upstream's own words go before it."""
        self.check(told(failed(Kind.INTERNAL)), 503, "api_error", (b"retry-after", b"1"))
        self.assertIn("The gateway failed: a reason", told(failed(Kind.INTERNAL)).error.message)
        self.assertEqual(told(failed(Kind.QUOTA), failed(Kind.INTERNAL)).error.status, 429)

    def test_transient(self) -> None:
        """The upstream's status from 500 up, else 502; 504 for time-outs."""
        again = (b"retry-after", b"2")
        for status, expected in ((500, 500), (503, 503), (520, 520), (408, 502), (302, 502), (999, 502)):
            refused = told(failed(Kind.TRANSIENT, said(status)), ready_in=2.0)
            self.check(refused, expected, "api_error", again)
        self.check(told(failed(Kind.TRANSIENT), ready_in=2.0), 502, "api_error", again)
        self.check(told(failed(Kind.TRANSIENT, timed_out=True), ready_in=2.0), 504, "timeout_error", again)
        self.check(told(failed(Kind.BROKEN_STREAM)), 502, "api_error")
        self.check(told(failed(Kind.CONFIGURATION), ready_in=2.0), 502, "api_error", again)
        self.check(pool_said(Kind.TRANSIENT, 2.0), 503, "api_error", again)

    def test_disabled(self) -> None:
        """What operators took out of service is no unknown model: clients wait for it."""
        self.check(pool_said(Exhaustion.DISABLED), 503, "api_error")

    def test_model_fault(self) -> None:
        """An answer that the model spoilt twice."""
        self.check(told(failed(Kind.MODEL_FAULT)), 502, "api_error")

    def test_busy(self) -> None:
        """Limits of our own: come back soon. None may be configured, as cooldowns that end let in one by one."""
        self.assertNotIn("limit", pool_said(Exhaustion.BUSY).error.message)
        self.check(pool_said(Exhaustion.BUSY), 429, "rate_limit_error", (b"retry-after", b"1"))
        self.check(pool_said(Exhaustion.QUEUE_FULL), 529, "overloaded_error", (b"retry-after", b"1"))


class When(VerdictTestCase):
    """``retry-after``."""

    def test_whole_seconds(self) -> None:
        """Rounded up, and never 0, which would mean at once."""
        for ready_in, seconds in ((0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.001, b"2"), (60.0, b"60")):
            self.check(told(failed(Kind.QUOTA), ready_in=ready_in), 429, "rate_limit_error", (b"retry-after", seconds))

    def test_cap(self) -> None:
        """At most ``retry_after_max``, up to ``give_up_after``; the message says the true time."""
        for ready_in in (61.0, 300.0):
            refused = told(failed(Kind.QUOTA), ready_in=ready_in)
            self.check(refused, 429, "rate_limit_error", (b"retry-after", b"60"))
        self.assertIn("5 min", refused.error.message)
        self.check(
            told(failed(Kind.QUOTA), ready_in=90.0, retry_after_max=10),
            429,
            "rate_limit_error",
            (b"retry-after", b"10"),
        )

    def test_give_up(self) -> None:
        """Beyond ``give_up_after``: the true figure, and do not try again."""
        for seconds, words in ((301.0, "6 min"), (7200.0, "2 h 0 min"), (90_000.0, "25 h 0 min")):
            refused = told(failed(Kind.QUOTA), ready_in=seconds)
            self.check(refused, 429, "rate_limit_error", (b"retry-after", b"%d" % seconds), AGAIN)
            self.assertIn(words, refused.error.message)

    def test_time_after_a_sentence(self) -> None:
        """When to come back is a sentence of its own after an upstream's, which may end in a full stop."""
        for words, message in (
            ("Overloaded", "Overloaded; ready again in 3 s"),
            ("Try again later.", "Try again later. Ready again in 3 s"),
        ):
            refused = told(failed(Kind.OVERLOADED, said(529, "overloaded_error", words)), ready_in=3.0)
            self.assertEqual(refused.error.message, message)

    def test_unknown(self) -> None:
        """Nothing is made up where nobody knows."""
        self.check(told(failed(Kind.QUOTA)), 429, "rate_limit_error")


class MostUseful(VerdictTestCase):
    """Of several failures."""

    def test_order(self) -> None:
        """A client's fault, then quota, then overload, then the last."""
        kinds = [Kind.TRANSIENT, Kind.OVERLOADED, Kind.QUOTA, Kind.CLIENT_FAULT]
        statuses = [502, 529, 429, 400]
        for count in range(1, 5):
            for order in (kinds[:count], kinds[count - 1 :: -1]):
                self.assertEqual(told(*map(failed, order)).error.status, statuses[count - 1], order)
        self.assertEqual(told(failed(Kind.AUTH), failed(Kind.TRANSIENT)).error.status, 502)
        self.assertEqual(told(failed(Kind.TRANSIENT), failed(Kind.AUTH)).error.status, 503)

    def test_one_route_cannot(self) -> None:
        """What one route could not carry says nothing while another is only out of quota."""
        for kind in (Kind.UNSUPPORTED, Kind.TOO_LARGE):
            self.assertEqual(told(failed(kind, said(404)), failed(Kind.QUOTA)).error.status, 429)

    def test_model_unavailable_everywhere(self) -> None:
        """404 only where the model is unavailable on every candidate; else a try later may find it."""
        self.assertEqual(told(failed(Kind.TRANSIENT), failed(Kind.MODEL_UNAVAILABLE)).error.status, 502)
        self.assertEqual(told(failed(Kind.MODEL_UNAVAILABLE), failed(Kind.AUTH)).error.status, 503)

    def test_model_unavailable_while_others_rest(self) -> None:
        """A route that has the model, and rests, was not even asked: a try later may find it."""
        rests = ((Kind.QUOTA, 20.0, 429), (Kind.OVERLOADED, 3.0, 503), (Kind.MODEL_UNAVAILABLE, 600.0, 404))
        for reason, ready_in, status in rests:
            exhausted = Exhausted(reason, ready_in)
            refused = final_error("m", [failed(Kind.MODEL_UNAVAILABLE)], exhausted, ready_in, Pool())
            self.assertEqual(refused.error.status, status)
        refused = final_error("m", [failed(Kind.MODEL_UNAVAILABLE)], Exhausted(Exhaustion.NONE, None), None, Pool())
        self.assertEqual(refused.error.status, 404)


class BrokenOff(VerdictTestCase):
    """A message of which the client has a part."""

    def test_upstreams_error(self) -> None:
        """The upstream's own type and words."""
        refused = broken_off(failed(Kind.OVERLOADED, said(529, "overloaded_error", "Overloaded")))
        self.check(refused, 529, "overloaded_error")
        self.assertEqual(refused.error.message, "Overloaded")

    def test_cut(self) -> None:
        """What happened, in words."""
        refused = broken_off(failed(Kind.BROKEN_STREAM, reason="upstream closed the stream before message_stop"))
        self.check(refused, 502, "api_error")
        self.assertEqual(refused.error.message, "upstream closed the stream before message_stop")

    def test_silence(self) -> None:
        """A time-out is one by its type."""
        self.check(broken_off(failed(Kind.BROKEN_STREAM, timed_out=True)), 504, "timeout_error")


class Private(VerdictTestCase):
    """What names the operator's accounts stays here, and the rest of the sentence goes out."""

    UUID = "8b7d6c5e-1234-4abc-8def-0123456789ab"
    WORDS = (
        ("User: arn:aws:iam::123456789012:user/x is not authorized", "User: *** is not authorized"),
        ("account 123456789012 has no access", "account *** has no access"),
        (
            "Publisher model projects/my-team/locations/eu not found",
            "Publisher model projects/***/locations/eu not found",
        ),
        ("organization org-AbCdEf012345 is over its limit", "organization *** is over its limit"),
        (f"workspace {UUID} is closed", "workspace *** is closed"),
    )

    def test_cut(self) -> None:
        """In our words, and in the upstream's own answer, whatever its status; the log has them as they were."""
        for words, left in self.WORDS:
            for kind, status in (
                (Kind.MODEL_UNAVAILABLE, 404),
                (Kind.CLIENT_FAULT, 400),
                (Kind.CLIENT_FAULT, 422),
                (Kind.TRANSIENT, 500),
            ):
                error = told(failed(kind, said(status, message=words), reason=words)).error
                self.assertIn(left, error.message)
                self.assertIn(words, error.logged)
            refused = told(failed(Kind.CLIENT_FAULT, said(422, message=words)))
            assert refused.answer is not None
            self.assertEqual(refused.answer.body, body("api_error", left))
            refused = told(failed(Kind.OVERLOADED, said(529, "overloaded_error", words)))
            assert refused.answer is not None
            self.assertEqual((refused.answer.status, refused.answer.body), (529, body("overloaded_error", left)))
            self.assertEqual(broken_off(failed(Kind.BROKEN_STREAM, said(500, message=words))).error.message, left)

    def test_without_an_answer(self) -> None:
        """An error in the place of an answer, and one that broke a stream off, are told by their reasons alone."""
        for words, left in self.WORDS:
            for refused in (
                told(failed(Kind.TRANSIENT, reason=words)),
                broken_off(failed(Kind.BROKEN_STREAM, reason=words)),
            ):
                self.assertIn(left, refused.error.message)
                self.assertIn(words, refused.error.logged)

    def test_fast_mode(self) -> None:
        """Clients fall back on the words of such a refusal, and wait for as long as it says."""
        words = "This request would exceed your organization's rate limit of 0 fast mode input tokens per minute"
        answer = said(429, "rate_limit_error", f"{words} (org: {self.UUID}, model: claude-opus-4-8)")
        passed = told(failed(Kind.CLIENT_FAULT, answer)).answer
        assert passed is not None
        self.assertEqual(passed.body, body("rate_limit_error", f"{words} (org: ***, model: claude-opus-4-8)"))
        self.assertEqual((passed.status, passed.headers), (429, answer.headers))

    def test_headers(self) -> None:
        """Accounts are cut out of an error's headers too; the API's own word on its organization passes."""
        answer = said(422)
        answer.headers.append((b"x-caller", b"arn:aws:iam::123456789012:user/x"))
        answer.headers.append((b"anthropic-organization-id", self.UUID.encode()))
        passed = told(failed(Kind.CLIENT_FAULT, answer)).answer
        assert passed is not None
        self.assertEqual(passed.headers[-2:], [(b"x-caller", b"***"), answer.headers[-1]])

    def test_of_the_request(self) -> None:
        """In a 400 of an Anthropic upstream an id that nobody calls an account's is the client's own."""
        for words in (f"tool {self.UUID} has no result", "metadata: 123456789012 is no name"):
            answer = said(400, "invalid_request_error", words)
            self.assertIs(told(failed(Kind.CLIENT_FAULT, answer)).answer, answer)

    def test_large_answers(self) -> None:
        """Of an answer that no honest upstream gives, only the sentence is told: it would take long to look through."""
        answer = said(400, message="no")
        for size, relayed in ((MAX_RELAYED_BYTES, True), (MAX_RELAYED_BYTES + 1, False)):
            refused = told(failed(Kind.CLIENT_FAULT, replace(answer, body=answer.body.ljust(size))))
            self.assertEqual(refused.answer is not None, relayed)
            self.assertEqual(refused.error.message, "no")

    def test_innocent(self) -> None:
        """Other words pass."""
        answer = said(404, "not_found_error", "file_011CNha8iCJcU1wXNR6q4V8w not found in project")
        self.assertIs(told(failed(Kind.CLIENT_FAULT, answer)).answer, answer)

    def test_prompts_are_not_logged(self) -> None:
        """A client is told what came in the place of an error; the log only of which kind and how long it was."""
        answer = ErrorResponse(503, [], b"", message="Dear diary")
        error = told(failed(Kind.TRANSIENT, answer, reason="status 503: 10 bytes of text")).error
        self.assertEqual(error.message, "The upstream failed: Dear diary")
        self.assertEqual(error.logged, "The upstream failed: status 503: 10 bytes of text")

    def test_upstreams_address(self) -> None:
        """Where our upstream lives is nobody's business either."""
        for scope in (Scope.PROVIDER, Scope.CREDENTIAL):
            refused = told(failed(Kind.TRANSIENT, scope=scope, reason="cannot connect to 10.0.0.7:443"))
            self.assertNotIn("10.0.0.7", refused.error.message)
