"""What Gemini found on the web, as Claude tells of its own searches.

Google tells of its sources with the end of an answer, when the text is with the client already. So they become
citations of that text, and the searches with their results follow it: Claude's own order would hold back every answer
to a request that allows a search. Searches that Google records in the answer itself stand where they were made; only
their results follow. A text that a call or a search has closed can have no citations any more: the pages are told all
the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.translate.gemini.searches import Search

if TYPE_CHECKING:
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.translate.gemini.responses import AnswerPart


#: Characters of what a citation cites: as many as Claude's have.
MAX_CITED_CHARS = 150
#: Bytes of all citations together: each repeats its page's address.
MAX_SOURCES_BYTES = 1024 * 1024

_encode = msgspec.json.Encoder().encode


class _Page(msgspec.Struct):
    uri: str | None = None
    title: str | None = None
    domain: str | None = None


class _Chunk(msgspec.Struct):
    web: _Page | None = None


class _Segment(msgspec.Struct, rename="camel"):
    start_index: int | None = None
    """Bytes of UTF-8, like the end."""
    end_index: int | None = None
    text: str | None = None


class _Support(msgspec.Struct, rename="camel"):
    segment: _Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    web_search_queries: list[str] | None = None
    grounding_chunks: list[_Chunk] | None = None
    grounding_supports: list[_Support] | None = None


class _Citation(msgspec.Struct, rename="camel", frozen=True):
    start_index: int | None = None
    end_index: int | None = None
    uri: str | None = None
    title: str | None = None


class _Citations(msgspec.Struct, rename="camel"):
    citations: list[_Citation] | None = None
    """On Vertex AI; the other on the Developer API."""
    citation_sources: list[_Citation] | None = None


_decode_metadata = msgspec.json.Decoder(_Metadata).decode
_decode_citations = msgspec.json.Decoder(_Citations).decode


class GroundingSources:
    """Where one answer comes from: what its searches, ``groundingMetadata`` and ``citationMetadata`` say together."""

    def __init__(self, family: str) -> None:
        self._family = family
        self._nothing = mint_signature(family, b"")
        """In place of what Anthropic encrypts: only Anthropic could read it."""
        self._queries: list[str] = []
        self._chunks: list[_Chunk] = []
        self._supports: list[_Support] = []
        self._citations: dict[_Citation, None] = {}
        self._search = Search()
        """That is not whole yet."""
        self._told: list[str] = []
        """The ids of searches that lack their results."""

    def add_search(self, part: AnswerPart, machine: BlockMachine) -> bool:
        """Read a ``toolCall`` or ``toolResponse``. Return whether the search is whole, and given to *machine*."""
        search = self._search
        if not search.add(part):
            return False
        self._search = Search()
        record = search.record
        sealed = mint_signature(self._family, record) if record else ""
        for query in search.queries:
            self._told.append(machine.web_search(query, sealed))
            sealed = sealed and self._nothing
        return True

    def add_grounding(self, raw: msgspec.Raw) -> None:
        """One ``groundingMetadata``; what it names takes the place of what an earlier one did. Raises MsgspecError."""
        said = _decode_metadata(raw)
        self._queries = said.web_search_queries or self._queries
        self._chunks = said.grounding_chunks or self._chunks
        self._supports = said.grounding_supports or self._supports

    def add_citations(self, raw: msgspec.Raw) -> None:
        """One ``citationMetadata``: works that the model quotes. Raises MsgspecError."""
        said = _decode_citations(raw)
        self._citations.update(dict.fromkeys(said.citations or said.citation_sources or ()))

    def tell(self, machine: BlockMachine, text: str) -> None:
        """Put all of it into the message whose open block has *text*; '' if none is open."""
        room = MAX_SOURCES_BYTES if text else 0
        for citation in self._all_citations(text.encode("utf-8", "surrogatepass")):
            room -= len(_encode(citation))
            if room < 0:
                break
            machine.citation(citation)
        pages = {page.uri: page for chunk in self._chunks if (page := chunk.web) is not None and page.uri}
        results = [
            {
                "type": "web_search_result",
                "url": page.uri,
                "title": page.title or page.domain or page.uri,
                "encrypted_content": self._nothing,
                "page_age": None,
            }
            for page in pages.values()
        ]
        if self._told:
            for id in self._told:
                machine.web_results(id, results)
                results = []  # which search found what is not said
            return
        for query in self._queries or ([""] if results else []):
            machine.web_results(machine.web_search(query), results)
            results = []

    def _all_citations(self, text: bytes) -> Iterator[dict[str, object]]:
        for support in self._supports:
            segment = support.segment or _Segment()
            cited = segment.text or _cut(text, segment.start_index, segment.end_index)
            for index in support.grounding_chunk_indices or ():
                page = self._chunks[index].web if 0 <= index < len(self._chunks) else None
                if page is not None and page.uri:
                    yield self._location(page.uri, page.title or page.domain, cited)
        for citation in self._citations:
            if citation.uri:
                cited = _cut(text, citation.start_index, citation.end_index)
                yield self._location(citation.uri, citation.title, cited)

    def _location(self, url: str, title: str | None, cited: str) -> dict[str, object]:
        return {
            "type": "web_search_result_location",
            "url": url,
            "title": title,
            "encrypted_index": self._nothing,
            "cited_text": cited[:MAX_CITED_CHARS],
        }


def _cut(text: bytes, start: int | None, end: int | None) -> str:
    start = max(0, start or 0)
    return text[start : min(max(0, end or 0), start + 4 * MAX_CITED_CHARS)].decode("utf-8", "ignore")
