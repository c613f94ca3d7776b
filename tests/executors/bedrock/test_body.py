"""Any request whatever for Claude on Bedrock: it goes up in a form that Bedrock takes, or is refused in words."""

from __future__ import annotations

import json
from typing import Any

from anthropic.types.beta import message_create_params
from anthropic.types.beta.beta_tool_union_param import BetaToolUnionParam
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import Unsupported
from claudeproxyd.executors.bedrock.body import Allowed, invoke_model_request
from claudeproxyd.executors.bedrock.dialect import BETAS, IDLE_BETAS
from tests.executors.bedrock.invoke_model import fault
from tests.translate.sdk_strategies import VALUES, sent_as, shaped
from tests.translate.test_reading_any import LEFT_OUT, talks

PATIENT = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
MODELS = ("claude-opus-5-5", "claude-opus-4-8", "claude-opus-4-5-20251101", "claude-sonnet-4-20250514", "")
REQUESTS = shaped(
    message_create_params.MessageCreateParamsStreaming,
    messages=talks(),
    tools=st.lists(sent_as(BetaToolUnionParam), max_size=3),
    **{name: st.none() for name in LEFT_OUT},
)
ASKED = st.lists(st.sampled_from([*BETAS, *IDLE_BETAS, "no-such-2026-01-01"]), max_size=6)


class AnyBody(SynchronousTestCase):
    """What goes up."""

    @PATIENT
    @given(REQUESTS, ASKED, st.sampled_from(MODELS), st.booleans())
    def test_any_request(self, request: Any, betas: list[str], model: str, counts: bool) -> None:
        """Whatever the SDK lets a client say, Bedrock is not sent what it refuses, and messages are not lost."""
        if counts:
            request.pop("max_tokens", None)
        try:
            made = invoke_model_request(
                json.dumps(request).encode(), model, "bedrock-2023-05-31", betas, Allowed(counts=counts)
            )
        except Unsupported as e:
            event("refused")
            self.assertNotEqual(str(e), "")
            return
        sent = json.loads(made.body)
        self.assertEqual(fault(sent), "")
        said = [message for message in request["messages"] if message["role"] != "system"]
        self.assertGreaterEqual(len(sent["messages"]), len([m for m in said if "cpxd1." not in json.dumps(m)]))

    @PATIENT
    @given(st.dictionaries(st.sampled_from(["messages", "system", "tools", "thinking", "output_config", "x"]), VALUES))
    def test_any_json(self, request: dict[str, Any]) -> None:
        """What is no request at all goes up for Bedrock to refuse, or is refused; it is no fault of ours."""
        try:
            body = json.dumps({"messages": [], **request}).encode()
            made = invoke_model_request(body, MODELS[0], "v", [*BETAS], Allowed(counts=True))
        except Unsupported:
            return
        self.assertEqual(json.loads(made.body)["anthropic_version"], "v")
