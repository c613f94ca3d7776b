"""``contents``: the turns of a conversation, each part in Google's words.

On signatures, from Google's page on them: a ``thoughtSignature`` goes back in the part that it came with. A call's was
remembered by the call's id, and stands besides in the thinking block right before it (what is remembered is preferred:
of a call that was signed late that block has a thought's own); a text's was remembered by the text and by what had been
said before it. Gemini 3 refuses a present turn in which a step's first call has none; for a call that another model
made Google gives :data:`UNSIGNED`.
"""

from __future__ import annotations

import base64
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from claudeproxyd.errors import Unsupported, shown
from claudeproxyd.messages.url_sources import GOOGLE_DOMAINS, objection, refusal
from claudeproxyd.steps import STEP
from claudeproxyd.translate.conversation import Media, ProviderBlock, Text, Thought, ToolResult, ToolUse
from claudeproxyd.translate.field_policy import not_carried
from claudeproxyd.translate.gemini.searches import read_record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.conversation import Part, Turn
    from claudeproxyd.translate.gemini.models import ModelCapabilities
    from claudeproxyd.translate.names import ToolNames
    from claudeproxyd.translate.signatures import ConversationDigest, Signatures

#: What stands for the signature of a call that has none. Models think worse for it: only where they insist.
UNSIGNED = "skip_thought_signature_validator"

_A = {"image": "an image", "document": "a document"}
_TYPES = {
    "image": ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"),
    "document": ("application/pdf",),
}
#: What the Developer API fetches; Vertex AI takes all of the above.
_FETCHED = ("application/pdf", "image/png", "image/jpeg", "image/webp")
#: The Claude API's documents by URL are PDFs; an image's type only its URL can tell.
_IMAGE_ENDINGS = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
}


