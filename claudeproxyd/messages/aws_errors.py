"""What AWS sends in the place of an event: exceptions that the API describes, and errors that it does not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.framing.event_stream import text_of
from claudeproxyd.messages.loose import read_object

if TYPE_CHECKING:
    from claudeproxyd.framing.event_stream import EventMessage

#: What is no JSON is told if it has no more bytes: of a part nobody would know whether it ends within a secret.
_MAX_BYTES = 1_000


def error_in(message: EventMessage) -> dict[str, object] | None:
    """Return the error that a message of an event stream is, as the object that it would be as an answer, with its name
    in ``__type``; None if it is none. It ends the stream.
    """
    headers, payload = message
    if text_of(headers, ":message-type") not in ("exception", "error"):
        return None
    said = read_object(payload)
    if said is None:
        told = payload.decode("utf-8", "replace") if len(payload) <= _MAX_BYTES else f"{len(payload)} bytes"
        said = {"message": text_of(headers, ":error-message") or told}
    name = text_of(headers, ":exception-type") or text_of(headers, ":error-code")
    return {**said, "__type": name}
