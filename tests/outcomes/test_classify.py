"""Each row of the decision tables, with errors as the real APIs shape them."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.outcomes.classify import classify, context_overflow, operator_rule
from claudeproxyd.outcomes.types import CANCELLED, AttemptPhase, Evidence, Failure, Kind, Outcome, Scope, Then

NOW = 1_795_000_000.0


def seen(family: str, status: int = 0, body: Any = b"", *headers: tuple[bytes, bytes], **more: Any) -> Evidence:
    """An answer of *family*."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    more.setdefault("phase", AttemptPhase.ANSWER)
    return Evidence(family=family, status=status, headers=headers, body=raw, now=NOW, **more)


def anthropic(status: int, type: str, message: str = "", *headers: tuple[bytes, bytes], **more: Any) -> Evidence:
    error: dict[str, Any] = {"type": type, "message": message}
    if "error_code" in more:
        error["details"] = {"error_code": more.pop("error_code")}
    return seen("anthropic", status, {"type": "error", "error": error, "request_id": "req_1"}, *headers, **more)


def google(code: int, status: str, message: str = "", *details: dict[str, Any], **more: Any) -> Evidence:
    body = {"error": {"code": code, "status": status, "message": message, "details": list(details)}}
    return seen("google", code, body, **more)


def reason(reason: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def openai(
    status: int, code: str | None, message: str = "", type: str = "invalid_request_error", **more: Any
) -> Evidence:
    body = {"error": {"message": message, "type": type, "param": None, "code": code}}
    return seen("openai", status, body, **more)


def flat_body(code: int, type: str, message: str) -> dict[str, Any]:
    """An error of vLLM's."""
    return {"object": "error", "message": message, "type": type, "param": None, "code": code}


def flat(status: int, type: str, message: str, **more: Any) -> Evidence:
    return seen("openai", status, flat_body(status, type, message), **more)


def routed(raw: dict[str, Any], status: int = 400) -> Evidence:
    """An error of one of OpenRouter's providers."""
    metadata = {"raw": json.dumps(raw), "provider_name": "Somebody"}
    return seen(
        "openai", status, {"error": {"message": "Provider returned error", "code": status, "metadata": metadata}}
    )


def bedrock(status: int, name: str, message: str = "", **more: Any) -> Evidence:
    header = (b"x-amzn-errortype", f"{name}:http://internal.amazon.com/coral/".encode())
    return seen("bedrock", status, {"message": message}, header, **more)


def failed(failure: str, **more: Any) -> Evidence:
    return Evidence(family="anthropic", phase=AttemptPhase.CONNECT, failure=Failure(failure), now=NOW, **more)


class Table(SynchronousTestCase):
    """How a row is checked."""

    def holds(
        self, evidence: Evidence, kind: Kind, scope: Scope, cooldown: tuple[float, float] | None, then: Then
    ) -> Outcome:
        """*cooldown*: seconds and their ceiling, or :data:`PASSING`."""
        outcome = classify(evidence)
        cools = None if outcome.passing else (outcome.base, outcome.ceiling)
        got = (outcome.kind, outcome.scope, cools, outcome.then)
        self.assertEqual(got, (kind, scope, cooldown, then), evidence)
        return outcome


NONE = (0.0, 0.0)
HALF_HOUR = (1_800, 1_800)
#: It says nothing of the next request: a gate counts it, and nothing cools.
PASSING = None


class ByNameTests(Table):
    """The first table."""

    def test_client_went_away(self) -> None:
        """A client's hang-up is nobody's fault and cools nothing."""
        self.holds(failed("cancelled"), Kind.CANCELLED, Scope.NONE, NONE, Then.DONE)
        self.holds(failed("cancelled", message_committed=True), Kind.CANCELLED, Scope.NONE, NONE, Then.DONE)
        self.assertEqual((CANCELLED.scope, CANCELLED.base), (Scope.NONE, 0))

    def test_cannot_be_carried(self) -> None:
        """What we cannot translate goes to the next route."""
        self.holds(failed("cannot_carry"), Kind.UNSUPPORTED, Scope.NONE, NONE, Then.NEXT_ROUTE)

    def test_model_unavailable(self) -> None:
        """A model that this account has not is tried elsewhere, and asked for here again after 10 minutes."""
        quota = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaValue": "0"}]}
        for evidence in (
            anthropic(404, "not_found_error", "model: claude-2.9"),
            anthropic(404, "not_found_error", "The requested model 'claude-x' does not exist"),
            google(
                404, "NOT_FOUND", "Publisher Model `projects/p/locations/l/publishers/anthropic/models/m` not found."
            ),
            google(404, "NOT_FOUND", "models/gemini-9 is not found for API version v1, or is not supported"),
            google(
                404,
                "NOT_FOUND",
                "This model models/gemini-2.5-pro is no longer available to new users. Please update your code to use "
                "a newer model for the latest features and improvements.",
            ),
            seen("openai", 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment …"}}),
            openai(404, "model_not_found", "The model `gpt-9` does not exist or you do not have access to it."),
            flat(404, "NotFoundError", "The model `m` does not exist."),
            seen(
                "openai", 404, {"error": {"message": 'model "m" not found, try pulling it first', "type": "api_error"}}
            ),
            seen("openai", 404, {"error": {"message": "No endpoints found for a/m.", "code": 404}}),
            openai(404, None, "Not found the model m or Permission denied", "resource_not_found_error"),
            openai(400, "invalid_request_error", "Model Not Exist"),
            seen("openai", 400, {"error": {"message": "a/m is not a valid model ID", "code": 400}}),
            seen("openai", 400, {"error": {"code": "1211", "message": "Unknown Model, please check the model code."}}),
            seen(
                "openai",
                400,
                {"object": "error", "message": "Invalid model: m", "type": "invalid_model", "code": "1500"},
            ),
            bedrock(
                400,
                "ValidationException",
                "Invocation of model ID anthropic.claude-opus with on-demand throughput isn’t supported. Retry your",
            ),
            bedrock(403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
            bedrock(400, "ValidationException", "The provided model identifier is invalid."),
            bedrock(400, "ValidationException", "Operation not allowed"),
            bedrock(
                404, "ResourceNotFoundException", "Model use case details have not been submitted for this account."
            ),
            bedrock(404, "ResourceNotFoundException", "This model version has reached the end of its life. Please"),
            bedrock(404, "ResourceNotFoundException", "Access denied. This Model is marked by provider as Legacy and"),
            google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", quota),
            google(429, "RESOURCE_EXHAUSTED", "You exceeded …\n* Quota exceeded for metric: x, limit: 0, model: m"),
        ):
            self.holds(evidence, Kind.MODEL_UNAVAILABLE, Scope.MODEL, (600, 43_200), Then.NEXT)

    def test_a_limit_that_is_not_zero_is_a_quota(self) -> None:
        """Google's limits below one, or with a nought in front, do not make a model unknown."""
        evidence = google(429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: x, limit: 0.5, model: m")
        self.assertEqual(classify(evidence).kind, Kind.QUOTA)

    def test_404_of_a_file_container_or_response(self) -> None:
        """A client that names a file which no account has hears so, and its words cannot cool a model."""
        for evidence in (
            anthropic(404, "not_found_error", "File not found: the model: claude"),
            anthropic(404, "not_found_error", "Container not found."),
            openai(404, None, "No such File object: file-1"),
            openai(404, None, "Response with id 'resp_1' not found."),
        ):
            self.holds(evidence, Kind.CLIENT_FAULT, Scope.NONE, NONE, Then.NEXT)

    def test_billing(self) -> None:
        """An account without money rests for half an hour and then longer; the rest of the farm serves on."""
        for evidence in (
            anthropic(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
            anthropic(429, "rate_limit_error", "Over the limit", error_code="enforced_spend_limit_reached"),
            anthropic(429, "rate_limit_error", "Over the limit", error_code="contract_spend_limit_reached"),
            openai(429, "insufficient_quota", "You exceeded your current quota", "insufficient_quota"),
            openai(429, None, "Your account is suspended, please check your plan", "exceeded_current_quota_error"),
            openai(400, "Arrearage", "Access denied, please make sure your account is in good standing.", "Arrearage"),
            seen("openai", 429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package."}}),
            seen("openai", 200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
            openai(200, "insufficient_quota", "You exceeded your current quota", "insufficient_quota"),
            google(403, "PERMISSION_DENIED", "This API method requires billing", reason("BILLING_DISABLED")),
            google(403, "PERMISSION_DENIED", "This API method requires billing to be enabled."),
            google(
                400,
                "FAILED_PRECONDITION",
                "Gemini API free tier is not available in your country. Please enable billing on your project in "
                "Google AI Studio.",
            ),
            google(
                400,
                "FAILED_PRECONDITION",
                "User location is not supported for the API use without a billing account linked.",
            ),
            *(
                google(
                    status,
                    "RESOURCE_EXHAUSTED",
                    f"Your {spent} Please go to AI Studio at https://ai.studio/projects to manage your project and "
                    "billing.",
                    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"},
                )
                for status in (402, 429)
                for spent in (
                    "prepayment credits are depleted.",
                    "prepaid balance is used up.",
                    "project has exceeded its monthly spending cap.",
                    "billing account has reached its spend limit.",
                )
            ),
        ):
            outcome = self.holds(evidence, Kind.BILLING, Scope.CREDENTIAL, (1_800, math.inf), Then.NEXT)
            self.assertIsNone(outcome.until_hint)

    def test_words_of_billing_that_are_no_lack_of_it(self) -> None:
        """Google's everyday 429 points to billing, and a client may name a file so: neither says a key has no money."""
        quota = "You exceeded your current quota, please check your plan and billing details."
        self.assertEqual(classify(google(429, "RESOURCE_EXHAUSTED", quota)).kind, Kind.QUOTA)
        for said in ("The File files/billing is not in an ACTIVE state.", "Cannot fetch https://x.example/billing"):
            self.assertEqual(classify(google(400, "FAILED_PRECONDITION", said)).kind, Kind.CLIENT_FAULT, said)

    def test_usage_limit_until_a_date(self) -> None:
        """A limit that the customer set himself holds until the day that the answer names."""
        said = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
        outcome = self.holds(
            anthropic(400, "invalid_request_error", said),
            Kind.BILLING, Scope.CREDENTIAL, (1_800, math.inf), Then.NEXT,
        )  # fmt: skip
        self.assertEqual(outcome.until_hint, 1_796_083_200 - NOW)

    def test_auth_by_name(self) -> None:
        """A key that was shut rests for half an hour, under whichever status that comes."""
        for evidence in (
            anthropic(400, "invalid_request_error", "On hold", error_code="organization_on_hold"),
            anthropic(400, "invalid_request_error", "This organization has been disabled."),
            *(
                google(400, "INVALID_ARGUMENT", "API key not valid.", reason(name))
                for name in ("API_KEY_INVALID", "SERVICE_DISABLED", "CONSUMER_SUSPENDED", "API_KEY_SERVICE_BLOCKED")
            ),
            google(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."),
            *(
                bedrock(403, name, "The security token included in the request is invalid.")
                for name in ("UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException")
            ),
            bedrock(
                403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you"
            ),
            bedrock(403, "AccessDeniedException", "Authentication failed: Please make sure your API Key is valid."),
            bedrock(403, "AccessDeniedException", "Bearer Token has expired"),
        ):
            self.holds(evidence, Kind.AUTH, Scope.CREDENTIAL, HALF_HOUR, Then.NEXT)

    def test_expired_aws_token_is_refreshed_first(self) -> None:
        """An AWS credential that can be refreshed is, before it is given up."""
        evidence = bedrock(403, "ExpiredTokenException", "expired", refreshable=True)
        self.holds(evidence, Kind.AUTH, Scope.CREDENTIAL, HALF_HOUR, Then.REFRESH_ONCE)
        body = {"__type": "com.amazon.coral.service#ExpiredTokenException", "Message": "expired"}
        self.assertEqual(classify(seen("bedrock", 403, body)).kind, Kind.AUTH)

    def test_a_clock_that_is_wrong(self) -> None:
        """A signature of another hour is the clock's fault: no key rests for it."""
        for words in ("Signature expired: 20261129T100000Z is now earlier than …", "Signature not yet current: 2026…"):
            evidence = bedrock(403, "InvalidSignatureException", words)
            self.holds(evidence, Kind.CONFIGURATION, Scope.PROVIDER, (60, 60), Then.NEXT)

    def test_location(self) -> None:
        """Where the daemon stands is the same for all keys of a provider: only another provider can help."""
        for evidence in (
            google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
            openai(403, "unsupported_country_region_territory", "Country, region, or territory not supported"),
        ):
            self.holds(evidence, Kind.LOCATION, Scope.PROVIDER, HALF_HOUR, Then.NEXT_PROVIDER)

    def test_bedrock_service_quota(self) -> None:
        """Bedrock's quota that comes as a 400 is what a 429 without a hint is."""
        self.holds(
            bedrock(400, "ServiceQuotaExceededException", "Too many"), Kind.QUOTA, Scope.MODEL, PASSING, Then.NEXT
        )

    def test_bedrocks_quota_of_a_day(self) -> None:
        """Nothing says when it is back, and it is not in a moment."""
        evidence = bedrock(429, "ThrottlingException", "Too many tokens per day, please wait before trying again.")
        self.holds(evidence, Kind.QUOTA, Scope.MODEL, (600, 3_600), Then.NEXT)

    def test_models_that_bedrock_does_not_count_for(self) -> None:
        """Another route, or an estimate, counts; the same words to a message are the client's to read."""
        words = "The provided model doesn't support counting tokens"
        counting = bedrock(400, "ValidationException", words, count_tokens=True)
        self.holds(counting, Kind.UNSUPPORTED, Scope.NONE, NONE, Then.NEXT)
        self.assertIs(classify(bedrock(400, "ValidationException", words)).kind, Kind.CLIENT_FAULT)

    def test_model_machinery(self) -> None:
        """A Bedrock model that fails or is not ready is tried elsewhere for a moment."""
        for status, name in (
            (429, "ModelNotReadyException"),
            (408, "ModelTimeoutException"),
            (424, "ModelErrorException"),
            (424, "ModelStreamErrorException"),
        ):
            self.holds(bedrock(status, name), Kind.TRANSIENT, Scope.MODEL, PASSING, Then.NEXT)
        in_band = seen("bedrock", 200, {"message": "x"}, (b":exception-type", b"modelStreamErrorException"))
        self.holds(in_band, Kind.TRANSIENT, Scope.MODEL, PASSING, Then.NEXT)

    def test_feature_machinery(self) -> None:
        """Trouble with compaction or customer keys cools nothing: other requests go through."""
        for evidence in (
            anthropic(529, "overloaded_error", "", error_code="compaction_unavailable"),
            anthropic(503, "api_error", "", (b"retry-after", b"9"), error_code="cmek_key_unreachable"),
        ):
            outcome = self.holds(evidence, Kind.TRANSIENT, Scope.NONE, NONE, Then.NEXT)
            self.assertIsNone(outcome.until_hint)

    def test_overloaded_by_name(self) -> None:
        """Overload is the model's on that provider and not the key's, in a stream too."""
        for evidence in (
            anthropic(200, "overloaded_error", "Overloaded", phase=AttemptPhase.STREAM),
            anthropic(500, "overloaded_error", "Overloaded"),
            google(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
            openai(503, "slow_down", "Slow down", "server_error"),
            openai(200, "slow_down", "Slow down", "server_error", phase=AttemptPhase.STREAM),
            openai(429, None, "The engine is currently overloaded, please try again later", "engine_overloaded_error"),
            openai(200, "server_is_overloaded", "Our servers are currently overloaded", "service_unavailable_error"),
        ):
            self.holds(evidence, Kind.OVERLOADED, Scope.MODEL_ON_PROVIDER, PASSING, Then.NEXT)

    def test_content_filter(self) -> None:
        """What a filter refuses is answered; no other key is spent on it."""
        for evidence in (
            openai(400, "content_filter", "The response was filtered"),
            openai(200, "content_filter", "The response was filtered", "error"),
            seen("openai", 200, {"error": {"code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
            openai(200, "content_policy_violation", "Your request was rejected by our safety system", "error"),
            openai(200, "moderation_blocked", "Your request was rejected by our safety system", "error"),
            openai(403, None, "Your input was flagged"),
            openai(403, None, "openai/gpt requires moderation. Your input was refused"),
        ):
            self.holds(evidence, Kind.CLIENT_FAULT, Scope.NONE, NONE, Then.ANSWER)

    def test_model_fault(self) -> None:
        """An answer that the model spoilt is asked for once more, and blames nobody."""
        self.holds(failed("model_fault"), Kind.MODEL_FAULT, Scope.NONE, NONE, Then.REPEAT_ONCE)
        self.holds(failed("model_fault", message_committed=True), Kind.MODEL_FAULT, Scope.NONE, NONE, Then.ANSWER)

    def test_rectify(self) -> None:
        """A thinking block that this upstream did not sign is taken out, once."""
        for message in (
            "messages.1.content.0: Invalid `signature` in `thinking` block",
            "messages.1.content.0.thinking.signature: Field required",
            "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.",
        ):
            for evidence in (
                anthropic(400, "invalid_request_error", message),
                bedrock(400, "ValidationException", f"The model returned the following errors: {message}"),
            ):
                self.holds(evidence, Kind.RECTIFY, Scope.NONE, NONE, Then.RECTIFY_ONCE)

    def test_rectify_reasoning(self) -> None:
        """Reasoning that another key or model has sealed is taken out, once, whatever OpenAI calls it."""
        lies_elsewhere = "Items are not persisted when `store` is set to false."
        verified = "could not be verified. Reason: Encrypted content could not be decrypted or parsed."
        for evidence in (
            openai(400, "invalid_encrypted_content", f"The encrypted content for item rs_1 {verified}"),
            openai(400, None, f"The encrypted content gAAA... {verified}"),
            openai(404, None, f"Item with id 'rs_1' not found. {lies_elsewhere}"),
            openai(400, None, "Item 'rs_1' of type 'reasoning' was provided without its required following item."),
            openai(
                400, None, "Item 'fc_1' of type 'function_call' was provided without its required 'reasoning' item."
            ),
        ):
            self.holds(evidence, Kind.RECTIFY, Scope.NONE, NONE, Then.RECTIFY_ONCE)

    def test_context_overflow(self) -> None:
        """A request beyond the window is the client's to compact."""
        self.holds(
            anthropic(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            Kind.CLIENT_FAULT, Scope.NONE, NONE, Then.ANSWER,
        )  # fmt: skip

    def test_overflow_with_a_413(self) -> None:
        """Too many tokens are too many wherever the request goes, though some say it with the status for bytes."""
        for message in ("Prompt is too long", "Request size exceeds model context window"):
            self.holds(
                anthropic(413, "invalid_request_error", message), Kind.CLIENT_FAULT, Scope.NONE, NONE, Then.ANSWER
            )

    def test_too_large(self) -> None:
        """Too many bytes for one provider may fit the next route, whatever the status that says so."""
        for evidence in (
            google(400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
            anthropic(413, "request_too_large", "Request exceeds the maximum size"),
            anthropic(400, "request_too_large", "Request exceeds the maximum allowed number of bytes."),
            anthropic(200, "request_too_large", "Request exceeds the maximum size", phase=AttemptPhase.STREAM),
        ):
            self.holds(evidence, Kind.TOO_LARGE, Scope.NONE, NONE, Then.NEXT_ROUTE)
        for evidence in (
            google(400, "INVALID_ARGUMENT", "Invalid value at 'x': request payload size exceeds the limit"),
            anthropic(400, "invalid_request_error", "messages.0.content.0.image.source: image exceeds 5 MB maximum"),
        ):
            self.holds(evidence, Kind.CLIENT_FAULT, Scope.NONE, NONE, Then.ANSWER)

    def test_fast_mode_and_long_context(self) -> None:
        """A 429 about a paid extra is that request's alone: the key stays in service."""
        for message in (
            "Fast mode requires usage credits",
            "Usage credits are required for long context requests",
            "Extra usage is required for long context requests.",
            "The long-context beta is not available: no credits",
            "You're out of extra usage. Add more at claude.ai/settings/usage",
            "You're out of extra usage · resets 3pm",
            "Extra usage is required for 1M context",
            "Usage credits are required for 1M context",
            "1M context needs extra usage, which is off for your organization",
        ):
            self.holds(
                anthropic(429, "rate_limit_error", message, (b"retry-after", b"3600")),
                Kind.CLIENT_FAULT, Scope.NONE, NONE, Then.ANSWER,
            )  # fmt: skip

    def test_stale_connection(self) -> None:
        """A kept-alive connection that was closed before a byte came is replaced, and no more said."""
        self.holds(failed("stale"), Kind.STALE, Scope.NONE, NONE, Then.REPEAT_ONCE)

    def test_circle(self) -> None:
        """A provider whose base_url leads back here is out, and no credential of its is to blame."""
        error = {"type": "error", "error": {"type": "api_error", "message": "This request has been here before"}}
        self.holds(seen("anthropic", 508, error), Kind.CONFIGURATION, Scope.PROVIDER, (60, 60), Then.NEXT)

    def test_ours(self) -> None:
        """What we lack, or do wrong, cools nobody, however far the request had come."""
        self.holds(failed("internal"), Kind.INTERNAL, Scope.NONE, NONE, Then.NEXT)
        broken = classify(failed("internal", message_committed=True))
        self.assertEqual((broken.kind, broken.scope, broken.then), (Kind.INTERNAL, Scope.NONE, Then.ANSWER))

    def test_tls(self) -> None:
        """A certificate that does not fit is the operator's to mend; no credential is blamed."""
        self.holds(failed("tls"), Kind.CONFIGURATION, Scope.PROVIDER, (60, 60), Then.NEXT)


class ByStatusTests(Table):
    """The second table."""

    def test_413(self) -> None:
        """Too large for one provider may fit the next route."""
        self.holds(
            seen("google", 413, b"<html><title>Error 413 (Request Entity Too Large)!!1</title>"),
            Kind.TOO_LARGE, Scope.NONE, NONE, Then.NEXT_ROUTE,
        )  # fmt: skip

    def test_400_409_422_and_other_4xx(self) -> None:
        """A client's mistake is answered; no other credential is bothered."""
        for status in (400, 405, 406, 409, 410, 411, 412, 415, 418, 422, 424, 431, 451):
            self.holds(
                anthropic(status, "invalid_request_error", "max_tokens: Field required"),
                Kind.CLIENT_FAULT, Scope.NONE, NONE, Then.ANSWER,
            )  # fmt: skip

    def test_401(self) -> None:
        """A refused key is refreshed once if it can be, else it rests for half an hour."""
        evidence = anthropic(401, "authentication_error", "invalid x-api-key")
        self.holds(evidence, Kind.AUTH, Scope.CREDENTIAL, HALF_HOUR, Then.NEXT)
        evidence = anthropic(401, "authentication_error", "invalid x-api-key", refreshable=True)
        self.holds(evidence, Kind.AUTH, Scope.CREDENTIAL, HALF_HOUR, Then.REFRESH_ONCE)

    def test_402(self) -> None:
        """An unpaid account rests for half an hour."""
        self.holds(
            anthropic(402, "billing_error", "Payment required"), Kind.BILLING, Scope.CREDENTIAL, HALF_HOUR, Then.NEXT
        )

    def test_403(self) -> None:
        """A key without leave for a model keeps the other models."""
        self.holds(
            anthropic(403, "permission_error", "Your API key does not have permission"),
            Kind.PERMISSION, Scope.MODEL, (600, 3_600), Then.NEXT,
        )  # fmt: skip

    def test_403_challenge(self) -> None:
        """A wall in front of the API is nobody's key: the provider is left alone for some seconds."""
        page = (
            b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><script src=/cdn-cgi/challenge-platform>"
        )
        for evidence in (
            seen("anthropic", 403, page),
            seen("anthropic", 403, b"", (b"cf-mitigated", b"challenge")),
            seen("bedrock", 403, b"", (b"x-amzn-waf-action", b"captcha")),
        ):
            self.holds(evidence, Kind.PERMISSION, Scope.PROVIDER, (10, 3_600), Then.NEXT)

    def test_404_of_the_route(self) -> None:
        """An upstream without a route is passed over; it loses no model by it."""
        for evidence in (
            seen("anthropic", 404, b"404 page not found", count_tokens=True),
            seen("anthropic", 405, b"", count_tokens=True),
            anthropic(501, "api_error", "not_supported", count_tokens=True),
            seen("openai", 404, {"error": {"message": "Invalid URL", "type": "invalid_request_error"}}),
        ):
            self.holds(evidence, Kind.UNSUPPORTED, Scope.NONE, NONE, Then.NEXT)

    def test_407(self) -> None:
        """A proxy that refuses us is the operator's to mend."""
        for evidence in (seen("anthropic", 407), failed("proxy_auth")):
            self.holds(evidence, Kind.CONFIGURATION, Scope.PROVIDER, (60, 60), Then.NEXT)

    def test_429_with_a_hint(self) -> None:
        """A key that says when it is ready again is left alone until then, if that is more than a matter of pace."""
        evidence = anthropic(429, "rate_limit_error", "Too many", (b"retry-after", b"17"))
        outcome = self.holds(evidence, Kind.QUOTA, Scope.MODEL, NONE, Then.NEXT)
        self.assertEqual(outcome.until_hint, 17)
        evidence = anthropic(
            429, "rate_limit_error", "Too many",
            (b"retry-after", b"17"), (b"anthropic-ratelimit-unified-5h-status", b"rejected"),
        )  # fmt: skip
        outcome = self.holds(evidence, Kind.QUOTA, Scope.CREDENTIAL, NONE, Then.NEXT)
        self.assertEqual(outcome.until_hint, 17)
        evidence = anthropic(429, "rate_limit_error", "Too many", (b"retry-after", b"5"))
        outcome = self.holds(evidence, Kind.QUOTA, Scope.MODEL, PASSING, Then.NEXT)
        self.assertEqual(outcome.until_hint, 5)

    def test_429_without_a_hint(self) -> None:
        """A key that does not say how long may take the next request: its gate learns how many it takes."""
        for evidence in (
            anthropic(429, "rate_limit_error", "Too many"),
            google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
            openai(429, "rate_limit_exceeded", "Rate limit reached", "requests"),
            bedrock(429, "ThrottlingException", "Too many requests"),
            seen("bedrock", 200, {"message": "slow"}, (b":exception-type", b"throttlingException")),
        ):
            outcome = self.holds(evidence, Kind.QUOTA, Scope.MODEL, PASSING, Then.NEXT)
            self.assertIsNone(outcome.until_hint)

    def test_529(self) -> None:
        """Overload passes; how long the upstream asks for is told beside it."""
        evidence = seen("anthropic", 529, b"", (b"retry-after", b"3"))
        outcome = self.holds(evidence, Kind.OVERLOADED, Scope.MODEL_ON_PROVIDER, PASSING, Then.NEXT)
        self.assertEqual(outcome.until_hint, 3)

    def test_408_499_and_5xx(self) -> None:
        """What passes by itself cools nothing, and is never the whole key's."""
        for status in (408, 499, 500, 502, 503, 504, 520, 522, 524, 501, 599):
            evidence = seen("anthropic", status, b"<html>502</html>", (b"retry-after", b"2"))
            outcome = self.holds(evidence, Kind.TRANSIENT, Scope.MODEL, PASSING, Then.NEXT)
            self.assertEqual(outcome.until_hint, 2)

    def test_a_transient_error_never_cools_the_whole_key(self) -> None:
        """A hint that reaches over the whole credential does so for quota alone."""
        evidence = seen(
            "anthropic", 500, b"", (b"anthropic-ratelimit-unified-status", b"rejected"), (b"retry-after", b"2")
        )
        self.assertEqual(classify(evidence).scope, Scope.MODEL)

    def test_3xx_and_a_200_that_is_no_answer(self) -> None:
        """Redirects, pages, empty bodies and nameless error objects are the endpoint's momentary trouble."""
        for evidence in (
            seen("anthropic", 302),
            seen("anthropic", 200, b"<html>Sign in</html>", failure=Failure.NOT_CLAUDE),
            seen("anthropic", 200, b"", failure=Failure.NOT_CLAUDE),
            seen("openai", 200, {"error": {}}, failure=Failure.NOT_CLAUDE),
            seen("anthropic", 200, {"type": "error"}),
        ):
            self.holds(evidence, Kind.TRANSIENT, Scope.MODEL, PASSING, Then.NEXT)

    def test_cannot_connect(self) -> None:
        """An endpoint that is not reached fails for everyone's key."""
        for failure in ("connect", "connect_timeout", "dns"):
            self.holds(failed(failure), Kind.TRANSIENT, Scope.PROVIDER, PASSING, Then.NEXT)

    def test_first_byte_timeout(self) -> None:
        """A key that takes a request and never answers is that key's trouble, and rests for as long as it took."""
        outcome = self.holds(failed("first_byte_timeout"), Kind.TRANSIENT, Scope.MODEL, NONE, Then.NEXT)
        self.assertTrue(outcome.hung)

    def test_cut_before_message_commit(self) -> None:
        """A stream that breaks before its first word is taken over by the next candidate."""
        for failure in (Failure.CUT, Failure.MALFORMED, Failure.IDLE_TIMEOUT, Failure.CONTENT_TIMEOUT):
            evidence = seen("anthropic", 200, failure=failure, phase=AttemptPhase.STREAM)
            self.holds(evidence, Kind.TRANSIENT, Scope.MODEL, PASSING, Then.NEXT)

    def test_a_cut_reads_no_hint(self) -> None:
        """What a 200 says of its limits does not lengthen the rest after a cut; it is told beside it."""
        headers = (
            (b"anthropic-ratelimit-tokens-remaining", b"0"),
            (b"anthropic-ratelimit-tokens-reset", b"2026-11-18T12:00:00Z"),
        )
        outcome = classify(seen("anthropic", 200, b"", *headers, failure=Failure.CUT))
        self.assertEqual((outcome.until_hint, outcome.exhausted), (None, 1_795_003_200 - NOW))

    def test_cut_after_message_commit(self) -> None:
        """A broken stream is bad luck, and evidence."""
        for failure in (Failure.CUT, Failure.MALFORMED, Failure.IDLE_TIMEOUT, Failure.CONTENT_TIMEOUT):
            evidence = seen("anthropic", 200, failure=failure, phase=AttemptPhase.STREAM, message_committed=True)
            self.holds(evidence, Kind.BROKEN_STREAM, Scope.MODEL, PASSING, Then.ANSWER)


class NearMissTests(SynchronousTestCase):
    """What looks like a row of the first table and is none."""

    def test_names_need_their_words_and_words_their_status(self) -> None:
        """A broad name, or a common word elsewhere, does not decide alone."""
        for evidence, kind in (
            (google(404, "NOT_FOUND", "Requested entity was not found."), Kind.UNSUPPORTED),
            (google(400, "FAILED_PRECONDITION", "Please enable the API first"), Kind.CLIENT_FAULT),
            (google(503, "UNAVAILABLE", "The service is currently unavailable."), Kind.TRANSIENT),
            (bedrock(403, "AccessDeniedException", "User is not authorized to perform this"), Kind.PERMISSION),
            (bedrock(400, "ValidationException", "max_tokens: too many"), Kind.CLIENT_FAULT),
            (anthropic(404, "not_found_error", "Not found: a model"), Kind.UNSUPPORTED),
            (anthropic(500, "api_error", "File store is down"), Kind.TRANSIENT),
            (anthropic(500, "api_error", "The fast mode machinery is down"), Kind.TRANSIENT),
            (anthropic(500, "api_error", "Lost the credits for long context"), Kind.TRANSIENT),
            (anthropic(500, "api_error", "The signature of the thinking block was not stored"), Kind.TRANSIENT),
            (openai(403, None, "Your account is flagged"), Kind.PERMISSION),
            (openai(429, "rate_limit_exceeded", "Your input was flagged"), Kind.QUOTA),
            (google(429, "RESOURCE_EXHAUSTED", "Quota exceeded", {"violations": [{"quotaValue": "10"}]}), Kind.QUOTA),
        ):
            self.assertEqual(classify(evidence).kind, kind, evidence)


class InBandTests(Table):
    """Errors inside a stream, which come without a status."""

    def test_status_follows_from_the_name(self) -> None:
        """An error event counts as the answer that it would have been."""
        for evidence, kind in (
            (anthropic(200, "rate_limit_error", "Too many"), Kind.QUOTA),
            (anthropic(200, "api_error", "Internal server error"), Kind.TRANSIENT),
            (anthropic(200, "authentication_error", "no"), Kind.AUTH),
            (anthropic(200, "invalid_request_error", "no"), Kind.CLIENT_FAULT),
            (seen("google", 200, [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}]), Kind.QUOTA),
            (openai(200, "rate_limit_exceeded", "no", "requests"), Kind.QUOTA),
            (openai(200, "server_error", "no", "server_error"), Kind.TRANSIENT),
            (seen("openai", 200, {"error": {"code": "429", "message": "Rate limit reached"}}), Kind.QUOTA),
            (seen("openai", 200, flat_body(500, "InternalServerError", "no")), Kind.TRANSIENT),
            (seen("openai", 200, flat_body(400, "BadRequestError", "no")), Kind.CLIENT_FAULT),
            (seen("openai", 200, {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}), Kind.QUOTA),
            (openai(200, "invalid_api_key", "Incorrect API key provided"), Kind.AUTH),
            (seen("openai", 200, {"type": "error", "code": "insufficient_quota", "message": "no"}), Kind.BILLING),
            (
                seen("openai", 200, {"type": "response.failed", "response": {"error": {"code": "server_error"}}}),
                Kind.TRANSIENT,
            ),
            (seen("bedrock", 200, b"{}", (b":exception-type", b"validationException")), Kind.CLIENT_FAULT),
        ):
            self.assertEqual(classify(evidence).kind, kind, evidence)

    def test_nothing_takes_over_after_message_commit(self) -> None:
        """An error after the first word is told to the client, whatever it is; the key still cools for it."""
        evidence = anthropic(200, "overloaded_error", "Overloaded", message_committed=True)
        self.holds(evidence, Kind.OVERLOADED, Scope.MODEL_ON_PROVIDER, PASSING, Then.ANSWER)
        evidence = anthropic(200, "authentication_error", "no", message_committed=True, refreshable=True)
        self.holds(evidence, Kind.AUTH, Scope.CREDENTIAL, HALF_HOUR, Then.ANSWER)


class HostileClientTests(SynchronousTestCase):
    """A client chooses some of the words in an upstream's error."""

    def test_field_names_cool_nothing(self) -> None:
        """A field that is named like an account's failure is a field that the API does not know."""
        for words in ("Your credit balance is too low", "This organization has been disabled", "model"):
            for message in (f"{words}: Extra inputs are not permitted", f"tools.0.{words}: Input should be a string"):
                outcome = classify(anthropic(400, "invalid_request_error", message))
                self.assertEqual((outcome.kind, outcome.scope), (Kind.CLIENT_FAULT, Scope.NONE), message)


class ReasonTests(SynchronousTestCase):
    """What logs and the pool's page say."""

    def test_is_the_upstreams_own_sentence(self) -> None:
        """The operator reads the upstream's words, and not our guess at them."""
        self.assertEqual(classify(anthropic(429, "rate_limit_error", "Too many")).reason, "Too many")

    def test_is_short_and_one_line(self) -> None:
        """No upstream can forge a log line, colour a terminal or flood either."""
        outcome = classify(anthropic(500, "api_error", "a\x1b[31m\nb\x00\u2028\u202ec" + "x" * 1_000))
        self.assertTrue(outcome.reason.startswith("a [31m b c"), outcome.reason)
        self.assertEqual(len(outcome.reason), 200)
        self.assertTrue(outcome.reason.isprintable())

    def test_no_error_object(self) -> None:
        """What is none may be an answer, or quote the prompt: only its kind and its length are told."""
        prose = "Dear diary"
        for body, form in (
            (prose.encode(), "text"),
            (json.dumps(prose).encode(), "text"),
            (json.dumps({"message": prose}).encode(), "JSON"),
            (json.dumps({"choices": [{"message": {"content": prose}}]}).encode(), "JSON"),
            (f"<html><title>{prose}</title>".encode(), "HTML"),
        ):
            evidence = seen("anthropic", 200, body, failure=Failure.NOT_CLAUDE)
            told = f"a 200 that is no answer of the API: {len(body)} bytes of {form}"
            self.assertEqual(classify(evidence).reason, told)
        for status in (400, 503):
            evidence = seen("anthropic", status, prose.encode())
            self.assertEqual(classify(evidence).reason, f"status {status}: 10 bytes of text")

    def test_error_object(self) -> None:
        """A provider's own error is quoted, whatever its shape, and so is a page's title."""
        told = "Out of order"
        for body in ({"error": {"message": told}}, {"error": told}):
            self.assertEqual(classify(seen("anthropic", 200, body, failure=Failure.NOT_CLAUDE)).reason, told)
        for body in ({"error": {"message": told}}, {"message": told}, f"<title>{told}</title>".encode()):
            self.assertEqual(classify(seen("anthropic", 503, body)).reason, told)

    def test_without_words(self) -> None:
        """Where the upstream said nothing, the failure or the status stands for it."""
        self.assertEqual(classify(failed("dns")).reason, "dns")
        for status in (503, 302, 204):
            self.assertEqual(classify(seen("anthropic", status)).reason, f"status {status}")
        self.assertEqual(
            classify(seen("anthropic", 200, failure=Failure.NOT_CLAUDE)).reason, "a 200 that is no answer of the API"
        )


class FurtherFactsTests(SynchronousTestCase):
    """What else dispatch and the pool learn."""

    def test_repeatable(self) -> None:
        """The same candidate is asked again after what passes, or when a quota is there again; after nothing else."""
        for evidence, expected in (
            (seen("anthropic", 500), True),
            (seen("anthropic", 529), True),
            (failed("connect"), True),
            (failed("connect_timeout"), True),
            (failed("cut"), True),
            (failed("first_byte_timeout"), False),
            (failed("idle_timeout"), False),
            (failed("cut", message_committed=True), False),
            (seen("anthropic", 429), True),
            (seen("anthropic", 429, b"", (b"retry-after", b"17")), True),
            (seen("anthropic", 400), False),
            (seen("anthropic", 500, b"", (b"x-should-retry", b"false")), False),
        ):
            self.assertIs(classify(evidence).repeatable, expected, evidence)

    def test_timed_out(self) -> None:
        """A client hears 504 where it was our own patience that ended."""
        self.assertTrue(classify(failed("first_byte_timeout")).timed_out)
        self.assertFalse(classify(failed("connect")).timed_out)

    def test_exhausted(self) -> None:
        """A limit that an error shows as used up is told beside it."""
        evidence = anthropic(
            400, "invalid_request_error", "no",
            (b"anthropic-ratelimit-tokens-remaining", b"0"),
            (b"anthropic-ratelimit-tokens-reset", b"2026-11-18T12:00:00Z"),
        )  # fmt: skip
        self.assertEqual(classify(evidence).exhausted, 1_795_003_200 - NOW)


class ContextOverflowTests(SynchronousTestCase):
    """Each family's way to say it."""

    def told(self, evidence: Evidence) -> str | None:
        overflow = context_overflow(evidence)
        return overflow.message if overflow else None

    def test_with_numbers(self) -> None:
        """Clients compact on exact words, which the numbers of any family can fill."""
        for evidence in (
            anthropic(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            bedrock(
                400,
                "ValidationException",
                "The model returned the following errors: prompt is too long: 210000 tokens > 200000 maximum",
            ),
            google(
                400,
                "INVALID_ARGUMENT",
                "The input token count (210000) exceeds the maximum number of tokens allowed (200000).",
            ),
            google(
                400,
                "INVALID_ARGUMENT",
                "Unable to submit request because the input token count is 210,000"
                " but model only supports up to 200,000.",
            ),
            openai(
                400,
                "context_length_exceeded",
                "This model's maximum context length is 200000 tokens."
                " However, your messages resulted in 210000 tokens.",
            ),
            openai(
                400,
                None,
                "This model's maximum context length is 200000 tokens. However, you requested 210000 tokens (1 in …).",
            ),
            openai(
                400,
                None,
                "request (210000 tokens) exceeds the available context size (200000 tokens), try increasing it",
                "exceed_context_size_error",
            ),
            openai(
                400,
                None,
                "This endpoint's maximum context length is 200000 tokens. However, you requested about 210000 tokens"
                " (1 of tool input). Please reduce the length of either one.",
            ),
            seen(
                "openai",
                200,
                {
                    "error": {
                        "message": "This endpoint's maximum context length is 200000 tokens. However, you requested"
                        " about 211000 tokens (210000 of text input, 1000 in the output).",
                        "code": 400,
                    }
                },
                phase=AttemptPhase.STREAM,
            ),
            routed(
                flat_body(
                    400,
                    "BadRequestError",
                    "This model's maximum context length is 200000 tokens. However, you requested 1000 output tokens"
                    " and your prompt contains at least 210000 input tokens, for a total of at least 211000 tokens.",
                )
            ),
            flat(
                400,
                "BadRequestError",
                "This model's maximum context length is 200000 tokens. However, you requested 210000 tokens.",
            ),
            openai(
                400,
                None,
                "This model's maximum prompt length is 200000 but the request contains 210000 tokens.",
            ),
            openai(
                400,
                None,
                "Prompt contains 210000 tokens and 0 draft tokens, too large for model with 200000 maximum context"
                " length",
            ),
            openai(
                400,
                None,
                "Invalid request: Your request exceeded model token limit: 200000 (requested: 210000)",
            ),
            openai(
                400,
                None,
                "The input (210000 tokens) is longer than the model's context length (200000 tokens).",
            ),
        ):
            self.assertEqual(self.told(evidence), "prompt is too long: 210000 tokens > 200000 maximum", evidence)
            self.assertEqual(classify(evidence).kind, Kind.CLIENT_FAULT)

    def test_no_room_for_the_answer(self) -> None:
        """A prompt that fits, with a ``max_tokens`` for which no room is left: the words by which clients ask for
        less, and do not compact."""
        for evidence in (
            flat(
                400,
                "BadRequestError",
                "'max_tokens' or 'max_completion_tokens' is too large: 3000. This model's maximum context length is"
                " 4096 tokens and your request has 2104 input tokens (3000 > 4096 - 2104). None",
            ),
            flat(
                400,
                "BadRequestError",
                "This model's maximum context length is 4096 tokens. However, you requested 3000 output tokens and your"
                " prompt contains at least 2104 input tokens, for a total of at least 5104 tokens.",
            ),
            openai(
                400,
                "context_length_exceeded",
                "This model's maximum context length is 4096 tokens. However, you requested 5104 tokens (2104 in the"
                " messages, 3000 in the completion). Please reduce the length of the messages or completion.",
            ),
        ):
            self.assertEqual(
                self.told(evidence),
                "input length and `max_tokens` exceed context limit: 2104 + 3000 > 4096, decrease input length or"
                " `max_tokens` and try again",
            )
            self.assertEqual(classify(evidence).kind, Kind.CLIENT_FAULT)

    def test_without_numbers(self) -> None:
        """Half the numbers are as good as none."""
        for evidence in (
            bedrock(400, "ValidationException", "Input is too long for requested model."),
            google(
                400, "INVALID_ARGUMENT", "The input token count exceeds the maximum number of tokens allowed 1048576."
            ),
            openai(400, "context_length_exceeded", "Your input exceeds the context window of this model."),
            openai(400, "context_length_exceeded", "Please reduce the length of the messages or completion."),
            openai(400, None, "Please reduce the length of the messages or completion."),
            openai(400, None, "the request exceeds the available context size. try increasing the context size"),
            seen("openai", 400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}),
            openai(400, "invalid_parameter_error", "Range of input length should be [1, 129024]"),
            openai(400, None, "invalid params, context window exceeds limit (2013)"),
            seen("openai", 200, {"base_resp": {"status_code": 2013, "status_msg": "context window exceeds limit"}}),
            openai(
                400,
                None,
                "The number of tokens to keep from the initial prompt is greater than the context length.",
            ),
            anthropic(413, "invalid_request_error", "Prompt is too long"),
            anthropic(413, "invalid_request_error", "Request size exceeds model context window"),
            seen("openai", 200, {"response": {"error": {"code": "context_length_exceeded", "message": "x"}}}),
            seen("openai", 200, {"error": {"type": "exceed_context_size_error", "message": "x"}}),
        ):
            self.assertEqual(self.told(evidence), "prompt is too long", evidence)
            self.assertEqual(classify(evidence).kind, Kind.CLIENT_FAULT)

    def test_something_else(self) -> None:
        """No other error sends a client to compact its history."""
        for evidence in (
            anthropic(400, "invalid_request_error", "max_tokens: Field required"),
            anthropic(529, "overloaded_error", "prompt is too long"),
            anthropic(413, "request_too_large", "Request exceeds the maximum size"),
            openai(429, "rate_limit_exceeded", "Request too large for gpt-9 … tokens per min (TPM): Limit 1"),
            failed("cut"),
        ):
            self.assertIsNone(context_overflow(evidence), evidence)


class OperatorRuleTests(SynchronousTestCase):
    """``[[providers.rules]]``."""

    def test_comes_before_all(self) -> None:
        """An operator who knows his gateway is believed over every table."""
        evidence = anthropic(400, "invalid_request_error", "Your credit balance is too low: upstream busy")
        self.assertEqual(classify(evidence).kind, Kind.BILLING)
        outcome = classify(evidence, [operator_rule("transient", 400, "(?i)upstream BUSY", cooldown=5.0)])
        got = (outcome.kind, outcome.scope, outcome.base, outcome.ceiling, outcome.then)
        self.assertEqual(got, (Kind.TRANSIENT, Scope.MODEL, 5, 5, Then.NEXT))

    def test_first_match_wins(self) -> None:
        """Rules are read in the order of the file."""
        rules = [operator_rule("client_fault", 500), operator_rule("auth", 500)]
        self.assertEqual(classify(seen("anthropic", 500), rules).kind, Kind.CLIENT_FAULT)
        self.assertEqual(classify(seen("anthropic", 502), rules).kind, Kind.TRANSIENT)

    def test_matches_without_a_status(self) -> None:
        """A rule may go by the words alone, and does not touch what has none."""
        rule = operator_rule("quota", match="per hour", scope="credential")
        outcome = classify(seen("openai", 403, b"5 per hour", (b"retry-after", b"30")), [rule])
        self.assertEqual((outcome.kind, outcome.scope, outcome.until_hint), (Kind.QUOTA, Scope.CREDENTIAL, 30))
        self.assertEqual(classify(failed("dns"), [rule]).kind, Kind.TRANSIENT)

    def test_own_cooldown_beats_a_hint(self) -> None:
        """A cooldown that the operator wrote is the cooldown."""
        rule = operator_rule("quota", 429, cooldown=7)
        outcome = classify(seen("openai", 429, b"", (b"retry-after", b"30")), [rule])
        self.assertEqual((outcome.base, outcome.until_hint), (7, None))

    def test_own_scope_beats_a_hints(self) -> None:
        """A scope that the operator wrote is the scope; how long is still the upstream's to say."""
        headers = ((b"retry-after", b"30"), (b"anthropic-ratelimit-unified-status", b"rejected"))
        for scope, expected in (("model", Scope.MODEL), ("", Scope.CREDENTIAL)):
            outcome = classify(seen("anthropic", 429, b"", *headers), [operator_rule("quota", 429, scope=scope)])
            self.assertEqual((outcome.scope, outcome.until_hint), (expected, 30))

    def test_scope_none(self) -> None:
        """A failure may be made to cool nothing at all."""
        outcome = classify(
            seen("anthropic", 500, b"", (b"retry-after", b"9")), [operator_rule("transient", 500, scope="none")]
        )
        self.assertEqual((outcome.scope, outcome.base, outcome.until_hint), (Scope.NONE, 0, None))

    def test_counts_inside_a_stream(self) -> None:
        """A status also stands for the error event that has no status of its own."""
        rule = operator_rule("transient", 529)
        self.assertEqual(classify(anthropic(200, "overloaded_error"), [rule]).kind, Kind.TRANSIENT)

    def test_mistakes_are_named(self) -> None:
        """The configuration's check can tell an operator what is wrong with his rule."""
        for values, said in (
            (("meltdown", 500), "meltdown"),
            (("cancelled", 500), "cancelled"),
            (("transient",), "needs a status or a match"),
            (("transient", 500, "("), "regular expression"),
            (("transient", 500, "", -1.0), "cooldown"),
            (("transient", 500, "", math.nan), "cooldown"),
            (("transient", 500, "", 0.0, "galaxy"), "galaxy"),
            (("client_fault", 500, "", 5.0), "needs a scope"),
            (("transient", 500, "", 5.0, "none"), "needs a scope"),
            (("client_fault", 500, "", 0.0, "model"), "needs a cooldown"),
        ):
            error = self.assertRaises(ValueError, operator_rule, *values)
            self.assertIn(said, str(error))


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["error", "type", "message", "details", "code", "status", "violations", "quotaId", "quotaDimensions",
             "metadata", "retryDelay", "response", "innererror", "__type", "reason", "quota_limit", "error_code"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=25,
)  # fmt: skip
NAMES = st.sampled_from(
    [b"retry-after", b"retry-after-ms", b"x-amzn-errortype", b":exception-type",
     b"anthropic-ratelimit-tokens-remaining", b"anthropic-ratelimit-tokens-reset",
     b"anthropic-ratelimit-unified-status", b"x-ratelimit-reset-tokens"]
)  # fmt: skip
VALUES = st.sampled_from([b"0", b"rejected", b"9" * 400, b"Sun, 99 Foo 99999 99:99:99", b"0001-01-01T00:00:00Z"])


class GarbageTests(SynchronousTestCase):
    """Nothing that an upstream sends can break the reading of it."""

    @settings(max_examples=200, deadline=None, database=None)
    @given(
        family=st.sampled_from(["anthropic", "google", "openai", "bedrock", "?"]),
        status=st.sampled_from([0, 200, 302, 400, 401, 403, 404, 429, 500, 529, 999]),
        body=st.binary(max_size=200) | SHAPES.map(lambda shape: json.dumps(shape).encode()),
        headers=st.lists(st.tuples(NAMES | st.binary(max_size=20), VALUES | st.binary(max_size=30)), max_size=6),
        failure=st.sampled_from([None, *Failure]),
        committed=st.booleans(),
    )
    def test_arbitrary_answers(
        self,
        family: str,
        status: int,
        body: bytes,
        headers: list[tuple[bytes, bytes]],
        failure: Failure | None,
        committed: bool,
    ) -> None:
        """Any bytes come to some outcome, whose numbers the pool can count with."""
        evidence = seen(family, status, body, *headers, failure=failure, message_committed=committed)
        outcome = classify(evidence, [operator_rule("transient", match="x{3}")])
        context_overflow(evidence)
        self.assertLessEqual(outcome.base, outcome.ceiling)
        if outcome.scope is Scope.NONE:
            self.assertFalse(outcome.passing or outcome.base)
        else:
            self.assertTrue(outcome.passing or outcome.base or outcome.until_hint or outcome.hung)
        for seconds in (outcome.until_hint, outcome.exhausted):
            self.assertTrue(seconds is None or 0 < seconds <= 366 * 86_400)
        self.assertLessEqual(len(outcome.reason), 200)
        self.assertTrue(outcome.reason.isprintable())

    def test_deep_and_huge_bodies(self) -> None:
        """Nesting without end and numbers without end are only bad bodies."""
        for body in (
            b"[" * 200_000,
            b'{"error":' * 50_000,
            b'{"error":{"code":' + b"9" * 9_000 + b"}}",
            b"\xff" * 9_000,
        ):
            self.assertEqual(classify(seen("google", 500, body)).kind, Kind.TRANSIENT)
