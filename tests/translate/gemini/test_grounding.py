"""Searches of Gemini's and quotations, as clients see them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.ids import MARK
from tests.translate.gemini.answering import Answer, Json, call, chunk, message, sse, text

SAID = "Zürich is a city. It is large."
GROUNDING = {
    "webSearchQueries": ["zurich", "zurich size"],
    "groundingChunks": [
        {"web": {"uri": "https://a.example/1", "title": "A", "domain": "a.example"}},
        {"web": {"uri": "https://b.example", "domain": "b.example"}},
        {"maps": {"uri": "https://maps.example"}},
        {"web": {"uri": "https://a.example/1", "title": "A"}},
    ],
    "groundingSupports": [
        {"segment": {"endIndex": 18, "text": "Zürich is a city."}, "groundingChunkIndices": [0, 1]},
        {"segment": {"startIndex": 19, "endIndex": 31}, "groundingChunkIndices": [1, 2, 77, -1]},
        {"groundingChunkIndices": [0]},
        {"segment": {"startIndex": 1}},
    ],
    "searchEntryPoint": {"renderedContent": "<div>"},
}


def citations(block: Json) -> list[tuple[Any, ...]]:
    return [(each["url"], each["title"], each["cited_text"]) for each in block.get("citations", [])]


class GroundingTests(SynchronousTestCase):
    """Searches."""

    def test_search(self) -> None:
        """A grounded answer has its sources as citations, its searches with their results, and their number."""
        pieces = [chunk(text(SAID[:5])), chunk(text(SAID[5:])), chunk(finish="STOP", groundingMetadata=GROUNDING)]
        answer = message(*pieces)
        said, first, results, second, none = answer["content"]
        self.assertEqual(said["text"], SAID)
        self.assertEqual(
            citations(said),
            [
                ("https://a.example/1", "A", "Zürich is a city."),
                ("https://b.example", "b.example", "Zürich is a city."),
                ("https://b.example", "b.example", "It is large."),
                ("https://a.example/1", "A", ""),
            ],
        )
        self.assertEqual([first["input"], second["input"]], [{"query": "zurich"}, {"query": "zurich size"}])
        self.assertEqual([each["url"] for each in results["content"]], ["https://a.example/1", "https://b.example"])
        self.assertEqual((results["tool_use_id"], none["tool_use_id"]), (first["id"], second["id"]))
        self.assertEqual(none["content"], [])
        self.assertEqual(answer["usage"]["server_tool_use"], {"web_search_requests": 2, "web_fetch_requests": 0})
        self.assertEqual(answer["stop_reason"], "end_turn")

    def test_marks(self) -> None:
        """Whatever only Anthropic could read is marked as ours, so that it never reaches Anthropic."""
        said, first, results, *_ = message(chunk(text(SAID), finish="STOP", groundingMetadata=GROUNDING))["content"]
        opaque = [first["id"], said["citations"][0]["encrypted_index"], results["content"][0]["encrypted_content"]]
        self.assertTrue(all(each.startswith(MARK + "google.") for each in opaque), opaque)

    def test_in_several_chunks(self) -> None:
        """What a later chunk does not name of the sources stays as an earlier one said it."""
        parts = [{name: GROUNDING[name]} for name in ("webSearchQueries", "groundingChunks", "groundingSupports")]
        chunks = [chunk(text(SAID[at]), groundingMetadata=part) for at, part in enumerate(parts)]
        said = message(*chunks, chunk(text(SAID[3:]), finish="STOP", groundingMetadata={}))["content"]
        self.assertEqual(len(said), 5)
        self.assertEqual(citations(said[0])[2], ("https://b.example", "b.example", "It is large."))

    def test_no_search(self) -> None:
        """An answer for which nothing was searched has no trace of one."""
        nothing: Any
        for nothing in ({}, None, {"webSearchQueries": [], "groundingChunks": []}):
            answer = message(chunk(text("a"), finish="STOP", groundingMetadata=nothing))
            self.assertEqual(answer["content"], [{"type": "text", "text": "a"}])
            self.assertNotIn("server_tool_use", answer["usage"])

    def test_sources_of_no_query(self) -> None:
        """Sources without a query are results all the same."""
        metadata = {"groundingChunks": GROUNDING["groundingChunks"]}
        _, search, results = message(chunk(text("a"), finish="STOP", groundingMetadata=metadata))["content"]
        self.assertEqual((search["input"], len(results["content"])), ({"query": ""}, 2))

    def test_with_calls(self) -> None:
        """A search beside calls of the client's tools leaves those to be run."""
        answer = message(chunk(text("a")), chunk(call(), finish="STOP", groundingMetadata=GROUNDING))
        self.assertEqual(answer["stop_reason"], "tool_use")
        self.assertEqual([block["type"] for block in answer["content"]][:2], ["text", "tool_use"])

    def test_bounded(self) -> None:
        """What is cited is cut as Claude cuts it; sources that would multiply an answer are told up to a bound."""
        pages = [{"web": {"uri": "https://a.example/" + "a" * 10_000}}]
        support = {"segment": {"startIndex": 0, "endIndex": 100_000}, "groundingChunkIndices": [0]}
        metadata = {"groundingChunks": pages, "groundingSupports": [support] * 10_000}
        answer = Answer()
        answer.body(sse(chunk(text("\u00e4" * 50_000), finish="STOP", groundingMetadata=metadata)))
        self.assertIn(b'"cited_text":"%b"' % ("\u00e4" * 150).encode(), answer.frames)
        self.assertLess(len(answer.frames), 1_500_000)

    def test_of_another_shape(self) -> None:
        """Sources that cannot be read do not cost the client the answer."""
        for metadata in ({"groundingChunks": "x"}, 1, {"groundingSupports": [{"segment": {"startIndex": "x"}}]}):
            answer = Answer()
            self.assertTrue(answer.body(sse(chunk(text("a"), finish="STOP", groundingMetadata=metadata))).ended)
            self.assertIn("sources", answer.reader.anomaly)


class QuotationTests(SynchronousTestCase):
    """``citationMetadata``: works that the model quotes."""

    def test_quotations(self) -> None:
        """A quoted work is a citation, once though it is named twice, by either of Google's names."""
        quoted = [{"startIndex": 0, "endIndex": 7, "uri": "https://q.example", "title": "Q", "license": "mit"}, {}]
        for name in ("citations", "citationSources"):
            chunks = (
                chunk(text(SAID), citationMetadata={name: quoted}),
                chunk(finish="STOP", citationMetadata={name: quoted}),
            )
            content = message(*chunks)["content"]
            self.assertEqual(citations(content[0]), [("https://q.example", "Q", "Zürich")])
            self.assertEqual(len(content), 1)

    def test_offsets_from_nowhere(self) -> None:
        """Offsets that split a character, or are out of the text, cut nothing else."""
        for start, end, cited in ((0, 2, "Z"), (-5, 1, "Z"), (5, 2, ""), (28, 9999, "ge.")):
            quoted = {"citations": [{"startIndex": start, "endIndex": end, "uri": "u"}]}
            answer = message(chunk(text(SAID), finish="STOP", citationMetadata=quoted))
            self.assertEqual(citations(answer["content"][0]), [("u", None, cited)])
