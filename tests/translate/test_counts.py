"""What an upstream has counted is what it has counted, though we had guessed the same."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.messages.usage import Usage
from claudeproxyd.translate.openai_responses import ending
from tests.translate.converse import answering as converse
from tests.translate.gemini import answering as gemini
from tests.translate.openai_chat import answering as chat


class Counts(SynchronousTestCase):
    """Of each family: an input of 40 tokens, which was told as guessed at the stream's beginning."""

    def check(self, usage: Usage) -> None:
        """It is the upstream's figure."""
        self.assertEqual((usage.input, usage.guessed, usage.estimated, usage.counted_input), (40, False, False, 40))

    def guessed(self, answer: Any) -> Any:
        """An answer whose beginning has gone out."""
        usage = answer.machine.usage
        usage.input = usage.guessed_input = 40
        return answer

    def test_gemini(self) -> None:
        answer = self.guessed(gemini.Answer())
        counts = {"promptTokenCount": 40, "candidatesTokenCount": 8}
        answer.body(gemini.sse({**gemini.chunk(gemini.text("hi"), finish="STOP"), "usageMetadata": counts}))
        self.check(answer.reader.usage)

    def test_chat(self) -> None:
        answer = self.guessed(chat.Answer())
        answer.body(chat.sse(chat.chunk(content="hi"), chat.chunk("stop")))
        self.check(answer.reader.usage)

    def test_responses(self) -> None:
        usage = Usage()
        usage.input = usage.guessed_input = 40
        ending.count(usage, {"input_tokens": 40, "output_tokens": 8})
        self.check(usage)

    def test_converse(self) -> None:
        answer = self.guessed(converse.Answer())
        counted = {"metadata": {"usage": {"inputTokens": 40, "outputTokens": 8, "totalTokens": 48}}}
        begun = {"messageStart": {"role": "assistant"}}
        answer.body(converse.stream(begun, converse.text(0, "hi"), converse.stop(0), converse.end(), counted))
        self.check(answer.reader.usage)
