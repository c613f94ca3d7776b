"""A model that lives in the daemon: for a first run without any key, for demonstrations, and to rehearse failures.

What it says is in :mod:`~claudeproxyd.executors.sandbox.speech`, how to make it misbehave in
:mod:`~claudeproxyd.executors.sandbox.faults`. Its failures are classified exactly as an Anthropic upstream's.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from claudeproxyd.errors import STATUS_OF_TYPE, ClaudeError
from claudeproxyd.executors.judge import Judge
from claudeproxyd.executors.responses import BufferedResponse, ParsedMessage
from claudeproxyd.executors.sandbox.faults import UnknownWish, Wishes, read_wishes
from claudeproxyd.executors.sandbox.prompt import Prompt
from claudeproxyd.executors.sandbox.speech import FAMILY, speak
from claudeproxyd.executors.sandbox.stream import SandboxStream
from claudeproxyd.interfaces import IExecutor
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.estimate import estimate_tokens
from claudeproxyd.messages.ids import Ids
from claudeproxyd.messages.usage import Usage
from claudeproxyd.outcomes.types import AttemptPhase, ErrorResponse, Failure, Family

if TYPE_CHECKING:
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.executors.services import Services
    from claudeproxyd.interfaces import IBufferedResponse, IStreamingResponse
    from claudeproxyd.leases import Credential, Route
    from claudeproxyd.outcomes.types import AttemptFailed

#: Seconds between two words.
PACE = 0.02
#: How many prompts that asked for ``fail-first`` are kept in mind.
REMEMBERED = 1000

#: What comes in place of an answer, by the fault.
_NO_ANSWER = {"html": b"<html><h1>Bad gateway</h1></html>", "empty": b""}

_MODELS = (
    ("claude-opus-4-8", "Claude Opus 4.8 (sandbox)"),
    ("claude-sonnet-4-5", "Claude Sonnet 4.5 (sandbox)"),
    ("claude-haiku-4-5", "Claude Haiku 4.5 (sandbox)"),
    ("sandbox", "Sandbox"),
)


@implementer(IExecutor)
class SandboxExecutor:
    """Serves any model name, at once and for nothing."""

    kind = "sandbox"
    family = Family.ANTHROPIC

    def __init__(self, services: Services, pace: float = PACE, ids: Ids | None = None) -> None:
        self._services = services
        self._judge = Judge(self.family, services, passing=list)
        self._clock = services.clock
        self._pace = pace
        self._ids = ids or Ids()
        self._failed: OrderedDict[bytes, int] = OrderedDict()
        """Attempts of a prompt that were failed for ``fail-first``, by its digest; bounded, oldest out."""

    def prepare(self, request: ApiRequest, route: Route) -> None:
        """Let everything pass."""

    async def count_tokens(self, attempt: Attempt) -> IBufferedResponse:
        """The local estimate, marked as one."""
        usage = Usage()
        usage.input = estimate_tokens(attempt.request.envelope.body)
        body = msgspec.json.encode({"input_tokens": usage.input})
        headers = [*self._headers(attempt, b"application/json"), (b"x-claudeproxyd-estimate", b"true")]
        return self._whole(headers, ParsedMessage(body, usage))

    async def models(self, credential: Credential) -> list[dict[str, object]]:
        """A few names that clients look for; any other is served as well."""
        return [
            {
                "type": "model",
                "id": id,
                "display_name": name,
                "created_at": "2026-01-01T00:00:00Z",
                "lifecycle": "active",
            }
            for id, name in _MODELS
        ]

    async def messages(self, attempt: Attempt) -> IBufferedResponse | IStreamingResponse:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`."""
        envelope = attempt.request.envelope
        prompt = Prompt(envelope.body)
        try:
            wishes = read_wishes(attempt.model, prompt.said)
        except UnknownWish as e:
            raise self._refusal(attempt, 400, str(e)) from None
        timeouts = self._services.timeouts
        delay = wishes.slow_first_byte
        limit = timeouts.first_byte if envelope.stream else timeouts.first_byte_whole
        never = wishes.fault in ("stall", "pings-only") and not envelope.stream
        if limit and (never or delay > limit):
            await deferLater(self._clock, limit)
            raise self._judge.failed(attempt, phase=AttemptPhase.HEAD, failure=Failure.FIRST_BYTE_TIMEOUT)
        if never:
            await Deferred()
        if delay:
            await deferLater(self._clock, delay)
        return self._response(attempt, prompt, wishes)

    def _response(self, attempt: Attempt, prompt: Prompt, wishes: Wishes) -> IBufferedResponse | IStreamingResponse:
        attempt.head_at = self._clock.seconds()
        attempt.bytes_out = len(attempt.request.envelope.body)
        self._refuse_as_wished(attempt, prompt, wishes)
        envelope = attempt.request.envelope
        machine = BlockMachine(
            envelope.model,
            family=FAMILY,
            stop_sequences=prompt.stop_sequences,
            whole=not envelope.stream,
            ids=self._ids,
        )
        machine.usage.input = estimate_tokens(envelope.body)
        words = speak(machine, prompt, model=envelope.model, words=wishes.words, max_tokens=envelope.max_tokens)
        if envelope.stream:
            headers = self._headers(attempt, b"text/event-stream; charset=utf-8")
            pace = self._pace if wishes.pace is None else wishes.pace
            return SandboxStream(
                self._clock,
                self._judge,
                attempt,
                headers,
                machine,
                words,
                wishes,
                pace=pace,
                idle=self._services.timeouts.idle,
            )
        for _ in words:
            pass
        whole = ParsedMessage(machine.message(), machine.usage, machine.stop_reason)
        return self._whole(self._headers(attempt, b"application/json"), whole)

    # -- refusals

    def _refuse_as_wished(self, attempt: Attempt, prompt: Prompt, wishes: Wishes) -> None:
        """Raise the failure that comes before any answer, if one is wished for."""
        status = wishes.status
        if wishes.fail_first:
            status = (status or 529) if self._fails_again(prompt.said, wishes.fail_first) else 0
        if status:
            raise self._refusal(attempt, status, retry_after=wishes.retry_after)
        body = _NO_ANSWER.get(wishes.fault)
        if not attempt.request.envelope.stream:
            match wishes.fault:
                case "error":
                    raise self._refusal(attempt, STATUS_OF_TYPE.get(wishes.error, 500), type=wishes.error)
                case "cut":
                    raise self._judge.failed(attempt, phase=AttemptPhase.ANSWER, failure=Failure.CUT)
                case "malformed":
                    body = b'{"type":"message","content":['
        if body is not None:
            raise self._judge.failed(
                attempt, phase=AttemptPhase.ANSWER, status=200, body=body, failure=Failure.NOT_CLAUDE
            )

    def _fails_again(self, said: str, times: int) -> bool:
        key = hashlib.blake2b(said.encode(), digest_size=16).digest()
        failed = self._failed.pop(key, 0)
        if failed >= times:
            return False
        self._failed[key] = failed + 1
        if len(self._failed) > REMEMBERED:
            self._failed.popitem(last=False)
        return True

    def _refusal(
        self,
        attempt: Attempt,
        status: int,
        message: str = "The sandbox refuses, as it was asked to",
        *,
        type: str | None = None,
        retry_after: float | None = None,
    ) -> AttemptFailed:
        """What a real upstream's error would have become."""
        headers = self._headers(attempt, b"application/json")
        if retry_after is not None:
            headers.append((b"retry-after", f"{retry_after:g}".encode()))
        body = ClaudeError(status, message, type=type).body(attempt.request.request_id)
        answer = ErrorResponse(status, headers, body, verbatim=True, message=message)
        return self._judge.failed(
            attempt, phase=AttemptPhase.ANSWER, status=status, headers=headers, body=body, answer=answer
        )

    @staticmethod
    def _headers(attempt: Attempt, content_type: bytes) -> list[tuple[bytes, bytes]]:
        """There is no upstream that would have an id of its own for the request."""
        return [(b"content-type", content_type), (b"request-id", attempt.request.request_id.encode())]

    def _whole(self, headers: list[tuple[bytes, bytes]], whole: ParsedMessage) -> BufferedResponse:
        return BufferedResponse(headers, whole, request_id=dict(headers)[b"request-id"].decode())
