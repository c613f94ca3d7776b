"""Every case of ``openai_responses/``: README.md tells what is checked."""

from __future__ import annotations

import json
from typing import Any

from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.outcomes.types import Family
from claudeproxyd.translate.openai_responses.answers import ResponsesReader
from claudeproxyd.translate.openai_responses.policy import POLICY
from claudeproxyd.translate.openai_responses.records import SIGNATURES
from claudeproxyd.translate.openai_responses.requests import ResponsesRequest, ResponsesTerms, translate
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures
from tests.golden.cases import Case
from tests.golden.checks import Checks

#: What is counted is what is sent, but for how long the answer may be and what is asked of it.
NOT_COUNTED = {
    "include", "max_output_tokens", "max_tool_calls", "safety_identifier", "store", "temperature", "top_p"
}  # fmt: skip


class ResponsesTranslator:
    """The :class:`~tests.golden.checks.Translator` of the kind ``openai-responses``."""

    family = Family.OPENAI

    def translated(self, case: Case, signatures: Signatures) -> ResponsesRequest:
        conversation = read_conversation(case.body, family=SIGNATURES, policy=POLICY, version=case.version)
        return translate(conversation, ResponsesTerms(case.model, **case.terms))

    def reader(
        self, case: Case, machine: BlockMachine, request: ResponsesRequest, signatures: Signatures
    ) -> ResponsesReader:
        return ResponsesReader(machine, request, 1 << 20)

    def call_key(self, request: ResponsesRequest, tool_use_id: str) -> str:
        return tool_use_id

    def check_count(self, test: Any, case: Case, request: ResponsesRequest) -> None:
        body, count = json.loads(request.body), json.loads(request.count_body)
        test.assertEqual({name: body[name] for name in body if name not in NOT_COUNTED}, count)
        test.assertEqual(json.loads(request.streamed_body), {**body, "stream": True})


CHECKS = Checks(ResponsesTranslator())
RequestTests, RefusalTests, StreamTests, WholeTests, FaultTests = CHECKS.test_cases("openai_responses", __name__)
