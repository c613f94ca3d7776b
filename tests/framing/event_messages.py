"""Messages of AWS's event streams, as a server writes them."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from zlib import crc32

from claudeproxyd.framing.event_stream import HeaderValue


def _header(name: str, value: HeaderValue) -> bytes:
    key = bytes([len(name.encode())]) + name.encode()
    if value is True:
        return key + b"\x00"
    if value is False:
        return key + b"\x01"
    if isinstance(value, int):
        for kind, form in ((2, "!b"), (3, "!h"), (4, "!i")):
            if -(1 << (8 * struct.calcsize(form) - 1)) <= value < 1 << (8 * struct.calcsize(form) - 1):
                return key + bytes([kind]) + struct.pack(form, value)
        return key + b"\x05" + struct.pack("!q", value)
    data = value if isinstance(value, bytes) else value.encode()
    return key + (b"\x06" if isinstance(value, bytes) else b"\x07") + struct.pack("!H", len(data)) + data


def message(headers: Mapping[str, HeaderValue], payload: bytes) -> bytes:
    """One message with both CRCs."""
    block = b"".join(_header(name, value) for name, value in headers.items())
    lengths = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    whole = lengths + struct.pack("!I", crc32(lengths)) + block + payload
    return whole + struct.pack("!I", crc32(whole))


def event(kind: str, members: Mapping[str, object]) -> bytes:
    """An event of that type, such as ``contentBlockDelta``, with a payload of JSON."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return message(headers, json.dumps(members).encode())


def chunk(inner: bytes, **members: object) -> bytes:
    """What InvokeModelWithResponseStream sends for *inner*, the JSON of an event of the model's own API."""
    return event("chunk", {"bytes": base64.b64encode(inner).decode(), **members})


def exception(kind: str, text: str) -> bytes:
    """An exception such as ``throttlingException``, at the end of a stream."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, json.dumps({"message": text}).encode())
