"""The Claude error family: which status has which type, and the one shape that every error body has.

The table is the API's own (https://docs.anthropic.com/en/api/errors), completed for what HTTP itself refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from claudeproxyd.json_guards import UNREADABLE

#: Status to ``error.type``. A status that is not here takes the type of its class: see :func:`error_type`.
TYPE_OF_STATUS: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    501: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

#: The reverse, for an error that arrives without a status: inside a stream.
STATUS_OF_TYPE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}

_encode = msgspec.json.Encoder().encode


def shown(word: object, longest: int = 50) -> str:
    """Return a *word* that others chose as it may be told: whole, or as its length.

    Never cut: secrets are masked later, and half of one nobody would know.
    """
    text = str(word)
    return text if len(text) <= longest else f"of {len(text)} characters"


class Refusal(StrEnum):
    """Why a request gets no answer although nothing failed while it was answered; by the names that metrics have."""

    NO_CREDENTIAL = "no_credential"
    """No credential is ready for its model, and none will be soon enough."""
    CLIENT_LIMIT = "client_limit"
    """Its client asks for more at once, or in a minute or an hour, than it may."""
    BUDGET = "budget"
    """Its client has used up what it has for the day, the week or the month."""
    UNKNOWN_KEY = "unknown_key"
    """It bears no key that is known."""
    BAD_REQUEST = "bad_request"
    """It is not as it should be, and would not be served tomorrow either."""
    OVERLOAD = "overload"
    """The daemon has no room for it now, or is leaving."""


#: What a status says of that, where whoever refuses says no more. Other statuses from 400 to 499 are of bad requests.
_REFUSAL_OF_STATUS: Mapping[int, Refusal] = {
    401: Refusal.UNKNOWN_KEY,
    402: Refusal.BUDGET,
    429: Refusal.CLIENT_LIMIT,
    503: Refusal.OVERLOAD,
    508: Refusal.BAD_REQUEST,
    529: Refusal.OVERLOAD,
}


def refusal_of(status: int) -> Refusal | None:
    """Return what a refusal with that status is due to; None: to a fault of ours, or of an upstream."""
    return _REFUSAL_OF_STATUS.get(status, Refusal.BAD_REQUEST if 400 <= status < 500 else None)


def error_type(status: int) -> str:
    """The ``error.type`` that belongs to an HTTP status."""
    known = TYPE_OF_STATUS.get(status)
    if known is not None:
        return known
    return "api_error" if status >= 500 else "invalid_request_error"


class ClaudeError(Exception):
    """What a client is told when it does not get an answer.

    Raised by whoever knows the fault (a body that is not JSON, a model without a route, a pool that is empty) and
    written by the downlink alone: as an HTTP answer before head commit, as ``event: error`` after it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        details: Mapping[str, object] | None = None,
        logged: str = "",
        refusal: Refusal | None = None,
    ) -> None:
        super().__init__(status, message)
        self.status = status
        """The HTTP status."""
        self.type = type or error_type(status)
        """``error.type``; follows from the status unless an upstream was more exact."""
        self.message = message
        """For people. Holds no secret and no account's name."""
        self.headers = tuple(headers)
        """What goes beside the usual headers: ``retry-after``, ``allow``, ``x-should-retry``."""
        self.details = details
        """``error.details``, the only other member that the API's clients read."""
        self.logged = logged or message
        """What the log says in the message's place."""
        self.refusal = refusal or refusal_of(status)
        """What metrics count it as; None: as no refusal."""

    def __str__(self) -> str:
        return f"{self.status} {self.type}: {self.message}"

    def copy(self) -> ClaudeError:
        """Return another one that says the same."""
        return ClaudeError(
            self.status,
            self.message,
            type=self.type,
            headers=self.headers,
            details=self.details,
            logged=self.logged,
            refusal=self.refusal,
        )

    def body(self, request_id: str) -> bytes:
        """The JSON body, which is also the ``data`` of an ``event: error``."""
        error: dict[str, object] = {"type": self.type, "message": self.message}
        if self.details:
            error["details"] = self.details
        return _encode({"type": "error", "error": error, "request_id": request_id})

    def frame(self, request_id: str) -> bytes:
        """The error as a stream's last frame."""
        return b"event: error\ndata: " + self.body(request_id) + b"\n\n"


def shutting_down() -> ClaudeError:
    """What a client is told that has no answer yet when a drain is over: another daemon will be there soon."""
    return ClaudeError(529, "The gateway is shutting down", headers=[(b"retry-after", b"1")])


class _ErrorMember(msgspec.Struct):
    type: str = ""


class _ErrorBody(msgspec.Struct):
    type: str = ""
    error: _ErrorMember | None = None


_decode = msgspec.json.Decoder(_ErrorBody).decode


def type_in(body: bytes) -> str | None:
    """The ``error.type`` of a Claude-shaped error body, '' if it names none; None where *body* is no such thing."""
    try:
        error = _decode(body)
    except UNREADABLE:
        return None
    if error.type != "error" or error.error is None:
        return None
    return error.error.type


#: Tells an SDK and Claude Code not to repeat what cannot succeed.
DO_NOT_RETRY = (b"x-should-retry", b"false")


class Unsupported(Exception):
    """A request that cannot be said to the upstream of one route; ``str()`` of it is what its client is told.

    Raised by :meth:`IExecutor.prepare <claudeproxyd.interfaces.IExecutor.prepare>`, and by translations.
    """
