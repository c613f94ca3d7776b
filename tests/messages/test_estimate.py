"""The local token estimate."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.estimate import (
    BUILTIN_TOOL_TOKENS,
    DOCUMENT_TOKENS,
    IMAGE_TOKENS,
    TOOLS_TOKENS,
    estimate_tokens,
    tokens_of,
)


def request(*content: Any, **members: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": list(content)}], **members}).encode()


class EstimateTests(SynchronousTestCase):
    """What count_tokens answers where no upstream can be asked."""

    def test_prose(self) -> None:
        """A thousand words of English come to some 1,300 tokens, as the rule of thumb has it, or a little more."""
        text = "the quick brown fox jumps over a lazy dog " * 111
        self.assertTrue(1200 <= estimate_tokens(request({"type": "text", "text": text})) <= 1600)

    def test_other_scripts(self) -> None:
        """A Chinese character counts nearly a token, whether the client escapes it in JSON or not."""
        text = "\u4f60\u597d" * 500
        plain = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()
        escaped = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
        self.assertEqual(estimate_tokens(plain), estimate_tokens(escaped))
        self.assertTrue(800 <= estimate_tokens(plain) <= 1100)

    def test_system_and_tools_count(self) -> None:
        """The whole prompt counts, not only the turns."""
        bare = estimate_tokens(request())
        self.assertGreater(estimate_tokens(request(system="x" * 700)), bare + 190)
        tool = {"name": "t", "description": "d" * 700, "input_schema": {"type": "object"}}
        self.assertGreater(estimate_tokens(request(tools=[tool])), bare + TOOLS_TOKENS + 190)
        builtin = {"type": "bash_20250124", "name": "bash"}
        self.assertGreater(estimate_tokens(request(tools=[builtin])), bare + TOOLS_TOKENS + BUILTIN_TOOL_TOKENS)

    def test_numbers_count(self) -> None:
        """A call's numbers are text to the model; what is null is not there."""
        numbers, nulls = (
            estimate_tokens(request({"type": "tool_use", "id": "i", "name": "n", "input": {"a": [value] * 700}}))
            for value in (1, None)
        )
        self.assertEqual(numbers - nulls, 800)

    def test_tool_results_count(self) -> None:
        """What a tool brought is most of an agent's prompt, and counts."""
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "y" * 7000}]}
        self.assertGreater(estimate_tokens(request(result)), 1990)

    def test_images_by_the_piece(self) -> None:
        """A picture costs the same however many bytes its base64 has, inside a tool's result too."""
        for size in (10, 100_000):
            source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(bytes(size)).decode()}
            image = {"type": "image", "source": source}
            alone = estimate_tokens(request(image)) - estimate_tokens(request())
            self.assertEqual(alone, IMAGE_TOKENS)
            nested = estimate_tokens(request({"type": "tool_result", "content": [image]}))
            self.assertTrue(IMAGE_TOKENS < nested < IMAGE_TOKENS + 40)

    def test_documents(self) -> None:
        """A PDF counts by the piece, a document of plain text by its text."""
        pdf = {"type": "document", "source": {"type": "base64", "data": "A" * 100_000}}
        plain = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a " * 3500}}
        self.assertTrue(DOCUMENT_TOKENS < estimate_tokens(request(pdf)) < DOCUMENT_TOKENS + 40)
        self.assertTrue(2000 < estimate_tokens(request(plain)) < 2060)

    def test_signatures_cost_nothing(self) -> None:
        """Signatures and encrypted thinking are no prompt text."""
        short = {"type": "thinking", "thinking": "hm", "signature": "x"}
        long = {"type": "thinking", "thinking": "hm", "signature": "x" * 10_000}
        self.assertEqual(estimate_tokens(request(short)), estimate_tokens(request(long)))
        self.assertLess(estimate_tokens(request({"type": "redacted_thinking", "data": "x" * 10_000})), 40)

    def test_settings_cost_nothing(self) -> None:
        """Metadata and sampling settings are not part of the prompt."""
        self.assertEqual(estimate_tokens(request(metadata={"user_id": "u" * 5000})), estimate_tokens(request()))

    def test_garbage_is_counted_by_length(self) -> None:
        """A body that is not JSON, or too deep for the parser, still gets a number."""
        self.assertEqual(estimate_tokens(b""), 1)
        self.assertEqual(estimate_tokens(b"x" * 35), 10)
        self.assertGreater(estimate_tokens(b"[" * 100_000), 1000)
        deep = b'{"messages":' + b"[" * 900 + b"]" * 900 + b"}"
        self.assertGreaterEqual(estimate_tokens(deep), 1)

    def test_masses_are_counted_by_length(self) -> None:
        """A body of very many values is not taken apart: nothing else would be served meanwhile."""
        for values in (b"0," * 80_001, b"[],{}," * 40_000, (b"[" * 400 + b"]" * 400 + b",") * 201):
            many = b'{"messages":[%b0]}' % values
            self.assertEqual(estimate_tokens(many), tokens_of(many.decode()))

    def test_images_among_masses(self) -> None:
        """Of such a body, too, an image's data is no text: the request would be found too large for every model."""
        image = {"type": "image", "source": {"type": "base64", "data": "QUJD" * 500_000, "media_type": "image/png"}}
        text = "a,b " * 50_000
        for separators in ((",", ":"), (", ", ": ")):
            body = json.dumps({"messages": [[image, text, image, text]]}, separators=separators).encode()
            self.assertLess(abs(estimate_tokens(body) - 2 * IMAGE_TOKENS - 2 * tokens_of(text)), 100)
        quoted = json.dumps({"messages": ['"data": "' + text * 2]}).encode()
        self.assertLess(abs(estimate_tokens(quoted) - 2 * tokens_of(text)), 100)

    @settings(deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.sampled_from(["type", "source", "content", "image", "document", "id"]), inner)
            ),
        )
    )
    def test_any_json(self, value: Any) -> None:
        """No shape of a request makes it raise."""
        for key in ("messages", "tools", "system"):
            self.assertGreaterEqual(estimate_tokens(json.dumps({key: value}).encode()), 1)

    def test_text(self) -> None:
        """No text is no tokens, any text is at least one."""
        self.assertEqual([tokens_of(""), tokens_of("a"), tokens_of("a" * 7)], [0, 1, 2])
