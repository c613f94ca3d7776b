"""Google's generateContent: the family of the kinds ``gemini`` and ``vertex``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.golden.families.family import Call, Fact, Json, Signed, ordered
from tests.golden.families.gemini import facts, strict
from tests.golden.families.gemini.arrivals import arrivals
from tests.golden.families.gemini.merging import merge


class Gemini:
    """The :class:`~tests.golden.families.family.Family` of the cases in ``gemini/``."""

    mark = "cpxd1.google."
    defaults: Mapping[str, str] = {}
    judges_by_model = False
    signs = True
    own_signatures = ("skip_thought_signature_validator",)
    """What Google's documentation gives for a signature that nobody has."""
    tool_name = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}", re.ASCII)

    def check_request(self, body: Json, kind: str) -> None:
        strict.check_request(body, on_vertex=kind == "vertex")

    def check_answer(self, chunk: Json) -> None:
        strict.check_answer_chunk(chunk)

    def has_system(self, body: Json) -> bool:
        return "systemInstruction" in body

    def takes_records(self, body: Json) -> bool:
        return bool(body.get("toolConfig", {}).get("includeServerSideToolInvocations"))

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
        declared = [each for tool in body.get("tools", []) for each in tool.get("functionDeclarations", [])]
        schemas = [each.get("parametersJsonSchema") for each in declared]
        return ordered([*schemas, body.get("generationConfig", {}).get("responseJsonSchema")])

    def signatures(self, body: Json) -> Iterator[str]:
        return facts.signatures(body)

    def answer(self, chunks: Sequence[Json]) -> Mapping[str, Any]:
        return dict(facts.answer(chunks))

    def answer_calls(self, chunks: Sequence[Json]) -> Sequence[Call]:
        calls = (part["functionCall"] for part in facts.parts_of(chunks) if "functionCall" in part)
        return [Call(call["name"], call.get("id", "")) for call in calls]

    def answer_signatures(self, chunks: Sequence[Json]) -> Sequence[Signed]:
        return [
            Signed(part["thoughtSignature"], bool(part.get("thought")) or "functionCall" in part)
            for part in facts.parts_of(chunks)
            if part.get("thoughtSignature")
        ]

    def answer_pages(self, chunks: Sequence[Json]) -> Iterator[str]:
        return facts.pages(chunks)

    def streams(self, chunks: Sequence[Json]) -> Iterator[tuple[str, list[bytes]]]:
        return arrivals(chunks)

    def bodies(self, chunks: Sequence[Json]) -> Iterator[tuple[str, bytes]]:
        yield "one object", json.dumps(merge(chunks)).encode()
        yield "an array", json.dumps(chunks).encode()
