"""The admin listener's endpoints: metrics, the pool, accounts, keys, and a reload. Each action leaves an audit line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol

import msgspec
from twisted.logger import Logger

from claudeproxyd.accounts.limits import UsageLimits
from claudeproxyd.accounts.local_limits import LocalLimits
from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.errors import ClaudeError
from claudeproxyd.observe.exposition import CONTENT_TYPE, OPEN_METRICS_TYPE, wants_open_metrics
from claudeproxyd.observe.scrub import redact_bytes
from claudeproxyd.web.accounts import ShowLabels, ShowLimits, ShowRequests, ShowUsage
from claudeproxyd.web.answering import Gather, answer_in_turns, when_gathered
from claudeproxyd.web.asking import read_body, read_query
from claudeproxyd.web.audit import audit
from claudeproxyd.web.checkup import CheckCredentials
from claudeproxyd.web.keys import Keys
from claudeproxyd.web.pages import page
from claudeproxyd.web.roles import Role
from claudeproxyd.web.root import Endpoint, Health, Node, Ready, mount
from claudeproxyd.web.status import ShowClients, ShowOperator, ShowStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from claudeproxyd.accounts.keys import RuntimeKeys
    from claudeproxyd.accounts.ledger import Ledger
    from claudeproxyd.checkup import Checkup, IssuerFinding
    from claudeproxyd.interfaces import ICredentialPool, ILimitStore
    from claudeproxyd.observe.activity import ClientActivity
    from claudeproxyd.observe.status import Status
    from claudeproxyd.web.request import GatewayRequest

_log = Logger()
_encode = msgspec.json.Encoder().encode

#: Credentials that are written in one turn of the reactor: a millisecond's work.
ENTRIES_PER_TURN = 50


class Unserved(Protocol):
    """Knows which models nobody serves."""

    def unserved(self) -> list[dict[str, object]]:
        """Return what there is to say of each."""


class AdminRoot(Node):
    """What operators see."""

    def __init__(
        self,
        pool: ICredentialPool,
        reload: Callable[[], Deferred[str]],
        status: Status,
        activity: ClientActivity,
        ledger: Ledger | None = None,
        limits: ILimitStore | None = None,
        keys: RuntimeKeys | None = None,
        *,
        models: Unserved | None = None,
        checkup: Callable[[], Checkup] | None = None,
        issuers: Callable[[], Awaitable[list[IssuerFinding]]] | None = None,
        gather: Gather | None = None,
    ) -> None:
        """*reload* reads the configuration anew, and says what changed; it fails with ``ConfigError`` where that
        cannot be used. *gather*: where there are other processes, whose part is to be told too."""
        super().__init__()
        front = page("admin.html")
        for path, endpoint in (
            (b"/metrics", ShowMetrics(gather)),
            (b"/healthz", Health()),
            (b"/readyz", Ready()),
            (b"/", Front()),
            (b"/admin", front),
            (b"/admin/", front),
            (b"/admin/v1/pool", ShowPool(pool, models, gather)),
            (b"/admin/v1/pool/clear", Clear(pool, gather)),
            (b"/admin/v1/pool/disable", Switch(pool, gather, enabled=False)),
            (b"/admin/v1/pool/enable", Switch(pool, gather, enabled=True)),
            (b"/admin/v1/reload", Reload(reload)),
            (b"/admin/v1/keys", Keys(keys)),
            (b"/admin/v1/operator", ShowOperator()),
            (b"/admin/v1/status", ShowStatus(status)),
            (b"/admin/v1/clients", ShowClients(activity, gather)),
            (b"/admin/v1/usage", ShowUsage(ledger)),
            (b"/admin/v1/labels", ShowLabels(ledger)),
            (b"/admin/v1/requests", ShowRequests(ledger)),
            (b"/admin/v1/limits", ShowLimits(LocalLimits(UsageLimits()) if limits is None else limits)),
        ):
            mount(self, path, endpoint)
        if checkup is not None:
            mount(self, b"/admin/v1/pool/check", CheckCredentials(checkup, issuers))


class Front(Endpoint):
    """``/``: redirects to the page for people."""

    is_open = True

    def render_GET(self, request: GatewayRequest) -> None:
        """Redirect to it."""
        request.answer(302, ((b"location", b"/admin/"),), b"")


class ShowMetrics(Endpoint):
    """For Prometheus."""

    seen_by = Role.METRICS

    def __init__(self, gather: Gather | None = None) -> None:
        super().__init__()
        self._gather = gather

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer with all metrics."""
        accept = b",".join(value for name, value in request.headers if name == b"accept")
        open_metrics = wants_open_metrics(accept.decode("latin-1"))
        kind = OPEN_METRICS_TYPE if open_metrics else CONTENT_TYPE

        def answer() -> None:
            answer_in_turns(request, kind, request.gateway.metrics.pieces(open_metrics=open_metrics))

        when_gathered(request, None if self._gather is None else self._gather("metrics", None), answer)


