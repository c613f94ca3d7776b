"""What of a message comes ahead of its first block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.messages.usage import Usage, usage_members

if TYPE_CHECKING:
    from collections.abc import Callable

    from claudeproxyd.messages.outputs import MessageOutput


class MessageHead:
    """Begins one message, once. Part of :class:`~claudeproxyd.messages.blocks.BlockMachine`."""

    __slots__ = ("_estimate", "_id", "_model", "_output", "_started", "usage")

    def __init__(self, output: MessageOutput, id: str, model: str, estimate: Callable[[], int] | None) -> None:
        """*estimate* gives the tokens of the input."""
        self.usage = Usage()
        self._output = output
        self._id = id
        self._model = model
        self._estimate = estimate
        self._started = False

    def start(self) -> None:
        """Begin the message, with the usage as far as it is known, unless that has been done."""
        if self._started:
            return
        self._started = True
        self.estimate_input()
        message: dict[str, object] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        self._output.start(message, usage_members(self.usage))

    def estimate_input(self) -> None:
        """Estimate the tokens of the input, unless the upstream has counted them."""
        if self.usage.input is None and self._estimate is not None:
            self.usage.input = self.usage.guessed_input = self._estimate()
