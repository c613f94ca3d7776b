"""Every seam of the house, as zope interfaces: who calls whom, with what, in which units, and what may go wrong.

Times are seconds, sizes are bytes. "Now" is always ``IReactorTime.seconds()`` of the reactor that was handed in.
Header lists are ``list[tuple[bytes, bytes]]`` with lower-case names, in the order in which they came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IPushProducer
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from twisted.internet.defer import Deferred

    from claudeproxyd.accounts.limits import Amounts, Asked, Counter, Reservation, UsageLimits
    from claudeproxyd.accounts.rows import Question
    from claudeproxyd.config.schema import Pool, Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.body import Body
    from claudeproxyd.dispatch.request import ApiRequest, CancelReason
    from claudeproxyd.dispatch.request_log import RequestLog
    from claudeproxyd.errors import ClaudeError
    from claudeproxyd.executors.services import Services
    from claudeproxyd.headers import Headers
    from claudeproxyd.leases import Candidate, Credential, Exhausted, LeaseRequest, Route
    from claudeproxyd.messages.batch import Batch
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.observe.metrics import Metrics
    from claudeproxyd.observe.usage import UsageRecord
    from claudeproxyd.outcomes.types import ErrorResponse, Outcome
    from claudeproxyd.plugin_loader import PluginServices
    from claudeproxyd.principals import Principal


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


class IStreamReader(Interface):
    """Makes Claude frames of one streamed response, whatever the upstream speaks. Pure.

    Made for each attempt, driven by its executor's response.
    """

    usage: Usage = Attribute("what is known so far; of a stream that was cut, with an estimate of what was delivered")
    stop_reason: str | None = Attribute("the Claude one, known at the end")
    anomaly: str = Attribute("the first thing that was out of order though it passed; '' as a rule")
    request_id: str = Attribute("the upstream's own id, where it tells it in the body; '' until then")
    unfinished: int = Attribute("bytes of a frame whose end has not come")

    def feed(data: bytes) -> Batch:
        """What one read of the body comes to. Its ``ended``: the message is whole, and nothing after it matters.

        Its ``error``: the upstream reported one, in these bytes, after the frames of the batch; nothing after it
        matters. Raises :class:`~claudeproxyd.messages.reader.MalformedAnswer`,
        :class:`~claudeproxyd.messages.reader.ModelFault`, and :class:`~claudeproxyd.framing.sse.FrameTooLarge`.
        """

    def end() -> Batch:
        """The body is over. A batch that has not ``ended`` says that it was cut. Raises like :meth:`feed`."""


class IUpstreamResponse(Interface):
    """What an attempt brought once its head is in; :class:`IBufferedResponse` or :class:`IStreamingResponse`."""

    headers: Headers = Attribute("for the client, already filtered by the header rules")
    usage: Usage = Attribute("of a stream it fills while events pass")
    stop_reason: str | None = Attribute("of a stream: known at the end")
    request_id: str = Attribute("the upstream's own request id, or ''; of a stream: some tell it in its events")
    exhausted: float | None = Attribute("seconds until a limit that this response showed as used up is reset, or None")
    anomaly: str = Attribute(
        "the first thing that was out of order or of an unknown shape, though it passed; '' as a rule"
    )
    bytes_in: int = Attribute("bytes of body that came from the upstream so far")


class IBufferedResponse(IUpstreamResponse):
    """A message or a token count, to its last byte."""

    body: bytes = Attribute("as the client gets it")


class IStreamingResponse(IUpstreamResponse, IPushProducer):
    """A stream of Claude events still to come. As a producer it pauses, resumes and stops the upstream's socket."""

    def deliver(consumer: IEventConsumer) -> None:
        """Start to hand events to *consumer*. Called at most once."""


class IPrepared(Interface):
    """A request in the words of one route's upstream; only its executor knows more of it."""

    body: bytes = Attribute("what goes up; counted in ``server.max_buffered_bytes``")
    warnings: Sequence[str] = Attribute("what of the request is lost on that route, each in words that name it: logged")


