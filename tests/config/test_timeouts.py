"""The time-outs of a provider."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import Config, Provider, Timeouts
from claudeproxyd.config.timeouts import timeouts_for
from claudeproxyd.executors.kinds import BUILT_IN

KINDS = {maker.kind: maker for maker in BUILT_IN}


class TimeoutTests(SynchronousTestCase):
    """Which of the places that may say it wins."""

    def first_byte(self, kind: str, timeouts: Timeouts | None = None, **own: float) -> float:
        provider = Provider(name="p", kind=kind, timeouts=own)
        return timeouts_for(provider, Config(timeouts=timeouts or Timeouts(), providers=[provider]), KINDS).first_byte

    def test_kinds(self) -> None:
        """Kinds whose head comes with the first token are waited for longer, unless the operator says otherwise."""
        self.assertEqual(self.first_byte("anthropic"), 120.0)
        for kind in ("gemini", "vertex", "openai-chat", "openai-responses"):
            self.assertEqual(self.first_byte(kind), 300.0)
            self.assertEqual(self.first_byte(kind, Timeouts(first_byte=50.0)), 50.0)
            self.assertEqual(self.first_byte(kind, Timeouts(first_byte=50.0), first_byte=7.0), 7.0)

    def test_the_rest(self) -> None:
        """What a provider does not override is that of [timeouts]."""
        provider = Provider(name="p", kind="gemini", timeouts={"idle": 5.0})
        timeouts = timeouts_for(provider, Config(timeouts=Timeouts(connect=3.0)), KINDS)
        self.assertEqual((timeouts.idle, timeouts.connect, timeouts.content), (5.0, 3.0, 900.0))
