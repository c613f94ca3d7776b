"""Every seam of the house, as zope interfaces: who calls whom, with what, in which units, and what may go wrong.

Times are seconds, sizes are bytes. "Now" is always ``IReactorTime.seconds()`` of the reactor that was handed in.
Header lists are ``list[tuple[bytes, bytes]]`` with lower-case names, in the order in which they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IPushProducer

    from claudeproxyd.errors import ClaudeError
    from claudeproxyd.messages.batch import Batch
    from claudeproxyd.outcomes.types import ErrorAnswer, Outcome


class IBodyConsumer(Interface):
    """Takes the body of one upstream answer; the executors' stream readers are such.

    Called by the upstream client from the transport's read, after the HTTP parser has returned. Exactly one of
    ``ended`` and ``broken`` comes last, and nothing at all after the answer's ``stopProducing``.
    """

    def data(chunk: bytes) -> None:
        """Everything that one read brought of the body, never empty."""

    def ended() -> None:
        """The body is whole, by its length, its last chunk, or (where HTTP knows no better) the close."""

    def broken(reason: Exception) -> None:
        """The body was cut or its framing damaged; *reason* is one of :mod:`claudeproxyd.upstream.errors`."""


class IEventConsumer(Interface):
    """Takes the Claude events of one attempt; dispatch's relay is one.

    An executor's stream calls it from the upstream's read. A batch that has ``ended`` set, or ``broken``, is the last
    call; and there is none at all after the stream's ``stopProducing``.
    """

    def events(batch: Batch) -> None:
        """All events of one upstream read, so that a burst costs one write."""

    def broken(reason: Exception) -> None:
        """The stream is over and not whole; *reason* is an :class:`~claudeproxyd.outcomes.types.AttemptFailed`."""


class IUpstreamAnswer(Interface):
    """What an attempt brought once its head is in: a whole body, or a stream of events still to come."""

    status: int = Attribute("the upstream's HTTP status, 200 as a rule")
    headers: Sequence[tuple[bytes, bytes]] = Attribute("for the client, already filtered by the header rules")
    body: bytes | None = Attribute("the whole Claude answer, or None where events follow")
    usage: Any = Attribute("a messages.usage.Usage; of a stream it fills while events pass")
    stop_reason: str | None = Attribute("of a stream: known at the end")
    request_id: str = Attribute("the upstream's own request id, or ''; of a stream: some tell it in its events")
    exhausted: float | None = Attribute("seconds until a limit that this answer showed as used up is reset, or None")
    oddity: str = Attribute(
        "the first thing that was out of order or of an unknown shape, though it passed; '' as a rule"
    )
    bytes_in: int = Attribute("bytes of body that came from the upstream so far")
    producer: IPushProducer = Attribute("of a stream: pauses, resumes and stops the upstream's socket")

    def deliver(consumer: IEventConsumer) -> None:
        """Start to hand events to *consumer*. Called at most once, only where ``body`` is None."""


class IExecutor(Interface):
    """Speaks one provider's API. Knows nothing of other credentials, of retries, or of the client's socket.

    Made once a provider by its :class:`IExecutorMaker`; called by dispatch.
    """

    kind: str = Attribute("the provider kind: anthropic, gemini …")
    family: str = Attribute("whose error dialect and signatures it has: anthropic, google, openai, bedrock")

    def cannot_carry(call: Any, route: Any) -> str | None:
        """Why the request of *call* cannot be translated for *route*, or None. Does no I/O.

        Asked once, ahead of the first lease for *route*. What a translation brought is given to ``call.prepare`` and
        waits for the attempts in ``call.prepared[route]``, with its ``warnings``, which dispatch logs.
        """

    def messages(attempt: Any) -> Deferred[IUpstreamAnswer]:
        """Send one :class:`claudeproxyd.dispatch.attempt.Attempt`. Cancelling closes the upstream's socket at once.

        Fails with :class:`~claudeproxyd.outcomes.types.AttemptFailed`, which carries the classified outcome.
        """

    def count_tokens(attempt: Any) -> Deferred[IUpstreamAnswer]:
        """The same for ``/v1/messages/count_tokens``; the answer is always whole."""

    def models(credential: Any) -> Deferred[list[dict[str, Any]]]:
        """The models which that credential can use, as entries of the Claude list."""


class IExecutorMaker(Interface):
    """Makes the executors of one provider kind. A Twisted plugin: third parties add kinds without touching ours.

    ``config`` is handed the makers, so that what a kind needs is said in one place.
    """

    kind: str = Attribute("the word in ``[[providers]] kind``")
    default_base_url: str = Attribute("used when the section names none; '' where one must be named")
    credential_schema: Sequence[str] = Attribute(
        "the secret members that a credential of this kind may have: api_key, bearer_token …"
    )

    def check(section: Any) -> Sequence[tuple[str, str]]:
        """Mistakes in a provider's section, as (member, what is wrong and how to mend it) pairs."""

    def base_urls(section: Any) -> Sequence[str]:
        """Where the provider's requests go, for ``--check``: to its ``base_url`` as a rule. Of a section that was
        checked."""

    def make(section: Any, services: Any) -> IExecutor:
        """An executor for that provider. *services* is a :class:`claudeproxyd.executors.services.Services`."""


class ISecretSource(Interface):
    """Where a credential's present secret comes from. Executors ask ``present`` first, which costs nothing."""

    refreshable: bool = Attribute("a refresh can bring another secret than the present one")

    def present() -> Mapping[str, str] | None:
        """The secret's members (``api_key`` …) if they are known and still good, else None."""

    def refresh() -> Deferred[Mapping[str, str]]:
        """Fetch it anew; callers at the same time share one refresh. Fails with ``outcomes.AttemptFailed``."""


