"""The backends that a session is dealt to: what goes up to each, and what comes of its answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from claudeproxyd.executors.bedrock.body import Allowed, invoke_model_request
from claudeproxyd.executors.bedrock.reader import ChunkedClaudeReader, without_bedrocks_own
from claudeproxyd.executors.responses import read_message
from claudeproxyd.messages.minted import without_minted
from claudeproxyd.messages.passthrough import ClaudeReader
from claudeproxyd.messages.rectify import without_thinking
from claudeproxyd.translate.signatures import Signatures
from tests.executors.bedrock.invoke_model import fault
from tests.framing.event_messages import chunk
from tests.golden import facts
from tests.golden.cases import Case
from tests.golden.checks import Checks
from tests.golden.every import answers, claude
from tests.golden.every.answers import Json, Saying
from tests.golden.families import FAMILIES
from tests.golden.families.family import Family
from tests.golden.test_converse import CHECKS as CONVERSE
from tests.golden.test_converse_properties import OWN_WORDS as OWN_OF_CONVERSE
from tests.golden.test_gemini import CHECKS as GEMINI
from tests.golden.test_openai_chat import CHECKS as CHAT
from tests.golden.test_openai_chat_properties import OWN as OWN_OF_CHAT
from tests.golden.test_openai_responses import CHECKS as RESPONSES
from tests.messages.accumulate import accumulate
from tests.store.support import exported

#: What a session does not ask for, or what some models cannot be told.
UNASKED = ("thought", "temperature", "top_p", "top_k", "stop")


@dataclass(frozen=True)
class Traits:
    """What a model does with its reasoning, and what it cannot be told."""

    group: str = ""
    """Models of one take back each other's reasoning; '': this one takes none."""
    signs: bool = False
    """What goes back is signed or sealed."""
    recalls: bool = False
    """Reasoning that the client was not shown goes back all the same, by memory of the calls behind it."""
    sees: bool = True
    """It takes images."""
    forces: bool = True
    """It can be made to call a tool."""


class Backend(Protocol):
    """One of them."""

    name: str
    folder: str
    """Those of one share what is remembered."""
    model: str
    kind: str
    """Of Google's APIs the provider's, of chat completions the server's name; else nothing."""
    traits: Traits

    def send(self, request: Json, memory: Signatures) -> Json:
        """Return the body that goes up for the client's *request*, judged strictly. Raises Unsupported."""

    def judge(self, request: Json, body: Json, remembered: Collection[str]) -> None:
        """Raise for what the upstream would refuse of *body*, and for what is not what the client's *request* says.

        *remembered*: signatures that it may be shown though the client does not bring them.
        """

    def tools(self, body: Json) -> Sequence[str]:
        """The names that the upstream was told, in the client's order."""

    def id(self, saying: int, at: int, name: str) -> str:
        """The id that the upstream gives a call: its *at*th of that answer."""

    def whole(self, saying: Saying) -> bytes:
        """The upstream's answer in one body."""

    def reads(self, saying: Saying) -> list[bytes]:
        """The same as a stream, in the reads in which it arrives."""

    def answer(self, request: Json, saying: Saying, memory: Signatures, *, streamed: bool) -> Json:
        """Return the message that the client gets."""

    def check_answer(self, request: Json, saying: Saying, message: Json) -> None:
        """Raise where the client got something else than what was said."""


