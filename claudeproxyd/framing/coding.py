"""Content codings, pure: gzip, deflate and zstd undone with a bound on what comes out.

Used by web for the bodies of requests and by executors for the answers of upstreams. A few bytes can stand for
gigabytes, so nothing here makes more than its caller allowed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import zstandard

from claudeproxyd.steps import Steps, at_once

_GZIP = 31
_ZLIB = 15
_RAW = -15
#: RFC 9659: what a zstd frame may ask for as its window, where it comes over HTTP.
_MAX_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
#: The least input that a zstd block needs, and the most that comes of one: how a bomb's size is foretold.
_MIN_ZSTD_BLOCK_BYTES = 4
_MAX_ZSTD_BLOCK_BYTES = 128 * 1024
#: Blocks may also hold nothing, by the million. So they are not taken one by one when the room gets short: a quarter
#: more than the limit may come out before it is seen.
_ZSTD_OVERSHOOT_DIVISOR = 4
#: The same, of one step of a stream: fewer at once would take long where nothing is hidden.
_LEAST_ZSTD_PIECE_BYTES = 16 * _MAX_ZSTD_BLOCK_BYTES
#: zlib copies what follows a member's end, so it is fed no more than this at once …
_PIECE_BYTES = 65_536
#: … and a body that is nothing but empty members would cost time without bound.
_MAX_MEMBERS = 1024
#: No honest sender applies more codings to one body.
_MAX_CODINGS = 3
#: What a whole body may come to, times its size as it came; text that people and programs write shrinks to a tenth …
_MAX_RATIO = 100
#: … and up to so many bytes nothing is asked of it.
_FREE_OF_RATIO_BYTES = 4 * 1024 * 1024


class CodingError(ValueError):
    """The bytes are not what their coding says: damaged, truncated, or followed by something else."""


class CodingTooLarge(CodingError):
    """More would come out than the caller allowed."""


class UnknownCoding(CodingError):
    """A coding that we cannot undo, or too many of them."""


def sniff(data: bytes) -> str:
    """Return the coding that *data* shows by its first bytes: gzip, zstd or ''."""
    if data.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    return "zstd" if data.startswith(b"\x28\xb5\x2f\xfd") else ""


def decode_whole(data: bytes, encoding: str, limit: int) -> bytes:
    """Return *data* without the codings that *encoding*, a ``Content-Encoding`` value, lists; at most *limit* bytes.

    Raises :class:`CodingError` or one of its kinds.
    """
    return at_once(decoding(data, encoding, limit))


def decoding(data: bytes, encoding: str, limit: int) -> Steps[bytes]:
    """:func:`decode_whole` in steps, of some 10 ms at the most."""
    decoder = BodyDecoder(encoding, limit)
    decoded: list[bytes] = []
    for start in range(0, len(data), _PIECE_BYTES):
        decoded.append(decoder.feed(data[start : start + _PIECE_BYTES]))
        yield
    decoder.finish()
    return b"".join(decoded)


class _Decoder:
    """The codings of a body that comes piece by piece."""

    def __init__(self, encoding: str, limit: int) -> None:
        """Raises :class:`UnknownCoding`."""
        names = [name for part in encoding.lower().split(",") if (name := part.strip()) not in ("", "identity")]
        if len(names) > _MAX_CODINGS:
            raise UnknownCoding(f"more than {_MAX_CODINGS} content codings")
        self._limit = limit
        self._stages = [_stage(name, limit) for name in reversed(names)]

    def finish(self) -> None:
        """No more input comes. Raises :class:`CodingError` if some is missing."""
        if not all(stage.complete for stage in self._stages):
            raise CodingError("the compressed body is truncated")


class StreamDecoder(_Decoder):
    """Undoes the codings of a body that is handed on as it comes, however large it is."""

    def __init__(self, encoding: str, limit_per_piece: int) -> None:
        """*limit_per_piece* bounds what one step of :meth:`pieces` may bring. Raises :class:`UnknownCoding`."""
        super().__init__(encoding, limit_per_piece)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what *data* adds to the decoded body, in steps of a few milliseconds: some may bring nothing.

        Is to be read to its end before the next. Raises :class:`CodingError`.
        """
        for piece in _through(self._stages, data, self._limit):
            if len(piece) <= self._limit:
                yield piece
            else:
                yield from (piece[start : start + self._limit] for start in range(0, len(piece), self._limit))


def _through(stages: Sequence[_Stage], data: bytes, size: int) -> Iterator[bytes]:
    if not data or not stages:
        yield data
        return
    for piece in stages[0].pieces(data, size):
        yield from _through(stages[1:], piece, size)


class BodyDecoder(_Decoder):
    """Undoes the codings of a body whose pieces are kept, with bounds on its size and on its ratio to the input."""

    def __init__(self, encoding: str, limit: int) -> None:
        """*limit* bounds the whole body. Raises :class:`UnknownCoding`."""
        super().__init__(encoding, limit)
        self._fed = self._made = 0

    def feed(self, data: bytes) -> bytes:
        """Return what *data* adds to the decoded body. Raises :class:`CodingError` or :class:`CodingTooLarge`."""
        self._fed += len(data)
        in_proportion = max(_FREE_OF_RATIO_BYTES, _MAX_RATIO * self._fed) if self._stages else self._limit
        try:
            data = self._step(data, min(self._limit, in_proportion) - self._made)
        except CodingTooLarge:
            if in_proportion >= self._limit:
                raise _too_large(self._limit) from None
            raise CodingTooLarge(
                f"the body is more than {_MAX_RATIO} times as large when it is decompressed: send it without a coding"
            ) from None
        self._made += len(data)
        return data

    def _step(self, data: bytes, room: int) -> bytes:
        for stage in self._stages:
            data = stage.feed(data, room)
        if len(data) > room:
            raise _too_large(room)
        return data


