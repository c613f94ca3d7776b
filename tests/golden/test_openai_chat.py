"""Every case of ``openai_chat/``: README.md tells what is checked."""

from __future__ import annotations

from typing import Any

from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.translate.openai_chat.answers import FAMILY, ChatReader
from claudeproxyd.translate.openai_chat.dialects import Overrides
from claudeproxyd.translate.openai_chat.policy import POLICY
from claudeproxyd.translate.openai_chat.requests import ChatRequest, ChatTerms, translate
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures
from tests.golden.cases import Case
from tests.golden.checks import Checks


class ChatTranslator:
    """The :class:`~tests.golden.checks.Translator` of the kind ``openai-chat``."""

    family = FAMILY

    def translated(self, case: Case, signatures: Signatures) -> ChatRequest:
        conversation = read_conversation(case.body, family=FAMILY, policy=POLICY, version=case.version)
        settings = case.terms.get("settings", {})
        terms = ChatTerms(
            server=case.kind,
            model=case.model,
            max_output_tokens=case.terms.get("max_output_tokens"),
            overrides=Overrides(
                **{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
            ),
            own_thinking=case.terms.get("own_thinking", False),
        )
        return translate(conversation, terms, signatures)

    def reader(self, case: Case, machine: BlockMachine, request: ChatRequest, signatures: Signatures) -> ChatReader:
        return ChatReader(machine, request, signatures, 1 << 20, last=case.last)

    def call_key(self, request: ChatRequest, tool_use_id: str) -> str:
        return request.digest.call_key(request.dialect.maker, tool_use_id)

    def check_count(self, test: Any, case: Case, request: ChatRequest) -> None:
        """No server of this kind counts."""


CHECKS = Checks(ChatTranslator())
RequestTests, RefusalTests, StreamTests, WholeTests, FaultTests = CHECKS.test_cases("openai_chat", __name__)
