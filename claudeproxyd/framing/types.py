"""What every framing is to those who read a body through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

Frame_co = TypeVar("Frame_co", covariant=True)


class Framing(Protocol[Frame_co]):
    """Makes whole frames of bytes that come in any pieces."""

    @property
    def unfinished(self) -> int:
        """Bytes of a frame whose end has not come."""

    def feed(self, data: bytes) -> Sequence[Frame_co]:
        """Return the frames that *data* completes.

        Raises what its module does, and :class:`~claudeproxyd.framing.sse.FrameTooLarge`.
        """

    def end(self) -> Sequence[Frame_co]:
        """Return what is left at the end of the body, if it may be a frame: half of one, too."""
