"""Each source of hints, and what is no hint."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.outcomes import hints
from claudeproxyd.outcomes.hints import Hint, foreseen, hint, span, until_midnight
from claudeproxyd.outcomes.types import Scope

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()
FAMILIES = ("anthropic", "google", "openai", "bedrock")
Header = tuple[bytes, bytes]


def anthropic(*headers: Header, body: bytes = b"") -> Hint | None:
    return hint(headers, body, "anthropic", NOW)


def openai(*headers: Header) -> Hint | None:
    return hint(headers, b"", "openai", NOW)


def google(
    *details: dict[str, Any], headers: tuple[Header, ...] = (), now: float = NOW, said: str = "x"
) -> Hint | None:
    body = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": said, "details": list(details)}}
    return hint(headers, json.dumps(body).encode(), "google", now)


def retry_info(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def quota_failure(*ids: str, **more: Any) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaMetric": "m", "quotaId": quota, **more} for quota in ids],
    }


PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel"


class RetryAfterTests(SynchronousTestCase):
    """What any upstream may send."""

    def test_seconds(self) -> None:
        """Whole and fractional seconds are waited out, of the model alone."""
        for family in FAMILIES:
            for value, seconds in ((b"17", 17), (b"0.5", 0.5), (b" 3 ", 3), (b"7.", 7)):
                self.assertEqual(hint([(b"retry-after", value)], b"", family, NOW), (seconds, Scope.MODEL))

    def test_http_date(self) -> None:
        """A date counts from now, in whichever zone it is written."""
        for value in (
            b"Sun, 22 Nov 2026 12:00:30 GMT",
            b"Sun, 22 Nov 2026 12:00:30 -0000",
            b"Sun, 22 Nov 2026 14:00:30 +0200",
            b"Sunday, 22-Nov-26 12:00:30 GMT",
            b"Sun Nov 22 12:00:30 2026",
        ):
            self.assertEqual(anthropic((b"retry-after", value)), (30, Scope.MODEL), value)

    def test_milliseconds_go_first(self) -> None:
        """The finer header wins, as in the SDKs; where it is nonsense the other one counts."""
        self.assertEqual(anthropic((b"retry-after", b"5"), (b"retry-after-ms", b"500")), (0.5, Scope.MODEL))
        self.assertEqual(anthropic((b"retry-after", b"5"), (b"retry-after-ms", b"-1")), (5, Scope.MODEL))

    def test_absurd_values_are_none(self) -> None:
        """No upstream can put a key out of service for years, or for no time at all, by a slip."""
        for value in (
            b"-5", b"0", b"nan", b"NaN", b"inf", b"-inf", b"Infinity", b"1e9", b"1_0", b"0x10", b"31622401", b"9" * 500,
            b"", b"soon", b"5 minutes", b"\xb2", b"\xff\xfe", "٣".encode(),
            b"Sun, 22 Nov 2020 12:00:30 GMT", b"Sun, 22 Nov 2099 12:00:30 GMT", b"Sun, 99 Nov 2026 12:00:30 GMT",
            b"Mon, 01 Jan 0001 00:00:00 +2359", b"Fri, 31 Dec 9999 23:59:59 -2359",
        ):  # fmt: skip
            for name in (b"retry-after", b"retry-after-ms"):
                if (name, value) != (b"retry-after-ms", b"31622401"):
                    self.assertIsNone(anthropic((name, value)), (name, value))

    def test_weeks_are_a_hint(self) -> None:
        """Long is not absurd: the cap is the pool's."""
        self.assertEqual(anthropic((b"retry-after", b"1580000")), (1_580_000, Scope.MODEL))


