"""The decision tables: what is seen of a failed attempt, and the outcome that it stands for.

Errors that have a name come first, then statuses; within each table the first row with a sign that fits wins.
:func:`claudeproxyd.outcomes.classify.classify` reads them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container
from dataclasses import dataclass, replace
from enum import Enum
from fnmatch import fnmatchcase
from typing import NamedTuple

from claudeproxyd.outcomes.bodies import ErrorBody
from claudeproxyd.outcomes.types import CANCELLED, Evidence, Failure, Kind, Outcome, Scope, Then

# What each kind comes to where no row says otherwise: what cools, what is done next, the first cooldown, its ceiling.
CLIENT_FAULT = Outcome(Kind.CLIENT_FAULT, Scope.NONE, Then.ANSWER)
TOO_LARGE = Outcome(Kind.TOO_LARGE, Scope.NONE, Then.NEXT_ROUTE)
UNSUPPORTED = Outcome(Kind.UNSUPPORTED, Scope.NONE, Then.NEXT_ROUTE)
MODEL_UNAVAILABLE = Outcome(Kind.MODEL_UNAVAILABLE, Scope.MODEL, Then.NEXT, 600, 43_200, doubtful=True)
QUOTA = Outcome(Kind.QUOTA, Scope.MODEL, Then.NEXT, passing=True)
OVERLOADED = Outcome(Kind.OVERLOADED, Scope.MODEL_ON_PROVIDER, Then.NEXT, passing=True)
AUTH = Outcome(Kind.AUTH, Scope.CREDENTIAL, Then.NEXT, 1_800, 1_800)
BILLING = Outcome(Kind.BILLING, Scope.CREDENTIAL, Then.NEXT, 1_800, math.inf)
PERMISSION = Outcome(Kind.PERMISSION, Scope.MODEL, Then.NEXT, 600, 3_600, doubtful=True)
LOCATION = Outcome(Kind.LOCATION, Scope.PROVIDER, Then.NEXT_PROVIDER, 1_800, 1_800)
TRANSIENT = Outcome(Kind.TRANSIENT, Scope.MODEL, Then.NEXT, passing=True)
MODEL_FAULT = Outcome(Kind.MODEL_FAULT, Scope.NONE, Then.REPEAT_ONCE)
RECTIFY = Outcome(Kind.RECTIFY, Scope.NONE, Then.RECTIFY_ONCE)
STALE = Outcome(Kind.STALE, Scope.NONE, Then.REPEAT_ONCE)
CONFIGURATION = Outcome(Kind.CONFIGURATION, Scope.PROVIDER, Then.NEXT, 60, 60)
INTERNAL = Outcome(Kind.INTERNAL, Scope.NONE, Then.NEXT)
BROKEN_STREAM = Outcome(Kind.BROKEN_STREAM, Scope.MODEL, Then.ANSWER, passing=True)

#: Characters of a message that patterns are tried on.
SEARCHED = 2_000


def _starts(pattern: str) -> re.Pattern[str]:
    """A known text. It counts at the start of the upstream's sentence alone: further on, a client can put words into
    it (a field's name, a file's), and no client may have a healthy credential cooled."""
    return re.compile(pattern, re.IGNORECASE | re.DOTALL | re.ASCII)


class Case(NamedTuple):
    """The evidence, read."""

    evidence: Evidence
    error: ErrorBody
    names: frozenset[str]
    status: int
    """Of the answer; of an error inside a stream, the status that it would have had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One way to know a row by: all that is given must fit."""

    names: tuple[str, ...] = ()
    """Any of these codes, types or reasons; ``*`` at the end stands for more."""
    text: re.Pattern[str] | None = None
    """How the upstream's sentence begins."""
    statuses: Container[int] = ()
    failures: tuple[Failure, ...] = ()
    committed: bool | None = None
    """Whether part of a message had gone to the client."""
    count_tokens: bool | None = None

    def fits(self, case: Case) -> bool:
        evidence = case.evidence
        return (
            (not self.names or any(_is_like(name, self.names) for name in case.names))
            and (self.text is None or self.text.match(case.error.message, 0, SEARCHED) is not None)
            and (not self.statuses or case.status in self.statuses)
            and (not self.failures or evidence.failure in self.failures)
            and self.committed in (None, evidence.message_committed)
            and self.count_tokens in (None, evidence.count_tokens)
        )


