"""What an attempt came to, and what follows from it. The tables are in :mod:`claudeproxyd.outcomes.tables`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum


class Family(StrEnum):
    """Whose errors and hints an upstream speaks, and who takes back what is minted for it.

    A kind of a third party may have another word: its errors are then read by their shape alone.
    """

    ANTHROPIC = "anthropic"
    GOOGLE = "google"
    OPENAI = "openai"
    BEDROCK = "bedrock"


class Kind(StrEnum):
    """The outcomes, by the names that operators, logs and metrics see."""

    OK = "ok"
    CANCELLED = "cancelled"
    CLIENT_FAULT = "client_fault"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    MODEL_UNAVAILABLE = "model_unavailable"
    QUOTA = "quota"
    OVERLOADED = "overloaded"
    AUTH = "auth"
    BILLING = "billing"
    PERMISSION = "permission"
    LOCATION = "location"
    TRANSIENT = "transient"
    MODEL_FAULT = "model_fault"
    RECTIFY = "rectify"
    STALE = "stale"
    CONFIGURATION = "configuration"
    BROKEN_STREAM = "broken_stream"
    INTERNAL = "internal"


class Scope(Enum):
    """What cools. NONE: nothing does."""

    NONE = "none"
    MODEL = "model"
    CREDENTIAL = "credential"
    MODEL_ON_PROVIDER = "model_on_provider"
    PROVIDER = "provider"


class Then(StrEnum):
    """What dispatch does next."""

    DONE = "done"
    ANSWER = "answer"
    NEXT = "next"
    NEXT_ROUTE = "next_route"
    NEXT_PROVIDER = "next_provider"
    REPEAT_ONCE = "repeat_once"
    REFRESH_ONCE = "refresh_once"
    RECTIFY_ONCE = "rectify_once"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to."""

    kind: Kind
    scope: Scope = Scope.NONE
    then: Then = Then.DONE
    base: float = 0.0
    """Seconds of the first cooldown; 0: none."""
    ceiling: float = 0.0
    """Seconds that doubling goes up to; equal to ``base`` where it does not double, infinite where only the pool's
    ``max_cooldown`` ends it."""
    passing: bool = False
    """It passes by itself and says nothing of the next request: evidence for a gate, never a cooldown."""
    doubtful: bool = False
    """It may be the request's own doing: nothing cools before another credential, or another request, bears it out."""
    hung: bool = False
    """It took the request and never answered: rests for as long as that took, if somebody else is there."""
    until_hint: float | None = None
    """Seconds that the upstream asked for; takes the place of ``base`` and is capped by the pool's ``max_cooldown``. Of
    a passing failure: no probe goes before, once the place is down."""
    reason: str = ""
    """The upstream's own words, shortened, for logs and the pool's page."""
    exhausted: float | None = None
    """On success too: seconds until the limit that this answer showed as used up is reset."""
    repeatable: bool = False
    """The same candidate may be tried again for this request, after a backoff and within the retry budget."""
    timed_out: bool = False
    """A time-out of ours: a client is told 504 where the upstream sent no status of its own."""


OK = Outcome(Kind.OK)
CANCELLED = Outcome(Kind.CANCELLED)


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """What an upstream said instead of an answer, to be relayed if nobody else can serve."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    """As the header rules let them pass to a client."""
    body: bytes
    """The body, decoded."""
    verbatim: bool = False
    """It is Claude-shaped already, by an Anthropic upstream: relayed byte for byte."""
    message: str = ""
    """The upstream's sentence, as far as it may be shown."""


class AttemptFailed(Exception):
    """An attempt brought no whole answer. Raised by executors, eaten by dispatch."""

    def __init__(self, outcome: Outcome, answer: ErrorResponse | None = None) -> None:
        super().__init__(outcome.kind.value, outcome.reason)
        self.outcome = outcome
        self.answer = answer
        """None where the upstream said nothing that could be relayed: connect failures, time-outs, cuts."""

    def __str__(self) -> str:
        return f"{self.outcome.kind.value}: {self.outcome.reason or 'no reason given'}"


class AttemptPhase(Enum):
    """How far an attempt had come when it failed."""

    CONNECT = "connect"
    TLS = "tls"
    PROXY = "proxy"
    HEAD = "head"
    ANSWER = "answer"
    STREAM = "stream"


class Failure(StrEnum):
    """Why an attempt has no usable answer, where that is not said by the upstream's status or error."""

    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    DNS = "dns"
    TLS = "tls"
    PROXY_AUTH = "proxy_auth"
    STALE = "stale"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    CONTENT_TIMEOUT = "content_timeout"
    CUT = "cut"
    MALFORMED = "malformed"
    NOT_CLAUDE = "not_claude"
    """A 200 that is HTML, empty, of the wrong type, or an error object."""
    MODEL_FAULT = "model_fault"
    """The model, not its server, failed: by the reason that the upstream gives for its end."""
    UNSUPPORTED = "cannot_carry"
    """Found while translating."""
    INTERNAL = "internal"
    """Ours."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that :func:`classify` judges by."""

    family: str
    """Whose error dialect to read: a :class:`Family`, or the word of another kind."""
    phase: AttemptPhase
    status: int = 0
    """0 where no head came."""
    headers: Sequence[tuple[bytes, bytes]] = ()
    """Raw, lower-case names."""
    body: bytes = b""
    """The error body, decoded; of an in-band error the event's JSON."""
    failure: Failure | None = None
    message_committed: bool = False
    count_tokens: bool = False
    refreshable: bool = False
    """The credential's secret can be refreshed, and has not been for this request."""
    now: float = field(default=0.0)
    """Wall-clock seconds since the epoch: for HTTP dates and resets."""
