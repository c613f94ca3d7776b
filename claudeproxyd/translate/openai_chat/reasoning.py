"""The reasoning of one answer: shown as thinking, carried in its signature, and remembered by the call behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from claudeproxyd.json_guards import UNREADABLE, as_string
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.translate.openai_chat.carried import Carried, encode
from claudeproxyd.translate.openai_chat.chunks import decode_detail

if TYPE_CHECKING:
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.translate.openai_chat.requests import ChatRequest
    from claudeproxyd.translate.signatures import Signatures

#: Characters of reasoning that are kept, to go back; no model's reasoning is as long.
MAX_CHARS = 1024 * 1024

_decode = msgspec.json.Decoder().decode


class Reasoning:
    """Takes reasoning as it comes, stretch by stretch. Driven by the reader of the answer."""

    def __init__(self, machine: BlockMachine, family: str, request: ChatRequest, memory: Signatures) -> None:
        self.is_open = False
        """It is what came last."""
        self._machine = machine
        self._family = family
        self._thinks = request.thinks
        self._shows = request.thinks and request.shows
        self._maker = request.dialect.maker
        self._keeps = request.dialect.reasoning_back != "none"
        self._keeps_details = request.dialect.reasoning_back in ("reasoning_details", "as given")
        self._memory = memory
        self._digest = request.digest
        self._form = ""
        """The member in which it came."""
        self._pieces: list[str] = []
        self._room = MAX_CHARS
        self._details: list[dict[str, object]] = []
        self.unremembered = ""
        """What is to be remembered by the call behind it."""

    def add(self, text: str, form: str, details: Sequence[Raw] = ()) -> None:
        """Take a piece, from the member *form*; *details* may say the same once more."""
        self.is_open = True
        self._form = form
        if details:
            text = text or "".join(map(_text_of, details))
            if self._keeps_details:
                self._form = "reasoning_details"
                for detail in details:
                    self._add_detail(_decode(detail))
        if not text:
            return
        if self._shows:
            self._machine.thinking(text)
        if self._keeps and self._room > 0:
            self._pieces.append(text[: self._room])
            self._room -= len(text)

    def _add_detail(self, detail: object) -> None:
        """Add a detail, or a piece of the last one: pieces of one have the same type and index."""
        if not isinstance(detail, dict):
            return
        last = self._details[-1] if self._details else {}
        if not last or (last.get("type"), last.get("index")) != (detail.get("type"), detail.get("index")):
            self._details.append(detail)
            return
        for name, value in detail.items():
            if name in ("text", "summary", "data") and isinstance(value, str):
                last[name] = as_string(last.get(name)) + value
            elif value is not None:
                last[name] = value

    def end(self) -> None:
        """The stretch is whole: let the thinking block carry what is to go back of it."""
        if not self.is_open:
            return
        self.is_open = False
        text = "".join(self._pieces)
        if self._keeps and (text or self._details):
            if self._thinks:
                shown = "" if self._shows else text
                details = [Raw(msgspec.json.encode(detail)) for detail in self._details]
                payload = encode(Carried(self._maker, self._form, shown, details))
                self._machine.signature(mint_signature(self._family, payload))
            self.unremembered += text
        self._pieces.clear()
        self._details = []

    def remember(self, call: str) -> None:
        """Keep what came so far by the call behind it, for clients that do not bring it back."""
        if self.unremembered:
            self._memory.keep(self._digest.call_key(self._maker, call), self.unremembered)
            self.unremembered = ""


def _text_of(detail: Raw) -> str:
    try:
        read = decode_detail(detail)
    except UNREADABLE:
        return ""
    return read.text or read.summary or ""
