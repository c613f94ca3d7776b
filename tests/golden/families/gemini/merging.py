"""What the whole answer would have been that came as these chunks; shares no code with the daemon."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from tests.golden.families.family import Json


def merge(chunks: Sequence[Json]) -> Json:
    """One GenerateContentResponse: parts in a row, texts joined, of all figures and everything else the last.

    Of several candidates only the first is left.
    """
    whole: Json = {}
    for chunk in copy.deepcopy(list(chunks)):
        candidates = chunk.pop("candidates", [])
        if "usageMetadata" in chunk:
            whole.setdefault("usageMetadata", {}).update(chunk.pop("usageMetadata"))
        whole.update(chunk)
        for candidate in candidates:
            if candidate.get("index", 0) == 0:
                _add(whole.setdefault("candidates", [{}])[0], candidate)
    return whole


def _add(whole: Json, candidate: Json) -> None:
    content = candidate.pop("content", None)
    whole.update(candidate)
    if content is None:
        return
    parts = whole.setdefault("content", {"role": "model", "parts": []})["parts"]
    for part in content.get("parts", []):
        last = parts[-1] if parts else {}
        # The last part may gain a signature, but nothing follows one that has it: the signature is of just that part.
        if _is_text(part) and _is_text(last) and "thoughtSignature" not in last and _thought(part) == _thought(last):
            parts[-1] = {**last, **part, "text": last["text"] + part["text"]}
        else:
            parts.append(part)


def _is_text(part: Json) -> bool:
    return "text" in part and part.keys() <= {"text", "thought", "thoughtSignature"}


def _thought(part: Json) -> bool:
    return bool(part.get("thought"))
