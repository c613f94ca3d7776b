"""What AWS sends in the place of an event: exceptions that the API describes, and errors that it does not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.framing.event_stream import text_of
from claudeproxyd.messages.loose import read_object

if TYPE_CHECKING:
    from claudeproxyd.framing.event_stream import EventMessage

#: Of what is no JSON: bytes that are told all the same.
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
        said = {"message": text_of(headers, ":error-message") or payload[:_MAX_BYTES].decode("utf-8", "replace")}
    name = text_of(headers, ":exception-type") or text_of(headers, ":error-code")
    return {**said, "__type": name}