class ContentWriter:
    """Writes the contents of one request. Raises :class:`Unsupported` for media that Google does not take."""

    def __init__(
        self,
        capabilities: ModelCapabilities,
        on_vertex: bool,
        names: ToolNames,
        signatures: Signatures,
        *,
        circulates: bool = False,
        places: Collection[str] = (),
    ) -> None:
        """*circulates*: the request says that Google's records of its own searches are told and taken back. *places*:
        buckets and hosts that Google may be sent to, beside public ones."""
        self._capabilities = capabilities
        self._on_vertex = on_vertex
        self._circulates = circulates
        self._recorded = False
        """The last search has gone up in Google's words, and its results with it."""
        self._places = places
        self._names = names
        self._lookup = signatures.lookup

    def write(self, turns: Sequence[Turn], digest: ConversationDigest) -> Steps[list[dict[str, Any]]]:
        """Return one content a turn; the neighbours of one of which nothing is left are joined. *digest* is updated
        with each.

        Results are a content of their own: Gemini 3.6 Flash and later refuse, on Vertex AI, one with anything beside
        or behind them, and a model's name does not always tell its version.
        """
        contents: list[dict[str, object]] = []
        present = _present_turn(turns)
        for number, turn in enumerate(turns):
            if turn.role == "user":
                results, parts = self._said_by_user(turn.parts)
                if results:
                    contents.append({"role": "user", "parts": results})
                _add(contents, "user", parts)
            else:
                must_sign = self._capabilities.signed_calls and number > present
                parts = []
                for part in self._said_by_model(turn.parts, must_sign, digest):
                    parts.append(part)
                    if not len(parts) % STEP:
                        yield
                _add(contents, "model", parts)
            yield
            digest.update(turn)
        return contents

    def _said_by_user(self, parts: Sequence[Part]) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """Return the results, and everything else; first of that what could not be within them."""
        said: list[dict[str, object]] = []
        results = [self._result(part, said) for part in parts if isinstance(part, ToolResult)]
        for part in parts[len(results) :]:
            if isinstance(part, Text):
                said.append({"text": part.text})
            elif isinstance(part, Media):
                said += self._titled(part)
        return results, said

    def _said_by_model(
        self, parts: Sequence[Part], must_sign: bool, digest: ConversationDigest
    ) -> Iterator[dict[str, object]]:
        """Yield the parts of a turn.

        *must_sign*: the first call has to have a signature. *digest*: of what was said before it.
        """
        carried = ""
        for part, after in zip_longest(parts, parts[1:]):
            if isinstance(part, ToolUse):
                call = {"id": part.id, "name": self._names.upstream(part.name), "args": part.input}
                signature = self._lookup(part.id) or carried or (UNSIGNED if must_sign else "")
                carried, must_sign = "", False
                yield _signed({"functionCall": call}, signature)
            elif isinstance(part, ProviderBlock) and (record := self._record(part)) is not None:
                yield from record
            elif isinstance(part, Text):
                yield _signed({"text": part.text}, self._lookup(digest.key(part.text)))
            elif isinstance(part, Thought):
                signature = base64.b64encode(part.payload).decode()
                if isinstance(after, ToolUse):
                    carried, signature = signature, ""
                if self._capabilities.thinking and (part.thinking or signature):
                    yield _signed({"text": part.thinking, "thought": True}, signature)
            elif isinstance(part, Media):
                yield from self._titled(part)

    def _record(self, search: ProviderBlock) -> list[dict[str, Any]] | None:
        """Return Google's own parts of a search; None if it goes up as text."""
        if not search.payload:
            return [] if self._recorded else None
        record = read_record(search.payload) if self._circulates else None
        self._recorded = record is not None
        return record

    def _result(self, result: ToolResult, beside: list[dict[str, object]]) -> dict[str, object]:
        """Return a functionResponse. *beside* gets the media that cannot be within."""
        said: list[str] = []
        media: list[dict[str, object]] = []
        for part in result.content:
            if isinstance(part, Text):
                said.append(part.text)
            else:
                if part.title:
                    said.append(_title(part))
                (media if self._fits_in_result(part) else beside).append(self._media(part))
        response: dict[str, object] = {
            "id": result.id,
            "name": self._names.upstream(result.name),
            "response": {"error" if result.is_error else "output": "\n".join(said)},
        }
        if media:
            response["parts"] = media
        return {"functionResponse": response}

    def _fits_in_result(self, media: Media) -> bool:
        """Whether media can be within a result; on the Developer API only data can."""
        return self._capabilities.media_in_results and (self._on_vertex or not media.url)

    def _titled(self, media: Media) -> Iterator[dict[str, object]]:
        if media.title:
            yield {"text": _title(media)}
        yield self._media(media)

    def _media(self, media: Media) -> dict[str, object]:
        if media.url:
            if not (self._on_vertex or self._capabilities.fetches):
                raise Unsupported(not_carried("messages", f"{_A[media.kind]} by url"))
            if (why := objection(media.url, self._places, withheld=GOOGLE_DOMAINS)) is not None:
                raise Unsupported(refusal(why))
            return {"fileData": {"mimeType": self._type_of_url(media), "fileUri": media.url}}
        if media.media_type not in _TYPES[media.kind]:
            raise Unsupported(not_carried("messages", f"{_A[media.kind]} of type {shown(media.media_type, 100)}"))
        return {"inlineData": {"mimeType": media.media_type, "data": media.data}}

    def _type_of_url(self, media: Media) -> str:
        """Return the type of what Google is to fetch. Raises :class:`Unsupported` where it would not."""
        media_type = _type_of_url(media)
        if not (self._on_vertex or media_type in _FETCHED):
            raise Unsupported(not_carried("messages", f"{_A[media.kind]} of type {media_type} by url"))
        return media_type


def _add(contents: list[dict[str, Any]], role: str, parts: list[dict[str, object]]) -> None:
    last = contents[-1] if contents else {}
    if last.get("role") == role and "functionResponse" not in last["parts"][0]:
        last["parts"] += parts
    elif parts:
        contents.append({"role": role, "parts": parts})


def _present_turn(turns: Sequence[Turn]) -> int:
    """Return the number of the last turn in which the user spoke, and not only their tools did."""
    for number in range(len(turns) - 1, -1, -1):
        if turns[number].role == "user" and not isinstance(turns[number].parts[0], ToolResult):
            return number
    return -1


def _signed(part: dict[str, object], signature: str | None) -> dict[str, object]:
    if signature:
        part["thoughtSignature"] = signature
    return part


def _title(media: Media) -> str:
    return f"Title: {media.title}"


def _type_of_url(media: Media) -> str:
    if media.kind == "document":
        return "application/pdf"
    path = media.url.partition("?")[0].partition("#")[0]
    ending = path.rpartition(".")[2].lower()
    if ending not in _IMAGE_ENDINGS:
        raise Unsupported(not_carried("messages", "an image by a url that does not end in its type, such as .png"))
    return _IMAGE_ENDINGS[ending]
