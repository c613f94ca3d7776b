"""What the tests of Bedrock share: an executor on an upstream in memory, whichever region is asked."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from claudeproxyd.config.schema import Aws, CredentialSection, Provider
from claudeproxyd.config.secret import Secret
from claudeproxyd.executors.bedrock.maker import BedrockMaker
from claudeproxyd.executors.bedrock.settings import BedrockCredential, BedrockSettings
from claudeproxyd.outcomes.types import AttemptFailed
from claudeproxyd.testing import EventRecorder, MemoryConnection, chunk
from tests.executors.support import PlacedTestCase

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


class BedrockTestCase(PlacedTestCase):
    """An executor, its upstream, and requests."""

    maker = BedrockMaker()
    section = staticmethod(section)
    model = OPUS
    body = BODY

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
