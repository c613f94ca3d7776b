"""What plugins import: the names that stay when the modules behind them move.

A plugin is a package of somebody else's that adds a provider kind, or a step in the way of requests. It needs no other
module of ours but :mod:`claudeproxyd.testing` for its tests. What is in ``__all__`` of these two is stable: it goes, or
means something else, only in a release whose changelog says so. Everything else may change at any time. The package
itself imports none of this.

The kind
    :class:`Maker` is the base of an :class:`IExecutorMaker`, with :func:`setting`, :func:`required` and :class:`Secret`
    for settings of its own and :func:`provider` for what environment variables describe. Its ``make`` gets a
    :class:`Provider`, the section, and :class:`Services`.
The executor
    An :class:`IExecutor` is asked with an :class:`ApiRequest`, a :class:`Route`, an :class:`Attempt` or a
    :class:`Credential`. One that reaches its provider by HTTP derives from :class:`HTTPExecutor`, whose ``send``,
    ``whole``, ``stream``, ``pages`` and ``outcomes`` are for subclasses, and as stable; a :class:`Judge` makes
    outcomes for it.
What it answers with
    A :class:`BufferedResponse` of a :class:`ParsedMessage`, a :class:`StreamingResponse` of what an
    :class:`IStreamReader` reads, or a :class:`LocalStream` of one :class:`Batch`; :class:`BlockMachine` makes the
    events.
What it fails with
    :class:`AttemptFailed`, whose outcome :func:`classify` makes of :class:`Evidence`; :class:`Unsupported` from
    ``prepare``; :class:`MalformedAnswer` and :class:`ModelFault` from a reader; :class:`ClaudeError` for a client.
What it translates
    :func:`read_conversation` makes a :class:`Conversation` of a client's body, by a :class:`FieldPolicy`;
    :class:`ToolNames` and :class:`Signatures` remember what the other side has no place for.
A step in the way of requests
    :class:`PluginMaker` is the base of an :class:`IPluginMaker`. Its ``make`` gets :class:`PluginServices`, and returns
    an :class:`IRequestHook`, an :class:`IAdmission` of :class:`IPermit`, an :class:`IUsageSink` of :class:`UsageRecord`
    or an :class:`IAuthenticator` of :class:`Principal`.
"""

from __future__ import annotations

from claudeproxyd.config.schema import Provider
from claudeproxyd.config.secret import Secret
from claudeproxyd.config.setting import NoSettings, required, setting
from claudeproxyd.dispatch.attempt import Attempt
from claudeproxyd.dispatch.request import ApiRequest
from claudeproxyd.dispatch.request_log import RequestLog
from claudeproxyd.errors import ClaudeError, Refusal, Unsupported
from claudeproxyd.executors.gathering import LimitedReader, gathered
from claudeproxyd.executors.http import HTTPExecutor
from claudeproxyd.executors.judge import Judge
from claudeproxyd.executors.maker import Maker, provider
from claudeproxyd.executors.responses import (
    BufferedResponse,
    LocalStream,
    ParsedMessage,
    StreamingResponse,
    read_count,
    read_message,
)
from claudeproxyd.executors.services import Services
from claudeproxyd.headers import Headers
from claudeproxyd.interfaces import (
    IAdmission,
    IAuthenticator,
    IBufferedResponse,
    IEventConsumer,
    IExecutor,
    IExecutorMaker,
    IPermit,
    IPluginMaker,
    IPrepared,
    IRequestHook,
    IStreamingResponse,
    IStreamReader,
    IUsageSink,
)
from claudeproxyd.leases import Credential, Route
from claudeproxyd.messages.batch import Batch
from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.messages.estimate import estimate_tokens
from claudeproxyd.messages.headers import client_headers
from claudeproxyd.messages.passthrough import ClaudeReader
from claudeproxyd.messages.reader import MalformedAnswer, ModelFault
from claudeproxyd.messages.usage import Usage
from claudeproxyd.observe.scrub import redact_bytes, redact_headers
from claudeproxyd.observe.usage import UsageRecord
from claudeproxyd.outcomes.classify import classify
from claudeproxyd.outcomes.types import (
    AttemptFailed,
    AttemptPhase,
    ErrorResponse,
    Evidence,
    Failure,
    Family,
    Kind,
    Outcome,
)
from claudeproxyd.plugin_loader import PluginMaker, PluginServices
from claudeproxyd.principals import Principal
from claudeproxyd.translate.conversation import (
    Conversation,
    Media,
    ProviderBlock,
    Text,
    Thinking,
    Thought,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
    WebSearch,
)
from claudeproxyd.translate.field_policy import BASE, Action, FieldPolicy
from claudeproxyd.translate.names import ToolNames
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures
from claudeproxyd.upstream.client import Origin
from claudeproxyd.upstream.response import Response

__all__ = [
    "BASE",
    "Action",
    "ApiRequest",
    "Attempt",
    "AttemptFailed",
    "AttemptPhase",
    "Batch",
    "BlockMachine",
    "BufferedResponse",
    "ClaudeError",
    "ClaudeReader",
    "Conversation",
    "Credential",
    "ErrorResponse",
    "Evidence",
    "Failure",
    "Family",
    "FieldPolicy",
    "HTTPExecutor",
    "Headers",
    "IAdmission",
    "IAuthenticator",
    "IBufferedResponse",
    "IEventConsumer",
    "IExecutor",
    "IExecutorMaker",
    "IPermit",
    "IPluginMaker",
    "IPrepared",
    "IRequestHook",
    "IStreamReader",
    "IStreamingResponse",
    "IUsageSink",
    "Judge",
    "Kind",
    "LimitedReader",
    "LocalStream",
    "Maker",
    "MalformedAnswer",
    "Media",
    "ModelFault",
    "NoSettings",
    "Origin",
    "Outcome",
    "ParsedMessage",
    "PluginMaker",
    "PluginServices",
    "Principal",
    "Provider",
    "ProviderBlock",
    "Refusal",
    "RequestLog",
    "Response",
    "Route",
    "Secret",
    "Services",
    "Signatures",
    "StreamingResponse",
    "Text",
    "Thinking",
    "Thought",
    "Tool",
    "ToolChoice",
    "ToolNames",
    "ToolResult",
    "ToolUse",
    "Turn",
    "Unsupported",
    "Usage",
    "UsageRecord",
    "WebSearch",
    "classify",
    "client_headers",
    "estimate_tokens",
    "gathered",
    "provider",
    "read_conversation",
    "read_count",
    "read_message",
    "redact_bytes",
    "redact_headers",
    "required",
    "setting",
]
