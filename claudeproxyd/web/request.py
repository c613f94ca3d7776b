"""One request of a client: its head, its body in memory and within bounds, and an end that is recorded exactly once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.http import datetimeToString

from claudeproxyd.dispatch.body import Body
from claudeproxyd.dispatch.request import CancelReason
from claudeproxyd.errors import ClaudeError
from claudeproxyd.framing.coding import BodyDecoder, CodingError, CodingTooLarge, UnknownCoding
from claudeproxyd.messages.ids import Ids
from claudeproxyd.web.phrases import PHRASES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from urllib.parse import SplitResultBytes

    from twisted.python.failure import Failure
    from twisted.web.resource import Resource

    from claudeproxyd.headers import Headers
    from claudeproxyd.principals import Principal
    from claudeproxyd.web.channel import GatewayChannel
    from claudeproxyd.web.head import RequestHead


#: A body of up to this size is read although its request is refused, so that the connection lives on.
MAX_UNWANTED_BODY_BYTES = 65_536
#: A piece of a body of fewer bytes is put to those before it: by itself each takes many times its size …
SMALL_PIECE_BYTES = 1024
#: … as long as these are fewer bytes than that.
GATHERED_BYTES = 65_536
#: A body of more bytes has a turn of the reactor to be gathered in, and another to be read.
LARGE_BODY_BYTES = 1_048_576
#: Bytes of a path with its query.
MAX_TARGET_BYTES = 8192

_new_id = Ids().request


class GatewayRequest:
    """A request. Made by the channel; the endpoints of :mod:`claudeproxyd.web.root` answer it."""

    __slots__ = (  # as a dictionary its attributes are too many for one whose keys are shared: 1.3 KB more
        "__weakref__",
        "_body",
        "_chunks",
        "_client_name",
        "_decoder",
        "_endpoint",
        "_held",
        "_identifying",
        "_refusal",
        "cancel",
        "channel",
        "client",
        "clientproto",
        "code",
        "cors",
        "dispatched",
        "error",
        "gateway",
        "headers",
        "method",
        "model",
        "path",
        "principal",
        "query",
        "received",
        "refusal",
        "request_id",
        "sentLength",
        "site",
        "started",
        "startedWriting",
        "time",
        "uri",
    )

    _log = Logger()

    def __init__(self, channel: GatewayChannel) -> None:
        self.method = self.uri = self.path = b""
        self.clientproto = b"HTTP/1.1"
        self.channel: GatewayChannel | None = channel
        """None once it is answered, or the client is gone."""
        self.client = channel.peer
        self.site = channel.site
        self.gateway = channel.site.gateway
        """What it is served with, from beginning to end: a reload is for the requests after it."""
        self.started = self.site.clock.seconds()
        self.time = time.time()
        """The wall-clock time of ``started``, in seconds since the epoch."""
        self.request_id = _new_id(self.time)
        self.headers: list[tuple[bytes, bytes]] = []
        """As the client sent them, in order, with lower-case names."""
        self.query = b""
        self.cors: Headers = ()
        """For the answer, where the request comes from a web page that may call."""
        self.principal: Principal | None = None
        """None where no key is asked for, and while somebody is asked whose it is."""
        self._identifying: Deferred[None] | None = None
        """Fires when that is told; it never fails."""
        self.dispatched = False
        """Dispatch has it, or had: what it came to is told when dispatch is done with it."""
        self.cancel: Callable[[CancelReason], None] | None = None
        """Ends what dispatch does for it."""
        self.model = ""
        """What was asked for, once that is known."""
        self.error = ""
        """Why it was refused here, for the log."""
        self.refusal = ""
        """The same for metrics, by the name of a :class:`~claudeproxyd.errors.Refusal`."""
        self.code = 0
        """The status of its answer."""
        self.startedWriting = False
        self.sentLength = 0
        """Bytes of the answer's body, but for those that dispatch has sent."""
        self.received = 0
        """Bytes of body, as they came."""
        self._client_name = ""
        """In whose name memory is reserved."""
        self._endpoint: Resource | None = None
        self._refusal: ClaudeError | None = None
        self._decoder: BodyDecoder | None = None
        self._chunks: list[bytes | bytearray] = []
        """The body while it comes, its content coding undone."""
        self._body: Body | None = None
        """The whole body, once it was taken."""
        self._held = 0

    # -- called by the channel

    def headReceived(self, head: RequestHead) -> None:
        """Take the head: find the endpoint, and check whether this client may call it."""
        assert self.channel is not None
        target, headers = head.target, head.headers
        self.method, self.clientproto, self.headers = head.method, head.version, headers
        if len(target) > MAX_TARGET_BYTES:
            raise ClaudeError(414, f"The request's target is longer than {MAX_TARGET_BYTES} bytes")
        self.uri = target
        if not target.startswith(b"/") and b"://" in target:
            try:
                parts = urlsplit(target)
                agreed = _names_host(parts, headers)
            except ValueError:
                raise ClaudeError(400, "The request's target is not a URL") from None
            if not agreed:
                raise ClaudeError(400, "The request's target names another host than its Host header")
            target = (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
        self.path, _, self.query = target.partition(b"?")
        try:
            self._endpoint = self.site.getResourceFor(self)
            if self.principal is not None:
                self._identify(self.principal)
            self._decoder = self._undo_coding()
        except ClaudeError as error:
            # Kept while the body comes, and so without what its traceback leads to: all of this request.
            self._refusal = error.with_traceback(None)

    @property
    def identified(self) -> bool:
        """Whether it is known who calls, or that nobody does who may."""
        return self._identifying is None or self._identifying.called

    def when_identified(self, done: Callable[[], None]) -> None:
        """Have *done* called once it is known who calls; also where the request is over before."""
        assert self._identifying is not None
        self._identifying.addCallback(lambda _: done()).addErrback(self._cannot_go_on)

    def _cannot_go_on(self, failure: Failure) -> None:
        self._log.failure("Request {request_id} failed for a fault of ours", failure, request_id=self.request_id)
        if self.channel is not None:
            self.channel.refuse(ClaudeError(500, "Internal error"))

    def expect_body(self, head: RequestHead) -> None:
        """Take the body's length. Raises ClaudeError if the body is not to be read at all."""
        length = head.length
        if self._refusal is not None:
            if length is None or length > MAX_UNWANTED_BODY_BYTES or head.asks_first:
                raise self._refusal
        elif length:
            self._check_size(length)
            self.gateway.buffers.check(self._client_name, length)

    def bodyReceived(self, data: bytes) -> None:
        """Take a piece of the body. Raises ClaudeError if it is one too many.

        Its content coding is undone piece by piece: what a few bytes may hold of work is done in as many turns as it
        took them to come.
        """
        self.received += len(data)
        if self._refusal is not None:
            return
        self._check_size(self.received)
        if self._decoder is not None:
            data = self._decoded(self._decoder, data)
        self._hold(len(data))
        self._gather(data)

    def _gather(self, data: bytes) -> None:
        chunks = self._chunks
        if not chunks or len(data) >= SMALL_PIECE_BYTES:
            chunks.append(data)
            return
        last = chunks[-1]
        if isinstance(last, bytearray) and len(last) < GATHERED_BYTES:
            last += data
        else:
            chunks.append(bytearray(data))

    @property
    def refused(self) -> bool:
        """Whether it was refused already: the rest of its body is discarded."""
        return self._refusal is not None

    @property
    def compressed(self) -> bool:
        """Whether pieces of its body take a while to decompress."""
        return self._decoder is not None

    def requestReceived(self, admitted: bool) -> None:
        """Answer a request that is whole, in its turn; now if a turnstile has *admitted* its last bytes."""
        if self._held > LARGE_BODY_BYTES:
            self.site.heavy.wait(self)
        elif admitted:
            self.enter()
        else:
            self.site.turnstile.admit(self)

    def enter(self) -> None:
        """Let the endpoint answer, or answer with the error. Called by a turnstile."""
        try:
            if self._refusal is not None:
                raise self._refusal
            assert self._endpoint is not None
            self._endpoint.render(self)
        except ClaudeError as error:
            self.refuse(error)
        except Exception:
            self._log.failure("Request {request_id} failed for a fault of ours", request_id=self.request_id)
            self.fault()

    def connectionLost(self) -> None:
        """Cancel what is under way: the client left before the end."""
        self.channel = None
        self.site.heavy.leave(self)
        self.site.turnstile.leave(self)
        if self.cancel is not None:
            self.cancel(CancelReason.CLIENT_GONE)
        self.release()
        self.site.log(self)

    # -- who calls

    def wait_for(self, found: Awaitable[Principal]) -> None:
        """Wait for who calls. Called by ingress."""

        async def identify() -> None:
            self._identify(await found)

        self._identifying = Deferred.fromCoroutine(identify()).addErrback(self._not_identified)

    def _identify(self, principal: Principal) -> None:
        self.principal, self._client_name = principal, principal.name

    def _not_identified(self, failure: Failure) -> None:
        if self.channel is None:
            return
        error = failure.value
        if not isinstance(error, ClaudeError):
            self._log.failure("Nobody can tell who sends {request_id}", failure, request_id=self.request_id)
            error = ClaudeError(500, "Internal error of the gateway")
        self._refusal = error.with_traceback(None)

    # -- for endpoints

    @property
    def over_limit(self) -> bool:
        """Whether it came on a connection that is one too many."""
        return self.channel is not None and self.channel.over_limit

    @property
    def address(self) -> str:
        """The client's address, as a trusted proxy names it."""
        return self.gateway.proxies.client(getattr(self.client, "host", "unix"), self.headers)

    def header(self, name: bytes) -> bytes | None:
        """Return the value of the first header of that lower-case name, or None."""
        return next((value for known, value in self.headers if known == name), None)

    def take_body(self) -> Body:
        """Return the whole body, its content coding undone. Once only; it then owns what was reserved for it.

        Raises ClaudeError 400 where it breaks off.
        """
        if self._decoder is not None and self.received:
            try:
                self._decoder.finish()
            except CodingError as error:
                raise _damaged(error) from None
        chunks, self._chunks = self._chunks, []
        held, self._held = self._held, 0
        data = b"".join(chunks)
        self._body = Body(data, self.gateway.buffers, self._client_name, held)
        return self._body

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer, which is the end. All answers but those of dispatch go this way."""
        if self.channel is None:
            return
        own_id = self.request_id.encode()
        pairs = [*headers, *self.cors, (b"request-id", own_id), (b"x-claudeproxyd-request-id", own_id)]
        if status != 204:
            pairs.append((b"content-length", b"%d" % len(body)))
        if not self.channel.persistent:
            pairs.append((b"connection", b"close"))
        if self.method == b"HEAD":
            body = b""
        lines = [b"%b %d %b" % (self.clientproto, status, PHRASES.get(status, b"Unknown"))]
        lines.append(b"date: " + datetimeToString(self.time))
        lines += [b"%b: %b" % (name, value.translate(None, b"\r\n")) for name, value in pairs]
        self.code, self.startedWriting, self.sentLength = status, True, len(body)
        self.channel.transport.writeSequence((b"\r\n".join(lines), b"\r\n\r\n", body))
        self.finish()

    def answer_json(self, body: bytes, status: int = 200) -> None:
        """Send a whole answer of JSON."""
        self.answer(status, ((b"content-type", b"application/json"),), body)

    def refuse(self, error: ClaudeError) -> None:
        """Send a whole answer that is an error."""
        self._refusal = None  # and not in a cycle with the traceback that it has got now
        self.error = error.logged
        self.refusal = error.refusal or ""
        headers = ((b"content-type", b"application/json"), *error.headers)
        self.answer(error.status, headers, error.body(self.request_id))

    def fault(self) -> None:
        """Answer after a fault of ours: with 500, or by a cut where an answer has begun."""
        if self.channel is None:
            return
        if self.startedWriting:
            self.channel.transport.abortConnection()
        else:
            self.refuse(ClaudeError(500, "Internal error"))

    def finish(self) -> None:
        """End the answer, and release what the request held before the connection's next request begins."""
        channel, self.channel = self.channel, None
        if channel is not None:
            self.release()
            self.site.log(self)
            channel.requestDone(self)

    def release(self) -> None:
        """Release the memory that it holds, and ask nobody any more who calls."""
        if self._identifying is not None:
            self._identifying.cancel()
        if self._body is not None:
            self._body.release()
        self._chunks.clear()
        self._decoder = None
        if self._held:
            self.gateway.buffers.release(self._client_name, self._held)
            self._held = 0

    # -- codings and bounds

    def _undo_coding(self) -> BodyDecoder | None:
        codings = []
        for name, value in self.headers:
            if name == b"content-encoding":
                codings.append(value.decode("latin-1"))
        encoding = ", ".join(codings) if codings else ""
        if not encoding:
            return None
        try:
            return BodyDecoder(encoding, self.gateway.limits.max_request_bytes)
        except UnknownCoding:
            raise ClaudeError(415, "content-encoding: gzip, deflate and zstd are understood") from None

    @staticmethod
    def _decoded(decoder: BodyDecoder, data: bytes) -> bytes:
        try:
            return decoder.feed(data)
        except CodingTooLarge as error:
            raise ClaudeError(413, f"The request is too large: {error}") from None
        except CodingError as error:
            raise _damaged(error) from None

    def _hold(self, size: int) -> None:
        self.gateway.buffers.reserve(self._client_name, size)
        self._held += size

    def _check_size(self, size: int) -> None:
        limit = self.gateway.limits.max_request_bytes
        if size > limit:
            raise self._too_large(limit)

    @staticmethod
    def _too_large(limit: int) -> ClaudeError:
        return ClaudeError(413, f"Request exceeds the maximum size of {limit} bytes")


def _names_host(target: SplitResultBytes, headers: Headers) -> bool:
    """Return whether an absolute form names the host of the ``Host`` header; proxies on the way may go by either.

    A port that goes without saying may be left out. Raises ValueError for a port that is none.
    """
    default = {b"http": 80, b"https": 443}.get(target.scheme)
    for name, value in headers:
        if name == b"host":
            said = urlsplit(b"//" + value)
            return (said.hostname, said.port or default) == (target.hostname, target.port or default)
    return True


def _damaged(error: CodingError) -> ClaudeError:
    return ClaudeError(400, f"The request body does not match its content-encoding: {error}")