class IExecutor(Interface):
    """Speaks one provider's API. Knows nothing of other credentials, of retries, or of the client's socket.

    Made once a provider by its :class:`IExecutorMaker`; called by dispatch.
    """

    kind: str = Attribute("the provider kind: anthropic, gemini …")
    family: str = Attribute("whose error dialect and signatures it has: an outcomes.types.Family, or a word of its own")

    def prepare(request: ApiRequest, route: Route) -> IPrepared | Awaitable[IPrepared | None] | None:
        """Return *request* in the words of *route*'s upstream, or None where its body goes up as it is. Does no I/O.

        Called once for each route, when it is its turn, or before the request has to wait; attempts on that route get
        the result as ``attempt.prepared``. What takes more than a few milliseconds is an awaitable of the result, which
        gives others a turn on the way; dispatch awaits it at once, and cancels it when the client leaves. Raises
        :class:`~claudeproxyd.errors.Unsupported`, at once or when awaited: it cannot be said there. Whatever else it
        raises is a fault as in :meth:`messages`, and the route is passed over.
        """

    def messages(attempt: Attempt) -> Awaitable[IBufferedResponse | IStreamingResponse]:
        """Send one attempt; a stream comes of it only where the client asked for one.

        A coroutine or a Deferred: dispatch awaits it, once. To cancel what it waits for closes the upstream's socket at
        once. Fails with :class:`~claudeproxyd.outcomes.types.AttemptFailed`, which carries the classified outcome.
        Whatever else it raises, now or when awaited, is a fault of the executor: the log has its traceback, the attempt
        has failed as ``internal``, which cools nothing, and the next candidate is tried while no message is committed.
        """

    def count_tokens(attempt: Attempt) -> Awaitable[IBufferedResponse]:
        """Count a request's tokens, for ``/v1/messages/count_tokens``. Otherwise like :meth:`messages`."""

    def models(credential: Credential) -> Awaitable[list[dict[str, Any]]]:
        """Return the models which that credential can use, as entries of the Claude list.

        Awaited by the catalog, which cancels it after a while. May fail with anything, which is logged.
        """


class IExecutorMaker(Interface):
    """Makes the executors of one provider kind, and tells ``config`` all that the kind alone has. Stateless.

    A Twisted plugin: third parties add kinds without touching ours. :class:`claudeproxyd.plugin.Maker` is a
    base with a default for each member.
    """

    kind: str = Attribute("the word in ``[[providers]] kind``")
    about: str = Attribute("one sentence for docs/configuration.md, in Markdown")
    default_base_url: str = Attribute("used when the section names none; '' where one must be named")
    added_paths: Sequence[str] = Attribute(
        "what it puts behind a base URL, the longest first; taken off the end of one that has it already"
    )
    credential_schema: Sequence[str] = Attribute(
        "the secret members that a credential of this kind may have: api_key, bearer_token …"
    )
    settings: type[Any] = Attribute(
        "a frozen dataclass of claudeproxyd.plugin.setting() fields, which a section may have beside those that"
        " all kinds have; an instance of it is the section's ``own``"
    )
    credential_settings: type[Any] = Attribute(
        "the same for a credential; the instance is also the ``settings`` of the leases.Credential that is leased"
    )
    timeouts: Mapping[str, float] = Attribute("seconds: its defaults for members of [timeouts], where it has others")
    passes_requests: bool = Attribute(
        "requests reach the upstream as the client wrote them, and all models are Claude's or go by such names"
    )
    serves_claude: bool = Attribute("some of its models are Claude's or go by such names")
    traced_as: str = Attribute("OpenTelemetry's word for whose API it is, gen_ai.provider.name; '': the kind's own")
    environment_doc: tuple[str, str] | None = Attribute(
        "for docs/configuration.md: the name of the provider that from_environment makes, and its variables in Markdown"
    )
    is_fallback: bool = Attribute("from_environment is asked only where no other kind made a provider")

    def from_environment(environ: Mapping[str, str]) -> Mapping[str, Any] | None:
        """Return the provider that environment variables alone describe, or None.

        It has the form of a ``[[providers]]`` table, without ``kind``; variables with secrets are named as
        ``{"env": NAME}``. An empty variable counts as not set. Raises ValueError, whose text becomes a warning, where
        variables are set and are not enough. May read a key file, and blocks for it.
        """

    def check(section: Provider) -> Sequence[tuple[str, str]]:
        """Return what is wrong with a provider's section, as (member, what is wrong and how to fix it) pairs.

        The section's types are right already; a member is such as ``credentials[0].project``.
        """

    def base_urls(section: Provider) -> Sequence[str]:
        """Return where the provider's requests go, for ``--check``: to its ``base_url`` as a rule. Called after
        ``check`` found nothing wrong."""

    def make(section: Provider, services: Services) -> IExecutor:
        """Return an executor for that provider.

        Called anew for a section that a reload changed in any setting, its own ones and those of its credentials
        included. Any exception fails the start, or the reload, with the provider's name.
        """


