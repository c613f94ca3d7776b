"""The Messages API itself, and everything that speaks it: the client's own bytes up, the upstream's own frames down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from zope.interface import implementer

from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.http import EVENT_STREAM, HTTPExecutor
from claudeproxyd.interfaces import IExecutor
from claudeproxyd.messages.headers import client_headers, upstream_lines
from claudeproxyd.messages.members import without_members
from claudeproxyd.messages.minted import without_minted
from claudeproxyd.messages.passthrough import ClaudeReader
from claudeproxyd.messages.system_turns import takes_system_messages, without_system_messages
from claudeproxyd.messages.url_sources import forbidden
from claudeproxyd.outcomes.types import Family

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.executors.messages_api import MessagesSettings
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IBufferedResponse, IStreamingResponse
    from claudeproxyd.leases import Credential, Route
    from claudeproxyd.upstream.client import Response


#: Where Anthropic itself serves.
THE_API = "https://api.anthropic.com"


class _ModelPage(msgspec.Struct):
    data: list[dict[str, Any]]
    has_more: bool = False
    last_id: str | None = None


_decode_page = msgspec.json.Decoder(_ModelPage).decode


def _read_page(body: bytes) -> tuple[list[dict[str, object]], str]:
    page = _decode_page(body)
    return page.data, (page.last_id or "") if page.has_more else ""


@implementer(IExecutor)
class AnthropicExecutor(HTTPExecutor):
    """One Anthropic-compatible provider."""

    kind = "anthropic"
    family = Family.ANTHROPIC

    def __init__(self, section: Provider, services: Services) -> None:
        super().__init__(section, services)
        self._target = self.origin.base_path + b"/v1/messages"
        self._is_the_api = section.base_url == THE_API
        own: MessagesSettings = section.own
        self._add_betas = [beta.encode() for beta in own.betas.add]
        self._own_names = frozenset(name.lower().encode() for name in section.headers)
        self._drop_betas = frozenset(beta.encode() for beta in own.betas.drop)
        self._drop_fields = frozenset(own.drop_fields)
        self._url_sources = own.url_sources

    def prepare(self, request: ApiRequest, route: Route) -> None:
        """Let everything pass: this is the API that the client speaks.

        A server in its place may fetch what the API would not, from the operator's own network. Raises Unsupported.
        """
        if not self._is_the_api and (reason := forbidden(request.envelope.body, self._url_sources)):
            raise Unsupported(reason)

    async def messages(self, attempt: Attempt) -> IBufferedResponse | IStreamingResponse:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`."""
        with self.outcomes(attempt):
            response = await self._post(attempt, self._target)
            if not attempt.request.envelope.stream:
                return await self.whole(response, attempt)
            return await self.stream(response, attempt, ClaudeReader(self.services.max_event_bytes), (EVENT_STREAM,))

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        """See :meth:`IExecutor.count_tokens <claudeproxyd.interfaces.IExecutor.count_tokens>`."""
        with self.outcomes(attempt):
            return await self.whole(await self._post(attempt, self._target + b"/count_tokens"), attempt)

    async def models(self, credential: Credential) -> list[dict[str, object]]:
        """See :meth:`IExecutor.models <claudeproxyd.interfaces.IExecutor.models>`."""
        secret = credential.source.present() or await credential.source.refresh()
        lines = upstream_lines(()) + authorization(secret)
        return await self.pages("/v1/models?limit=1000", "after_id", lines, _read_page)

    def client_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """All that are not the connection's."""
        return client_headers(headers, strip_rate_limits=self.services.strip_rate_limits)

    def _post(self, attempt: Attempt, target: bytes) -> Coroutine[Any, Any, Response]:
        request = attempt.request
        if request.query:
            target = b"%b?%b" % (target, request.query)
        lines = upstream_lines(
            request.headers, add_betas=self._add_betas, drop_betas=self._drop_betas, without=self._own_names
        )
        body = without_minted(attempt.body or request.envelope.with_model(attempt.model))
        if attempt.model != request.envelope.model and not takes_system_messages(attempt.model):
            body = without_system_messages(body)  # what the client asked for may have taken them
        if self._drop_fields:
            body = without_members(body, self._drop_fields)
        return self.send(attempt, target, lines + authorization(attempt.secret), body)


def authorization(secret: Mapping[str, str]) -> bytes:
    """The header line for an API key or a bearer token."""
    key = secret.get("api_key")
    if key is not None:
        return b"x-api-key: %b\r\n" % key.encode()
    return b"authorization: Bearer %b\r\n" % secret["bearer_token"].encode()
