"""OpenAI's Responses API: the family of the kind ``openai-responses``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.golden.families.family import Call, Fact, Json, Signed, ordered
from tests.golden.families.openai_responses import facts, strict
from tests.golden.families.openai_responses.arrivals import arrivals, as_events
from tests.golden.families.openai_responses.merging import merge


class OpenAIResponses:
    """The :class:`~tests.golden.families.family.Family` of the cases in ``openai_responses/``."""

    mark = "cpxd1.responses."
    defaults: Mapping[str, str] = {}
    judges_by_model = False
    signs = True
    own_signatures = ()
    tool_name = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

    def check_request(self, body: Json, kind: str) -> None:
        strict.check_request(body)

    def check_answer(self, chunk: Json) -> None:
        strict.check_event(chunk)

    def has_system(self, body: Json) -> bool:
        return "instructions" in body

    def takes_records(self, body: Json) -> bool:
        return any(tool["type"] == "web_search" for tool in body.get("tools", []))

    def texts(self, body: Json) -> Iterator[tuple[str, str]]:
        return facts.texts(body)

    def calls(self, body: Json) -> Iterator[Fact]:
        return facts.calls(body)

    def media(self, body: Json) -> Iterator[Fact]:
        return facts.media(body)

    def tools(self, body: Json) -> Iterator[Fact]:
        return facts.tools(body)

    def wishes(self, body: Json) -> Iterator[Fact]:
        return facts.wishes(body)

    def schemas(self, body: Json) -> str:
        schemas = [tool.get("parameters") for tool in body.get("tools", [])]
        return ordered([*schemas, body.get("text", {}).get("format", {}).get("schema")])

    def signatures(self, body: Json) -> Iterator[str]:
        return facts.signatures(body["input"])

    def answer(self, chunks: Sequence[Json]) -> Mapping[str, Any]:
        return dict(facts.answer(merge(chunks)))

    def answer_calls(self, chunks: Sequence[Json]) -> Sequence[Call]:
        items = merge(chunks)["output"]
        return [Call(item["name"], item["call_id"]) for item in items if item["type"] == "function_call"]

    def answer_signatures(self, chunks: Sequence[Json]) -> Sequence[Signed]:
        return [Signed(signature, True) for signature in facts.signatures(merge(chunks)["output"])]

    def answer_pages(self, chunks: Sequence[Json]) -> Iterator[str]:
        return facts.pages(merge(chunks)["output"])

    def streams(self, chunks: Sequence[Json]) -> Iterator[tuple[str, list[bytes]]]:
        return arrivals(chunks)

    def bodies(self, chunks: Sequence[Json]) -> Iterator[tuple[str, bytes]]:
        yield "one object", json.dumps(merge(chunks)).encode()
        yield "events that nobody asked for", as_events(chunks)
