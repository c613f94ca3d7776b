"""What the models behind the Converse API differ in: a table of *capabilities* by the model's id.

From AWS's user guide and model cards, and from what the API was seen to take and to refuse, all as of :data:`AS_OF`.
A model that the table does not know gets what every one of them takes: it is told the least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache

#: When the table was last held against what is known.
AS_OF = "2026-11-29"


@dataclass(frozen=True, slots=True)
class Effort:
    """How a model is told how much to reason: by a word in ``additionalModelRequestFields``."""

    path: tuple[str, ...]
    """The members that lead to the word."""
    levels: tuple[str, ...]
    """The words that it takes, in Claude's own terms, the least first."""
    off: str | None
    """The word for no reasoning; '' where that is said by saying nothing, None where it cannot be."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """What has to stand beside the word."""


def nested(path: Sequence[str], value: object, beside: Mapping[str, object] | None = None) -> dict[str, object]:
    """Return members of ``additionalModelRequestFields`` that lead to *value*, with those that stand beside it."""
    *before, last = path
    fields: dict[str, object] = {**(beside or {}), last: value}
    for member in reversed(before):
        fields = {member: fields}
    return fields


@dataclass(frozen=True, slots=True)
class ConverseCapabilities:
    """The features and limits of one model."""

    maker: str = ""
    """Whose reasoning it takes back: the word that its own is marked with. Of a model without one, its id."""
    system: bool = True
    """It has a system prompt; else the user has to say it."""
    images: bool = True
    documents: bool = True
    tools: bool = True
    streams_tools: bool = True
    """It streams when it has tools; else its answer has to be asked for whole."""
    choices: tuple[str, ...] = ()
    """Those of ``any`` and ``tool`` that ``toolChoice`` takes."""
    inlines: bool = False
    """Schemas are to have no references: it refuses definitions, or does not see them."""
    schema_members: tuple[str, ...] = ()
    """The only members of a schema that it takes on the top level; (): all."""
    status: bool = False
    """Results may have a ``status``."""
    in_results: tuple[str, ...] = ()
    """Those of ``image`` and ``document`` that a result may hold; others follow the results."""
    tools_alone: bool = False
    """A message with calls or results may hold nothing else."""
    cache: bool = False
    """It takes ``cachePoint`` behind texts of the system prompt, and of messages without calls and results."""
    effort: Effort | None = None
    """None: it does not reason, or nobody knows how to tell it."""
    takes_sealed: bool = True
    """It takes back reasoning that it has signed or encrypted."""
    takes_unsigned: bool = False
    """It takes back reasoning that nobody has signed."""
    sampling: bool = True
    """It takes ``temperature`` and ``topP``."""
    top_k: tuple[str, ...] = ()
    """The members of ``additionalModelRequestFields`` that lead to ``top_k``; (): it has none."""
    most_top_k: int = 128
    json_schema: bool = False
    """It takes ``outputConfig.textFormat``."""
    least_output_tokens: int = 1
    """It refuses to be held to fewer."""
    max_output_tokens: int | None = None


#: Content is passed to a model that nobody knows, in the form that every one takes, and it refuses what it cannot read;
#: wishes are not. It is taken to stream: nearly all do.
_UNKNOWN = ConverseCapabilities(tools_alone=True)

_FIVE = ("low", "medium", "high", "xhigh", "max")

# "High" is for requests without maxTokens alone, which a client's max_tokens would not be held by.
_NOVA_EFFORT = Effort(("reasoningConfig", "maxReasoningEffort"), ("low", "medium"), "", {"type": "enabled"})
_NOVA = ConverseCapabilities(
    maker="nova",
    choices=("any", "tool"),
    inlines=True,
    schema_members=("type", "properties", "required"),
    status=True,
    in_results=("image",),  # of documents it takes those of text alone there
    cache=True,
    takes_sealed=False,
    top_k=("inferenceConfig", "topK"),
    max_output_tokens=10_000,
)
_TEXT_ONLY = ConverseCapabilities(images=False, documents=False, tools=False, takes_sealed=False)
_DEEPSEEK = ConverseCapabilities(
    maker="deepseek", images=False, choices=("any",), status=True, takes_sealed=False, json_schema=True
)
_LLAMA = ConverseCapabilities(
    maker="llama",
    streams_tools=False,
    status=True,
    in_results=("image", "document"),
    tools_alone=True,
    takes_sealed=False,
)
_OLD_LLAMA = replace(_LLAMA, images=False, max_output_tokens=4_096)
_MISTRAL = ConverseCapabilities(
    maker="mistral",
    streams_tools=False,
    status=True,
    in_results=("document",),
    tools_alone=True,
    takes_sealed=False,
)
_OLD_MISTRAL = replace(_MISTRAL, images=False, max_output_tokens=8_191)
_MISTRAL_BY_SCHEMA = replace(_MISTRAL, json_schema=True)
_KIMI = ConverseCapabilities(maker="kimi", choices=("any",), status=True, takes_unsigned=True, json_schema=True)
_MINIMAX = ConverseCapabilities(maker="minimax", images=False, status=True, takes_unsigned=True, json_schema=True)
_GPT = ConverseCapabilities(
    maker="gpt",
    choices=("any", "tool"),
    status=True,
    effort=Effort(("reasoning", "effort"), _FIVE, "none"),
    sampling=False,
    least_output_tokens=16,
    max_output_tokens=128_000,
)
_GPT_THAT_REASONS = replace(_GPT, effort=Effort(("reasoning", "effort"), _FIVE, None))
_GPT_OSS = ConverseCapabilities(
    maker="gpt-oss",
    images=False,
    inlines=True,
    status=True,
    effort=Effort(("reasoning_effort",), ("low", "medium", "high"), None),
    takes_sealed=False,
    takes_unsigned=True,
    max_output_tokens=16_384,
)
_QWEN = ConverseCapabilities(maker="qwen", images=False, documents=False, status=True, json_schema=True)
_QWEN_THAT_REASONS = replace(_QWEN, effort=Effort(("reasoning_config",), ("low", "medium", "high"), ""))
_GLM = ConverseCapabilities(
    maker="glm",
    images=False,
    choices=("any",),
    status=True,
    effort=Effort(("reasoning_effort",), ("high",), ""),
    json_schema=True,
)
_PALMYRA = ConverseCapabilities(maker="palmyra", streams_tools=False, tools_alone=True, takes_sealed=False)

#: The first glob that fits holds; of the id without its region.
_CAPABILITIES: tuple[tuple[str, ConverseCapabilities], ...] = (
    ("amazon.nova-2-*", replace(_NOVA, effort=_NOVA_EFFORT, max_output_tokens=64_000)),
    ("amazon.nova-micro-*", replace(_NOVA, images=False, documents=False)),
    ("amazon.nova-*", _NOVA),
    ("amazon.titan-*", replace(_TEXT_ONLY, documents=True, system=False)),
    ("ai21.jamba-1-5-*", replace(_UNKNOWN, images=False, max_output_tokens=4_096)),
    ("ai21.*", replace(_TEXT_ONLY, max_output_tokens=4_096)),
    ("cohere.command-r-*", replace(_UNKNOWN, images=False, max_output_tokens=4_000)),
    ("cohere.command-*", replace(_TEXT_ONLY, system=False, max_output_tokens=4_000)),
    ("deepseek.r1-*", replace(_TEXT_ONLY, maker="deepseek-r1", documents=True, max_output_tokens=32_768)),
    ("deepseek.v3.2*", replace(_DEEPSEEK, effort=Effort(("reasoning_effort",), ("high",), ""))),
    ("deepseek.v3*", _DEEPSEEK),
    ("google.gemma-3-12b-*", ConverseCapabilities(maker="gemma", status=True, json_schema=True)),
    ("google.gemma-3-27b-*", ConverseCapabilities(maker="gemma", status=True, json_schema=True)),
    ("meta.llama4-*", replace(_LLAMA, max_output_tokens=8_192)),
    ("meta.llama3-2-11b-*", replace(_OLD_LLAMA, images=True)),
    ("meta.llama3-2-90b-*", replace(_OLD_LLAMA, images=True)),
    ("meta.llama3-2-*", replace(_OLD_LLAMA, tools=False)),
    ("meta.llama3-1-*", _OLD_LLAMA),
    ("meta.llama3-3-*", _OLD_LLAMA),
    ("meta.llama[23]-*", replace(_OLD_LLAMA, tools=False, max_output_tokens=2_048)),
    ("meta.*", _LLAMA),
    ("minimax.*", _MINIMAX),
    ("mistral.mistral-7b-*", replace(_OLD_MISTRAL, system=False, tools=False)),
    ("mistral.mixtral-*", replace(_OLD_MISTRAL, system=False, tools=False)),
    ("mistral.mistral-large-24*", replace(_OLD_MISTRAL, choices=("any",))),
    ("mistral.mistral-small-24*", _OLD_MISTRAL),
    ("mistral.mistral-large-*", replace(_MISTRAL_BY_SCHEMA, choices=("any",))),
    ("mistral.ministral-3-*", _MISTRAL_BY_SCHEMA),
    ("mistral.magistral-small-*", _MISTRAL_BY_SCHEMA),
    ("mistral.voxtral-*", _MISTRAL_BY_SCHEMA),
    ("mistral.*", _MISTRAL),
    ("moonshot*.kimi-k3*", replace(_KIMI, least_output_tokens=16)),
    ("moonshot*.*", _KIMI),
    ("nvidia.nemotron-nano-*", ConverseCapabilities(maker="nemotron", status=True, json_schema=True)),
    ("openai.gpt-oss-*", _GPT_OSS),
    ("openai.gpt-6-astra*", _GPT_THAT_REASONS),
    ("openai.gpt-6.1-sol*", _GPT_THAT_REASONS),
    ("openai.gpt-*", _GPT),
    ("qwen.qwen3-coder-*", _QWEN),
    ("qwen.qwen3-vl-*", replace(_QWEN_THAT_REASONS, images=True)),
    ("qwen.qwen3-*", _QWEN_THAT_REASONS),
    ("writer.palmyra-vision-*", replace(_PALMYRA, tools=False)),
    ("writer.*", _PALMYRA),
    ("xai.grok-*", replace(_GPT, maker="grok", effort=Effort(("reasoning", "effort"), _FIVE[:4], None))),
    ("zai.glm-5.3*", replace(_GLM, choices=("any", "tool"), effort=Effort(("reasoning_effort",), _FIVE, None))),
    ("zai.*", _GLM),
)


@lru_cache(maxsize=256)
def capabilities_of(model: str) -> ConverseCapabilities:
    """Return the capabilities by a model's id, a profile's (with a region in front), or the ARN of either.

    What an application's own profile or an imported model is cannot be told from its ARN: it is unknown.
    """
    name = model.rpartition("/")[2]
    names = (name, name.partition(".")[2])
    known = (capabilities for glob, capabilities in _CAPABILITIES if any(fnmatchcase(each, glob) for each in names))
    capabilities = next(known, _UNKNOWN)
    return capabilities if capabilities.maker else replace(capabilities, maker=name)
