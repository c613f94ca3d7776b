"""How many tokens a request comes to, where no upstream has counted it.

Text counts by what it is made of (:mod:`~claudeproxyd.messages.text_tokens`), with the vocabulary that the upstream's
model has; calls and schemas by the JSON that the model is shown. Images count by their dimensions, documents by their
pages, and what stands around all that in a model's prompt by the piece: the figures are below. Ids, signatures,
encrypted content and cache marks do not count.

``tests/estimates`` holds it to what real tokenizers say, and ``docs/estimate.md`` has by how much it is off for each
kind of content. Where the true number exists (an upstream's count or its usage) it takes precedence, and
:mod:`~claudeproxyd.messages.corrections` learns from it.
"""

from __future__ import annotations

import math
import re
from binascii import Error, a2b_base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from claudeproxyd.json_guards import UNREADABLE, as_object, as_string
from claudeproxyd.messages.image_size import image_size
from claudeproxyd.messages.text_tokens import TextCounts, counted, sampled, vocabulary_of, weighed

#: Of a short piece of what a model wrote; Anthropic's glossary has 3.5 for English.
BYTES_PER_TOKEN = 3.5
#: Tokens of the largest image: larger ones are scaled down. The figure for one whose dimensions are not known.
IMAGE_TOKENS = 1600
#: The API's formula for an image: width x height / 750.
PIXELS_PER_TOKEN = 750
#: Pixels of the longer side that an image is scaled down to.
MAX_IMAGE_SIDE = 1568
#: Tokens of one page of a document that is not plain text, which is read as text and as an image.
PAGE_TOKENS = 2000
#: Tokens of such a document whose pages cannot be counted: three.
DOCUMENT_TOKENS = 3 * PAGE_TOKENS
#: Tokens of what is around a message, a call, the thinking of a turn, a tool's schema; and of a prompt's end.
MESSAGE_TOKENS = 5
CALL_TOKENS = 17
THINKING_TOKENS = 8
TOOL_TOKENS = 11
PROMPT_TOKENS = 4
#: Tokens of the instructions that come with the first tool.
TOOLS_TOKENS = 110
#: Tokens of a tool whose schema is the API's own: bash, the text editor, web search …
BUILTIN_TOOL_TOKENS = 500

#: A larger request, or one of more values by commas and brackets, is not taken apart, which would take long.
MAX_BYTES = 1_048_576
MAX_VALUES = 80_000

_BYTES_PER_PAGE = 60_000
_MAX_PAGES = 1_000
#: Characters of base64 at either end of a document in which its pages are looked for.
_PDF_ENDS = 65_536
_PAGES = re.compile(rb"/Count\s+(\d{1,6})\b")

_SKIPPED = frozenset(
    ("cache_control", "encrypted_content", "encrypted_index", "id", "signature", "tool_use_id", "type", "citations")
)
_CALLS = frozenset(("tool_use", "server_tool_use", "mcp_tool_use"))
_OPAQUE = frozenset(("base64", "url", "file"))


class _Request(msgspec.Struct):
    """The members of a request that count; all others are settings."""

    system: Any = None
    messages: Any = None
    tools: Any = None
    output_config: Any = None


_decode = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode
#: What is no text has a member's name before it that text seldom holds …
_DATA = b'"data"'
_LONG = (_DATA, b'"signature"', b'"encrypted_content"')
#: … and is long, without a blank.
_MIN_DATA_BYTES = 300
#: How often each of them is looked for.
_MAX_LOOKS = 10_000
#: Images and documents that are looked into, as many as the API takes in one request; further ones count as images.
_MAX_OPENED = 100
#: How a PDF begins in base64.
_PDF = "JVBERi"
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Measure:
    """What a request is made of: the same for all models."""

    text: TextCounts
    fixed: int
    """Tokens of what is around text."""
    opaque: int = 0
    """Tokens of images and documents."""

    def parts(self, model: str) -> tuple[float, float]:
        """Return the tokens that the upstream's *model* makes of it: of what is plain, and of foreign text."""
        plain, foreign = weighed(self.text, vocabulary_of(model))
        return plain + self.fixed + self.opaque, foreign


def estimate_tokens(body: bytes, model: str = "") -> int:
    """Return the estimate for the body of a ``/v1/messages`` or count_tokens request; never raises, at least 1.

    *model* is the upstream's, whose name may tell its vocabulary.
    """
    return max(1, math.ceil(sum(measure(body).parts(model))))


def tokens_of(text: str) -> int:
    """Return the estimate for a word or two; at least 1 where there is any."""
    size = len(text) if text.isascii() else len(text.encode())
    return math.ceil(size / BYTES_PER_TOKEN)


def measure(body: bytes) -> Measure:
    """Measure the body of a request; never raises. Takes a millisecond or two for 200 KB, some 40 for 10 MB."""
    if len(body) > MAX_BYTES or sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        return _by_bytes(body)
    try:
        request = _decode(body)
    except UNREADABLE:
        return Measure(counted(body.decode("utf-8", "replace")), 0)
    return _Reader().request(request)


