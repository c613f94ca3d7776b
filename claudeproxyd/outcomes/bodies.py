"""What an upstream's error body says, in whichever dialect, read once into one form.

Upstreams of one family do not keep to one dialect (Claude on Vertex or behind a gateway, servers that call themselves
compatible), so bodies are read by their shape. Nothing here raises, whatever the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec

from claudeproxyd.errors import STATUS_OF_TYPE
from claudeproxyd.json_guards import UNREADABLE, as_array, as_object, as_string
from claudeproxyd.outcomes.types import Family

#: Names of errors that come without a status, inside a stream, to the status that they have as an answer.
STATUS_OF_NAME: Mapping[str, int] = {
    **STATUS_OF_TYPE,
    # google.rpc.Code
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    # OpenAI
    "invalid_prompt": 400,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    # OpenAI's Responses API, of an answer that failed
    "data_residency_mismatch": 400,
    "bio_policy": 400,
    "misalignment_policy_violation": 400,
    "invalid_image": 400,
    "invalid_image_format": 400,
    "invalid_base64_image": 400,
    "invalid_image_url": 400,
    "image_too_large": 400,
    "image_too_small": 400,
    "image_parse_error": 400,
    "image_content_policy_violation": 400,
    "invalid_image_mode": 400,
    "image_file_too_large": 400,
    "unsupported_image_media_type": 400,
    "empty_image_file": 400,
    "failed_to_download_image": 400,
    "image_file_not_found": 400,
    "invalid_encrypted_content": 400,
    "vector_store_timeout": 500,
    # Servers that speak OpenAI's protocol
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "slow_down": 503,
    "server_is_overloaded": 503,
    "BadRequestError": 400,
    "NotFoundError": 404,
    "InternalServerError": 500,
    "base_resp.1002": 429,
    "base_resp.1004": 401,
    "base_resp.1008": 402,
    "base_resp.1041": 429,
    "base_resp.2013": 400,
    # Bedrock
    "Validation": 400,
    "AccessDenied": 403,
    "ExpiredToken": 403,
    "UnrecognizedClient": 403,
    "ResourceNotFound": 404,
    "ModelTimeout": 408,
    "ModelError": 424,
    "ModelStreamError": 424,
    "ModelNotReady": 429,
    "Throttling": 429,
    "InternalServer": 500,
    "ServiceUnavailable": 503,
}

#: Characters of a message that are kept.
LONGEST_MESSAGE = 8_000
#: Characters of an error within an error that are read.
LONGEST_RAW = 16_384
#: Characters of a message that logs and the pool's page show.
LONGEST_REASON = 200

_TITLE = re.compile(r"<title[^>]{0,100}>([^<]{1,500})", re.IGNORECASE)
#: A page that a wall in front of an API answers with.
_CHALLENGE = re.compile(r"cloudflare|cf-chl|captcha|challenge|\bwaf\b", re.IGNORECASE)
_BEDROCK_WRAPPING = "The model returned the following errors: "


class Quota(NamedTuple):
    """A Google quota that was hit."""

    id: str
    """As ``GenerateRequestsPerDayPerProjectPerModel-FreeTier``."""
    per_model: bool


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """One error body."""

    message: str = ""
    """The upstream's sentence; '' where it said none."""
    names: frozenset[str] = frozenset()
    """Every code, type, status and reason in it; those of AWS without ``Exception`` at their end."""
    status: int = 0
    """The HTTP status that it claims or that its names imply; 0: none."""
    retry_delay: str = ""
    """Google's ``RetryInfo.retryDelay``."""
    quotas: tuple[Quota, ...] = ()
    """Google's."""
    form: str = "JSON"
    """JSON, HTML or text."""
    in_error: bool = False
    """The sentence is an error object's: not what a model or a client said, by mistake in its place."""


def read_error(body: bytes, family: str) -> ErrorBody:
    """Read *body*, of an answer or of an event in a stream, by an upstream of *family*."""
    try:
        document = msgspec.json.decode(body)
    except UNREADABLE:
        return _read_text(body)
    if isinstance(document, list) and document:
        document = document[0]  # Gemini without alt=sse
    if isinstance(document, str):
        return ErrorBody(document[:LONGEST_MESSAGE], form="text")
    whole = as_object(document)
    nested = as_object(whole.get("response")).get("error") or whole.get("error")
    error = as_object(nested) or whole
    details = [as_object(detail) for detail in as_array(error.get("details"))]
    names = [name for name in _names(whole, error, details) if isinstance(name, str)]
    claimed = _status(error.get("code"))
    if (wrapped := _wrapped(error, family)) is not None:
        return replace(wrapped, names=wrapped.names.union(names), status=claimed or wrapped.status)
    return ErrorBody(
        _message(whole, error, nested, family)[:LONGEST_MESSAGE],
        frozenset(aws_name(name) if family == Family.BEDROCK else name for name in names),
        claimed or implied_status(map(aws_name, names)),
        next((delay for detail in details if (delay := as_string(detail.get("retryDelay")))), ""),
        tuple(_quotas(details)),
        in_error=bool(nested) or whole.get("object") == "error" or "base_resp" in whole,
    )


