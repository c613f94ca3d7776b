"""Every case of ``converse/``: README.md tells what is checked."""

from __future__ import annotations

from typing import Any

from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.translate.converse.answers import FAMILY, ConverseReader
from claudeproxyd.translate.converse.policy import POLICY
from claudeproxyd.translate.converse.requests import ConverseRequest, ConverseTerms, translate
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures
from tests.golden.cases import Case
from tests.golden.checks import Checks


class ConverseTranslator:
    """The :class:`~tests.golden.checks.Translator` of the kind ``bedrock``, but for Claude."""

    family = FAMILY

    def translated(self, case: Case, signatures: Signatures) -> ConverseRequest:
        conversation = read_conversation(case.body, family=FAMILY, policy=POLICY, version=case.version)
        terms = ConverseTerms(
            model=case.model,
            max_output_tokens=case.terms.get("max_output_tokens"),
            own_thinking=case.terms.get("own_thinking", False),
        )
        return translate(conversation, terms)

    def reader(
        self, case: Case, machine: BlockMachine, request: ConverseRequest, signatures: Signatures
    ) -> ConverseReader:
        return ConverseReader(machine, request, 1 << 20, last=case.last)

    def call_key(self, request: ConverseRequest, tool_use_id: str) -> str:
        return tool_use_id

    def check_count(self, test: Any, case: Case, request: ConverseRequest) -> None:
        """Bedrock counts for Claude alone."""


CHECKS = Checks(ConverseTranslator())
RequestTests, RefusalTests, StreamTests, WholeTests, FaultTests = CHECKS.test_cases("converse", __name__)