class _Reader:
    """Gathers the texts of one request, and adds up what is none.

    Walks with a stack of its own: a client may nest more deeply than Python calls.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._fixed = PROMPT_TOKENS
        self._opaque = 0
        self._stack: list[object] = []

    def request(self, request: _Request) -> Measure:
        if request.system:
            self._fixed += MESSAGE_TOKENS
            self._stack.append(request.system)
        if request.output_config is not None:
            self._json(request.output_config)
        if isinstance(request.tools, list) and request.tools:
            self._fixed += TOOLS_TOKENS
            for tool in request.tools:
                self._tool(tool)
        for message in request.messages if isinstance(request.messages, list) else ():
            self._fixed += MESSAGE_TOKENS
            self._stack.append(message.get("content") if isinstance(message, dict) else message)
        while self._stack:
            self._value(self._stack.pop())
        return Measure(counted("\n".join(self._texts)), self._fixed, self._opaque)

    def _value(self, value: object) -> None:
        if isinstance(value, str):
            self._texts.append(value)
        elif isinstance(value, list):
            self._stack.extend(value)
        elif isinstance(value, dict):
            self._block(value)
        elif value is not None:
            self._fixed += 1

    def _block(self, block: Mapping[str, object]) -> None:
        kind = block.get("type")
        if kind == "text" and "text" in block:
            self._stack.append(block.get("text"))
        elif kind == "thinking":
            self._fixed += THINKING_TOKENS
            self._stack.append(block.get("thinking"))
        elif kind == "image":
            self._opaque += _of_image(as_object(block.get("source")))
        elif isinstance(kind, str) and kind in _CALLS:
            self._fixed += CALL_TOKENS
            self._stack.append(block.get("name"))
            self._json(block.get("input"))
        elif kind == "document" and (source := as_object(block.get("source"))).get("type") in _OPAQUE:
            self._opaque += _of_document(source)
            self._stack += (block.get("title"), block.get("context"))
        elif kind != "redacted_thinking":
            self._fixed += MESSAGE_TOKENS
            self._stack += [member for name, member in block.items() if name not in _SKIPPED]

    def _tool(self, tool: object) -> None:
        if not isinstance(tool, dict):
            self._json(tool)
            return
        self._fixed += TOOL_TOKENS if "input_schema" in tool else BUILTIN_TOOL_TOKENS
        self._json({name: member for name, member in tool.items() if name not in _SKIPPED})

    def _json(self, value: object) -> None:
        """Add a value that the model is shown as JSON."""
        try:
            self._texts.append(_encode(value).decode())
        except (*UNREADABLE, OverflowError):
            self._fixed += 1


def _of_image(source: Mapping[str, object]) -> int:
    return image_tokens(image_size(as_string(source.get("data"))) if source.get("type") == "base64" else None)


def image_tokens(size: tuple[int, int] | None) -> int:
    """Return the tokens of an image of *size* in pixels; None: not known."""
    if size is None:
        return IMAGE_TOKENS
    width, height = size
    scale = min(1.0, MAX_IMAGE_SIDE / max(size))
    return min(IMAGE_TOKENS, math.ceil(width * scale * height * scale / PIXELS_PER_TOKEN))


def _of_document(source: Mapping[str, object]) -> int:
    data = as_string(source.get("data")) if source.get("type") == "base64" else ""
    return PAGE_TOKENS * _pages(data) if data else DOCUMENT_TOKENS


def _pages(data: str) -> int:
    """Return the pages of a PDF in base64: as its page tree says where that can be read, else by its size."""
    try:
        ends = a2b_base64(data[:_PDF_ENDS]) + b" " + a2b_base64(data[-_PDF_ENDS:])
    except (Error, ValueError):
        ends = b""
    pages = max(map(int, _PAGES.findall(ends)), default=0) or len(data) * 3 // 4 // _BYTES_PER_PAGE
    return min(max(1, pages), _MAX_PAGES)


def _by_bytes(body: bytes) -> Measure:
    """Measure a body that is not taken apart: text is sampled as it stands there, long base64 looked for."""
    found = sorted(span for member in _LONG for span in _long_values(body, member))
    rest: list[bytes] = []
    opaque = done = files = 0
    for start, end, member in found:
        if start < done:
            continue
        rest.append(body[done:start])
        done = end
        if member == _DATA:
            files += 1
            opened = files <= _MAX_OPENED
            opaque += _of_base64(body[start:end].decode("ascii", "replace")) if opened else IMAGE_TOKENS
    rest.append(body[done:])
    sample, scale = sampled(b"".join(rest))
    return Measure(counted(_ESCAPE.sub(_unescaped, sample.decode("utf-8", "ignore")), scale), 0, opaque)


def _long_values(body: bytes, member: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield where long strings without a blank stand behind *member*, as far as is looked."""
    end = 0
    for _ in range(_MAX_LOOKS):
        at = body.find(member, end)
        start = body.find(b'"', at + len(member)) + 1
        end = body.find(b'"', start)
        if at < 0 or start <= 0 or end < 0:
            return
        if end - start >= _MIN_DATA_BYTES and body.find(b" ", start, end) < 0:
            yield start, end, member


def _of_base64(data: str) -> int:
    """Return the tokens of what is a PDF by its first bytes, or else an image."""
    return PAGE_TOKENS * _pages(data) if data.startswith(_PDF) else image_tokens(image_size(data))


def _unescaped(match: re.Match[str]) -> str:
    escape = match[1]
    if len(escape) > 1:
        return chr(int(escape[1:], 16))
    return "\n" if escape == "n" else " " if escape == "t" else escape
