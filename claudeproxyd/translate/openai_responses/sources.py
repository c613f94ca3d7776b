"""What OpenAI found on the web, as Claude tells of its own searches.

Each ``web_search_call`` becomes a call of Claude's web_search and its result, where it stood. Its pages come with it,
if the server tells them; else the pages that the answer cites are told with its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.translate.openai_responses.events import Item, SearchAction, SourceAnnotation, read
from claudeproxyd.translate.openai_responses.records import SIGNATURES, search_record

if TYPE_CHECKING:
    from claudeproxyd.messages.blocks import BlockMachine

#: Characters of what a citation cites: as many as Claude's have.
MAX_CITED_CHARS = 150
#: Citations and pages of one answer: each repeats an address.
MAX_SOURCES = 2_000

_NOTHING = mint_signature(SIGNATURES, b"")
"""In place of what Anthropic encrypts: only Anthropic could read it."""


class WebSources:
    """Where one answer comes from."""

    def __init__(self, searches: bool) -> None:
        """*searches*: the client asked for a search; else it is told of none."""
        self._searches = searches
        self._room = MAX_SOURCES
        self._cited: dict[str, str] = {}
        """The titles of pages, by their URLs."""
        self._untold: list[str] = []
        """The ids of searches that lack their results."""

    def citation(self, annotation: msgspec.Raw, text: str) -> dict[str, object] | None:
        """Return a source of *text* in Claude's form; None of one that is no page."""
        try:
            said, _ = read(annotation, SourceAnnotation)
        except UNREADABLE:
            return None
        if said.type != "url_citation" or not said.url or self._room <= 0:
            return None
        self._room -= 1
        self._cited.setdefault(said.url, said.title or said.url)
        start = max(0, said.start_index or 0)
        return {
            "type": "web_search_result_location",
            "url": said.url,
            "title": said.title,
            "encrypted_index": _NOTHING,
            "cited_text": text[start : max(0, said.end_index or 0)][:MAX_CITED_CHARS],
        }

    def tell_search(self, raw: msgspec.Raw, machine: BlockMachine) -> None:
        """Tell of a search, and of what it has found."""
        if not self._searches:
            return
        item, _ = read(raw, Item)
        try:
            action, _ = read(item.action, SearchAction)
        except UNREADABLE:
            action = SearchAction()
        record = search_record(raw)
        id = machine.web_search(_query(action), mint_signature(SIGNATURES, record) if record else "")
        if action.sources is None:
            self._untold.append(id)
            return
        pages = {source.url: source.title or source.url for source in action.sources if source.url}
        machine.web_results(id, [_page(url, title) for url, title in list(pages.items())[: max(0, self._room)]])
        self._room -= len(pages)

    def tell_rest(self, machine: BlockMachine) -> None:
        """Tell the pages that were cited of a search that did not say what it found; for the answer's end."""
        pages = [_page(url, title) for url, title in self._cited.items()]
        for id in self._untold:
            machine.web_results(id, pages)
            pages = []  # which search found what is not said
        self._untold.clear()


def _query(action: SearchAction) -> str:
    """Return what was searched for; of a page that was opened its address."""
    if action.type == "find_in_page" and action.pattern:
        return f"{action.pattern} in {action.url}"
    return action.query or ", ".join(action.queries or ()) or action.url or ""


def _page(url: str, title: str) -> dict[str, object]:
    return {
        "type": "web_search_result",
        "url": url,
        "title": title,
        "encrypted_content": _NOTHING,
        "page_age": None,
    }
