"""What servers of chat completions differ in: a table by host, one by model, and an operator's settings over both.

A member that a server does not know may be refused (Mistral answers 422), so what is not known of a server is not sent
to it: :data:`LEAST` is what all take. From the servers' own references, and from reports of what they refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

#: What a server can be said to take or to refuse, as settings name it.
FEATURES: Mapping[str, str] = {
    "temperature": "the member",
    "top_p": "the member",
    "top_k": "the member",
    "stop": "the member, of a server that says by `stop_reason` which sequence it met",
    "stream_options": "the member, without which there is no usage",
    "parallel_tool_calls": "the member",
    "safety_identifier": "the member: a digest of the client's `metadata.user_id`",
    "tool_choice": "a choice other than auto and none",
    "tool_choice_none": 'the word "none"; else the tools are left out',
    "json_schema": "`response_format` with a schema",
    "json_object": "`response_format` without one; the schema is told in words",
    "image": "images as data",
    "image_url": "images by URL, which it fetches",
    "pdf": "PDFs as data",
    "pdf_url": "PDFs by URL",
    "user_after_tool": "a user who speaks right after a tool's result",
}

#: The shapes in which a server is told to think.
THINKING = ("none", "reasoning_effort", "reasoning", "thinking", "enable_thinking", "chat_template_kwargs")
#: The members in which it takes its reasoning back.
REASONING_BACK = ("none", "reasoning_content", "reasoning", "reasoning_details", "content")
#: Efforts, from the least to the most.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

#: What all take.
LEAST = frozenset(
    ("temperature", "top_p", "stream_options", "tool_choice", "tool_choice_none", "json_schema", "image")
) | {"user_after_tool"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one model at one server is spoken to. The defaults are those of an unknown one."""

    server: str = ""
    """The name in :data:`SERVERS`; '' where the host is not known."""
    maker: str = ""
    """Whose model it is, as far as its name tells: its reasoning goes back to no other maker's."""
    takes: frozenset[str] = LEAST
    """Of :data:`FEATURES`."""
    max_tokens: str = "max_tokens"
    """The member's name: ``max_completion_tokens``, where the other is refused."""
    max_output: int | None = None
    """The most of it, where that is known."""
    system: str = "system"
    """The role that says the system's texts; ``user``, where there is no other."""
    thinking: str = "none"
    """Of :data:`THINKING`."""
    efforts: tuple[str, ...] = ()
    """Those that it has, the least first."""
    effort_with_tools: str = ""
    """The only one that it takes beside tools."""
    always_thinks: bool = False
    """It cannot be kept from thinking."""
    thinks_by_itself: bool = False
    """It thinks unless told not to."""
    free_choice: bool = False
    """While it thinks, no tool can be forced on it."""
    reasoning_back: str = "none"
    """Of :data:`REASONING_BACK`."""
    reasoning_demanded: bool = False
    """It refuses a call in its history that lacks the reasoning before it."""
    ids: str = ""
    """The form of calls' ids: ``nine`` letters and digits, ``kimi`` for ``functions.NAME:0``; else 40 characters."""
    members: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Sent with every request."""

    def has(self, feature: str) -> bool:
        """Whether it takes one of :data:`FEATURES`."""
        return feature in self.takes


class KnownServer(NamedTuple):
    """One row: a well-known server."""

    hosts: tuple[str, ...]
    dialect: Dialect


class ModelRow(NamedTuple):
    """One row: models, at some servers, and what is different with them."""

    servers: tuple[str, ...]
    """'' stands for unknown ones; ``*`` for all."""
    globs: tuple[str, ...]
    """Of a model's name in lower case, without the path before it."""
    changes: Mapping[str, Any]
    """Fields of :class:`Dialect`."""
    takes: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()


