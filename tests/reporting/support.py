"""What the tests of reporting share."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.defer import Deferred

from claudeproxyd.reporting.posting import NoReply, Reply


class Post:
    """Keeps what is posted, until the test answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Mapping[str, str], bytes]] = []
        self.waiting: list[Deferred[Reply]] = []

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Deferred[Reply]:
        self.sent.append((url, headers, body))
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def answer(self, status: int = 200, body: bytes = b"", retry_after: float | None = None) -> None:
        """To the oldest."""
        self.waiting.pop(0).callback(Reply(status, body, retry_after))

    def fail(self) -> None:
        """No answer comes."""
        self.waiting.pop(0).errback(NoReply("cannot be reached: refused"))