@dataclass(frozen=True)
class Translated:
    """A backend behind a translator."""

    name: str
    folder: str
    checks: Checks
    says: Callable[[Saying], list[Json]]
    model: str
    id_form: str
    kind: str = ""
    own_words: Sequence[str] = ()
    traits: Traits = Traits()

    def _case(self, request: Json) -> Case:
        return Case(self.name, "", self.folder, self.model, self.kind, request=request)

    @property
    def _family(self) -> Family:
        return FAMILIES[self.folder]

    def send(self, request: Json, memory: Signatures) -> Json:
        body: Json = json.loads(self.checks.translator.translated(self._case(request), memory).body)
        kept: Any = exported(memory).values()
        self.judge(request, body, {each["signature"] for each in kept})
        return body

    def judge(self, request: Json, body: Json, remembered: Collection[str]) -> None:
        case, family = self._case(request), self._family
        family.check_request(body, case.place)
        lost = UNASKED if self.traits.forces else (*UNASKED, "choice")
        if request.get("tool_choice") == {"type": "none"} and not self.tools(body):
            lost = (*lost, "tool", "choice")
        signatures = {*case.signatures, *remembered}
        facts.compare_requests(family, request, body, own_words=self.own_words, signatures=signatures, lost=lost)

    def tools(self, body: Json) -> Sequence[str]:
        return [str(name) for _, name, *_ in self._family.tools(body)]

    def id(self, saying: int, at: int, name: str) -> str:
        return self.id_form.format(saying=saying, at=at, name=name)

    def whole(self, saying: Saying) -> bytes:
        _, body = next(iter(self._family.bodies(self.says(saying))))
        return body

    def reads(self, saying: Saying) -> list[bytes]:
        _, reads = next(iter(self._family.streams(self.says(saying))))
        return reads

    def answer(self, request: Json, saying: Saying, memory: Signatures, *, streamed: bool) -> Json:
        case = self._case(request)
        if not streamed:
            message: Json = self.checks.read_body(case, self.whole(saying), memory)
            return message
        batches, _ = self.checks.read_stream(case, self.reads(saying), memory)
        assert batches[-1].ended, "the stream does not end"
        return accumulate(b"".join(batch.frames for batch in batches))

    def check_answer(self, request: Json, saying: Saying, message: Json) -> None:
        chunks = self.says(saying)
        for each in chunks:
            self._family.check_answer(each)
        facts.compare_answers(self._family, chunks, message, request)


@dataclass(frozen=True)
class OwnWords:
    """Claude itself: at Anthropic, or on Bedrock by InvokeModel."""

    name: str
    folder: str = "claude"
    on_bedrock: bool = False
    model: str = "claude-opus-5-5"
    kind: str = ""
    traits: Traits = Traits(group="claude", signs=True)

    def send(self, request: Json, memory: Signatures) -> Json:
        sent = json.dumps(request).encode()
        if claude.is_unsigned(request):  # what is refused for it is sent once more
            sent = without_thinking(sent)
        if self.on_bedrock:
            sent = invoke_model_request(sent, self.model, "bedrock-2023-05-31", (), Allowed()).body
        else:
            sent = without_minted(sent)
        body: Json = json.loads(sent)
        self.judge(request, body, ())
        return body

    def judge(self, request: Json, body: Json, remembered: Collection[str]) -> None:
        if self.on_bedrock:
            assert not fault(body), fault(body)
            assert body["anthropic_version"] == "bedrock-2023-05-31"
            body = {"model": self.model, **{name: body[name] for name in body.keys() - {"anthropic_version"}}}
        claude.check_request(body)
        facts.compare_requests(claude.Claude(), request, body, lost=UNASKED)  # type: ignore[arg-type]

    def tools(self, body: Json) -> Sequence[str]:
        return [tool["name"] for tool in body["tools"]]

    def id(self, saying: int, at: int, name: str) -> str:
        return f"toolu_{saying:012}{at:012}"

    def whole(self, saying: Saying) -> bytes:
        message = answers.claude_message(saying)
        return json.dumps({**message, "amazon-bedrock-invocationMetrics": {}} if self.on_bedrock else message).encode()

    def reads(self, saying: Saying) -> list[bytes]:
        events = [json.dumps(event, separators=(",", ":")).encode() for event in answers.claude_events(saying)]
        return [(chunk if self.on_bedrock else _frame)(event) for event in events]

    def answer(self, request: Json, saying: Saying, memory: Signatures, *, streamed: bool) -> Json:
        if not streamed:
            message: Json = json.loads(read_message(without_bedrocks_own(self.whole(saying))).body)
            return message
        reader = (ChunkedClaudeReader if self.on_bedrock else ClaudeReader)(1 << 20)
        batch = reader.feed(b"".join(self.reads(saying)))
        assert batch.ended, "the stream does not end"
        return accumulate(batch.frames)

    def check_answer(self, request: Json, saying: Saying, message: Json) -> None:
        assert message["content"] == answers.claude_blocks(saying), message