_OPENAI = Dialect(
    takes=LEAST | {"parallel_tool_calls", "safety_identifier", "image_url", "pdf"},
    max_tokens="max_completion_tokens",
)
_AZURE = replace(_OPENAI, takes=_OPENAI.takes - {"safety_identifier", "pdf"})

#: By the name that the setting ``dialect`` has for each.
SERVERS: Mapping[str, KnownServer] = {
    "openai": KnownServer(("api.openai.com", "*.api.openai.com"), _OPENAI),
    "azure": KnownServer(("*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com"), _AZURE),
    "openrouter": KnownServer(
        ("openrouter.ai", "*.openrouter.ai"),
        Dialect(
            takes=LEAST | {"parallel_tool_calls", "top_k", "image_url", "pdf", "pdf_url"},
            thinking="reasoning",
            efforts=("minimal", "low", "medium", "high", "xhigh"),
            thinks_by_itself=True,
            reasoning_back="reasoning_details",
        ),
    ),
    "deepseek": KnownServer(
        ("api.deepseek.com",),
        Dialect(
            takes=(LEAST - {"json_schema", "image"}) | {"json_object"},
            thinking="thinking",
            thinks_by_itself=True,
            free_choice=True,
            reasoning_back="reasoning_content",
            reasoning_demanded=True,
        ),
    ),
    "glm": KnownServer(
        ("api.z.ai", "open.bigmodel.cn"),
        Dialect(
            takes=(LEAST - {"json_schema", "tool_choice", "tool_choice_none"}) | {"json_object", "image_url"},
            thinking="thinking",
            thinks_by_itself=True,
            reasoning_back="reasoning_content",
        ),
    ),
    "kimi": KnownServer(
        ("api.moonshot.ai", "api.moonshot.cn", "api.kimi.com"),
        Dialect(reasoning_back="reasoning_content"),
    ),
    "minimax": KnownServer(
        ("api.minimax.io", "api.minimaxi.com", "api.minimax.chat"),
        Dialect(
            takes=LEAST - {"tool_choice", "tool_choice_none", "json_schema", "image"},
            thinking="thinking",
            always_thinks=True,
            reasoning_back="reasoning_details",
            members=MappingProxyType({"reasoning_split": True}),  # else it stands in the text, between tags
        ),
    ),
    "qwen": KnownServer(
        ("dashscope.aliyuncs.com", "dashscope-*.aliyuncs.com", "*.dashscope.aliyuncs.com"),
        Dialect(
            takes=LEAST | {"top_k", "parallel_tool_calls", "image_url"}, thinking="enable_thinking", free_choice=True
        ),
    ),
    "mistral": KnownServer(
        ("api.mistral.ai", "codestral.mistral.ai"),
        Dialect(
            takes=(LEAST - {"stream_options", "user_after_tool"}) | {"image_url", "parallel_tool_calls"},
            reasoning_back="content",
            ids="nine",
        ),
    ),
    "groq": KnownServer(("api.groq.com",), Dialect(takes=LEAST | {"parallel_tool_calls", "image_url"})),
    "xai": KnownServer(("api.x.ai", "*.api.x.ai"), Dialect(takes=LEAST | {"parallel_tool_calls", "image_url"})),
    "google": KnownServer(("generativelanguage.googleapis.com",), Dialect()),
    "vllm": KnownServer((), Dialect(takes=LEAST | {"top_k", "stop", "parallel_tool_calls"})),
    "llamacpp": KnownServer((), Dialect(takes=LEAST | {"top_k", "parallel_tool_calls"})),
    "ollama": KnownServer((), Dialect()),
}

_OF_OPENAI = ("openai", "azure", "")
_REASONS = ("temperature", "top_p")