class AnthropicTests(SynchronousTestCase):
    """anthropic-ratelimit-*."""

    def test_reset_of_what_is_exhausted(self) -> None:
        """Of each of the four limits, the reset counts where nothing remains."""
        for limit in (b"requests", b"tokens", b"input-tokens", b"output-tokens"):
            name = b"anthropic-ratelimit-" + limit
            told = anthropic((name + b"-remaining", b"0"), (name + b"-reset", b"2026-11-22T12:00:40Z"))
            self.assertEqual(told, (40, Scope.MODEL))
            told = anthropic((name + b"-remaining", b"1"), (name + b"-reset", b"2026-11-22T12:00:40Z"))
            self.assertIsNone(told)

    def test_the_latest_of_several(self) -> None:
        """A request needs all of its limits."""
        told = anthropic(
            (b"anthropic-ratelimit-requests-reset", b"2026-11-22T12:00:01+00:00"),
            (b"anthropic-ratelimit-requests-remaining", b"0"),
            (b"anthropic-ratelimit-tokens-reset", b"2026-11-22T14:00:50+02:00"),
            (b"anthropic-ratelimit-tokens-remaining", b"0"),
            (b"anthropic-ratelimit-input-tokens-reset", b"2026-11-22T13:00:00Z"),
            (b"anthropic-ratelimit-input-tokens-remaining", b"99"),
        )
        self.assertEqual(told, (50, Scope.MODEL))

    def test_retry_after_goes_first(self) -> None:
        """The reset is when a limit is whole again; retry-after is when the next request goes through."""
        told = anthropic(
            (b"anthropic-ratelimit-tokens-remaining", b"0"),
            (b"anthropic-ratelimit-tokens-reset", b"2026-11-22T12:00:40Z"),
            (b"retry-after", b"4"),
        )
        self.assertEqual(told, (4, Scope.MODEL))

    def test_unified_rejected_is_credential_wide(self) -> None:
        """A window that is closed is closed for all models, until it opens."""
        for name in (b"anthropic-ratelimit-unified", b"anthropic-ratelimit-unified-5h"):
            for reset in (str(NOW + 60).encode(), b"%d" % (NOW + 60), b"2026-11-22T12:01:00Z"):
                told = anthropic((name + b"-status", b"rejected"), (name + b"-reset", reset), (b"retry-after", b"4"))
                self.assertEqual(told, (60, Scope.CREDENTIAL), (name, reset))

    def test_unified_rejected_without_a_reset(self) -> None:
        """How long is then what retry-after says, if it does."""
        status = (b"anthropic-ratelimit-unified-7d-status", b"rejected")
        self.assertEqual(anthropic(status, (b"retry-after", b"4")), (4, Scope.CREDENTIAL))
        self.assertIsNone(anthropic(status))

    def test_unified_allowed(self) -> None:
        """A window that is open, or nearly used up, is no reason to wait."""
        for status in (b"allowed", b"allowed_warning"):
            told = anthropic(
                (b"anthropic-ratelimit-unified-status", status),
                (b"anthropic-ratelimit-unified-reset", b"%d" % (NOW + 60)),
            )
            self.assertIsNone(told)

    def test_absurd_resets(self) -> None:
        """What is past, far off or no date at all is no hint."""
        for reset in (b"2026-11-22T11:59:59Z", b"2036-11-22T12:00:00Z", b"tomorrow", b"", b"0", b"-1", b"nan", b"\xff"):
            told = anthropic(
                (b"anthropic-ratelimit-tokens-remaining", b"0"), (b"anthropic-ratelimit-tokens-reset", reset)
            )
            self.assertIsNone(told, reset)

    def test_regain_access(self) -> None:
        """The day that the sentence names is read from it."""
        for said, seconds in (
            ("You will regain access on 2026-11-23 at 00:00 UTC.", 43_200),
            ("You will regain access on 2026-11-23 at 01:30 UTC.", 48_600),
            ("You will regain access on 2026-11-23.", 43_200),
        ):
            body = json.dumps({"type": "error", "error": {"type": "x", "message": said}}).encode()
            self.assertEqual(anthropic(body=body), (seconds, Scope.MODEL))

    def test_regain_access_on_no_day(self) -> None:
        """A day that is past or none is no hint."""
        for day in ("2026-11-21", "2026-13-45", "2036-01-01"):
            body = json.dumps({"error": {"message": f"You will regain access on {day} at 00:00 UTC"}}).encode()
            self.assertIsNone(anthropic(body=body))