class IPluginMaker(Interface):
    """Makes the objects of one kind of ``[[plugins]]``, and tells ``config`` of its settings. Stateless.

    A Twisted plugin; :class:`claudeproxyd.plugin.PluginMaker` is a base with a default for each member but ``kind``.
    """

    kind: str = Attribute("the word in ``[[plugins]] kind``")
    settings: type[Any] = Attribute(
        "a frozen dataclass of claudeproxyd.plugin.setting() fields, which a section may have beside ``kind``"
    )
    authenticates: bool = Attribute(
        "what it makes provides IAuthenticator: with such a section nobody is let in without being asked for a key"
    )

    def check(settings: Any) -> Sequence[tuple[str, str]]:
        """Return what is wrong with a section, as (member, what is wrong and how to fix it) pairs.

        *settings* is an instance of ``settings``, whose types are right already. Does no I/O that changes anything:
        ``--check`` calls it, and makes nothing.
        """

    def make(settings: Any, services: PluginServices) -> object:
        """Return what is to be asked, and told, for that section.

        It provides one or more of :class:`IRequestHook`, :class:`IAdmission`, :class:`IUsageSink` and
        :class:`IAuthenticator`, and is asked as each that it provides. If it also provides Twisted's ``IService``, it
        is started and stopped. Any exception fails the start, or the reload, with the place of the section. Called
        anew for a section that a reload changed.
        """


class ISecretSource(Interface):
    """Where a credential's present secret comes from. Executors ask ``present`` first, which costs nothing."""

    refreshable: bool = Attribute("a refresh can bring another secret than the present one")

    def present() -> Mapping[str, str] | None:
        """The secret's members (``api_key`` …) if they are known and still good, else None."""

    def refresh() -> Deferred[Mapping[str, str]]:
        """Fetch it anew; callers at the same time share one refresh. Fails with ``outcomes.AttemptFailed``."""


class ICredentialPool(Interface):
    """Grants credentials to attempts and learns from how they went. A service; called by dispatch."""

    def lease(request: LeaseRequest) -> Deferred[ILease]:
        """A lease for the first route of *request* that has a ready credential.

        All cooling: waits if the soonest is soon enough, and ``request.may_wait``; else it has fired, or failed,
        already.
        Cancelling gives the place in the queue up. Fails with :class:`claudeproxyd.leases.Exhausted`.
        """

    def ready_in(request: LeaseRequest) -> float | None:
        """Seconds until something could serve *request*: 0 if now, None if that is unknown or never."""

    def outage(routes: Sequence[Route]) -> Exhausted | None:
        """Why no message can be sent by one of *routes* now, however few there are; None: one can, now or as soon as
        another is done. Its reason is ``Exhaustion.NONE`` where nothing is configured for any of them."""

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

    def is_enabled(provider: str, credential: str) -> bool | None:
        """Whether a credential is in service, as far as operators and the configuration go; None: there is none."""

    def set_enabled(provider: str, credential: str, enabled: bool) -> bool:
        """Take a credential out of service or back; False when there is none of that name.

        Raises ValueError for one that cannot come back, since the configuration has it disabled.
        """

    def reload(
        credentials: Sequence[Credential], settings: Pool, provider_limits: Mapping[str, int] | None = None
    ) -> None:
        """Other credentials from now on; those that keep provider and name keep their state. Leases out stay good.

        *provider_limits*: attempts at once of each provider; None leaves them as they are.
        """


class ILease(Interface):
    """One credential, granted to one attempt. Given back exactly once; a second release is an error in our code."""

    candidate: Candidate = Attribute("the (route, credential) pair")

    def probe_succeeded() -> None:
        """Its response has begun: the pool may admit more probes, however long this one takes, and however it ends."""

    def return_unused() -> None:
        """Give it back instead: nothing was sent with it, and it counts as if it had never been granted."""

    def release(outcome: Outcome) -> None:
        """Give it back with what the attempt came to."""