#: Every row that fits is applied, in this order.
MODELS: tuple[ModelRow, ...] = (
    # OpenAI's own, wherever they stand; servers that nobody knows may lead to them
    ModelRow(("openai", "azure"), ("gpt-3.5*", "gpt-4-turbo*"), {"max_output": 4_096}),
    ModelRow(("openai", "azure"), ("gpt-4o*", "gpt-5*-chat*", "chatgpt-*"), {"max_output": 16_384}),
    ModelRow(("openai", "azure"), ("gpt-4.1*",), {"max_output": 32_768}),
    ModelRow(
        ("openai",), ("gpt-3.5*", "gpt-4", "gpt-4-[0-9]*", "gpt-4-turbo*"), {}, (), ("json_schema", "image", "pdf")
    ),
    ModelRow(
        _OF_OPENAI,
        ("o[134]", "o[134]-*"),
        {
            "max_tokens": "max_completion_tokens",
            "max_output": 100_000,
            "thinking": "reasoning_effort",
            "efforts": ("low", "medium", "high"),
        },
        (),
        (*_REASONS, "parallel_tool_calls"),
    ),
    ModelRow(
        _OF_OPENAI,
        ("o1-mini*", "o1-preview*"),
        {"thinking": "none", "efforts": (), "always_thinks": True, "system": "user", "max_output": 65_536},
        (),
        ("json_schema", "image", "pdf"),
    ),
    ModelRow(_OF_OPENAI, ("o3-mini*", "o1-mini*"), {}, (), ("image", "image_url", "pdf")),
    ModelRow(
        _OF_OPENAI,
        ("gpt-[5-9]*",),
        {
            "max_tokens": "max_completion_tokens",
            "max_output": 128_000,
            "thinking": "reasoning_effort",
            "efforts": ("minimal", "low", "medium", "high"),
        },
        (),
        _REASONS,
    ),
    ModelRow(_OF_OPENAI, ("gpt-5.1*",), {"efforts": ("none", "low", "medium", "high")}),
    ModelRow(_OF_OPENAI, ("gpt-5.[2-9]*", "gpt-5.[1-9][0-9]*", "gpt-[6-9]*"), {"efforts": ("none", *EFFORTS[2:6])}),
    ModelRow(_OF_OPENAI, ("gpt-5.[4-9]*", "gpt-5.[1-9][0-9]*", "gpt-[6-9]*"), {"effort_with_tools": "none"}),
    ModelRow(_OF_OPENAI, ("gpt-5*-pro*",), {"efforts": ("medium", "high", "xhigh"), "effort_with_tools": ""}),
    ModelRow(_OF_OPENAI, ("gpt-5-pro*",), {"efforts": ("high",)}),
    ModelRow(_OF_OPENAI, ("gpt-5*-codex*",), {"efforts": ("low", "medium", "high")}),
    ModelRow(
        _OF_OPENAI,
        ("gpt-5*-chat*",),
        {"thinking": "none", "efforts": (), "effort_with_tools": "", "max_output": 16_384},
        _REASONS,
    ),
    ModelRow(
        ("groq", "vllm", "llamacpp", "ollama", ""),
        ("gpt-oss*",),
        {"thinking": "reasoning_effort", "efforts": ("low", "medium", "high"), "max_output": None},
        _REASONS,
        ("image", "image_url", "pdf"),
    ),
    # OpenRouter
    ModelRow(
        ("openrouter",),
        ("deepseek-chat*", "deepseek-v*", "glm-*", "qwen3*", "kimi-k2.[5-9]*", "claude-*", "gemini-2.5-flash*"),
        {"efforts": ("none", "minimal", "low", "medium", "high", "xhigh")},
    ),
    # DeepSeek
    ModelRow(("deepseek",), ("deepseek-chat*",), {"max_output": 8_192}),
    ModelRow(
        ("deepseek",),
        ("deepseek-reasoner*", "deepseek-r*"),
        {"thinking": "none", "always_thinks": True, "max_output": 65_536},
        (),
        ("tool_choice",),
    ),
    # GLM
    ModelRow(("glm",), ("glm-[123]*", "glm-4", "glm-4-*"), {"thinking": "none", "thinks_by_itself": False}),
    ModelRow(
        ("glm",), ("glm-[4-9]", "glm-[4-9].[0-9]", "glm-[4-9].[0-9]-*", "glm-[4-9]-*"), {}, (), ("image", "image_url")
    ),
    ModelRow(("glm",), ("glm-*v", "glm-*v-*"), {}, ("image", "image_url")),
    # Kimi
    ModelRow(("kimi",), ("moonshot-v1*",), {"reasoning_back": "none"}),
    ModelRow(("kimi",), ("moonshot-v1-?k", "moonshot-v1-??k", "moonshot-v1-???k", "kimi-k2-*"), {}, (), ("image",)),
    ModelRow(
        ("kimi",),
        ("kimi-k2.[0-9]*", "kimi-k[3-9]*", "kimi-latest*", "kimi-for-coding*"),
        {"thinking": "thinking", "thinks_by_itself": True, "free_choice": True, "reasoning_demanded": True},
        (),
        _REASONS,
    ),
    ModelRow(
        ("kimi",),
        ("kimi-k2.7*", "kimi-k[3-9]*", "kimi-k2-thinking*"),
        {"thinking": "none", "always_thinks": True, "reasoning_demanded": True},
        (),
        ("tool_choice",),
    ),
    ModelRow(("*",), ("kimi-k2*", "kimi-k[3-9]*"), {"ids": "kimi"}),
    # MiniMax
    ModelRow(("minimax",), ("minimax-m[3-9]*",), {"always_thinks": False, "thinks_by_itself": True}, ("image",)),
    # Qwen
    ModelRow(
        ("qwen",), ("qwen-*", "qwen[12]*", "qwen3-coder*", "qwen3-max*", "*-instruct*"), {"thinks_by_itself": False}
    ),
    ModelRow(("qwen",), ("qwen3-coder*", "qwen[12]*", "*-instruct*"), {"thinking": "none", "free_choice": False}),
    ModelRow(("qwen",), ("qwq*", "*-thinking*"), {"thinking": "none", "always_thinks": True}, (), ("tool_choice",)),
    ModelRow(("qwen",), ("qwen*",), {}, (), ("image", "image_url")),
    ModelRow(("qwen",), ("qwen*vl*", "qvq*", "qwen3.[5-9]*", "qwen*omni*"), {}, ("image", "image_url")),
    # Mistral
    ModelRow(("mistral",), ("magistral*",), {"always_thinks": True}),
    ModelRow(
        ("mistral",), ("codestral*", "devstral-small-25*", "ministral-*-2410", "open-*"), {}, (), ("image", "image_url")
    ),
    # Groq
    ModelRow(("groq",), ("qwen*", "deepseek-r1*"), {"members": MappingProxyType({"reasoning_format": "parsed"})}),
    ModelRow(
        ("groq",),
        ("qwen*",),
        {"thinking": "reasoning_effort", "efforts": ("none", "default"), "thinks_by_itself": True},
    ),
    ModelRow(("groq",), ("qwen*", "deepseek-*", "llama-3*", "gpt-oss*", "kimi-*"), {}, (), ("image", "image_url")),
    ModelRow(("groq",), ("llama-*", "qwen*", "deepseek-*"), {}, (), ("json_schema",)),
    ModelRow(("groq",), ("llama-*", "qwen*", "deepseek-*"), {}, ("json_object",)),
    # xAI
    ModelRow(("xai",), ("grok-3-mini*",), {"thinking": "reasoning_effort", "efforts": ("low", "high")}),
    ModelRow(("xai",), ("grok-3*", "grok-code*"), {}, (), ("image", "image_url")),
    ModelRow(("xai",), ("grok-4*", "grok-[5-9]*", "grok-code*"), {"always_thinks": True}),
    ModelRow(("xai",), ("grok-*non-reasoning*",), {"always_thinks": False}),
    # Google's own endpoint of this kind
    ModelRow(("google",), ("gemini-2.5*", "gemini-[3-9]*"), {"thinking": "reasoning_effort"}),
    ModelRow(("google",), ("gemini-2.5-flash*",), {"efforts": ("none", "low", "medium", "high")}),
    ModelRow(("google",), ("gemini-2.5-pro*", "gemini-[3-9]*"), {"efforts": ("low", "medium", "high")}),
    # Makers whose models refuse or miss their reasoning, at servers that say how they take it by how they give it
    ModelRow(
        ("vllm", ""), ("deepseek-v*", "deepseek-r*", "glm-4.[5-9]*", "glm-[5-9]*"), {"reasoning_back": "as given"}
    ),
    ModelRow(("vllm", ""), ("kimi-k2*", "kimi-k[3-9]*", "minimax-m*", "gpt-oss*"), {"reasoning_back": "as given"}),
)

