"""What the whole answer would have been that came as these events; shares no code with the daemon."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from tests.golden.families.family import Json

TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def merge(events: Sequence[Json]) -> Json:
    """The Response of the last event, with the items that were done before it where it does not repeat them."""
    whole: Json = {"output": []}
    done: dict[int, Json] = {}
    for event in events:
        if event["type"] == "response.output_item.done":
            done[event["output_index"]] = event["item"]
        elif event["type"] in TERMINAL:
            whole = copy.deepcopy(event["response"])
    if not whole["output"]:
        whole["output"] = [done[index] for index in sorted(done)]
    return whole
