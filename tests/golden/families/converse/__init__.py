"""Amazon Bedrock's Converse API: the family of the kind ``bedrock``, for models that are not Claude."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.golden.families.converse import facts, strict
from tests.golden.families.converse.arrivals import arrivals
from tests.golden.families.converse.merging import is_mergeable, merge
from tests.golden.families.family import Call, Fact, Json, Signed, ordered


class Converse:
    """The :class:`~tests.golden.families.family.Family` of the cases in ``converse/``."""

    mark = "cpxd1.bedrock."
    own_signatures = ()
    tool_name = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
    defaults: Mapping[str, str] = {"model": "us.amazon.nova-pro-v1:0", "kind": ""}
    judges_by_model = True
    signs = True

    def check_request(self, body: Json, kind: str) -> None:
        strict.check_request(body, model=kind)

    def check_answer(self, chunk: Json) -> None:
        strict.check_event(chunk)

    def unsealed(self, signature: str) -> str:
        """The model's own signature, or its encrypted reasoning, in what a minted one bears; '' if there is none."""
        try:
            _, content = json.loads(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
        except ValueError:
            return ""
        return content.get("redactedContent") or content.get("reasoningText", {}).get("signature", "")

    def has_system(self, body: Json) -> bool:
        return "system" in body

    def takes_records(self, body: Json) -> bool:
        return False

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
        tools = body.get("toolConfig", {}).get("tools", [])
        return ordered([*(each["toolSpec"]["inputSchema"] for each in tools), body.get("outputConfig")])

    def signatures(self, body: Json) -> Iterator[str]:
        return facts.signatures(body)

    def answer(self, chunks: Sequence[Json]) -> Mapping[str, Any]:
        return dict(facts.answer(chunks))

    def answer_calls(self, chunks: Sequence[Json]) -> Sequence[Call]:
        starts = (chunk["contentBlockStart"]["start"] for chunk in chunks if "contentBlockStart" in chunk)
        calls = (start["toolUse"] for start in starts if "type" not in start.get("toolUse", {"type": ""}))
        return [Call(call["name"], call["toolUseId"]) for call in calls]

    def answer_signatures(self, chunks: Sequence[Json]) -> Sequence[Signed]:
        return facts.answer_signatures(chunks)

    def answer_pages(self, chunks: Sequence[Json]) -> Iterator[str]:
        return iter(())

    def streams(self, chunks: Sequence[Json]) -> Iterator[tuple[str, list[bytes]]]:
        yield from arrivals(chunks)
        if is_mergeable(chunks):
            yield "whole, where the model does not stream", [json.dumps(merge(chunks)).encode()]

    def bodies(self, chunks: Sequence[Json]) -> Iterator[tuple[str, bytes]]:
        whole = merge(chunks)
        if "usage" in whole:
            strict.check_whole(whole)
        yield "one object", json.dumps(whole).encode()
        yield "indented", json.dumps(whole, indent=1, ensure_ascii=False).encode()