#: By how a model's name begins.
MAKERS: Mapping[str, tuple[str, ...]] = {
    "deepseek": ("deepseek",),
    "glm": ("glm", "chatglm", "zai-"),
    "kimi": ("kimi", "moonshot"),
    "minimax": ("minimax", "abab"),
    "mistral": ("mistral", "magistral", "ministral", "devstral", "codestral", "mixtral", "open-mi", "pixtral"),
    "qwen": ("qwen", "qwq", "qvq"),
    "openai": ("gpt", "o1", "o3", "o4", "chatgpt"),
    "xai": ("grok",),
    "google": ("gemini-", "gemma"),
    "claude": ("claude",),
}


class Overrides(NamedTuple):
    """What an operator has set for a server; '' and () leave it as the tables have it."""

    max_tokens: str = ""
    system: str = ""
    thinking: str = ""
    efforts: tuple[str, ...] = ()
    reasoning_back: str = ""
    takes: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()


def server_of(host: str) -> str:
    """Return the name of the well-known server at *host*, in lower case; '' for any other."""
    return next((name for name, server in SERVERS.items() if any(fnmatchcase(host, glob) for glob in server.hosts)), "")


#: Those of them that are fields of :class:`Dialect`.
_SETTABLE = ("max_tokens", "system", "thinking", "efforts", "reasoning_back")

