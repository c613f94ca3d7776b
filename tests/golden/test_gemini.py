"""Every case of ``gemini/``: README.md tells what is checked."""

from __future__ import annotations

import json
from typing import Any

from claudeproxyd.messages.blocks import BlockMachine
from claudeproxyd.translate.gemini.answers import FAMILY, GeminiReader
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.gemini.requests import GeminiRequest, Terms, translate
from claudeproxyd.translate.reading import read_conversation
from claudeproxyd.translate.signatures import Signatures
from tests.golden.cases import Case
from tests.golden.checks import Checks


class GeminiTranslator:
    """The :class:`~tests.golden.checks.Translator` of the kinds ``gemini`` and ``vertex``."""

    family = FAMILY

    def translated(self, case: Case, signatures: Signatures) -> GeminiRequest:
        conversation = read_conversation(case.body, family=FAMILY, policy=POLICY, version=case.version)
        terms = Terms(
            model=case.model,
            max_output_tokens=case.terms.get("max_output_tokens"),
            on_vertex=case.kind == "vertex",
            safety_settings=[tuple(setting) for setting in case.terms.get("safety_settings", [])],
            own_thinking=case.terms.get("own_thinking", False),
        )
        return translate(conversation, terms, signatures)

    def reader(self, case: Case, machine: BlockMachine, request: GeminiRequest, signatures: Signatures) -> GeminiReader:
        return GeminiReader(machine, request, signatures, 1 << 20, last=case.last)

    def call_key(self, request: GeminiRequest, tool_use_id: str) -> str:
        return tool_use_id

    def check_count(self, test: Any, case: Case, request: GeminiRequest) -> None:
        body, count = json.loads(request.body), json.loads(request.count_body)
        if case.kind == "gemini":
            test.assertEqual(list(count), ["generateContentRequest"])
            count = count["generateContentRequest"]
            test.assertEqual(count.pop("model"), f"models/{case.model}")
        for member in ("contents", "systemInstruction", "tools"):
            test.assertEqual(count.get(member), body.get(member))


CHECKS = Checks(GeminiTranslator())
RequestTests, RefusalTests, StreamTests, WholeTests, FaultTests = CHECKS.test_cases("gemini", __name__)
