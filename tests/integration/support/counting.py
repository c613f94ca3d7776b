"""How each family's API says what it has counted, for an upstream that keeps books."""

from __future__ import annotations

import json
from typing import Any, Protocol

from tests.framing.event_messages import chunk as packed
from tests.integration.support import answers, bedrock, chat, gemini, responses
from tests.integration.support.upstream import Answer

Json = dict[str, Any]


class Counted(Protocol):
    """What was counted of one attempt."""

    input: int
    read: int
    """From caches."""
    output: int


class Claude:
    """The Messages API: it says at the start what went in."""

    kind = "anthropic"
    model = "claude-opus-5-5"
    settings = ""
    """More lines of its credentials."""
    streamed = "text/event-stream"
    overloaded: Answer = staticmethod(answers.error(529, "overloaded_error", "Overloaded"))

    @staticmethod
    def usage(counted: Counted) -> Json:
        return {
            "input_tokens": counted.input,
            "cache_read_input_tokens": counted.read,
            "output_tokens": counted.output,
        }

    def whole(self, counted: Counted, text: str) -> bytes:
        """A message."""
        return json.dumps(answers.message(text, usage=self.usage(counted))).encode()

    def start(self, counted: Counted) -> bytes:
        """What a stream begins with."""
        begun = answers.message(content=[], stop_reason=None, usage=self.usage(counted))
        return answers.frame({"type": "message_start", "message": begun}) + answers.start_frames()[1]

    def delta(self, text: str) -> bytes:
        """A piece of text."""
        return answers.text_frame(text)

    def end(self, counted: Counted, text: str) -> bytes:
        """What a stream ends with, *text* being all of it."""
        stop, _, over = answers.end_frames()
        last = {"stop_reason": "end_turn", "stop_sequence": None}
        return stop + answers.frame({"type": "message_delta", "delta": last, "usage": self.usage(counted)}) + over


class Bedrock(Claude):
    """The same in Amazon's frames."""

    kind = "bedrock"
    model = bedrock.OPUS
    settings = 'region = "us-east-1"\n'
    streamed = "application/vnd.amazon.eventstream"
    overloaded: Answer = staticmethod(bedrock.refusal(503, "ServiceUnavailableException", "Too many connections"))

    def start(self, counted: Counted) -> bytes:
        return _packed(super().start(counted))

    def delta(self, text: str) -> bytes:
        return _packed(super().delta(text))

    def end(self, counted: Counted, text: str) -> bytes:
        return _packed(super().end(counted, text))


class Gemini:
    """generateContent: it says all at the end, caches within what went in."""

    kind = "gemini"
    model = "gemini-2.5-pro"
    settings = ""
    streamed = "text/event-stream"
    overloaded: Answer = staticmethod(gemini.error(503, "UNAVAILABLE", "The model is overloaded."))

    @staticmethod
    def last(counted: Counted, text: str) -> Json:
        usage = {
            "promptTokenCount": counted.input + counted.read,
            "cachedContentTokenCount": counted.read,
            "candidatesTokenCount": counted.output,
        }
        return {**gemini.said(text, finish="STOP"), "usageMetadata": usage}

    def whole(self, counted: Counted, text: str) -> bytes:
        return json.dumps(self.last(counted, text)).encode()

    def start(self, counted: Counted) -> bytes:
        return b""

    def delta(self, text: str) -> bytes:
        return gemini.frame(gemini.said(text))

    def end(self, counted: Counted, text: str) -> bytes:
        return gemini.frame(self.last(counted, ""))


class Chat:
    """Chat completions: likewise."""

    kind = "openai-chat"
    model = "gpt-4.1"
    settings = ""
    streamed = "text/event-stream"
    overloaded: Answer = staticmethod(chat.whole(chat.failure("overloaded", type="server_error"), 503))

    @staticmethod
    def usage(counted: Counted) -> Json:
        return {
            "prompt_tokens": counted.input + counted.read,
            "prompt_tokens_details": {"cached_tokens": counted.read},
            "completion_tokens": counted.output,
        }

    def whole(self, counted: Counted, text: str) -> bytes:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return json.dumps({**chat.delta(), "choices": [choice], "usage": self.usage(counted)}).encode()

    def start(self, counted: Counted) -> bytes:
        return chat.frame(chat.delta(role="assistant", content=""))

    def delta(self, text: str) -> bytes:
        return chat.frame(chat.delta(content=text))

    def end(self, counted: Counted, text: str) -> bytes:
        last = {**chat.delta(), "choices": [], "usage": self.usage(counted)}
        return b"".join(map(chat.frame, (chat.delta("stop"), last, "[DONE]")))


class Responses:
    """Responses: likewise."""

    kind = "openai-responses"
    model = "gpt-5.4"
    settings = ""
    streamed = "text/event-stream"
    overloaded: Answer = staticmethod(Chat.overloaded)

    @staticmethod
    def response(counted: Counted, text: str) -> Json:
        usage = {
            "input_tokens": counted.input + counted.read,
            "input_tokens_details": {"cached_tokens": counted.read},
            "output_tokens": counted.output,
        }
        return responses.response("completed", responses.numbered([text]), usage=usage)

    def whole(self, counted: Counted, text: str) -> bytes:
        return json.dumps(self.response(counted, text)).encode()

    def start(self, counted: Counted) -> bytes:
        begun = responses.events(responses.numbered([""]))
        return b"".join(map(responses.frame, begun[:3]))

    def delta(self, text: str) -> bytes:
        place = {"output_index": 0, "item_id": "msg_0_0", "content_index": 0}
        return responses.frame({"type": "response.output_text.delta", **place, "delta": text})

    def end(self, counted: Counted, text: str) -> bytes:
        ended = responses.events(responses.numbered([text]))[-3:]
        completed = {"type": "response.completed", "response": self.response(counted, text)}
        return b"".join(map(responses.frame, [*ended, completed]))


def _packed(frames: bytes) -> bytes:
    return b"".join(packed(each.partition(b"data: ")[2]) for each in frames.split(b"\n\n") if each)


Api = Claude | Gemini | Chat | Responses
ALL: tuple[Api, ...] = (Claude(), Bedrock(), Gemini(), Chat(), Responses())