NOTHING_SET = Overrides()


@lru_cache(maxsize=256)
def dialect_of(server: str, model: str, overrides: Overrides = NOTHING_SET) -> Dialect:
    """Return how *model*, by the upstream's name of it, is spoken to at *server* (a name in :data:`SERVERS`, or '')."""
    name = model.rpartition("/")[2].partition(":")[0].lower()
    known = SERVERS.get(server)
    dialect = replace(known.dialect if known else Dialect(), server=server, maker=_maker(name))
    for row in MODELS:
        if (server in row.servers or "*" in row.servers) and any(fnmatchcase(name, glob) for glob in row.globs):
            dialect = _changed(dialect, row.changes, row.takes, row.refuses)
    given: dict[str, Any] = {member: value for member in _SETTABLE if (value := getattr(overrides, member))}
    if overrides.thinking or overrides.efforts:
        given.setdefault("thinking", "reasoning_effort" if dialect.thinking == "none" else dialect.thinking)
        given |= {"always_thinks": False, "effort_with_tools": ""}
        if given["thinking"] in ("reasoning_effort", "reasoning"):
            given.setdefault("efforts", dialect.efforts or ("low", "medium", "high"))
    return _changed(dialect, given, overrides.takes, overrides.refuses)


def _changed(dialect: Dialect, changes: Mapping[str, Any], takes: Sequence[str], refuses: Sequence[str]) -> Dialect:
    return replace(dialect, **changes, takes=(dialect.takes - set(refuses)) | set(takes))


def _maker(name: str) -> str:
    """Return whose model it is; of one that nobody knows, its own name."""
    return next((maker for maker, beginnings in MAKERS.items() if name.startswith(beginnings)), name)
