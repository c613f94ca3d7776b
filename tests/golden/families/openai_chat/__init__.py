"""OpenAI's chat completions, as OpenAI and everybody else speak them: the family of the kind ``openai-chat``.

The ``kind`` of a case is a server's name here; '' stands for one that nobody knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.golden.families.family import Call, Fact, Json, Signed, ordered
from tests.golden.families.openai_chat import facts, strict
from tests.golden.families.openai_chat.arrivals import arrivals, events
from tests.golden.families.openai_chat.merging import merge


class OpenAIChat:
    """The :class:`~tests.golden.families.family.Family` of the cases in ``openai_chat/``."""

    mark = "cpxd1.openai."
    defaults: Mapping[str, str] = {"model": "some-model", "kind": ""}
    judges_by_model = False
    own_signatures = ()
    signs = False
    tool_name = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

    def check_request(self, body: Json, kind: str) -> None:
        strict.check_request(body, kind)

    def check_answer(self, chunk: Json) -> None:
        strict.check_chunk(chunk)

    def has_system(self, body: Json) -> bool:
        return any(message["role"] in ("system", "developer") for message in body["messages"])

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
        answer_format = body.get("response_format", {}).get("json_schema", {})
        return ordered([*(tool["function"]["parameters"] for tool in body.get("tools", [])), answer_format])

    def signatures(self, body: Json) -> Iterator[str]:
        yield from ()

    def answer(self, chunks: Sequence[Json]) -> Mapping[str, Any]:
        return dict(facts.answer(chunks))

    def answer_calls(self, chunks: Sequence[Json]) -> Sequence[Call]:
        return [Call(call["name"], call["id"]) for call in facts.calls_of(chunks)]

    def answer_signatures(self, chunks: Sequence[Json]) -> Sequence[Signed]:
        return []

    def answer_pages(self, chunks: Sequence[Json]) -> Iterator[str]:
        yield from ()

    def streams(self, chunks: Sequence[Json]) -> Iterator[tuple[str, list[bytes]]]:
        yield from arrivals(chunks)
        if (whole := merge(chunks)) is not None:
            body = json.dumps(whole).encode()
            yield "no stream", [body]
            yield "no stream, byte by byte", [body[at : at + 1] for at in range(len(body))]

    def bodies(self, chunks: Sequence[Json]) -> Iterator[tuple[str, bytes]]:
        if (whole := merge(chunks)) is not None:
            yield "one object", json.dumps(whole).encode()
        yield "a stream", b"".join(events(chunks))
