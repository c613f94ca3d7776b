"""The estimate of a request's input, and what dispatch learns from upstreams that have counted it."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.dispatch.input_estimate import InputEstimate
from claudeproxyd.leases import Route
from claudeproxyd.messages.corrections import LESSONS, Corrections
from claudeproxyd.messages.estimate import Measure
from claudeproxyd.messages.text_tokens import TextCounts
from claudeproxyd.messages.usage import Usage
from tests.dispatch.fakes import FakeBuffered, FakeStreaming, House, by_length

BODY = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x" * 9_900}]}).encode()
ROUTE = Route("p", "p-m")


def usage_of(tokens: int | None, **figures: int) -> Usage:
    usage = Usage()
    usage.input = tokens
    for name, value in figures.items():
        setattr(usage, name, value)
    return usage


class DispatchTests(SynchronousTestCase):
    """What the answers of one request do to the estimates of the next."""

    def count(self, house: House) -> int:
        """Return what count_tokens answers where no upstream can count."""
        house.executor.refuses = "this server has no counter"
        served = house.serve(count_tokens=True, body=BODY)
        self.assertEqual(served.headers[b"x-claudeproxyd-estimate"], b"true")
        tokens: int = json.loads(served.client.body)["input_tokens"]
        return tokens

    def answer(self, house: House, usage: Usage) -> None:
        """Have a request answered by a whole message with *usage*."""
        response = FakeBuffered(b"{}")
        response.usage = usage
        house.executor.answers = [response]
        self.assertTrue(house.serve(body=BODY).done)

    def test_count_tokens_is_corrected(self) -> None:
        """What the provider counted for one request is what count_tokens goes by for the next."""
        house = House("p/a")
        self.assertEqual(self.count(House("p/a")), len(BODY))
        self.answer(house, usage_of(len(BODY) // 2))
        self.assertLess(abs(self.count(house) / (len(BODY) / 2) - 1), 0.02)

    def test_caches_count(self) -> None:
        """Input that a cache served was counted too."""
        house = House("p/a")
        self.answer(house, usage_of(10, cache_read=len(BODY), cache_write=len(BODY) - 10))
        self.assertLess(abs(self.count(house) / (len(BODY) * 2) - 1), 0.02)

    def test_a_stream_teaches_too(self) -> None:
        """The body is gone when a stream ends; it was measured before that."""
        house = House("p/a")
        response = FakeStreaming()
        response.usage = usage_of(2 * len(BODY))
        house.executor.answers = [response]
        body = json.dumps({**json.loads(BODY), "stream": True}).encode()
        served = house.serve(body=body)
        response.say(b"event: message_start\n\n", content=True)
        self.assertEqual(served.body.data, b"")
        response.say(b"event: message_stop\n\n", ended=True)
        self.assertTrue(served.done)
        self.assertLess(abs(self.count(house) / (len(BODY) * 2) - 1), 0.02)

    def test_nothing_is_learnt_from_ourselves(self) -> None:
        """An input figure that is our own estimate, or none, is no count."""
        for usage in (usage_of(100, guessed_input=100), usage_of(None), usage_of(100, guessed_input=100, cache_read=7)):
            house = House("p/a")
            self.answer(house, usage)
            self.assertEqual(house.services.corrections.corrected("p", "p-m", (1_000.0, 0.0)), 1_000)

    def test_records_say_what_is_estimated(self) -> None:
        """Whoever adds up tokens can tell which the upstream has not counted, of the input too."""
        for usage, estimated in ((usage_of(100, guessed_input=100), True), (usage_of(90, guessed_input=100), False)):
            house = House("p/a")
            self.answer(house, usage)
            (record,) = house.sink.records
            self.assertIs(record.estimated, estimated)

    def test_windows_are_compared_with_the_corrected(self) -> None:
        """A request that would seem too large for a window is asked there, once the provider has counted less."""
        house = House("p/a", "q/b", contexts={"p": 6_000})
        self.assertIs(self.asked(house), house.executors["q"])
        house.services.corrections.learn("p", "p-m", (10_000.0, 0.0), 5_000)
        self.assertIs(self.asked(house), house.executors["p"])

    def asked(self, house: House) -> Any:
        before = {name: len(executor.sent) for name, executor in house.executors.items()}
        for executor in house.executors.values():
            executor.answers = [FakeBuffered(b"{}")]
        self.assertTrue(house.serve(body=BODY).done)
        (asked,) = (each for name, each in house.executors.items() if len(each.sent) > before[name])
        return asked


class InputEstimateTests(SynchronousTestCase):
    """Measured once, and only where that is needed."""

    def setUp(self) -> None:
        self.measured = 0
        self.corrections = Corrections()
        self.body = b"x" * 5_000

    def measure(self, body: bytes) -> Measure:
        self.measured += 1
        return by_length(body)

    def estimate(self) -> InputEstimate:
        return InputEstimate(lambda: self.body, self.corrections, self.measure)

    def test_once(self) -> None:
        """However many routes are asked for, and though the body is gone meanwhile."""
        estimate = self.estimate()
        self.assertEqual(estimate.tokens(ROUTE), 5_000)
        self.body = b""
        self.assertEqual(estimate.tokens(Route("q", "other")), 5_000)
        self.assertEqual(self.measured, 1)

    def test_a_body_that_is_gone(self) -> None:
        """What was let go of before it was measured is no request of no tokens."""
        estimate = self.estimate()
        self.body = b""
        self.assertEqual(estimate.tokens(ROUTE), 1)
        estimate.counted(ROUTE, usage_of(5_000))
        self.assertEqual(self.corrections.corrected("p", "p-m", (1_000.0, 0.0)), 1_000)

    def test_lessons_end(self) -> None:
        """A provider that counts costs its requests nothing once it is known; a large one is not read for a lesson."""
        for number in range(LESSONS + 5):
            estimate = self.estimate()
            estimate.take_lesson(ROUTE)
            estimate.counted(ROUTE, usage_of(5_000))
            self.assertEqual(self.measured, min(number + 1, LESSONS))
        self.body = bytes(300_000)
        self.estimate().take_lesson(Route("q", "other"))
        self.assertEqual(self.measured, LESSONS)

    def test_images_teach_nothing(self) -> None:
        """A server that takes no images, or more tokens for them, says nothing of text by that."""
        estimate = InputEstimate(lambda: b"", self.corrections, lambda _: Measure(TextCounts((), ()), 1_000, 3_200))
        self.assertEqual(estimate.tokens(ROUTE), 4_200)
        estimate.counted(ROUTE, usage_of(1_000))
        self.assertEqual(self.corrections.corrected("p", "p-m", (1_000.0, 0.0)), 1_000)
