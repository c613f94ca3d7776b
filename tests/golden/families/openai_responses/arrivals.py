"""The ways in which the same answer can arrive."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from tests.golden.families.family import Json, pieces
from tests.golden.families.openai_responses.merging import TERMINAL, merge

_WHOLE = TERMINAL[:2]


def frame(event: Json) -> bytes:
    """One event as OpenAI frames it."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event, ensure_ascii=False).encode())


def as_events(events: Iterable[Json]) -> bytes:
    """All of them."""
    return b"".join(map(frame, events))


def arrivals(events: Sequence[Json]) -> Iterator[tuple[str, list[bytes]]]:
    """Names of ways, and the reads that they come in: cut at good places and at bad ones.

    A whole answer comes as other servers send it, too: with ids that change, with gaps, without pieces or with nothing
    but the whole at its end.
    """
    yield "event by event", list(map(frame, events))
    stream = as_events(events)
    yield "at once", [stream]
    yield "byte by byte", pieces(stream, 1)
    yield "with CRLF, in sevens", pieces(stream.replace(b"\n", b"\r\n"), 7)
    if not events or events[-1]["type"] not in _WHOLE:
        return
    bare = b"".join(b"data:%b\n\n" % json.dumps(event).encode() for event in events)
    yield "data lines alone", [b": hello\n\n" + bare + b"data: [DONE]\n\n"]
    yield "ids that change", [as_events(_with_other_ids(events))]
    yield "no indices", [as_events(_without(events, "output_index", "content_index", "summary_index"))]
    yield "no pieces", [as_events(event for event in events if not event["type"].endswith((".delta", ".added")))]
    whole = {**events[-1], "response": merge(events)}
    yield "the whole alone", [frame(whole)]
    yield "the whole behind its pieces", [as_events([*events[:-1], whole])]
    bare_end = {**events[-1], "response": {**whole["response"], "output": []}}
    if any(event["type"] == "response.output_item.done" for event in events):
        yield "the end without the whole", [as_events([*events[:-1], bare_end])]
    yield "no stream", [json.dumps(merge(events), indent=1).encode()]


def _with_other_ids(events: Sequence[Json]) -> Iterator[Json]:
    for number, event in enumerate(events):
        other = {"item_id": f"other_{number}"} if "item_id" in event else {}
        if "item" in event and event["item"]["type"] == "message":
            other["item"] = {**event["item"], "id": f"other_{number}"}
        yield {**event, **other, "sequence_number": 3 * number}


def _without(events: Sequence[Json], *names: str) -> Iterator[Json]:
    for event in events:
        yield {name: member for name, member in event.items() if name not in names}
