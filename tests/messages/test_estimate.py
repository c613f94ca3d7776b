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
    MAX_BYTES,
    PAGE_TOKENS,
    TOOLS_TOKENS,
    Measure,
    estimate_tokens,
    image_tokens,
    measure,
    tokens_of,
)
from claudeproxyd.messages.text_tokens import LARGE, MAX_SAMPLE, counted, weighed


def request(*content: Any, **members: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": list(content)}], **members}).encode()


class EstimateTests(SynchronousTestCase):
    """What count_tokens answers where no upstream can be asked."""

    def test_prose(self) -> None:
        """Common English words are a token each, or little more."""
        text = "the quick brown fox jumps over a lazy dog " * 111
        self.assertTrue(900 <= estimate_tokens(request({"type": "text", "text": text})) <= 1300)

    def test_other_scripts(self) -> None:
        """A Chinese character counts nearly a token, whether the client escapes it in JSON or not."""
        text = "\u4f60\u597d" * 500
        plain = json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()
        escaped = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
        self.assertEqual(estimate_tokens(plain), estimate_tokens(escaped))
        self.assertTrue(700 <= estimate_tokens(plain) <= 900)
        # Vocabularies of the smaller kind have few words of Chinese.
        self.assertTrue(1600 <= estimate_tokens(plain, "SmolLM2") <= 2000)

    def test_system_and_tools_count(self) -> None:
        """The whole prompt counts, not only the turns."""
        bare = estimate_tokens(request())
        words = "a word or two " * 50
        self.assertGreater(estimate_tokens(request(system=words)), bare + 150)
        tool = {"name": "t", "description": words, "input_schema": {"type": "object"}}
        self.assertGreater(estimate_tokens(request(tools=[tool])), bare + TOOLS_TOKENS + 150)
        builtin = {"type": "bash_20250124", "name": "bash"}
        self.assertGreater(estimate_tokens(request(tools=[builtin])), bare + TOOLS_TOKENS + BUILTIN_TOOL_TOKENS)

    def test_numbers_count(self) -> None:
        """A call's numbers are text to the model, and the longer ones more of it."""
        short, long = (
            estimate_tokens(request({"type": "tool_use", "id": "i", "name": "n", "input": {"a": [value] * 700}}))
            for value in (1, 123_456_789)
        )
        self.assertGreater(short, 700)
        self.assertGreater(long, 1.5 * short)

    def test_tool_results_count(self) -> None:
        """What a tool brought is most of an agent's prompt, and counts."""
        result = {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "content": [{"type": "text", "text": "yes, no " * 900}],
        }
        self.assertGreater(estimate_tokens(request(result)), 1990)

    def test_images_by_the_piece(self) -> None:
        """Where its dimensions are not found an image counts as the largest, inside a tool's result too."""
        for size in (10, 100_000):
            source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(bytes(size)).decode()}
            image = {"type": "image", "source": source}
            alone = estimate_tokens(request(image)) - estimate_tokens(request())
            self.assertEqual(alone, IMAGE_TOKENS)
            nested = estimate_tokens(request({"type": "tool_result", "content": [image]}))
            self.assertTrue(IMAGE_TOKENS < nested < IMAGE_TOKENS + 40)

    def test_images_by_their_dimensions(self) -> None:
        """An image counts by its pixels, as far as it is not scaled down."""
        self.assertEqual(image_tokens((200, 200)), 54)
        self.assertEqual(image_tokens((1000, 1000)), 1334)
        self.assertEqual(image_tokens((4000, 4000)), IMAGE_TOKENS)
        self.assertEqual(image_tokens((3136, 400)), image_tokens((1568, 200)))
        png = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\xc8\0\0\0\xc8" + bytes(50_000)).decode()
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}}
        self.assertEqual(estimate_tokens(request(image)) - estimate_tokens(request()), 54)

    def test_a_sample_stands_for_the_rest(self) -> None:
        """A long text costs no more work than a short one, and what is spread over it is all seen."""
        text = "".join(f"Chapter {number}. It was a dark night; 你好 she said.\n" for number in range(20_000))
        whole = sum(weighed(counted(text[:MAX_SAMPLE]), LARGE)) * len(text) / MAX_SAMPLE
        self.assertLess(abs(sum(weighed(counted(text), LARGE)) / whole - 1), 0.05)

    def test_documents(self) -> None:
        """A PDF counts by its pages, as it names them or by its size; a document of plain text by its text."""

        def tokens(**source: str) -> int:
            return estimate_tokens(request({"type": "document", "source": source})) - estimate_tokens(request())

        tree = b"%PDF-1.7 << /Type /Pages /Count 12 /Kids [] >> << /Type /Pages /Count 4 >>"
        for filling in (b"", bytes(600_000)):
            for pdf in (tree + filling, filling + tree):
                data = base64.b64encode(pdf).decode()
                self.assertEqual(tokens(type="base64", data=data), 12 * PAGE_TOKENS)
        self.assertEqual(tokens(type="base64", data="A" * 400_000), 5 * PAGE_TOKENS)
        self.assertEqual(tokens(type="base64", data="?"), PAGE_TOKENS)
        self.assertEqual(tokens(type="url", url="https://example.com/a.pdf"), DOCUMENT_TOKENS)
        self.assertTrue(1000 < tokens(type="text", media_type="text/plain", data="a b " * 1500) < 4000)

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
        self.assertGreater(estimate_tokens(b"x, " * 35), 10)
        self.assertGreater(estimate_tokens(b"[" * 100_000), 1000)
        deep = b'{"messages":' + b"[" * 900 + b"]" * 900 + b"}"
        self.assertGreaterEqual(estimate_tokens(deep), 1)

    def test_masses_are_counted_by_length(self) -> None:
        """A body of very many values is not taken apart: nothing else would be served meanwhile."""
        for values in (b"0," * 80_001, b"[],{}," * 40_000, (b"[" * 400 + b"]" * 400 + b",") * 201):
            many = b'{"messages":[%b0]}' % values
            self.assertEqual(measure(many), Measure(counted(many.decode()), 0))

    def test_images_among_masses(self) -> None:
        """Of such a body, too, an image's data is no text: the request would be found too large for every model."""
        image = {"type": "image", "source": {"type": "base64", "data": "QUJD" * 500_000, "media_type": "image/png"}}
        text = "a,b " * 50_000
        for separators in ((",", ":"), (", ", ": ")):
            body = json.dumps({"messages": [[image, text, image, text]]}, separators=separators).encode()
            found = measure(body)
            self.assertEqual(found.opaque, 2 * IMAGE_TOKENS)
            self.assertLess(abs(sum(weighed(found.text, LARGE)) / sum(weighed(counted(text * 2), LARGE)) - 1), 0.02)
        quoted = json.dumps({"messages": ['"data": "' + text * 2]}).encode()
        self.assertEqual(measure(quoted).opaque, 0)

    def test_large_bodies(self) -> None:
        """A body above 1 MiB is not taken apart either, and comes to what it would come to if it were."""
        lines = "".join(f'{number}: she said "no", \u4f60\u597d.\n\tAnd then\u2026\n' for number in range(5_000))
        pdf = base64.b64encode(b"%PDF-1.7 << /Type /Pages /Count 12 >>" + bytes(100_000)).decode()
        content = [
            {"type": "thinking", "thinking": lines, "signature": "QUJD" * 50_000},
            {"type": "document", "source": {"type": "base64", "data": pdf}},
            {"type": "text", "text": lines},
        ]
        body = request(*content)
        self.assertLess(len(body), MAX_BYTES)
        tokens = estimate_tokens(body)
        for escaped in (True, False):
            large = json.dumps(
                {**json.loads(body), "metadata": {"signature": "x" * MAX_BYTES}}, ensure_ascii=escaped
            ).encode()
            self.assertLess(abs(estimate_tokens(large) / tokens - 1), 0.1)

    def test_many_looks(self) -> None:
        """Who repeats what stands before an image's data does not have the whole body looked through for it."""
        values = b'{"data":"%b"},' % (b"A" * 300)
        found = measure(b'{"messages":[' + values * 20_000 + b"1]}").opaque
        self.assertEqual(found, 10_000 * IMAGE_TOKENS)

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