class GoogleTests(SynchronousTestCase):
    """google.rpc details."""

    def test_in_words(self) -> None:
        """Where the sentence alone says when to come back, it is believed; what is more exact goes first."""
        quota = (
            "You exceeded your current quota.\n* Quota exceeded for metric: m, limit: 20, model: g\nPlease retry in "
        )
        for told, seconds in (("36.4s.", 36.4), ("1h2m3s.", 3_723), ("563.5ms.", 0.5635), ("1m0s", 60)):
            self.assertEqual(google(said=quota + told), (seconds, Scope.MODEL), told)
        self.assertEqual(google(retry_info("7s"), said=quota + "36.4s."), (7, Scope.MODEL))
        self.assertEqual(google(quota_failure(PER_MINUTE), said=quota + "36.4s."), (36.4, Scope.MODEL))
        for told in ("a while.", "0s.", "-3s.", "999999h."):
            self.assertIsNone(google(said=quota + told), told)

    def test_retry_info(self) -> None:
        """The delay that Google suggests is taken."""
        self.assertEqual(google(retry_info("34.074824224s")), (34.074824224, Scope.MODEL))
        self.assertIsNone(google(retry_info("-3s")))
        self.assertIsNone(google(retry_info("soon")))

    def test_per_day(self) -> None:
        """A daily quota is back at midnight in California, whatever RetryInfo says."""
        self.assertEqual(google(retry_info("34s"), quota_failure(PER_DAY, PER_MINUTE)), (20 * 3_600, Scope.MODEL))

    def test_per_minute(self) -> None:
        """A quota of the minute is back in one, or when RetryInfo says."""
        self.assertEqual(google(quota_failure(PER_MINUTE)), (60, Scope.MODEL))
        self.assertEqual(google(quota_failure(PER_MINUTE), retry_info("7s")), (7, Scope.MODEL))

    def test_whether_it_is_per_model(self) -> None:
        """A quota of the project takes all of its models out; one of a model takes that."""
        self.assertEqual(google(quota_failure("GenerateRequestsPerMinutePerProject")), (60, Scope.CREDENTIAL))
        self.assertEqual(google(quota_failure("PerMinute", quotaDimensions={"model": "m"})), (60, Scope.MODEL))
        self.assertEqual(google(quota_failure(PER_MINUTE, "PerMinutePerProject")), (60, Scope.CREDENTIAL))

    def test_quota_limit_of_error_info(self) -> None:
        """Older Google APIs name the quota in ErrorInfo."""
        info = {
            "reason": "RATE_LIMIT_EXCEEDED",
            "metadata": {"quota_limit": "GenerateContentRequestsPerMinutePerProject"},
        }
        self.assertEqual(google(info), (60, Scope.CREDENTIAL))

    def test_no_details(self) -> None:
        """A 429 that is only a sentence holds no hint."""
        self.assertIsNone(google())
        self.assertIsNone(google({"@type": "type.googleapis.com/google.rpc.Help", "links": []}))
        self.assertIsNone(google(quota_failure("Tokens")))

    def test_retry_after_goes_first(self) -> None:
        """The header is the proxy's nearer word."""
        self.assertEqual(google(retry_info("34s"), headers=((b"retry-after", b"2"),)), (2, Scope.MODEL))


class MidnightTests(SynchronousTestCase):
    """When Google's day begins."""

    def test_on_ordinary_days(self) -> None:
        """Midnight is at 8:00 UTC in winter and at 7:00 in summer."""
        self.assertEqual(until_midnight(datetime(2026, 1, 10, 7, 59, 30, tzinfo=UTC).timestamp()), 30)
        self.assertEqual(until_midnight(datetime(2026, 1, 10, 8, 0, 0, tzinfo=UTC).timestamp()), 86_400)
        self.assertEqual(until_midnight(datetime(2026, 7, 10, 6, 59, 30, tzinfo=UTC).timestamp()), 30)

    def test_on_days_of_23_and_25_hours(self) -> None:
        """The days on which the clocks change are as long as they are."""
        self.assertEqual(until_midnight(datetime(2026, 3, 8, 8, 0, tzinfo=UTC).timestamp()), 23 * 3_600)
        self.assertEqual(until_midnight(datetime(2026, 11, 1, 7, 0, tzinfo=UTC).timestamp()), 25 * 3_600)

    def test_without_a_zone_database(self) -> None:
        """A bare machine reckons with standard time."""

        def missing(name: str) -> None:
            raise ZoneInfoNotFoundError(name)

        self.patch(hints, "ZoneInfo", missing)
        self.assertEqual(until_midnight(datetime(2026, 7, 10, 6, 59, 30, tzinfo=UTC).timestamp()), 3_630)