def is_unnamed_error(body: bytes, family: str) -> bool:
    """Return whether *body* is an error that does not call itself one: a sentence beside a code or a status.

    A sentence alone may be what a model said, and is told to nobody.
    """
    read = read_error(body, family)
    return bool(read.message and (read.names or read.status))


def error_message(body: bytes, family: str) -> str:
    """The sentence in an error body, '' where there is none. It may name accounts and projects."""
    return read_error(body, family).message


def shortened(text: str) -> str:
    """An upstream's words made fit for one line of a log: no control characters, :data:`LONGEST_REASON` characters."""
    text = "".join(c if c.isprintable() else " " for c in text[: 2 * LONGEST_REASON])
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def aws_name(name: str) -> str:
    """``com.amazon.coral#ThrottlingException:http://…``, or a stream's ``throttlingException``: ``Throttling``."""
    bare = name.rpartition("#")[2].partition(":")[0]
    kind = bare.removesuffix("Exception")
    return kind if kind == bare else kind[:1].upper() + kind[1:]


def implied_status(names: Iterable[str]) -> int:
    """The status that the first name which has one stands for; 0: none has."""
    return next((STATUS_OF_NAME[name] for name in names if name in STATUS_OF_NAME), 0)


def _status(code: object) -> int:
    """The status that a code is: some write it as a string."""
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdecimal():
        code = int(code)
    return code if isinstance(code, int) and 400 <= code < 600 else 0


def _wrapped(error: Mapping[str, object], family: str) -> ErrorBody | None:
    """What a router's upstream said, where it is told in ``metadata.raw`` and the router's own sentence says nothing.

    As of OpenRouter: "Provider returned error".
    """
    raw = as_string(as_object(error.get("metadata")).get("raw"))
    if not raw or family != Family.OPENAI:
        return None
    inner = read_error(raw[:LONGEST_RAW].encode("utf-8", "replace"), family)
    return inner if inner.message else None


def _names(
    whole: Mapping[str, object], error: Mapping[str, object], details: list[Mapping[str, object]]
) -> Iterator[object]:
    """The exact ones first."""
    yield as_object(error.get("details")).get("error_code")  # Anthropic
    for detail in details:
        yield detail.get("reason")  # Google's ErrorInfo
        if any(as_object(violation).get("quotaValue") == "0" for violation in as_array(detail.get("violations"))):
            yield "quotaValue=0"
    yield as_object(error.get("innererror")).get("code")  # Azure
    yield whole.get("__type")  # AWS
    if isinstance(code := as_object(whole.get("base_resp")).get("status_code"), int):
        yield f"base_resp.{code}"  # MiniMax
    yield error.get("code")  # OpenAI
    yield error.get("status")  # Google
    yield error.get("type")  # Anthropic, OpenAI
    if isinstance(whole.get("error"), str):
        yield whole["error"]  # OAuth


def _message(whole: Mapping[str, object], error: Mapping[str, object], nested: object, family: str) -> str:
    base = as_object(whole.get("base_resp"))
    said = (
        error.get("message"), whole.get("message"), whole.get("Message"), whole.get("error_description"), nested,
        base.get("status_msg"), whole.get("detail"), as_object(whole.get("message")).get("detail"), whole.get("msg"),
    )  # fmt: skip
    message = next((text for each in said if (text := _sentence(each))), "")
    return message.removeprefix(_BEDROCK_WRAPPING) if family == Family.BEDROCK else message


def _sentence(said: object) -> str:
    """A sentence; of FastAPI's list of what is wrong with a request, the first, with its place."""
    if isinstance(said, list):
        first = as_object(said[0]) if said else {}
        place = ".".join(str(step) for step in as_array(first.get("loc")) if step != "body")
        return f"{place}: {as_string(first.get('msg'))}" if first.get("msg") else ""
    return as_string(said)


def _quotas(details: list[Mapping[str, object]]) -> Iterator[Quota]:
    for detail in details:
        for violation in map(as_object, as_array(detail.get("violations"))):
            quota = as_string(violation.get("quotaId"))
            if quota:
                yield Quota(quota, "PerModel" in quota or "model" in as_object(violation.get("quotaDimensions")))
        limit = as_string(as_object(detail.get("metadata")).get("quota_limit"))
        if limit:
            yield Quota(limit, "PerModel" in limit)


def _read_text(body: bytes) -> ErrorBody:
    """A body that is not JSON: of a page, its title."""
    text = body[:LONGEST_MESSAGE].decode("utf-8", "replace").strip()
    if not text.startswith("<"):
        return ErrorBody(text, form="text")
    title = _TITLE.search(text)
    names = frozenset({"challenge"} if _CHALLENGE.search(text) else ())
    return ErrorBody(title[1].strip() if title else "", names, form="HTML")
