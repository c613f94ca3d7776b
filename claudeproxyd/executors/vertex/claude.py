"""Claude's models on Vertex AI: the Messages API behind another URL, with a version and betas of its own."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from twisted.logger import Logger

from claudeproxyd.executors.google import authorization
from claudeproxyd.executors.http import EVENT_STREAM, HTTPExecutor
from claudeproxyd.executors.judge import InputTooLongJudge
from claudeproxyd.executors.vertex.dialect import BETAS, COUNT_BETAS, REFUSED_FIELDS, VERSIONS
from claudeproxyd.messages.headers import DEFAULT_VERSION, client_headers, upstream_lines, value_of
from claudeproxyd.messages.members import without_members
from claudeproxyd.messages.minted import without_minted
from claudeproxyd.messages.passthrough import ClaudeReader
from claudeproxyd.messages.system_turns import takes_system_messages, without_system_messages
from claudeproxyd.outcomes.types import Family

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.executors.messages_api import MessagesSettings
    from claudeproxyd.executors.services import Services
    from claudeproxyd.executors.vertex.locations import Place
    from claudeproxyd.interfaces import IBufferedResponse, IStreamingResponse
    from claudeproxyd.upstream.client import Response

_DATED = re.compile(r"(claude-.+)-(\d{8})", re.ASCII)
#: Names of betas that were warned about. Clients choose them, so there is a bound.
_REMEMBERED = 100
_LONGEST_REMEMBERED = 100


def is_claude(model: str) -> bool:
    """Whether Anthropic publishes that model."""
    return model.startswith("claude-")


def vertex_name(model: str) -> str:
    """``claude-haiku-4-5-20251001``, which is the API's name, as ``claude-haiku-4-5@20251001``."""
    dated = _DATED.fullmatch(model)
    return f"{dated[1]}@{dated[2]}" if dated else model


class ClaudeOnVertex(HTTPExecutor):
    """The part of a provider's executor for Claude's models, at one of its hosts."""

    kind = "vertex"
    family = Family.GOOGLE  # its quotas; errors are read by their shape
    make_judge = InputTooLongJudge
    _log = Logger()

    def __init__(self, section: Provider, services: Services, places: Mapping[str, Place]) -> None:
        """*places*: where each credential's models are."""
        super().__init__(section, services)
        self._places = places
        own: MessagesSettings = section.own
        self._add_betas = [beta.encode() for beta in own.betas.add]
        self._drop_betas = frozenset(beta.encode() for beta in own.betas.drop)
        own_names = {name.lower().encode() for name in section.headers}
        self._own_betas = b"anthropic-beta" in own_names
        self._without = frozenset({b"anthropic-version", b"anthropic-beta", *own_names})
        self._drop_fields = frozenset({"model", "anthropic_version", *REFUSED_FIELDS, *own.drop_fields})
        self._warned: set[bytes] = set()

    async def messages(self, attempt: Attempt) -> IBufferedResponse | IStreamingResponse:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`."""
        streamed = attempt.request.envelope.stream
        name = quote(vertex_name(attempt.model), safe="@").encode()
        target = name + (b":streamRawPredict" if streamed else b":rawPredict")
        with self.outcomes(attempt):
            response = await self._post(attempt, target, BETAS, {})
            if not streamed:
                return await self.whole(response, attempt)
            return await self.stream(response, attempt, ClaudeReader(self.services.max_event_bytes), (EVENT_STREAM,))

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        """See :meth:`IExecutor.count_tokens <claudeproxyd.interfaces.IExecutor.count_tokens>`."""
        model = {"model": vertex_name(attempt.model)}
        with self.outcomes(attempt):
            response = await self._post(attempt, b"count-tokens:rawPredict", COUNT_BETAS, model)
            return await self.whole(response, attempt)

    def client_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """All that are not the connection's."""
        return client_headers(headers, strip_rate_limits=self.services.strip_rate_limits)

    def _post(
        self, attempt: Attempt, target: bytes, betas: Mapping[bytes, bytes], members: Mapping[str, str]
    ) -> Coroutine[Any, Any, Response]:
        """Send it without the client's query: Vertex AI rejects the ``beta`` parameter."""
        headers = attempt.request.headers
        lines = b"".join(
            (
                upstream_lines(headers, without=self._without),
                self._beta_line(headers, betas),
                authorization(attempt.secret, self.section.headers),
            )
        )
        version = value_of(headers, b"anthropic-version") or DEFAULT_VERSION
        body = without_minted(attempt.body or attempt.request.envelope.body)
        if not takes_system_messages(attempt.model):
            body = without_system_messages(body)
        body = _with_members(
            without_members(body, self._drop_fields),
            {"anthropic_version": VERSIONS.get(version, version).decode("latin-1"), **members},
        )
        place = self._places[attempt.credential.name]
        return self.send(attempt, self.origin.base_path + place.anthropic + target, lines, body)

    def _beta_line(self, headers: Sequence[tuple[bytes, bytes]], known: Mapping[bytes, bytes]) -> bytes:
        if self._own_betas:
            return b""
        asked = b",".join(value for name, value in headers if name == b"anthropic-beta")
        wanted = [beta for each in asked.split(b",") if (beta := each.strip()) and beta not in self._drop_betas]
        for beta in wanted:
            if beta not in BETAS and beta not in self._add_betas:
                self._warn(beta)
        kept = dict.fromkeys([known[beta] for beta in wanted if beta in known] + self._add_betas)
        return b"anthropic-beta: %b\r\n" % b",".join(kept) if kept else b""

    def _warn(self, beta: bytes) -> None:
        beta = beta[:_LONGEST_REMEMBERED]
        if beta in self._warned or len(self._warned) >= _REMEMBERED:
            return
        self._warned.add(beta)
        self._log.warn(
            "{provider}: the beta {beta!r} is not known to be taken by Vertex AI, and is not sent there;"
            " betas.add sends it all the same, betas.drop ends this warning",
            provider=self.section.name,
            beta=beta.decode("latin-1"),
        )


def _with_members(body: bytes, members: Mapping[str, str]) -> bytes:
    """The object with these at its start; it has others already, ``messages`` at least."""
    start = body.index(b"{") + 1
    return b"".join((body[:start], msgspec.json.encode(members)[1:-1], b",", body[start:]))