class IDownlink(Interface):
    """The way to one client. Made by web for each request, driven by dispatch; the only writer to that client.

    It registers itself on the channel once, before the first write, for the whole request; no upstream transport is
    ever registered there. Once the client is gone every method does nothing.
    """

    head_committed: bool = Attribute("status and headers are out")
    message_committed: bool = Attribute("part of a message is out: no other credential can take over")
    last_write: float = Attribute("when something was last handed to the client's socket; dispatch times pings by it")
    sent: int = Attribute("bytes of body handed to the client's socket so far")

    def attach(producer: IPushProducer) -> None:
        """Pause and resume *producer* as the client's socket fills and drains, from now to the end of the request."""

    def commit_head(headers: Headers) -> None:
        """Send the 200 of a stream; only before anything else."""

    def frames(headers: Headers, frames: bytes, last: bool) -> None:
        """Whole frames of the message; commits the message, and the head with these headers if it is not out yet.

        *last*: the message is whole with them, and so is the answer.
        """

    def ping() -> None:
        """One ping, between frames; after head commit only."""

    def whitespace() -> None:
        """Some whitespace ahead of a JSON body, to keep the connection alive; the first of it commits the head."""

    def whole(headers: Headers, body: bytes) -> None:
        """A whole answer, and the end of it."""

    def fail(error: ClaudeError, answer: ErrorResponse | None = None) -> None:
        """An error, and the end: an HTTP answer before head commit, ``event: error`` in a stream after it.

        Before head commit an upstream's own *answer* goes out instead, byte for byte.
        """

    def abort() -> None:
        """Cut the client's connection: it took nothing for too long."""


class IDispatcher(Interface):
    """Serves requests. Made anew for each configuration; called by web."""

    def serve(request: ApiRequest, body: Body, downlink: IDownlink, capture: ICapture | None = None) -> IRunningRequest:
        """Answer one request, whatever it takes. What goes wrong is written to *downlink*.

        *body* is released as soon as nobody will send it again. *capture*: where it is recorded.
        """


class IRunningRequest(Interface):
    """One request that dispatch serves, or has served."""

    done: Deferred[None] = Attribute("fires at the end; never fails; ended early by ``cancel`` alone")
    log: RequestLog = Attribute("what is noted on the way; complete at the end")

    def cancel(reason: CancelReason) -> None:
        """End it: its upstream's socket is closed at once, its lease goes back as cancelled.

        Of several reasons the first counts.
        """


class ICatalog(Interface):
    """Which models there are. Called by web."""

    def entries() -> Sequence[Mapping[str, Any]]:
        """One for each, as ``/v1/models`` lists them."""


class ICaptures(Interface):
    """Records requests for operators who look into a failure. One in a process; called by web."""

    def begin(request_id: str) -> ICapture | None:
        """A recording of this request, or None: they are off, or too many are open."""


class ICapture(Interface):
    """One request being recorded. Ended by exactly one :meth:`finish`."""

    client: ITranscript = Attribute("what the client sent, and what it got; filled by web")

    def attempt(provider: str, credential: str) -> ITranscript:
        """What goes between us and an upstream in one more attempt; filled by its executor."""

    def finish(status: int, broken: bool = False) -> None:
        """The request is over: *status* is what the client was told, *broken* that its stream did not end well."""


class ITranscript(Interface):
    """One HTTP request and its response being recorded. What is secret is masked when it is written."""

    def request(method: str, path: str, headers: Headers, body: bytes) -> None:
        """The request, as it was sent; *path* is a path with its query or a URL."""

    def answer(status: int, headers: Headers) -> None:
        """The head of the response."""

    def data(chunk: bytes) -> None:
        """A piece of the response's body, decoded."""

    def failed(why: str) -> None:
        """There was no whole response."""


