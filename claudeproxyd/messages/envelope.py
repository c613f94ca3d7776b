"""What the daemon reads of a request's body: a few members, by partial decoding. The rest stays the client's bytes."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from claudeproxyd.errors import ClaudeError
from claudeproxyd.messages.loose import without_halves
from claudeproxyd.messages.members import between, key_span, outside, span

#: ``"model"`` with at least one letter written as an escape: a legal key, and one that a search for ``"model"`` misses.
_ESCAPED_MODEL = re.compile(
    rb'"(?!model")(?:m|\\u006[dD])(?:o|\\u006[fF])(?:d|\\u0064)(?:e|\\u0065)(?:l|\\u006[cC])"', re.ASCII
)


#: Characters of a model's name, as the API has it. Names are remembered by the thousand, and are metrics' labels.
MAX_MODEL_CHARS = 256
#: Of a larger body it is worth while to leave out what was read, before its keys are searched for.
_SMALL_BYTES = 2048
#: Beyond this a body could hold so many members, or messages, that looking at each would hold up everybody else.
_LARGE_BYTES = 65_536
_MAX_MEMBERS = 10_000
#: The API's own limit.
_MAX_MESSAGES = 100_000
#: Lists within lists are what takes longest to pass over; ten megabytes of honest text have fewer brackets.
_MAX_LISTS = 1_000_000


class _Members(msgspec.Struct):
    """The members that are read of every body."""

    model: msgspec.Raw
    messages: msgspec.Raw
    stream: bool = False
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] | msgspec.UnsetType = msgspec.UNSET
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    system: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    tools: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _ModelAlone(msgspec.Struct):
    """Only where the model stands."""

    model: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_members = msgspec.json.Decoder(_Members).decode
_decode_model = msgspec.json.Decoder(_ModelAlone).decode
_decode_name = msgspec.json.Decoder(str).decode


_FORGOTTEN = _Members(model=msgspec.Raw(b'""'), messages=msgspec.Raw(b"[]"))


class Envelope:
    """One request's body, and what was read of it. Made by :func:`read_envelope`, never changed in place."""

    __slots__ = ("_members", "_read", "body", "max_tokens", "model", "stream")

    def __init__(self, body: bytes, model: str, members: _Members, read: bytes) -> None:
        """*members* are of *read*, which has its members where *body* has them."""
        self._read = read
        self.body = body
        """The client's own bytes, after content-encoding is undone."""
        self.model = model
        """The name that the client asks for."""
        self.stream = members.stream
        self.max_tokens = None if members.max_tokens is msgspec.UNSET else members.max_tokens
        """None for count_tokens, which does not need it."""
        self._members = members

    def forget(self) -> None:
        """Let go of the body: nobody will send it again, and a stream may last for an hour. What was read stays."""
        self.body = self._read = b""
        self._members = _FORGOTTEN

    @property
    def metadata(self) -> bytes:
        """The JSON of ``metadata``, or b''."""
        raw = self._members.metadata
        return b"" if raw is msgspec.UNSET else bytes(raw)

    @property
    def system(self) -> bytes:
        """The JSON of ``system``, or b''."""
        raw = self._members.system
        return b"" if raw is msgspec.UNSET else bytes(raw)

    @property
    def messages(self) -> bytes:
        """The JSON of ``messages``: a list."""
        return bytes(self._members.messages)

    def with_model(self, model: str) -> bytes:
        """Return the body with another model name; every other byte stays where it was."""
        if model == self.model:
            return self.body
        start, end = span(self._members.model, self._read)
        return b"".join((self.body[:start], msgspec.json.encode(model), self.body[end:]))


def read_envelope(body: bytes, *, count_tokens: bool = False) -> Envelope:
    """Read a ``/v1/messages`` or count_tokens body.

    Raises :class:`~claudeproxyd.errors.ClaudeError` (400) that names the member which is wrong. Called by web.
    """
    if len(body) > _MAX_LISTS and body.count(b"[") > _MAX_LISTS:
        raise ClaudeError(400, f"The request body has more than {_MAX_LISTS:,} lists")
    read = body
    try:
        try:
            members = _decode_members(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            # Half a surrogate pair, it may be: that is for the upstream to refuse, or to take.
            read = without_halves(body)
            if read is body:
                raise
            members = _decode_members(read)
        model = _decode_name(members.model)
    except msgspec.ValidationError as e:
        raise ClaudeError(400, _complaint(str(e))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ClaudeError(400, f"The request body is not valid JSON: {e}") from None
    except RecursionError:
        raise ClaudeError(400, "The request body is nested too deeply") from None
    if not model:
        raise ClaudeError(400, "model: String should have at least 1 character")
    if len(model) > MAX_MODEL_CHARS:
        raise ClaudeError(400, f"model: String should have at most {MAX_MODEL_CHARS} characters")
    if bytes(memoryview(members.messages)[:1]) != b"[":
        raise ClaudeError(400, "messages: Input should be a valid list")
    if len(body) > _LARGE_BYTES:
        _bound_parts(members, read)
    if members.max_tokens is msgspec.UNSET and not count_tokens:
        raise ClaudeError(400, "max_tokens: Field required")
    keys = read if len(body) <= _SMALL_BYTES else outside(_large(members), read)
    if keys.count(b'"model"') != 1 or (b"\\u00" in keys and _ESCAPED_MODEL.search(keys)):
        _refuse_second_model(members.model, read)
    return Envelope(body, model, members, read)


def _large(members: _Members) -> list[msgspec.Raw]:
    """Return the members that a body is large by."""
    return [raw for raw in (members.messages, members.system, members.tools) if raw is not msgspec.UNSET]


def _bound_parts(members: _Members, body: bytes) -> None:
    """Refuse what has far too many members or messages. They are counted by what each must have: a key and a colon, a
    role (which may be hidden by an escape: such messages are refused by the API). Nobody counts on beyond the limit."""
    colons = quotes = 0
    for start, end in between(_large(members), body):
        for at in range(start, end, _LARGE_BYTES):
            piece = at, min(at + _LARGE_BYTES, end)
            colons += body.count(b":", *piece)
            quotes += body.count(b'"', *piece)
            if min(colons, quotes // 2) > _MAX_MEMBERS:
                raise ClaudeError(400, f"The request body has more than {_MAX_MEMBERS:,} members beside its messages")
    if body.count(b'"role"') > _MAX_MESSAGES:
        raise ClaudeError(400, f"messages: there is a limit of {_MAX_MESSAGES:,} messages")


def _complaint(message: str) -> str:
    """Return msgspec's words, with the member in front as the API has it: ``stream: Expected `bool`, got `str```."""
    what, _, place = message.partition(" - at `$.")
    if place:
        return f"{place.rstrip('`')}: {what}"
    missing = re.search(r"missing required field `(\w+)`", message)
    if missing:
        return f"{missing[1]}: Field required"
    if message.startswith("Expected `str`"):
        return f"model: {message}"
    return f"The request body must be a JSON object: {message}"


def _refuse_second_model(model: msgspec.Raw, body: bytes) -> None:
    """Look again with the key that was found renamed: if there is a ``model`` still, the body has two."""
    key_start, key_end = key_span(body, span(model, body)[0])
    renamed = b"".join((body[:key_start], b'"', b"-" * (key_end - key_start - 2), b'"', body[key_end:]))
    if _decode_model(renamed).model is not msgspec.UNSET:
        raise ClaudeError(400, "model: given twice")
