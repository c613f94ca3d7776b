"""An upstream in memory that is asked directly, and who takes its bodies."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.interfaces import IBodyConsumer
from claudeproxyd.testing import MemoryConnection, MemoryUpstream


class FullConnection(MemoryConnection):
    """One whose buffer is full after every write."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            self.producer.pauseProducing()


class Net(MemoryUpstream):
    """One that is asked without an executor."""

    def ask(self, method: bytes = b"POST", body: bytes = b"{}", **options: Any) -> Any:
        """Send a request."""
        options = {"first_byte": 120.0, "idle": 300.0, **options}
        return self.origin.request(method, b"/v1/messages", b"x: y\r\n", body, **options)


@implementer(IBodyConsumer)
class Sink:
    """Notes what it is given."""

    def __init__(self, producer: IPushProducer | None = None) -> None:
        self.producer = producer
        self.reads: list[bytes] = []
        self.end: Any = None

    @property
    def body(self) -> bytes:
        return b"".join(self.reads)

    def data(self, chunk: bytes) -> None:
        assert self.end is None
        assert chunk
        self.reads.append(chunk)

    def ended(self) -> None:
        assert self.end is None
        self.end = "whole"

    def broken(self, reason: Exception) -> None:
        assert self.end is None
        self.end = reason


verifyClass(IBodyConsumer, Sink)