class IBufferAccount(Interface):
    """Counts the bytes that are buffered for clients, up to ``server.max_buffered_bytes``. One for all listeners.

    Called by web for bodies, by dispatch for what is made of them, by executors for unfinished frames and responses.
    """

    def check(client: str, size: int) -> None:
        """Raise :class:`~claudeproxyd.errors.ClaudeError` (529) if *size* bytes more would be too many.

        They are too many for all, or for this *client*.
        """

    def reserve(client: str, size: int) -> None:
        """Count *size* bytes more of the client's, or raise as :meth:`check` does."""

    def release(client: str, size: int) -> None:
        """*size* bytes of what was reserved for the client are free again."""

    def adjust(change: int) -> None:
        """So many bytes more, or less, are buffered already, for no client in particular; never refused."""


class IAuthenticator(Interface):
    """Tells who is calling. Called by web for each request, before its body is read; must not block."""

    def authenticate(headers: Headers) -> Principal | Awaitable[Principal]:
        """Return who calls. Raises :class:`~claudeproxyd.errors.ClaudeError`; 401 where it does not know.

        A coroutine or a Deferred where somebody else has to be asked: nothing more is read of the client until then. It
        is cancelled when the client leaves, and after half a minute, with a 503. On the admin listener nobody is waited
        for.

        Of several a 401 leads to the next one, the configured keys being asked first. Anything else that is raised or
        returned lets nobody in.
        """


class IAdmission(Interface):
    """Whether a client may have one more request now. Asked by dispatch for each, ahead of its hooks and routes."""

    def admit(request: ApiRequest) -> IPermit | Awaitable[IPermit]:
        """Return a permit, which holds a place until the request is over.

        Asked for count_tokens too, which ``request.count_tokens`` tells; clients send dozens of these at once. Raises
        :class:`~claudeproxyd.errors.ClaudeError`: 429 over a limit. What has to be awaited is cancelled when the
        client leaves, and must hold no place then.
        """


class IPermit(Interface):
    """One request's place under an :class:`IAdmission`."""

    def done(usage: Usage | None, outcome: str) -> None:
        """Give the place back. Called exactly once, right before the last of the response is written.

        So the client's next request, which may be here already, finds the place free. *usage* is what the request's
        last attempt used, as far as it is known; None for count_tokens. *outcome* is as in the access log. A failure is
        logged, once for each kind of permit, and hurts nobody.
        """


class ILimitedPermit(IPermit):
    """A permit under limits that the client is told of."""

    def headers() -> Headers:
        """Return ``anthropic-ratelimit-*`` headers, as they are now; none where there is nothing to tell.

        Asked for when an answer begins, before :meth:`~IPermit.done`. Where there are any they stand in the place of
        the upstream's.
        """


class ILimitStore(Interface):
    """Counts what limits allow: in this process, or where several share it. Asked by dispatch's limits alone.

    Every *now* is the wall clock's, in seconds since the epoch. A request that no limit matches is let in at once, and
    nobody is asked about it.
    """

    def start() -> Deferred[None]:
        """Fire when requests may be let in: what is shared is there, or is not waited for any more. Never fails."""

    def stop() -> Deferred[None]:
        """Tell what has not been told yet, and let go. Never fails."""

    def reserve(asked: Asked, amounts: Amounts, now: float) -> Reservation | Awaitable[Reservation]:
        """Reserve what a request may come to with every limit that it is counted by, or with none: in one step.

        Raises :class:`~claudeproxyd.accounts.limits.OverLimit`. What has to be awaited holds nothing once it is
        cancelled.
        """

    def settle(asked: Asked, amounts: Amounts, now: float) -> Sequence[Counter]:
        """Count what an attempt came to. Waits for nobody.

        Returns the counters that have passed their share for a warning with it, as far as this process is the one to
        warn.
        """

    def assume(known: UsageLimits, now: float) -> None:
        """Take what is known to have been used ahead of all that was settled here, while the ledger cannot be asked."""

    def recall(counted: UsageLimits, now: float, assumed: UsageLimits | None = None) -> None:
        """Take what the ledger knows to have been used ahead of all that was settled here, instead of *assumed*."""

    def snapshot(now: float) -> Deferred[Sequence[Counter]]:
        """Return every counter as it is now, in the order of the limits. What cannot be asked is told as last known."""

    def register(metrics: Metrics) -> None:
        """Have *metrics* tell how the store fares."""


