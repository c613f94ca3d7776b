"""How events are sent, on a clock and to a receiver in memory."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import WebhookSection
from claudeproxyd.config.secret import Secret
from claudeproxyd.happenings import Happening
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.observe.scrub import remember
from claudeproxyd.observe.transitions import Transitions
from claudeproxyd.reporting import sender
from claudeproxyd.reporting.posting import pause
from claudeproxyd.reporting.sender import CLOSE_TIMEOUT, MAX_SEARCHED_BYTES
from claudeproxyd.reporting.webhooks import MAX_WAITING, PATIENCE, Webhooks, sign
from claudeproxyd.testing import EPOCH
from tests.reporting.support import Post


class Way(Post):
    """A receiver and the way to it."""

    closed = False

    def close(self) -> Deferred[None]:
        self.closed = True
        return succeed(None)


def section(name: str = "chat", **members: Any) -> WebhookSection:
    """One of an operator."""
    return WebhookSection(name=name, **{"url": Secret(f"https://{name}.test/hook?sig=1"), **members})


class WebhooksTests(SynchronousTestCase):
    """The webhooks of one daemon."""

    def setUp(self) -> None:
        self.patch(sender, "pause", lambda tries, asked: pause(tries, asked, lambda: 1.0))
        self.clock: Any = Clock()
        self.ways: list[Way] = []
        self.transitions = Transitions(lambda: EPOCH + self.clock.seconds())
        self.webhooks = Webhooks(self.clock, self.way, lambda: EPOCH + self.clock.seconds())
        self.transitions.subscribe(self.webhooks.take)
        self.metrics = Metrics()
        self.webhooks.register(self.metrics)

    def way(self, proxy: str) -> Any:
        """Another one."""
        self.ways.append(Way())
        return self.ways[-1]

    def tell(self, what: Happening = Happening.RELOAD_FAILED, message: str = "no", **subject: str) -> None:
        """Something happens."""
        self.transitions.tell(what, message, **subject)
        self.clock.advance(0)

    def counted(self, result: str, name: str = "chat") -> str:
        """A line of the metrics."""
        return f'claudeproxyd_webhook_events_total{{webhook="{name}",result="{result}"}}'

    def test_fault(self) -> None:
        """An event that cannot be sent for a fault of ours holds up none behind it."""
        self.webhooks.configure([section()])
        self.tell(message="half a pair \ud800")
        self.tell(message="whole")
        self.assertEqual(len(self.flushLoggedErrors(UnicodeEncodeError)), 1)
        ((_, _, body),) = self.ways[0].sent
        self.assertEqual(json.loads(body)["message"], "whole")
        self.ways[0].answer()
        for line in (self.counted("given_up"), self.counted("sent")):
            self.assertIn(f"{line} 1.0", self.metrics.render().decode())

    def test_request(self) -> None:
        """JSON, signed as Standard Webhooks has it; a receiver that knows the secret can check it."""
        self.webhooks.configure([section(secret=Secret("whsec_" + base64.b64encode(b"the key").decode()))])
        self.transitions.tell(Happening.MODEL_UNSERVED, "nobody serves m: sk-ant-abcdefgh", model="m")
        self.assertEqual(self.ways[0].sent, [])  # whoever tells of it does not wait
        self.clock.advance(0)
        ((url, headers, body),) = self.ways[0].sent
        self.assertEqual(url, "https://chat.test/hook?sig=1")
        told = json.loads(body)
        self.assertEqual((told["event"], told["subject"]), ("model.unserved", {"model": "m"}))
        self.assertEqual((told["message"], told["time"]), ("nobody serves m: ***", "2023-11-14T22:13:20.000+00:00"))
        self.assertEqual(headers["webhook-id"], told["id"])
        signed = f"{told['id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.digest(b"the key", signed, "sha256")).decode()
        self.assertEqual(headers["webhook-signature"], f"v1,{expected}")
        self.assertEqual(headers["webhook-timestamp"], str(int(EPOCH)))
        self.ways[0].answer(204)
        self.assertIn(self.counted("sent") + " 1.0", self.metrics.render().decode())

    def test_known_signature(self) -> None:
        """The example that Standard Webhooks' own libraries are tested with."""
        secret, message = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
        signature = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, message)
        self.assertEqual(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")

    def test_chosen_events(self) -> None:
        """Each gets what it wants, and unsigned where it has no secret."""
        self.webhooks.configure([section(), section("pager", events=["model.unserved"])])
        self.assertIn(self.counted("given_up", "pager") + " 0.0", self.metrics.render().decode())
        self.tell()
        self.assertEqual([len(way.sent) for way in self.ways], [1, 0])
        self.assertNotIn("webhook-signature", self.ways[0].sent[0][1])

    def test_again(self) -> None:
        """What is not taken is sent again, the same with the same id; what happens meanwhile waits its turn."""
        self.webhooks.configure([section()])
        self.tell(Happening.MODEL_UNSERVED, model="m")
        self.tell(Happening.MODEL_SERVED, model="m")
        way = self.ways[0]
        for seconds, status, asked in ((1.0, 0, None), (2.0, 404, None), (30.0, 429, 30.0)):
            if status:
                way.answer(status, retry_after=asked)
            else:
                way.fail()
            self.clock.advance(seconds - 0.1)
            before = len(way.sent)
            self.clock.advance(0.1)
            self.assertEqual(len(way.sent), before + 1)
        self.assertEqual(len({headers["webhook-id"] for _, headers, _ in way.sent}), 1)
        way.answer()
        self.assertEqual(
            [json.loads(body)["event"] for _, _, body in way.sent[-2:]], ["model.unserved", "model.served"]
        )
        way.answer()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_long_secret(self) -> None:
        """A secret that a receiver quotes is masked as a whole, also one of which the log has room for a part."""
        known = "".join(f"{number:x}" for number in range(700))
        remember([known])
        self.webhooks.configure([section()])
        with capturedLogs() as events:
            self.tell()
            self.ways[0].answer(401, f"who is {known}?".encode())
        told = " ".join(map(formatEvent, events))  # type: ignore[arg-type]
        self.assertIn("401 who is ***?", told)
        self.assertNotIn(known[:50], told)

    def test_cut_secret(self) -> None:
        """Nor is a part of one told of which the rest is behind what is looked at, whatever is ahead of it."""
        known = "".join(f"{number:x}" for number in range(700))
        remember([known])
        self.webhooks.configure([section()])
        for before in (b" " * (MAX_SEARCHED_BYTES - 300), (known + " ").encode() * 4, known.encode() * 4):
            with capturedLogs() as events:
                self.tell()
                self.ways[0].answer(410, before + known.encode())
            told = " ".join(map(formatEvent, events))  # type: ignore[arg-type]
            self.assertIn("410", told)
            self.assertNotIn(known[:20], told)

    def test_given_up(self) -> None:
        """After an hour, or at once where the receiver is gone for good; it is told, and the next has its turn."""
        self.webhooks.configure([section()])
        self.tell()
        self.tell(Happening.MODEL_SERVED)
        way = self.ways[0]
        while len({headers["webhook-id"] for _, headers, _ in way.sent}) == 1:
            self.clock.advance(10.0)
            if way.waiting:
                way.fail()
        self.assertLess(abs(self.clock.seconds() - PATIENCE), 300)
        way.answer(410)
        self.assertIn(self.counted("given_up") + " 2.0", self.metrics.render().decode())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bound(self) -> None:
        """A receiver that is away costs a bounded queue."""
        self.webhooks.configure([section()])
        for _ in range(MAX_WAITING + 3):
            self.tell()
        text = self.metrics.render().decode()
        self.assertIn(self.counted("dropped") + " 3.0", text)
        self.assertIn(f'claudeproxyd_webhook_events_waiting{{webhook="chat"}} {MAX_WAITING}.0', text)

    def test_reload(self) -> None:
        """One that stays keeps what waits; another is sent what waits for it, and let go."""
        self.webhooks.configure([section(), section("pager")])
        self.tell()
        self.webhooks.configure([section(), section("pager", secret=Secret("another"))])
        self.assertEqual([way.closed for way in self.ways], [False, False, False])
        self.ways[1].answer()
        self.assertEqual([way.closed for way in self.ways], [False, True, False])
        self.tell()
        self.ways[0].answer()
        self.assertEqual([len(way.sent) for way in self.ways], [2, 1, 1])

    def test_end(self) -> None:
        """What waits is sent once, for a few seconds at most."""
        self.webhooks.configure([section(), section("pager")])
        self.tell()
        self.tell()
        stopped = self.webhooks.stopService()
        self.ways[0].fail()
        self.ways[0].answer()
        self.assertNoResult(stopped)
        self.clock.advance(CLOSE_TIMEOUT)
        self.successResultOf(stopped)
        text = self.metrics.render().decode()
        self.assertIn(self.counted("sent") + " 1.0", text)
        self.assertIn(self.counted("given_up") + " 1.0", text)
        self.assertIn(self.counted("given_up", "pager") + " 2.0", text)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_end_after_a_reload(self) -> None:
        """The end waits for what is still sent to one that the configuration has no more."""
        self.webhooks.configure([section()])
        self.tell()
        self.webhooks.configure([])
        stopped = self.webhooks.stopService()
        self.assertNoResult(stopped)
        self.ways[0].answer()
        self.assertIsNone(self.successResultOf(stopped))


class TransitionsTests(SynchronousTestCase):
    """What is told, and how often."""

    def test_once(self) -> None:
        """A state is told once while it lasts, and again when it begins again."""
        told: list[Any] = []
        transitions = Transitions(lambda: EPOCH)
        transitions.subscribe(told.append)
        for _ in range(3):
            transitions.begin(Happening.CREDENTIAL_REFUSED, "no", provider="p", credential="a")
        transitions.begin(Happening.CREDENTIAL_REFUSED, "no", provider="p", credential="b")
        transitions.end(Happening.CREDENTIAL_REFUSED, provider="p", credential="a")
        transitions.begin(Happening.CREDENTIAL_REFUSED, "no", provider="p", credential="a")
        self.assertEqual([each.subject["credential"] for each in told], ["a", "b", "a"])
        self.assertEqual(len({each.id for each in told}), 3)
        self.assertEqual(told[0].time, EPOCH)
