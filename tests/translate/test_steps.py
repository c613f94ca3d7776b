"""Large conversations are translated in steps, none of which holds up much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.steps import STEP, Steps, at_once
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.gemini.requests import Terms, translation
from claudeproxyd.translate.reading import reading
from claudeproxyd.translate.signatures import Signatures
from tests.translate.asking import assistant, body, call, result, system, text, user

MANY = 20 * STEP


def counted(steps: Steps[Any]) -> int:
    """How many steps there are."""
    return sum(1 for _ in steps)


class StepsTests(SynchronousTestCase):
    """Reading and writing, for all that a conversation may have many of."""

    def test_many(self) -> None:
        """Whatever there are thousands of: there are steps for every few hundred."""
        calls = [call(f"t{number}") for number in range(MANY)]
        results = [result(f"t{number}", "a") for number in range(MANY)]
        tool = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "a"}}
        tools = [{"name": "a", "input_schema": {"type": "object"}}]
        shapes: dict[str, Callable[[], bytes]] = {
            "messages": lambda: body(*[user("a"), assistant("b")] * (MANY // 2), user("a")),
            "blocks": lambda: body(user(*[text("a")] * MANY)),
            "in a result": lambda: body(user("a"), assistant(call("t")), user(result("t", [text("a")] * MANY))),
            "results": lambda: body(user("a"), assistant(*calls), user(*results)),
            "changes": lambda: body(user("a"), system(*[tool] * MANY), tools=tools),
        }
        for name, shape in shapes.items():
            self.assertGreaterEqual(counted(reading(shape(), family="google", policy=POLICY)), 20, name)

    def test_written(self) -> None:
        """So it is when they are written."""
        terms, signatures = Terms("gemini-2.5-pro", None, on_vertex=False), Signatures(lambda: 0.0)
        tools = [{"name": f"t{number}", "input_schema": {"type": "object"}} for number in range(MANY)]
        for name, conversation in {
            "messages": body(*[user("a"), assistant("b")] * (MANY // 2), user("a")),
            "said by the model": body(user("a"), assistant(*[text("b")] * MANY), user("a")),
            "tools": body(user("a"), tools=tools),
        }.items():
            read = at_once(reading(conversation, family="google", policy=POLICY))
            self.assertGreaterEqual(counted(translation(read, terms, signatures)), 20, name)
