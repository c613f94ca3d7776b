"""An output for tests that compare a message's stream with the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.outputs import FrameWriter, MessageCollector


class Both:
    """Writes the frames and keeps the message."""

    def __init__(self) -> None:
        self._writer = FrameWriter()
        self._collector = MessageCollector()

    def start(self, message: Mapping[str, Any], usage: Mapping[str, Any]) -> None:
        for output in (self._writer, self._collector):
            output.start(message, usage)

    def open(self, start: Mapping[str, Any]) -> None:
        for output in (self._writer, self._collector):
            output.open(start)

    def delta(self, kind: str, value: Any) -> None:
        for output in (self._writer, self._collector):
            output.delta(kind, value)

    def close(self) -> None:
        for output in (self._writer, self._collector):
            output.close()

    def ping(self) -> None:
        for output in (self._writer, self._collector):
            output.ping()

    def finish(self, delta: Mapping[str, Any], usage: Mapping[str, Any]) -> None:
        for output in (self._writer, self._collector):
            output.finish(delta, usage)

    def flush(self) -> Batch:
        batch = self._writer.flush()
        whole = self._collector.flush()
        assert (whole.frames, whole.count, whole.content) == (b"", 0, False)
        assert whole.ended or not batch.ended
        return batch

    def message(self) -> bytes:
        return self._collector.message()

    @property
    def written(self) -> int:
        assert self._writer.written == self._collector.written
        return self._writer.written
