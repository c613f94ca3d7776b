"""How servers of chat completions end an answer, and what that is in Claude's words."""

from __future__ import annotations

from collections.abc import Mapping

#: ``finish_reason``, of OpenAI and of others, to ``stop_reason``. That calls were made, or were not, goes before.
STOPS: Mapping[str, str] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "length": "max_tokens",
    "model_context_window_exceeded": "model_context_window_exceeded",  # z.ai
    "model_length": "model_context_window_exceeded",  # Mistral
    "eos": "end_turn",  # Together
    "eos_token": "end_turn",  # text-generation-inference
    "stop_sequence": "end_turn",
    "end_turn": "end_turn",  # routers that pass on what another protocol says
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
}

#: The provider stopped it: of OpenAI and Azure, GLM, and those who pass on another protocol's word.
REFUSALS = ("content_filter", "sensitive", "refusal", "safety")

#: The server failed: of z.ai, OpenRouter and Mistral, DeepSeek, vLLM.
FAILURES = ("network_error", "error", "insufficient_system_resource", "abort")
