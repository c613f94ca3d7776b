"""W3C Trace Context: reads a client's ``traceparent`` and ``tracestate``, and writes those of an attempt. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from claudeproxyd.headers import Headers

TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"

#: Characters of a ``tracestate`` that are passed on; the recommendation asks for no fewer.
MAX_STATE_CHARACTERS = 512
#: Members of one, and characters of a member that is kept where not all have room.
MAX_STATE_MEMBERS = 32
MAX_MEMBER_CHARACTERS = 128

_SAMPLED = 1
#: Later versions may have more behind the flags, after another dash.
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_FIRST_VERSION, _NO_VERSION = b"00", b"ff"
_NO_TRACE, _NO_SPAN = b"0" * 32, b"0" * 16
_KEY = rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(_KEY + rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")


class TraceContext(NamedTuple):
    """Where in which trace a request stands."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 of them."""
    sampled: bool
    state: str = ""
    """What tracing systems on the way have noted, to be passed on."""


def read_context(headers: Headers) -> TraceContext | None:
    """Return what a client's headers say; None where they say nothing, or nothing valid."""
    parents = [value for name, value in headers if name == TRACEPARENT]
    if len(parents) != 1:
        return None
    found = _PARENT.fullmatch(parents[0].strip(b" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == _NO_VERSION or trace_id == _NO_TRACE or span_id == _NO_SPAN or (version == _FIRST_VERSION and more):
        return None
    state = _state(b",".join(value for name, value in headers if name == TRACESTATE))
    return TraceContext(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & _SAMPLED), state)


def header_lines(context: TraceContext) -> bytes:
    """Return the header lines that continue *context* at a server."""
    flags = "01" if context.sampled else "00"
    line = f"traceparent: 00-{context.trace_id}-{context.span_id}-{flags}\r\n"
    return (f"{line}tracestate: {context.state}\r\n" if context.state else line).encode()


def _state(value: bytes) -> str:
    """Return a ``tracestate`` as it is passed on; '' where a member of it is none: then all is thrown away."""
    members = [member for member in (part.strip(b" \t") for part in value.split(b",")) if member]
    keys = {member.partition(b"=")[0] for member in members}
    if len(members) > MAX_STATE_MEMBERS or len(keys) < len(members) or not all(map(_MEMBER.fullmatch, members)):
        return ""
    if sum(map(len, members)) + len(members) - 1 > MAX_STATE_CHARACTERS:
        members = [member for member in members if len(member) <= MAX_MEMBER_CHARACTERS]
    while sum(map(len, members)) + len(members) - 1 > MAX_STATE_CHARACTERS:
        members.pop()
    return b",".join(members).decode()