class ICredentialPool(Interface):
    """Grants credentials to attempts and learns from how they went. A service; called by dispatch."""

    def lease(request: Any) -> Deferred[Any]:
        """An :class:`ILease` for the first route of *request* that has a ready credential.

        *request* is a :class:`claudeproxyd.leases.LeaseRequest`. All cooling: waits if the soonest is soon enough.
        Cancelling gives the place in the queue up. Fails with :class:`claudeproxyd.leases.Exhausted`.
        """

    def ready_in(request: Any) -> float | None:
        """Seconds until something could serve *request*: 0 if now, None if that is unknown or never."""

    def snapshot() -> Sequence[Mapping[str, Any]]:
        """Each credential for people and metrics: state, cooldowns, in flight, counters; never a secret.

        Those in trouble come first. An entry is made when it is read.
        """

    def queued() -> Sequence[Mapping[str, Any]]:
        """Who waits: an entry for each client and what its requests want."""

    def gauges() -> Mapping[str, int]:
        """Sizes of everything that can grow, and what is under way."""

    def clear(provider: str | None, credential: str | None, model: str | None) -> int:
        """End the cooldowns that match; how many there were."""

    def set_enabled(provider: str, credential: str, enabled: bool) -> bool:
        """Take a credential out of service or back; False when there is none of that name.

        Raises ValueError for one that cannot come back, since the configuration has it disabled.
        """

    def reload(credentials: Sequence[Any], settings: Any) -> None:
        """Other credentials from now on; those that keep provider and name keep their state. Leases out stay good."""


class ILease(Interface):
    """One credential, granted to one attempt. Given back exactly once; a second release is an error in our code."""

    candidate: Any = Attribute("the (route, credential) pair: claudeproxyd.leases.Candidate")

    def probe_succeeded() -> None:
        """Its answer has begun: others may be let in to try, however long this one still takes, and however it ends."""

    def release(outcome: Outcome) -> None:
        """Give it back with what the attempt came to."""


class IDownlink(Interface):
    """The way to one client. Made by web for each request, driven by dispatch; the only writer to that client.

    It registers itself on the Request once, before the first write, for the whole request; no upstream transport is
    ever registered on a Request. Once the client is gone every method does nothing.
    """

    head_committed: bool = Attribute("status and headers are out")
    message_committed: bool = Attribute("part of a message is out: no other credential can take over")
    last_write: float = Attribute("when something was last handed to the client's socket; dispatch times pings by it")
    sent: int = Attribute("bytes of body handed to the client's socket so far")

    def attach(producer: IPushProducer) -> None:
        """Pause and resume *producer* as the client's socket fills and drains, from now to the end of the request."""

    def commit_head(headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the 200 of a stream; only before anything else."""

    def frames(headers: Sequence[tuple[bytes, bytes]], frames: bytes, last: bool) -> None:
        """Whole frames of the message; commits the message, and the head with these headers if it is not out yet.

        *last*: the message is whole with them, and so is the answer.
        """

    def ping() -> None:
        """One ping, between frames; after head commit only."""

    def blank() -> None:
        """One blank ahead of a JSON body; the first of them commits the head."""

    def whole(headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer, and the end of it."""

    def fail(error: ClaudeError, answer: ErrorAnswer | None = None) -> None:
        """An error, and the end: an HTTP answer before head commit, ``event: error`` in a stream after it.

        Before head commit an upstream's own *answer* goes out instead, byte for byte.
        """

    def abort() -> None:
        """Cut the client's connection: it took nothing for too long."""


class IAuthenticator(Interface):
    """Who is calling. Called by web for each request, before its body is read; must not block."""

    def authenticate(headers: Any) -> Any:
        """A :class:`claudeproxyd.web.access.Principal`. Raises :class:`~claudeproxyd.errors.ClaudeError` (401)."""


class IAdmission(Interface):
    """Whether a principal may have one more request now. Asked by web before dispatch, told after."""

    def admit(principal: Any, model: str) -> None:
        """Take a place. Raises :class:`~claudeproxyd.errors.ClaudeError`: 429 over the limit."""

    def done(principal: Any) -> None:
        """Give the place back; exactly once for each ``admit`` that returned."""


class IUsageSink(Interface):
    """Takes one record for each attempt, when it is over. Called by dispatch; must neither block nor raise."""

    def record(record: Any) -> None:
        """*record* is a :class:`claudeproxyd.observe.usage.UsageRecord`."""


class IStateStore(Interface):
    """Keeps state across restarts, and shares it between daemons. Never waited for by a request."""

    def load() -> Deferred[Mapping[str, Any]]:
        """What was saved; empty for a fresh or damaged store. Called once; may fail, or take for ever.

        A store that daemons share gives what the others said to those who keep it by itself, then and later.
        """

    def save(changes: Mapping[str, Any]) -> None:
        """Write behind: keys to values, None deletes. Batched; a crash loses at most a second of it.

        A refresh token that was given in the place of another waits for no batch.
        """

    def close() -> Deferred[None]:
        """Write what waits, and let go. Never fails; a cancelled one gives up the rest."""

    def register(metrics: Any) -> None:
        """Have the :class:`claudeproxyd.observe.metrics.Metrics` tell how the store fares."""


class ISelector(Interface):
    """A strategy: which of the ready credentials is next. Pure; the pool makes one for each model and priority."""

    def choose(ready: int) -> int:
        """The index of one of *ready*: bit i is the provider's i-th credential. Never 0, and all of one priority."""