def _is_like(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class Hinted(Enum):
    """What an upstream's hint takes the place of, where it gives one."""

    NOTHING = "nothing"
    COOLDOWN = "cooldown"
    COOLDOWN_AND_SCOPE = "cooldown_and_scope"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    outcome: Outcome
    signs: tuple[Sign, ...]
    hinted: Hinted = Hinted.NOTHING


#: A request that holds more than the model's window, by family; ``tokens`` and ``maximum`` where they are told.
OVERFLOWS = (
    # Anthropic, also on Bedrock and Vertex
    _starts(r"prompt is too long(: (?P<tokens>\d+) tokens > (?P<maximum>\d+) maximum)?"),
    # Anthropic, with a 413
    _starts(r"request size exceeds model context window"),
    # Bedrock
    _starts(r"input is too long"),
    # Gemini
    _starts(
        r"the input token count (\((?P<tokens>[\d,]+)\) )?exceeds the maximum number of tokens allowed"
        r"( \(?(?P<maximum>[\d,]+))?"
    ),
    # Vertex
    _starts(
        r"unable to submit request because the input token count is (?P<tokens>[\d,]+)"
        r" but (the )?model only supports up to (?P<maximum>[\d,]+)"
    ),
    # OpenAI chat, and servers like it, OpenRouter among them
    _starts(
        r"this (model|endpoint)'s maximum context length is (?P<maximum>\d+) tokens"
        r"(.*?(resulted in|requested|has|contains) (about |at least )?(?P<tokens>\d+))?"
    ),
    # vLLM: there is no room left for max_tokens
    _starts(
        r"'max_tokens' or 'max_completion_tokens' is too large: (?P<output>\d+)\. this model's maximum context length"
        r" is (?P<maximum>\d+) tokens and your request has (?P<tokens>\d+) input tokens"
    ),
    _starts(
        r"this (model|endpoint)'s maximum context length is (?P<maximum>\d+) tokens\. however, you requested"
        r" (?P<output>\d+) output tokens and your prompt contains (at least )?(?P<tokens>\d+) input tokens"
    ),
    # the same of OpenAI and OpenRouter
    _starts(
        r"this (model|endpoint)'s maximum context length is (?P<maximum>\d+) tokens[.,] however, you requested"
        r" (about )?\d+ tokens \((?P<tokens>\d+) (in the messages|in your prompt|of text input)[^)]{0,200}[,;]"
        r" (?P<output>\d+) (in|for) the (completion|output)"
    ),
    # OpenAI Responses
    _starts(r"your input exceeds the context window"),
    # llama.cpp
    _starts(
        r"(the )?request (\((?P<tokens>\d+) tokens\) )?exceeds the available context size"
        r"( \((?P<maximum>\d+) tokens\))?"
    ),
    # xAI
    _starts(r"this model's maximum prompt length is (?P<maximum>\d+) but the request contains (?P<tokens>\d+) tokens"),
    # Mistral
    _starts(
        r"prompt contains (?P<tokens>\d+) tokens.{0,60}too large for model with (?P<maximum>\d+) maximum context length"
    ),
    # Moonshot
    _starts(
        r"(invalid request: )?your request exceeded model token limit: (?P<maximum>\d+)"
        r"( \(requested: (?P<tokens>\d+)\))?"
    ),
    # SGLang
    _starts(
        r"the input \((?P<tokens>\d+) tokens\) is longer than the model's context length \((?P<maximum>\d+) tokens\)"
    ),
    # LM Studio
    _starts(r"the number of tokens to keep from the initial prompt .{0,40}is greater than the context length"),
    # Groq, GLM, Qwen, MiniMax
    _starts(r"please reduce the length of the messages or completion"),
    _starts(r"prompt exceeds max length"),
    _starts(r"(<400> internalerror\.algo\.invalidparameter: )?range of input length should be "),
    _starts(r"(invalid params, )?context window exceeds limit"),
)

CONTEXT_OVERFLOW = (
    Sign(names=("context_length_exceeded", "exceed_context_size_error")),
    *(Sign(text=text, statuses=(400, 413, 422)) for text in OVERFLOWS),
)

BY_NAME: tuple[Row, ...] = (
    # client went away
    Row(CANCELLED, (Sign(failures=(Failure.CANCELLED,)),)),
    # our translator cannot carry the request on this route
    Row(UNSUPPORTED, (Sign(failures=(Failure.UNSUPPORTED,)),)),
    # a field that the API does not know: its sentence begins with a name that the client chose
    Row(CLIENT_FAULT, (Sign(text=_starts(r".*: extra inputs are not permitted"), statuses=(400,)),)),
    # the model is unknown to, or not enabled or deployed for, this account
    Row(
        MODEL_UNAVAILABLE,
        (
            Sign(names=("not_found_error",), text=_starts(r"(the |requested )*model\b")),
            Sign(names=("NOT_FOUND",), text=_starts(r"(publisher model|(this model )?models/)")),
            Sign(names=("DeploymentNotFound", "model_not_found", "invalid_model")),
            # vLLM, Ollama, xAI; OpenRouter; Moonshot; DeepSeek; OpenRouter again; GLM
            Sign(text=_starts(r"(the |requested )*model\b"), statuses=(404,)),
            Sign(text=_starts(r"no endpoints found for "), statuses=(404,)),
            Sign(text=_starts(r"not found the model "), statuses=(404,)),
            Sign(text=_starts(r"model not exist"), statuses=(400,)),
            Sign(text=_starts(r"\S{1,200} is not a valid model id"), statuses=(400,)),
            Sign(text=_starts(r"unknown model\b"), statuses=(400,)),
            Sign(
                names=("Validation", "AccessDenied", "ResourceNotFound"),
                text=_starts(
                    r"(invocation of model id .* with on-demand throughput isn.{1,3}t supported"
                    r"|you don.{1,3}t have access to the model"
                    r"|the provided model identifier is invalid"
                    r"|could not resolve the foundation model"
                    r"|model use case details have not been submitted"
                    r"|(access denied\. )?this model is marked by provider as legacy"
                    r"|this model version has reached the end of its life"
                    r"|operation not allowed)"
                ),
            ),
            Sign(names=("quotaValue=0",), statuses=(429,)),
            Sign(names=("RESOURCE_EXHAUSTED",), text=_starts(r".*\blimit: 0(?![\d.])"), statuses=(429,)),
        ),
    ),
    # reasoning that another key or model sealed, or that lies elsewhere, in what goes to OpenAI's Responses API
    Row(
        RECTIFY,
        (
            Sign(names=("invalid_encrypted_content",)),
            Sign(
                text=_starts(
                    r"item (with id )?['\"]?\w{1,100}['\"]? (of type '\w{1,50}' was provided without|not found)"
                ),
                statuses=(400, 404),
            ),
            Sign(text=_starts(r"(the )?encrypted content\b.{0,200}could not be (verified|decrypted)"), statuses=(400,)),
        ),
    ),
    # a 404 that names a file, container or response: another account may have it
    Row(
        replace(CLIENT_FAULT, then=Then.NEXT),
        (Sign(text=_starts(r"(no such )?(file|container|response|item)\b"), statuses=(404,)),),
    ),
    # money: the account's credit or its limit
    Row(
        BILLING,
        (
            Sign(text=_starts(r"your credit balance is too low")),
            Sign(names=("enforced_spend_limit_reached", "contract_spend_limit_reached")),
            Sign(names=("insufficient_quota", "BILLING_DISABLED")),
            # Moonshot, Alibaba, MiniMax, GLM
            Sign(names=("exceeded_current_quota_error", "Arrearage", "base_resp.1008")),
            Sign(names=("1113",), statuses=(429,)),
            # Google's, which speak of nothing that a client named: no quotation, no path, no address.
            Sign(names=("FAILED_PRECONDITION", "PERMISSION_DENIED"), text=_starts(r"[^\"'`:/]*\bbilling\b")),
            Sign(
                names=("RESOURCE_EXHAUSTED",),
                text=_starts(r"[^\"'`:/]*\b(prepa(id|yment) (credits?|balance)|spend(ing)? (cap|limit))\b"),
            ),
        ),
    ),
    # the limit that the customer set: "You will regain access on DATE"
    Row(
        BILLING,
        (Sign(text=_starts(r"you have reached your specified (\w+ )?api usage limits"), statuses=(400,)),),
        Hinted.COOLDOWN,
    ),
    # the account or the key is shut
    Row(
        AUTH,
        (
            Sign(names=("organization_on_hold",)),
            Sign(text=_starts(r"(this|your) organization has been disabled")),
            Sign(text=_starts(r"your api key was reported as leaked"), statuses=(403,)),
            Sign(names=("API_KEY_INVALID", "SERVICE_DISABLED", "CONSUMER_SUSPENDED", "API_KEY_SERVICE_BLOCKED")),
        ),
    ),
    # AWS takes a signature for five minutes: our clock is wrong, and no key is
    Row(
        CONFIGURATION,
        (Sign(names=("InvalidSignature", "RequestExpired"), text=_starts(r"signature (expired|not yet current)")),),
    ),
    Row(
        replace(AUTH, then=Then.REFRESH_ONCE),
        (
            Sign(names=("UnrecognizedClient", "InvalidSignature", "ExpiredToken", "SignatureDoesNotMatch")),
            Sign(names=("InvalidClientTokenId", "MissingAuthenticationToken", "IncompleteSignature")),
            Sign(
                text=_starts(
                    r"(authentication failed: .{0,40}api key|bearer token has expired"
                    r"|missing required parameters in the api key|the security token included in the request is)"
                ),
                statuses=(401, 403),
            ),
        ),
    ),
    # where the daemon stands
    Row(
        LOCATION,
        (
            Sign(names=("FAILED_PRECONDITION",), text=_starts(r"user location is not supported")),
            Sign(names=("unsupported_country_region_territory",)),
        ),
    ),
    # a quota of the account that comes as a 400
    Row(QUOTA, (Sign(names=("ServiceQuotaExceeded",)),)),
    # Bedrock's quota of a day, of which nothing says when it is back
    Row(
        replace(QUOTA, base=600, ceiling=3_600, passing=False),
        (Sign(names=("Throttling",), text=_starts(r"too many tokens per day")),),
    ),
    # a model whose tokens Bedrock does not count
    Row(
        replace(UNSUPPORTED, then=Then.NEXT),
        (
            Sign(
                names=("Validation",),
                text=_starts(r"[^\"'`]{0,100}\b(doesn.{1,3}t|does not|not) support(ed)?\b"),
                count_tokens=True,
            ),
        ),
    ),
    # the model's machinery
    Row(TRANSIENT, (Sign(names=("ModelNotReady", "ModelTimeout", "ModelError", "ModelStreamError")),), Hinted.COOLDOWN),
    # one feature's machinery: nothing else is touched by it
    Row(
        replace(TRANSIENT, scope=Scope.NONE, passing=False),
        (Sign(names=("compaction_unavailable", "cmek_*")),),
    ),
    # overload, in band too
    Row(
        OVERLOADED,
        (
            Sign(names=("overloaded_error",)),
            Sign(names=("UNAVAILABLE",), text=_starts(r".*\boverloaded")),
            Sign(names=("slow_down", "server_is_overloaded", "engine_overloaded_error")),
        ),
        Hinted.COOLDOWN,
    ),
    # content filters and moderation
    Row(
        CLIENT_FAULT,
        (
            Sign(names=("content_filter", "ResponsibleAIPolicyViolation", "content_policy_violation")),
            Sign(names=("moderation_blocked",)),
            Sign(text=_starts(r".*\b(moderation|(input|prompt|request|content)\b.{0,20}\bflagged)\b"), statuses=(403,)),
        ),
    ),
    # an answer that the model spoilt
    Row(
        MODEL_FAULT,
        (Sign(failures=(Failure.MODEL_FAULT,)),),
    ),
    # a thinking block of another key, model or family in the history
    Row(
        RECTIFY,
        (
            Sign(text=_starts(r".*\bsignature\b.{0,40}\bthinking\b"), statuses=(400,)),
            Sign(text=_starts(r".*\bthinking\b.{0,40}\bsignature\b"), statuses=(400,)),
            Sign(text=_starts(r".*\bthought[ _]?signature\b"), statuses=(400,)),
            Sign(text=_starts(r".*\bexpected `(redacted_)?thinking`"), statuses=(400,)),
        ),
    ),
    # context overflow
    Row(CLIENT_FAULT, CONTEXT_OVERFLOW),
    # more bytes than this provider takes
    Row(
        TOO_LARGE,
        (
            Sign(names=("request_too_large",)),
            Sign(text=_starts(r"request payload size exceeds the limit"), statuses=(400,)),
        ),
    ),
    # 429 about fast mode, extra usage or long-context credits
    Row(
        CLIENT_FAULT,
        (
            Sign(text=_starts(r".*\bfast[- ](mode|requests?)\b"), statuses=(429,)),
            Sign(text=_starts(r".*\bout of extra usage\b"), statuses=(429,)),
            Sign(text=_starts(r".*\b(credits?|extra usage)\b.*\b(long|1m)[- ]context\b"), statuses=(429,)),
            Sign(text=_starts(r".*\b(long|1m)[- ]context\b.*\b(credits?|extra usage)\b"), statuses=(429,)),
        ),
    ),
    # a kept-alive connection closed before one byte of the answer
    Row(STALE, (Sign(failures=(Failure.STALE,)),)),
    # a lack, or a fault, of ours
    Row(INTERNAL, (Sign(failures=(Failure.INTERNAL,)),)),
    # TLS: untrusted, expired, wrong name
    Row(CONFIGURATION, (Sign(failures=(Failure.TLS,)),)),
)

_NO_CONNECTION = (Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.DNS)
_CUT = (Failure.CUT, Failure.MALFORMED, Failure.IDLE_TIMEOUT, Failure.CONTENT_TIMEOUT)

BY_STATUS: tuple[Row, ...] = (
    # more bytes than this provider takes, or a proxy before it
    Row(TOO_LARGE, (Sign(statuses=(413,)),)),
    Row(replace(AUTH, then=Then.REFRESH_ONCE), (Sign(statuses=(401,)),)),
    Row(replace(BILLING, ceiling=BILLING.base), (Sign(statuses=(402,)),)),
    # 403: a Cloudflare or WAF challenge, else the model
    Row(replace(PERMISSION, scope=Scope.PROVIDER, base=10), (Sign(names=("challenge",), statuses=(403,)),)),
    Row(PERMISSION, (Sign(statuses=(403,)),)),
    # the route itself is not there
    Row(
        replace(UNSUPPORTED, then=Then.NEXT),
        (Sign(statuses=(404,)), Sign(statuses=(405, 501), count_tokens=True)),
    ),
    # 407 from a proxy; 508 from a daemon of this kind that the request has been through before
    Row(CONFIGURATION, (Sign(statuses=(407, 508)), Sign(failures=(Failure.PROXY_AUTH,)))),
    # 429, with a hint and without
    Row(QUOTA, (Sign(statuses=(429,)),), Hinted.COOLDOWN_AND_SCOPE),
    Row(OVERLOADED, (Sign(statuses=(529,)),), Hinted.COOLDOWN),
    Row(TRANSIENT, (Sign(statuses=(408, 499)), Sign(statuses=range(500, 600))), Hinted.COOLDOWN),
    # 400, 409, 422 and other 4xx
    Row(CLIENT_FAULT, (Sign(statuses=range(400, 500)),)),
    # cannot connect, DNS fails, connect time-out
    Row(
        replace(TRANSIENT, scope=Scope.PROVIDER),
        (Sign(failures=_NO_CONNECTION),),
    ),
    # it takes requests and does not answer
    Row(replace(TRANSIENT, passing=False, hung=True), (Sign(failures=(Failure.FIRST_BYTE_TIMEOUT,)),)),
    # answer ended too early, a frame that does not parse, silence: before message commit
    Row(TRANSIENT, (Sign(failures=_CUT, committed=False),)),
    # the same after message commit
    Row(BROKEN_STREAM, (Sign(failures=_CUT, committed=True),)),
    # 3xx; a 200 that is HTML, empty, of the wrong content type or an error object; whatever else there may be
    Row(TRANSIENT, (Sign(),), Hinted.COOLDOWN),
)
