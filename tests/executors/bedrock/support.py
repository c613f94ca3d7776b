"""What the tests of Bedrock share: an executor on an upstream in memory, whichever region is asked."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from claudeproxyd.config.schema import Aws, CredentialSection, Provider, Timeouts
from claudeproxyd.config.secret import Secret
from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.bedrock.maker import BedrockMaker
from claudeproxyd.executors.bedrock.settings import BedrockCredential, BedrockSettings
from claudeproxyd.executors.services import Services
from claudeproxyd.executors.turns import Turns
from claudeproxyd.leases import Credential as Leased
from claudeproxyd.leases import Route
from claudeproxyd.outcomes.types import AttemptFailed
from claudeproxyd.secrets.sources import static_members
from claudeproxyd.secrets.static import StaticSecret
from claudeproxyd.testing import EPOCH, EventRecorder, FakeAccount, MemoryConnection, MemoryUpstream, chunk
from claudeproxyd.translate.signatures import Signatures
from tests.dispatch.fakes import House
from tests.executors.support import ExecutorTestCase

BASE = "http://127.0.0.1:8080/base"
OPUS = "us.anthropic.claude-opus-4-8"
BODY = b'{"model": "claude-opus-4-8","max_tokens": 9,"messages":[ {"role":"user","content":"hi"}]}'
STREAMED = "content-type: application/vnd.amazon.eventstream"
KEYS = Aws(access_key_id=Secret("AKIDEXAMPLE"), secret_access_key=Secret("wJalrXUtnFEMI"))


def credential(name: str = "a", **members: Any) -> CredentialSection:
    """A credential with these settings, the kind's own among them; a key pair in us-east-1 by itself."""
    own = {each: members.pop(each) for each in ("region", "inference_profile") if each in members}
    if not members.keys() & {"aws", "bearer_token", "api_key"}:
        members["aws"] = KEYS
    return CredentialSection(name=name, own=BedrockCredential(**{"region": "us-east-1", **own}), **members)


def section(*credentials: CredentialSection, base_url: str = BASE, **members: Any) -> Provider:
    """A provider's settings."""
    own = {each.name: members.pop(each.name) for each in fields(BedrockSettings) if each.name in members}
    return Provider(
        name="b",
        kind="bedrock",
        base_url=base_url,
        credentials=[*credentials] or [credential()],
        own=BedrockSettings(**own),
        **members,
    )


class BedrockTestCase(ExecutorTestCase):
    """An executor, its upstream, and requests."""

    maker = BedrockMaker()

    def make(self, *credentials: CredentialSection, base_url: str = BASE, **members: Any) -> None:
        """The executor of such a provider."""
        self.net = MemoryUpstream()
        self.hosts: list[str] = []

        def origin(asked: str) -> Any:
            self.hosts.append(asked)
            return self.net.origin

        provider = section(*credentials, base_url=base_url, **members)
        self.sources = {each.name: StaticSecret(static_members(each)) for each in provider.credentials}
        self.executor = self.maker.make(
            provider,
            Services(
                buffers=FakeAccount([]),
                clock=self.net.reactor,
                turns=Turns(self.net.reactor),
                origin=origin,
                timeouts=Timeouts(),
                max_event_bytes=100_000,
                now=lambda: EPOCH,
                signatures=Signatures(lambda: EPOCH),
            ),
        )

    def attempt(self, model: str = OPUS, credential: str = "a", **call: Any) -> Attempt:
        """One attempt of a model with that credential, of a request that was found fit for it."""
        source = self.sources[credential]
        made = House().request(**{"body": BODY, **call})
        route = Route("b", model)
        try:
            prepared = self.executor.prepare(made, route)
        except Unsupported:
            prepared = None
        return Attempt(made, Leased("b", credential, source), source.present(), route, 1, prepared=prepared)

    def up(self, count_tokens: bool = False, **attempt: Any) -> tuple[str, dict[str, str], bytes]:
        """What goes up: the target, the headers, the body."""
        _, _, head, body = self.send(self.attempt(count_tokens=count_tokens, **attempt), count_tokens)
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        self.assertEqual(len(headers), len(lines), "a header was sent twice")
        return first.split(" ")[1], headers, body

    def streaming(self, *reads: bytes, end: bool = False, **attempt: Any) -> tuple[Any, EventRecorder]:
        """A stream that came in these reads."""
        body = BODY.replace(b"{", b'{"stream":true,', 1)
        sent, wire, _, _ = self.send(self.attempt(**{"body": body, **attempt}))
        wire.begin_stream(STREAMED)
        answer = self.result(sent)
        events = EventRecorder()
        answer.deliver(events)
        for read in reads:
            wire.say(chunk(read))
        if end:
            wire.say(chunk(b""))
        return answer, events

    def broken(self, *reads: bytes, **attempt: Any) -> AttemptFailed:
        """How a stream fails that came in these reads and ended there."""
        _, events = self.streaming(*reads, end=True, **attempt)
        assert isinstance(events.failure, AttemptFailed), events.failure
        return events.failure


__all__ = ["BASE", "BODY", "KEYS", "OPUS", "STREAMED", "BedrockTestCase", "MemoryConnection", "credential", "section"]
