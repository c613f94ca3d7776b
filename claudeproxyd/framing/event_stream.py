"""AWS's event streams (``application/vnd.amazon.eventstream``): bytes in any splits to whole messages.

A message has its own length, the length of its headers, a CRC of these two, the headers, a payload, and a CRC of all
that. The format is https://smithy.io/2.0/aws/amazon-eventstream.html.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from zlib import crc32

from claudeproxyd.framing.sse import FrameTooLarge

HeaderValue = bool | int | bytes | str
EventMessage = tuple[Mapping[str, HeaderValue], bytes]
"""The headers and the payload of one message."""

_PRELUDE = struct.Struct("!III")
_CRC = struct.Struct("!I")
_LENGTHS = _PRELUDE.size - _CRC.size
_AROUND = _PRELUDE.size + _CRC.size
_LONGEST_HEADERS = 131_072
#: Header blocks whose meaning is kept: those of a stream are the same few, over and over.
_MAX_KEPT = 16
_NUMBERS = {2: struct.Struct("!b"), 3: struct.Struct("!h"), 4: struct.Struct("!i"), 5: struct.Struct("!q")}
_NUMBERS[8] = _NUMBERS[5]  # a moment, in milliseconds since the epoch
_LENGTH = struct.Struct("!H")
_UUID_BYTES = 16

_NO_HEADERS: Mapping[str, HeaderValue] = {}

_read_prelude, _read_crc = _PRELUDE.unpack_from, _CRC.unpack_from


class DamagedMessage(Exception):
    """What came is no message: its lengths cannot be, a CRC is another, a header cannot be read."""


def text_of(headers: Mapping[str, HeaderValue], name: str) -> str:
    """Return the text of the header *name*; '' if there is none."""
    value = headers.get(name)
    return value if isinstance(value, str) else ""


class EventStreamSplitter:
    """Cuts one stream into messages. Pure; used by the executors whose upstream is an API of AWS."""

    __slots__ = ("_kept", "_limit", "_needed", "_rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        """Bytes that one message may have."""
        self._rest = bytearray()
        self._needed = 0
        """Bytes of ``_rest`` before which there is nothing to be read in it: a large message is read once."""
        self._kept: dict[bytes, Mapping[str, HeaderValue]] = {}

    def feed(self, data: bytes) -> list[EventMessage]:
        """Return the messages that *data* completes.

        Raises :class:`DamagedMessage` and :class:`~claudeproxyd.framing.sse.FrameTooLarge`; the stream is over then.
        """
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._needed:
                return []
            data = bytes(rest)
            rest.clear()
        messages: list[EventMessage] = []
        view, kept, limit = memoryview(data), self._kept, self._limit
        at, length = 0, len(data)
        known, read = b"", _NO_HEADERS  # those of the message before, which nearly all have in a stream
        self._needed = _PRELUDE.size
        while length - at >= _PRELUDE.size:
            total, headers, crc = _read_prelude(data, at)
            if total > length - at or total > limit or headers > total - _AROUND:
                self._check_lengths(data[at : at + _LENGTHS], total, headers, crc)
                self._needed = total
                break
            # Of a message that is here its own CRC is enough: the lengths are covered by it, and their CRC is.
            start, end = at + _PRELUDE.size, at + total - _CRC.size
            if crc32(view[at:end]) != _read_crc(data, end)[0]:
                raise DamagedMessage("the CRC of a message is another")
            block = data[start : start + headers]
            if block != known:
                known, read = block, kept.get(block) or self._read_headers(block)
            messages.append((read, data[start + headers : end]))
            at += total
        rest += data[at:]
        return messages

    def end(self) -> list[EventMessage]:
        """Return nothing: half of a message is none."""
        return []

    @property
    def unfinished(self) -> int:
        """Bytes of a message whose end has not come."""
        return len(self._rest)

    def _check_lengths(self, lengths: bytes, total: int, headers: int, crc: int) -> None:
        """Raise what is wrong with a message of which not all has come."""
        if crc32(lengths) != crc:
            raise DamagedMessage("the CRC of a message's lengths is another")
        if headers > total - _AROUND or headers > _LONGEST_HEADERS:
            raise DamagedMessage(f"a message of {total} bytes with {headers} bytes of headers")
        if total > self._limit:
            raise FrameTooLarge(f"an event of more than {self._limit} bytes")

    def _read_headers(self, block: bytes) -> Mapping[str, HeaderValue]:
        headers = _headers_in(block)
        if len(self._kept) < _MAX_KEPT:
            self._kept[block] = headers
        return headers


def _headers_in(block: bytes) -> Mapping[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(block):
            start = at + 1
            at = start + block[at]
            name = block[start:at].decode()
            if name in headers:
                raise DamagedMessage(f"the header {name!r} twice")
            headers[name], at = _read_value(block, at)
    except (IndexError, struct.error, UnicodeDecodeError):
        raise DamagedMessage("headers that cannot be read") from None
    if at != len(block):
        raise DamagedMessage("headers that are longer than they say")
    return headers


def _read_value(block: bytes, at: int) -> tuple[HeaderValue, int]:
    """Return the value whose type stands at *at*, and where it ends."""
    kind = block[at]
    at += 1
    if kind < 2:
        return kind == 0, at
    if number := _NUMBERS.get(kind):
        value: int = number.unpack_from(block, at)[0]
        return value, at + number.size
    if kind == 9:
        return block[at : at + _UUID_BYTES], at + _UUID_BYTES
    if kind not in (6, 7):
        raise DamagedMessage(f"a header of type {kind}")
    start = at + _LENGTH.size
    end = start + int(_LENGTH.unpack_from(block, at)[0])
    data = block[start:end]
    return (data.decode() if kind == 7 else data), end
