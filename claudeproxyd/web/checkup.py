"""``/admin/v1/pool/check``: how credentials are, by asking their upstreams, and issuers of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from claudeproxyd.errors import ClaudeError
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.observe.scrub import redact_bytes
from claudeproxyd.web.root import Endpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.python.failure import Failure

    from claudeproxyd.checkup import Checkup, IssuerFinding
    from claudeproxyd.web.request import GatewayRequest

_log = Logger()
_encode = msgspec.json.Encoder().encode


class _Which(msgspec.Struct, forbid_unknown_fields=True):
    provider: str = ""
    credential: str = ""


class CheckCredentials(Endpoint):
    """Asks each credential, or those that the body names, for its models and a count of tokens.

    Where it names none, each issuer is asked for its keys, too.
    """

    allowedMethods = (b"POST",)

    def __init__(
        self, checkup: Callable[[], Checkup], issuers: Callable[[], Awaitable[list[IssuerFinding]]] | None = None
    ) -> None:
        """*checkup* and *issuers* ask by the configuration in force."""
        super().__init__()
        self._checkup = checkup
        self._issuers = issuers

    def render_POST(self, request: GatewayRequest) -> None:
        """Answer when all have answered, or their time is over."""
        try:
            which = msgspec.json.decode(request.take_body().data or b"{}", type=_Which)
        except UNREADABLE as error:
            raise ClaudeError(400, str(error)) from None
        asked = Deferred.fromCoroutine(self._found(which))
        asked.addCallback(_answer, request)
        asked.addErrback(_failed, request)

    async def _found(self, which: _Which) -> dict[str, object]:
        issuers: list[IssuerFinding] = []
        if self._issuers is not None and not (which.provider or which.credential):
            issuers = await self._issuers()
        credentials = await self._checkup().findings(which.provider, which.credential)
        return {"credentials": credentials, "issuers": issuers}


def _answer(found: dict[str, object], request: GatewayRequest) -> None:
    if request.channel is not None:
        request.answer_json(redact_bytes(_encode(found)))


def _failed(failure: Failure, request: GatewayRequest) -> None:
    _log.failure("check {request_id} failed for a fault of ours", failure, request_id=request.request_id)
    request.fault()
