"""The body of a stream whose content coding is undone on the way, a slice of time in each turn of the reactor."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from claudeproxyd.framing.coding import CodingError, StreamDecoder
from claudeproxyd.slices import SLICE
from claudeproxyd.sockets import NEXT_TURN
from claudeproxyd.upstream.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from claudeproxyd.upstream.client import Response

#: Bytes that are handed on at once.
MAX_PIECE_BYTES = 262_144


@implementer(IPushProducer)
class InflatedBody:
    """Stands between a response and who consumes its body, where that is compressed.

    One read of the socket may stand for gigabytes. As long as some of it is left, no more is read; and none of it is
    decoded before its turn.
    """

    __slots__ = (
        "_busy",
        "_clock",
        "_decoder",
        "_end",
        "_fail",
        "_held",
        "_paused",
        "_pieces",
        "_response",
        "_take",
        "_turn",
    )

    _log = Logger()

    def __init__(
        self,
        response: Response,
        coding: str,
        clock: IReactorTime,
        take: Callable[[bytes], None],
        fail: Callable[[CodingError | InternalError], None],
    ) -> None:
        """*take* is called with each piece; *fail* where there are no more, as the body is damaged.

        Raises :class:`~claudeproxyd.framing.coding.UnknownCoding`.
        """
        self._response = response
        self._decoder = StreamDecoder(coding, MAX_PIECE_BYTES)
        self._clock = clock
        self._take = take
        self._fail = fail
        self._pieces: Iterator[bytes] | None = None
        """What is left of what came."""
        self._end: Callable[[], None] | None = None
        self._busy = False
        self._paused = False
        """By the consumer."""
        self._held = False
        """The response is paused until all that came is handed on."""
        self._turn: IDelayedCall | None = None

    def data(self, chunk: bytes) -> None:
        """Take what one read of the socket brought."""
        pieces = self._decoder.pieces(chunk)
        self._pieces = pieces if self._pieces is None else chain(self._pieces, pieces)
        if self._turn is None and not self._paused:
            self._go_on()

    def end(self, end: Callable[[], None]) -> None:
        """Call *end* once all that came is handed on."""
        if self._pieces is None:
            end()
        else:
            self._end = end

    def pauseProducing(self) -> None:
        """Hand nothing on for now, and read nothing."""
        self._paused = True
        self._response.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        if self._pieces is None:
            self._response.resumeProducing()
            return
        self._held = True
        if self._turn is None and not self._busy:
            self._turn = self._clock.callLater(NEXT_TURN, self._go_on)

    def stopProducing(self) -> None:
        """Nobody wants the rest."""
        self._drop()
        self._response.stopProducing()

    def linger(self, seconds: float) -> None:
        """Drop what is left of what came; the connection may serve again, as :meth:`Response.linger` has it."""
        self._drop()
        self._response.linger(seconds)

    def _drop(self) -> None:
        self._pieces = self._end = None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _go_on(self) -> None:
        self._turn = None
        self._busy = True
        try:
            self._hand_on(self._clock.seconds() + SLICE)
        except CodingError as error:
            self._drop()
            self._fail(error)
        except Exception:
            self._log.failure("An upstream's answer could not be taken")
            self._drop()
            self._fail(InternalError("the answer could not be taken"))
        finally:
            self._busy = False
        if self._pieces is None:
            self._all_is_handed_on()
        elif not self._paused:
            if not self._held:
                self._held = True
                self._response.pauseProducing()
            self._turn = self._clock.callLater(NEXT_TURN, self._go_on)

    def _hand_on(self, until: float) -> None:
        while self._pieces is not None and not self._paused:
            piece = next(self._pieces, None)
            if piece is None:
                self._pieces = None
                return
            if piece:
                self._take(piece)
            if self._clock.seconds() >= until:
                return

    def _all_is_handed_on(self) -> None:
        end, self._end = self._end, None
        if self._held and not self._paused:
            self._response.resumeProducing()
        self._held = False
        if end is not None:
            end()
