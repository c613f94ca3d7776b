"""What AWS sends in the place of an event: exceptions that the API describes, and errors that it does not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.messages.loose import read_object

if TYPE_CHECKING:
    from claudeproxyd.framing.event_stream import EventMessage

#: Of what is no JSON: bytes that are told all the same.
_MAX_BYTES = 1_000


def error_in(message: EventMessage) -> dict[str, object] | None:
    """Return the error that a message of an event stream is, as the object that it would be as an answer, with its name
    in ``__type``; None if it is none. It ends the stream.
    """
    if message.named(":message-type") not in ("exception", "error"):
        return None
    said = read_object(message.payload)
    if said is None:
        said = {"message": message.named(":error-message") or message.payload[:_MAX_BYTES].decode("utf-8", "replace")}
    name = message.named(":exception-type") or message.named(":error-code")
    return {**said, "__type": name}
