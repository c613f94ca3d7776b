"""What Claude on Vertex AI takes of the Messages API, as data.

Vertex AI refuses a request that names a beta or a field which it does not know, where the API itself would have served
it; and clients send the names of all that they could make use of. What is not listed here was refused there, or is not
known to be taken. An operator's ``betas.add`` goes past these lists, for what came later.
"""

from __future__ import annotations

from collections.abc import Mapping

#: ``anthropic-version`` to ``anthropic_version`` in the body; others are called the same in both places.
VERSIONS: Mapping[bytes, bytes] = {b"2023-06-01": b"vertex-2023-10-16"}

#: What a client calls a beta to what Vertex AI calls it.
BETAS: Mapping[bytes, bytes] = {
    b"claude-code-20250219": b"claude-code-20250219",
    b"interleaved-thinking-2025-05-14": b"interleaved-thinking-2025-05-14",
    b"context-management-2025-06-27": b"context-management-2025-06-27",
    b"context-1m-2025-08-07": b"context-1m-2025-08-07",
    b"compact-2026-01-12": b"compact-2026-01-12",
    b"compact-2026-09-04": b"compact-2026-09-04",
    b"computer-use-2025-01-24": b"computer-use-2025-01-24",
    b"computer-use-2025-11-24": b"computer-use-2025-11-24",
    b"dangerous-tool-use-2026-09-03": b"dangerous-tool-use-2026-09-03",
    b"per-turn-control-2026-07-01": b"per-turn-control-2026-07-01",
    b"thinking-binding-controls-2026-08-01": b"thinking-binding-controls-2026-08-01",
    b"thinking-display-updates-2026-08-18": b"thinking-display-updates-2026-08-18",
    b"web-search-2025-03-05": b"web-search-2025-03-05",
    b"tool-search-tool-2025-10-19": b"tool-search-tool-2025-10-19",
    # Of what that stands for, only tool search is there, under its own name.
    b"advanced-tool-use-2025-11-20": b"tool-search-tool-2025-10-19",
}

#: What a client calls a beta to what Vertex AI calls it for counting tokens, where most are refused.
COUNT_BETAS: Mapping[bytes, bytes] = {
    beta: beta
    for beta in (b"claude-code-20250219", b"interleaved-thinking-2025-05-14", b"context-management-2025-06-27")
}

#: Top-level fields that only say how the API itself should serve a request; without them the answer is the same.
REFUSED_FIELDS = frozenset({"diagnostics", "service_tier", "inference_geo", "speed", "thread"})