def _frame(event: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (json.loads(event)["type"].encode(), event)


def _chat(name: str, kind: str, model: str, member: str, id_form: str, traits: Traits = Traits()) -> Translated:
    says = partial(answers.chat, member=member)
    return Translated(name, "openai_chat", CHAT, says, model, id_form, kind, OWN_OF_CHAT, traits)


def _converse(name: str, model: str, id_form: str, traits: Traits) -> Translated:
    says = partial(answers.converse, signs=traits.signs)
    return Translated(name, "converse", CONVERSE, says, model, id_form, own_words=OWN_OF_CONVERSE, traits=traits)


def _gemini(name: str, kind: str, id_form: str) -> Translated:
    traits = Traits(group="gemini", signs=True, recalls=True)
    return Translated(name, "gemini", GEMINI, answers.gemini, "gemini-3-pro-preview", id_form, kind, traits=traits)


def _responses(name: str, model: str, traits: Traits) -> Translated:
    says = partial(answers.responses, is_open=not traits.signs)
    id_form = "call_{saying:020}{at:04}"
    own_words = ("The tool failed:",)
    return Translated(name, "openai_responses", RESPONSES, says, model, id_form, own_words=own_words, traits=traits)


_DEEPSEEK = Traits(group="deepseek", recalls=True, sees=False, forces=False)
_KIMI = Traits(group="kimi", recalls=True, forces=False)
_GLM = Traits(group="glm by chat", recalls=True, sees=False, forces=False)
_MINIMAX = Traits(group="minimax", recalls=True, sees=False, forces=False)
_QWEN = Traits(sees=False, forces=False)

BACKENDS: Sequence[Backend] = (
    OwnWords("Anthropic"),
    OwnWords("Claude on Bedrock", on_bedrock=True),
    OwnWords("an older Claude on Bedrock", on_bedrock=True, model="claude-sonnet-4-20250514"),
    _gemini("Gemini", "gemini", ""),
    _gemini("Gemini on Vertex", "vertex", "{name}-{saying}-{at}"),
    # ids that come again with every answer
    _chat("a server that nobody knows", "", "some-model", "", "call_{at}"),
    _chat("DeepSeek", "deepseek", "deepseek-v4", "reasoning_content", "call_{at}_{saying}", _DEEPSEEK),
    _chat("Kimi", "kimi", "kimi-k2.6", "reasoning_content", "functions.{name}:{at}", _KIMI),
    _chat("OpenAI", "openai", "gpt-5", "", "call_{saying:020}{at:04}"),
    _chat("OpenAI's latest", "openai", "gpt-5.4", "", "call_{saying:020}{at:04}"),
    _chat("llama.cpp", "llamacpp", "some-model", "reasoning_content", "{saying:016}{at:016}"),
    _chat(
        "OpenRouter",
        "openrouter",
        "z-ai/glm-4.6",
        "reasoning_details",
        "call_{saying}_{at}",
        Traits(group="glm by chat"),
    ),
    _chat("Mistral", "mistral", "mistral-large-latest", "", "{saying:06}{at:03}"),
    _chat("Azure", "azure", "gpt-4.1", "", "call_{saying:020}{at:04}"),
    _chat("GLM", "glm", "glm-4.6", "reasoning_content", "call_{saying}_{at}", _GLM),
    _chat("MiniMax", "minimax", "MiniMax-M2", "reasoning_details", "call_function_{saying}_{at}", _MINIMAX),
    _chat("Qwen", "qwen", "qwen3-235b-a22b", "reasoning_content", "call_{saying:06}{at:04}", _QWEN),
    _chat("Groq", "groq", "openai/gpt-oss-120b", "reasoning", "fc_{saying:06}{at:04}", Traits(sees=False)),
    _chat("xAI", "xai", "grok-4", "reasoning_content", "call_{saying:06}{at:04}"),
    _chat("vLLM", "vllm", "some-model", "reasoning", "chatcmpl-tool-{saying:016}{at:06}"),
    _chat("Ollama", "ollama", "qwen3:8b", "reasoning", "call_{saying:06}{at:04}"),
    _responses("the Responses API", "gpt-5.4", Traits(group="openai", signs=True)),
    _responses("gpt-oss by the Responses API", "gpt-oss-120b", Traits(group="gpt-oss by responses")),
    _converse("Nova", "us.amazon.nova-pro-v1:0", "tooluse_{saying:016}{at:06}", Traits()),
    _converse("Nova 2", "us.amazon.nova-2-lite-v1:0", "tooluse_{saying:016}{at:06}", Traits()),
    _converse(
        "gpt-oss on Bedrock",
        "openai.gpt-oss-120b-1:0",
        "chatcmpl-tool-{saying:016}{at:06}",
        Traits(group="gpt-oss on Bedrock", sees=False, forces=False),
    ),
    _converse(
        "GLM on Bedrock",
        "zai.glm-5.3",
        "call_{saying:016}{at:06}",
        Traits(group="glm on Bedrock", signs=True, sees=False),
    ),
)