class IRequestHook(Interface):
    """A step in the way of each request, for messages and count_tokens, streamed or not. Brought by a plugin.

    Called by dispatch on the reactor, and so it must not block.
    """

    def request(request: ApiRequest) -> ApiRequest | Awaitable[ApiRequest]:
        """Return the request as it is to go on: the same one, or a changed copy.

        Called once it is admitted, ahead of its routes; each hook gets what the one before it returned. Copies are made
        by ``with_body`` and ``with_headers``; what cannot be changed is ``stream``, ``count_tokens`` and
        ``request_id``. Raises :class:`~claudeproxyd.errors.ClaudeError` to refuse the request, with any status; any
        other exception is a fault, and the client gets a 500. What has to be awaited is cancelled when the client
        leaves; it holds up this request alone, for as long as ``timeouts.total`` allows.
        """

    def finished(request: ApiRequest, log: RequestLog) -> None:
        """The request is over, whatever became of it. Called once for each that :meth:`request` was called for.

        *request* is the one that was served, with the changes of all hooks; its body is gone. *log* is complete. A
        failure is logged, once for each hook, and hurts nobody.
        """


class IUsageSink(Interface):
    """Takes one record for each attempt, when it is over. Called by dispatch; must neither block nor raise."""

    def record(record: UsageRecord) -> None:
        """Take it, to write or count it later."""


class IAttemptJournal(Interface):
    """Remembers which attempts are under way, so that the end of the process leaves none without a record."""

    def begun(record: UsageRecord) -> None:
        """Note an attempt to send messages that begins now; must neither block nor raise.

        *record* is what is to be recorded of it if nothing more is heard: its outcome is ``lost``. It is changed when
        the attempt is over, and given to an :class:`IUsageSink` then.
        """

    def unsent(record: UsageRecord) -> None:
        """Note a request that ended without an attempt: it was refused, or left. Must neither block nor raise.

        *record* has 0 for its attempt, and what the client was told for outcome and status.
        """


class IPersistent(Interface):
    """A part of the daemon whose state outlives it. Keys are JSON lists, values plain; None stands for a deletion.

    Called by ``store``: first to restore, then with what other daemons say. Made with a function *changed*, which it
    calls with every change, and which neither blocks nor raises.
    """

    def export_state() -> Iterator[Mapping[str, Any]]:
        """Yield all state, in parts for one turn of the reactor each; a part is as things are when it is yielded.

        What keeps requests from credentials is in the first.
        """

    def import_state(saved: Mapping[str, Any]) -> None:
        """Restore *saved*, a part of all. *changed* is called with deletions for the keys that make no sense."""

    def merge(changes: Mapping[str, Any]) -> None:
        """Apply the changes of another daemon, without calling *changed*."""


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

    def register(metrics: Metrics) -> None:
        """Have *metrics* tell how the store fares."""


class ILedgerDatabase(Interface):
    """A database that the ledger lies in, as one thread has it. Blocks, and raises what its driver does.

    It is opened with the first question, and again where the connection was lost.
    """

    path: str = Attribute("where it is, for people")

    def enter(records: Iterable[UsageRecord]) -> int:
        """Enter records, each once however often it comes. Return how many were new.

        When it fails, what was entered before stays, and may come again.
        """

    def forget(before: float) -> int:
        """Delete the attempts of requests that came before then; the totals stay. Return how many rows went."""

    def totals(question: Question) -> list[dict[str, object]]:
        """Return the figures, a dict for each group, those that cost most first. Raises ValueError for a bad ``by``."""

    def attempts(where: Mapping[str, str], after: float, limit: int) -> list[dict[str, object]]:
        """Return the attempts of the latest requests, the last first.

        *where*: values of ``client``, ``request_id`` and ``session`` that they have to have; *after*: when the request
        came, at the earliest.
        """

    def label_names() -> list[str]:
        """Return the names of all labels that clients have had, sorted."""

    def used(since: float, until: float) -> Iterator[tuple[Asked, Amounts, float]]:
        """Yield what requests that came since then used, whose attempts ended before *until*, by quarters of hours."""

    def close() -> None:
        """Let go of it."""


class ISelector(Interface):
    """A strategy: which of the ready credentials is next. Pure; the pool makes one for each model and priority."""

    def choose(ready: int) -> int:
        """The index of one of *ready*: bit i is the provider's i-th credential. Never 0, and all of one priority."""
