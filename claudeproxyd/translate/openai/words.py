"""Words for what OpenAI's protocols have no member for, or Claude's: failed tools, refusals, users."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from claudeproxyd.account_ids import without_accounts

#: How a result begins that is an error: there is no member for it, and a model takes a failure for a result otherwise.
FAILED = "The tool failed: "
#: Characters of what a model says when it refuses.
MAX_REFUSAL_CHARS = 2_000


def refusal(words: str) -> Mapping[str, object]:
    """Return ``stop_details`` of an answer that was refused: by the model in its own *words*, or by a filter ('')."""
    explanation = (
        without_accounts(words[:MAX_REFUSAL_CHARS]) or "The model's provider stopped the answer: a content filter did"
    )
    return {"type": "refusal", "category": None, "explanation": explanation}


def safety_identifier(user_id: str) -> str:
    """Return the member of that name: a digest, as OpenAI asks for none that says who it is."""
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()