class ShowPool(Endpoint):
    """The models that nobody serves; each credential: its state, and why; and who waits."""

    def __init__(self, pool: ICredentialPool, models: Unserved | None, gather: Gather | None = None) -> None:
        super().__init__()
        self._pool = pool
        self._models = models
        self._gather = gather

    def render_GET(self, request: GatewayRequest) -> None:
        """Answer with the pool's snapshot, or the part of it that ``limit`` and ``offset`` say."""
        which = read_query(request, _Part)

        def answer() -> None:
            answer_in_turns(request, b"application/json", self._pieces(which.offset, which.limit))

        when_gathered(request, None if self._gather is None else self._gather("pool", None), answer)

    def _pieces(self, offset: int, limit: int | None) -> Iterator[bytes]:
        snapshot = self._pool.snapshot()
        end = len(snapshot) if limit is None else min(offset + limit, len(snapshot))
        unserved = [] if self._models is None else self._models.unserved()
        whole = {
            "total": len(snapshot),
            "gauges": self._pool.gauges(),
            "unserved": unserved,
            "queue": self._pool.queued(),
        }
        yield redact_bytes(_encode(whole)[:-1]) + b',"credentials":['
        for start in range(offset, end, ENTRIES_PER_TURN):
            comma = b"," if start > offset else b""
            # Reasons and models' names may come from a store of earlier days, or from other daemons.
            yield comma + redact_bytes(_encode(snapshot[start : min(start + ENTRIES_PER_TURN, end)])[1:-1])
        yield b"]}"


class _Part(msgspec.Struct, forbid_unknown_fields=True):
    limit: Annotated[int, msgspec.Meta(ge=0)] | None = None
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0


class _Cooldowns(msgspec.Struct, forbid_unknown_fields=True):
    provider: str | None = None
    credential: str | None = None
    model: str | None = None


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    provider: str
    credential: str


class Clear(Endpoint):
    """Ends cooldowns: all, or those that the body names."""

    allowedMethods = (b"POST",)

    def __init__(self, pool: ICredentialPool, gather: Gather | None = None) -> None:
        super().__init__()
        self._pool = pool
        self._gather = gather

    def render_POST(self, request: GatewayRequest) -> None:
        """Answer with how many there were."""
        which = read_body(request, _Cooldowns)
        count = self._pool.clear(which.provider, which.credential, which.model)
        audit(request, "pool.clear", which, before={"cooldowns": count}, after={"cooldowns": 0})
        told = _encode({"cleared": count})
        when_gathered(request, _heard(self._gather), lambda: request.answer_json(told))


class Switch(Endpoint):
    """Takes a credential out of service, or back."""

    allowedMethods = (b"POST",)

    def __init__(self, pool: ICredentialPool, gather: Gather | None = None, *, enabled: bool) -> None:
        super().__init__()
        self._pool = pool
        self._gather = gather
        self._enabled = enabled

    def render_POST(self, request: GatewayRequest) -> None:
        """Answer with what it is now."""
        which = read_body(request, _Named)
        before = self._pool.is_enabled(which.provider, which.credential)
        try:
            found = self._pool.set_enabled(which.provider, which.credential, self._enabled)
        except ValueError as error:
            raise ClaudeError(409, f"{error}: take it out there, and reload") from None
        if not found:
            raise ClaudeError(404, f"There is no credential {which.provider}/{which.credential}")
        action = "pool.enable" if self._enabled else "pool.disable"
        audit(request, action, which, before={"enabled": before}, after={"enabled": self._enabled})
        told = _encode({**msgspec.structs.asdict(which), "enabled": self._enabled})
        when_gathered(request, _heard(self._gather), lambda: request.answer_json(told))


def _heard(gather: Gather | None) -> Deferred[None] | None:
    """Return what fires when other processes have heard what was changed here: what is told to be so is so for all."""
    return None if gather is None else gather("heard", None)


class Reload(Endpoint):
    """Reads the configuration anew."""

    allowedMethods = (b"POST",)

    def __init__(self, reload: Callable[[], Deferred[str]]) -> None:
        super().__init__()
        self._reload = reload

    def render_POST(self, request: GatewayRequest) -> None:
        """Answer when the new one is in force, with what changed, or with its errors."""
        done = self._reload()
        done.addCallback(self._reloaded, request)
        done.addErrback(self._failed, request)
        done.addErrback(self._fault, request)

    def _reloaded(self, changes: str, request: GatewayRequest) -> None:
        audit(request, "reload", after={"changes": changes})
        if request.channel is not None:
            request.answer_json(_encode({"reloaded": True, "changes": str(changes)}))

    def _failed(self, failure: Failure, request: GatewayRequest) -> None:
        failure.trap(ConfigError)
        audit(request, "reload", error=str(failure.value))
        if request.channel is not None:
            request.refuse(ClaudeError(400, str(failure.value)))

    def _fault(self, failure: Failure, request: GatewayRequest) -> None:
        audit(request, "reload", error="Internal error")
        _log.failure("reload {request_id} failed for a fault of ours", failure, request_id=request.request_id)
        request.fault()
