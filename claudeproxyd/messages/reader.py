"""The seam between an upstream's bytes and a Claude stream, whatever the upstream speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from claudeproxyd.messages.batch import Batch
    from claudeproxyd.messages.usage import Usage


class Damaged(Exception):
    """The upstream sent what is no answer: bytes that do not parse, an order that no message can have."""


class ModelFault(Exception):
    """The model, not its server, failed: a call that it malformed, say. Worth one repetition.

    ``str()`` of it is what the upstream called that, such as ``MALFORMED_FUNCTION_CALL``, and its own words.
    """


class StreamReader(Protocol):
    """Makes Claude frames of one streamed answer. Pure; made for each attempt, driven by its executor's answer."""

    @property
    def usage(self) -> Usage:
        """What is known so far; of a stream that was cut, with an estimate of what was delivered."""

    @property
    def stop_reason(self) -> str | None:
        """The Claude one, known at the end."""

    @property
    def oddity(self) -> str:
        """The first thing that was out of order though it passed; '' as a rule."""

    @property
    def request_id(self) -> str:
        """The upstream's own id, where it tells it in the body; '' until then."""

    @property
    def unfinished(self) -> int:
        """Bytes of a frame whose end has not come."""

    def feed(self, data: bytes) -> Batch:
        """What one read of the body comes to. Its ``ended``: the message is whole, and nothing after it matters.

        Its ``error``: the upstream reported one, in these bytes, after the frames of the batch; nothing after it
        matters. Raises :class:`Damaged`, :class:`ModelFault`, and :class:`~claudeproxyd.framing.sse.FrameTooLarge`.
        """

    def end(self) -> Batch:
        """The body is over. A batch that has not ``ended`` says that the answer was cut. Raises like :meth:`feed`."""