class _Stage(Protocol):
    """One coding."""

    @property
    def complete(self) -> bool:
        """The input so far ends where a body may end."""

    def feed(self, data: bytes, limit: int) -> bytes:
        """Decode; at most *limit* bytes."""

    def pieces(self, data: bytes, size: int) -> Iterator[bytes]:
        """Decode in steps, each of which makes some *size* bytes at the most."""


def _stage(name: str, limit: int) -> _Stage:
    if name in ("gzip", "x-gzip"):
        return _Zlib(_GZIP)
    if name == "deflate":
        return _Deflate()
    if name == "zstd":
        return _Zstd(limit)
    raise UnknownCoding("a content coding that is not gzip, deflate or zstd")


def _too_large(limit: int) -> CodingTooLarge:
    return CodingTooLarge(f"the body is larger than {limit} bytes when it is decompressed")


class _Zlib:
    """gzip, of one or more members, or one deflate stream."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inner = zlib.decompressobj(wbits)
        self._members = 1

    @property
    def complete(self) -> bool:
        return self._inner.eof

    def feed(self, data: bytes, limit: int) -> bytes:
        decoded: list[bytes] = []
        room = limit
        for start in range(0, len(data), _PIECE_BYTES):
            rest = data[start : start + _PIECE_BYTES]
            while rest:
                if self._inner.eof:
                    self._next_member()
                try:
                    piece = self._inner.decompress(rest, room + 1)
                except zlib.error as error:
                    raise CodingError("the compressed body is damaged") from error
                room -= len(piece)
                if room < 0:
                    raise _too_large(limit)
                decoded.append(piece)
                rest = self._inner.unused_data
        return b"".join(decoded)

    def pieces(self, data: bytes, size: int) -> Iterator[bytes]:
        for start in range(0, len(data), _PIECE_BYTES):
            rest, full = data[start : start + _PIECE_BYTES], False
            while rest or full:
                if self._inner.eof:
                    self._next_member()
                try:
                    piece = self._inner.decompress(rest, size)
                except zlib.error as error:
                    raise CodingError("the compressed body is damaged") from error
                yield piece
                rest = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
                full = len(piece) == size and not self._inner.eof

    def _next_member(self) -> None:
        self._members += 1
        if self._wbits != _GZIP or self._members > _MAX_MEMBERS:
            raise CodingError("something follows the end of the compressed body")
        self._inner = zlib.decompressobj(self._wbits)


class _Deflate:
    """deflate: a zlib stream as it should be, or a bare one as many send it; the first two bytes tell."""

    def __init__(self) -> None:
        self._start = b""
        self._inner: _Zlib | None = None

    @property
    def complete(self) -> bool:
        return self._inner is not None and self._inner.complete

    def feed(self, data: bytes, limit: int) -> bytes:
        data, inner = self._begun(data)
        return inner.feed(data, limit) if inner is not None else b""

    def pieces(self, data: bytes, size: int) -> Iterator[bytes]:
        data, inner = self._begun(data)
        if inner is not None:
            yield from inner.pieces(data, size)

    def _begun(self, data: bytes) -> tuple[bytes, _Zlib | None]:
        """Return what is to be decoded and what does it, once that is known."""
        if self._inner is None:
            data = self._start = self._start + data
            if len(data) >= 2:
                wrapped = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
                self._inner = _Zlib(_ZLIB if wrapped else _RAW)
                self._start = b""
        return data, self._inner


class _Zstd:
    """zstd, of one or more frames."""

    def __init__(self, limit: int) -> None:
        self._least_room = limit // _ZSTD_OVERSHOOT_DIVISOR
        self._context = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW_BYTES)
        self._inner = self._context.decompressobj()
        self._frames = 1

    @property
    def complete(self) -> bool:
        return self._inner.eof

    def feed(self, data: bytes, limit: int) -> bytes:
        decoded: list[bytes] = []
        room = limit
        at = 0
        while at < len(data):
            piece, taken = self._decompress(data, at, max(room, self._least_room))
            at += taken
            room -= len(piece)
            if room < 0:
                raise _too_large(limit)
            decoded.append(piece)
        return b"".join(decoded)

    def pieces(self, data: bytes, size: int) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            piece, taken = self._decompress(data, at, max(size, _LEAST_ZSTD_PIECE_BYTES))
            at += taken
            yield piece

    def _decompress(self, data: bytes, at: int, size: int) -> tuple[bytes, int]:
        """Return some of what *data* holds from *at* on, and how much of it that was.

        The library has no bound on what it makes of its input, so it gets no more than fits.
        """
        if self._inner.eof:
            self._next_frame()
        step = data[at : at + (size // _MAX_ZSTD_BLOCK_BYTES or 1) * _MIN_ZSTD_BLOCK_BYTES]
        try:
            piece = self._inner.decompress(step)
        except zstandard.ZstdError as error:
            raise CodingError("the compressed body is damaged") from error
        return piece, len(step) - len(self._inner.unused_data)

    def _next_frame(self) -> None:
        self._frames += 1
        if self._frames > _MAX_MEMBERS:
            raise CodingError("the compressed body has too many frames")
        self._inner = self._context.decompressobj()