class OpenAITests(SynchronousTestCase):
    """x-ratelimit-*."""

    def test_durations(self) -> None:
        """All spellings of Go's durations, and bare seconds as Azure sends them."""
        for text, seconds in (
            ("6m0s", 360), ("1s", 1), ("20ms", 0.02), ("1h2m", 3_720), ("2m59.56s", 179.56), ("7.66s", 7.66),
            ("1d", 86_400), ("1h0m0.5s", 3_600.5), ("12", 12), ("1m20ms", 60.02),
        ):  # fmt: skip
            self.assertAlmostEqual(span(text) or 0, seconds, msg=text)

    def test_no_durations(self) -> None:
        """Nothing, nonsense and years are none."""
        for text in ("", "0s", "-1s", "1s1m", "s", "1x", "nan", "9000h9d", "99999h", "1e3s", "m", "٣s"):
            self.assertIsNone(span(text), text)

    def test_reset_of_what_is_exhausted(self) -> None:
        """Of both limits, the reset counts where nothing remains."""
        told = openai(
            (b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", b"20ms"),
            (b"x-ratelimit-remaining-tokens", b"70"), (b"x-ratelimit-reset-tokens", b"6m0s"),
        )  # fmt: skip
        self.assertEqual(told, (0.02, Scope.MODEL))

    def test_resets_alone(self) -> None:
        """A server that tells resets and not what remains is believed."""
        told = openai((b"x-ratelimit-reset-requests", b"1s"), (b"x-ratelimit-reset-tokens", b"6m0s"))
        self.assertEqual(told, (360, Scope.MODEL))

    def test_nothing_exhausted(self) -> None:
        """Limits that are not used up do not explain a 429."""
        told = openai((b"x-ratelimit-remaining-tokens", b"70"), (b"x-ratelimit-reset-tokens", b"6m0s"))
        self.assertIsNone(told)

    def test_retry_after_goes_first(self) -> None:
        """What is said outright counts."""
        told = openai((b"x-ratelimit-reset-requests", b"1m"), (b"retry-after-ms", b"1500"))
        self.assertEqual(told, (1.5, Scope.MODEL))

    def test_in_words(self) -> None:
        """Inside a stream no header tells: the sentence does."""
        said = (
            b"Rate limit reached for gpt-9 in organization org-abc123 on tokens per min (TPM): Limit 30000, Used 29000,"
        )
        body = (
            b'{"error":{"message":"%b Requested 2000. Please try again in 6m0s.","code":"rate_limit_exceeded"}}' % said
        )
        self.assertEqual(hint([], body, "openai", NOW), (360, Scope.MODEL))
        self.assertEqual(hint([(b"retry-after", b"2")], body, "openai", NOW), (2, Scope.MODEL))


class BedrockTests(SynchronousTestCase):
    """Bedrock tells nothing."""

    def test_other_families_headers_are_not_read(self) -> None:
        """What another family's header would mean is not guessed at."""
        headers = [(b"anthropic-ratelimit-tokens-remaining", b"0"), (b"x-ratelimit-reset-tokens", b"6m0s")]
        self.assertIsNone(hint(headers, b'{"message": "Too many requests"}', "bedrock", NOW))


class ForeseenTests(SynchronousTestCase):
    """What a successful answer shows of the next."""

    def test_exhaustion(self) -> None:
        """The key whose last token this was is not the next one's first choice."""
        headers = [
            (b"content-type", b"text/event-stream"),
            (b"anthropic-ratelimit-tokens-remaining", b"0"),
            (b"anthropic-ratelimit-tokens-reset", b"2026-11-22T12:00:40Z"),
        ]
        self.assertEqual(foreseen(headers, "anthropic", NOW), 40)
        headers = [(b"x-ratelimit-remaining-tokens", b"0"), (b"x-ratelimit-reset-tokens", b"6m0s")]
        self.assertEqual(foreseen(headers, "openai", NOW), 360)

    def test_nothing_foreseen(self) -> None:
        """Zeros elsewhere, limits without a reset and other families foresee nothing."""
        for family in (*FAMILIES, "unknown"):
            for headers in (
                [],
                [(b"age", b"0"), (b"x-envoy-retries", b"0")],
                [(b"anthropic-ratelimit-tokens-remaining", b"0"), (b"x-ratelimit-remaining-tokens", b"0")],
                [(b"anthropic-ratelimit-tokens-limit", b"0"), (b"x-ratelimit-reset-tokens", b"0")],
                [
                    (b"anthropic-ratelimit-tokens-remaining", b"1"),
                    (b"anthropic-ratelimit-tokens-reset", b"2026-11-22T12:00:40Z"),
                ],
                [(b"x-ratelimit-reset-tokens", b"6m0s")],
                [(b"retry-after", b"5")],
            ):
                self.assertIsNone(foreseen(headers, family, NOW), (family, headers))


class GarbageTests(SynchronousTestCase):
    """Nothing that an upstream sends can break the reading of it."""

    @settings(max_examples=200, deadline=None, database=None)
    @given(
        name=st.sampled_from(
            [b"retry-after", b"retry-after-ms", b"anthropic-ratelimit-tokens-reset", b"x-ratelimit-reset-tokens"]
        ),
        value=st.binary(max_size=40)
        | st.from_regex(rb"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+( [+-]\d{4})?", fullmatch=True)
        | st.from_regex(rb"\d+-\d\d-\d\dT\d\d:\d\d(:\d\d)?([+-]\d\d:\d\d|Z)?", fullmatch=True)
        | st.floats().map(lambda value: str(value).encode()),
        family=st.sampled_from(FAMILIES),
        now=st.floats(0, 4e9),
    )
    def test_arbitrary_values(self, name: bytes, value: bytes, family: str, now: float) -> None:
        """Any bytes are a hint of a sane length, or none."""
        headers = [
            (name, value),
            (b"anthropic-ratelimit-tokens-remaining", b"0"),
            (b"x-ratelimit-remaining-tokens", b"0"),
        ]
        told = hint(headers, value, family, now)
        self.assertTrue(told is None or 0 < told.seconds <= hints.LONGEST_HINT)
        ahead = foreseen(headers, family, now)
        self.assertTrue(ahead is None or 0 < ahead <= hints.LONGEST_HINT)
