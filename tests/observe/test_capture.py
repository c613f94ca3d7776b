"""Captures: whole requests in files."""

from __future__ import annotations

import base64
import json
import os
import stat
import time
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from claudeproxyd.interfaces import ICapture, ICaptures, ITranscript
from claudeproxyd.observe import capture as module
from claudeproxyd.observe.capture import Capture, Captures, Transcript
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.observe.scrub import remember
from tests.observe.test_lines import Threads

EPOCH = 1_790_000_000.25


verifyClass(ICaptures, Captures)
verifyClass(ICapture, Capture)
verifyClass(ITranscript, Transcript)


class CaptureTests(SynchronousTestCase):
    """What ends up in the directory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.threads = Threads()
        self.directory = self.mktemp()

    def captures(self, when: str = "always", max_bytes: int = 1000, keep: int = 100) -> Captures:
        """Captures, as configured."""
        captures = Captures(self.clock, self.threads, lambda: EPOCH + self.clock.seconds())
        captures.reload(when, self.directory, max_bytes, keep)
        return captures

    def begin(self, captures: Captures, request_id: str = "req_1") -> Capture:
        """A capture that there is."""
        capture = captures.begin(request_id)
        assert capture is not None
        return capture

    def files(self) -> list[str]:
        """What is in the directory."""
        return sorted(os.listdir(self.directory)) if os.path.isdir(self.directory) else []

    def content(self, place: int = -1) -> Any:
        """One file's content, the newest's as a rule."""
        with open(os.path.join(self.directory, self.files()[place]), encoding="utf-8") as file:
            return json.load(file)

    def test_whole(self) -> None:
        """A file tells the whole story: what came, what each upstream was sent and answered, what the client got."""
        capture = self.begin(self.captures())
        capture.client.request("POST", "/v1/messages?beta=true", [(b"user-agent", b"curl")], b'{"model":"m"}')
        first = capture.attempt("anthropic", "a")
        first.request("POST", "https://api/v1/messages", [], b'{"model":"x"}')
        first.failed("connection lost")
        second = capture.attempt("anthropic", "b")
        second.request("POST", "https://api/v1/messages", [], b'{"model":"x"}')
        second.answer(200, [(b"request-id", b"req_up")])
        self.clock.advance(0.5)
        second.data(b"event: a\n")
        self.clock.advance(0.25)
        second.data(b"event: b\n")
        capture.client.answer(200, [(b"content-type", b"text/event-stream")])
        capture.client.data(b"event: a\nevent: b\n")
        capture.finish(200)
        self.assertEqual(self.files(), ["20260921T141320.250Z-req_1.json"])
        content = self.content()
        self.assertEqual(content["client"]["request"]["path"], "/v1/messages?beta=true")
        self.assertEqual(content["client"]["request"]["headers"], [["user-agent", "curl"]])
        self.assertEqual(content["client"]["request"]["body"]["text"], '{"model":"m"}')
        self.assertEqual(content["client"]["answer"]["body"]["text"], "event: a\nevent: b\n")
        self.assertEqual(content["attempts"][0]["failure"], "connection lost")
        self.assertEqual(content["attempts"][1]["credential"], "b")
        self.assertEqual(content["attempts"][1]["answer"]["body"]["reads"], [[500.0, 9], [750.0, 9]])

    def test_when(self) -> None:
        """Captures that are off leave nothing; "errors" keeps bad statuses and broken streams alone."""
        self.assertIsNone(self.captures("never").begin("req_1"))
        captures = self.captures("errors")
        for status, broken, files in ((200, False, 0), (400, False, 1), (200, True, 2)):
            self.begin(captures, f"req_{status}{broken}").finish(status, broken)
            self.assertEqual(len(self.files()), files)

    def test_modes(self) -> None:
        """Nobody but the daemon's user can read prompts."""
        self.begin(self.captures()).finish(200)
        self.assertEqual(stat.S_IMODE(os.stat(self.directory).st_mode), 0o700)
        path = os.path.join(self.directory, self.files()[0])
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_secrets(self) -> None:
        """No key is in a file: not from a header, a URL or a body, nor half of one at the cut."""
        capture = self.begin(self.captures(max_bytes=40))
        headers = [(b"X-Api-Key", b"q1w2e3"), (b"authorization", b"Bearer q1w2e3"), (b"x-other", b"sk-ant-q1w2e3")]
        capture.client.request("POST", "/v1?key=q1w2e3", headers, b"n" * 30 + b" sk-ant-q1w2e3" + b"r" * 30)
        attempt = capture.attempt("p", "c")
        attempt.request("POST", "https://u:q1w2e3@h/", headers, b"")
        attempt.answer(200, [(b"set-cookie", b"q1w2e3")])
        attempt.data(b'{"api_key":"q1w')
        attempt.data(b'2e3"}')
        attempt.failed("at https://h/?key=q1w2e3")
        capture.finish(500)
        text = json.dumps(self.content())
        self.assertNotIn("q1w", text)
        self.assertEqual(text.count('"x-other", "***"'), 2)

    def test_many_secrets(self) -> None:
        """Masks are shorter than what they stand for; the half of a secret behind thousands of others is not kept."""
        known = "planted-thousands-of-times-in-a-body-that-is-cut"
        remember([known])
        for before in (0, 10, 20):
            capture = self.begin(self.captures(max_bytes=100_000))
            capture.client.answer(500, [])
            capture.client.data(b"." * before + known.encode() * 4000)
            capture.finish(500)
            self.assertNotIn("planted-", json.dumps(self.content()))

    def test_cut(self) -> None:
        """A long body is cut at the bound, with its true size and a mark, and never inside a character."""
        capture = self.begin(self.captures(max_bytes=10))
        capture.client.request("POST", "/", [], "aéééééééé".encode())
        capture.client.answer(200, [])
        for _ in range(5):
            capture.client.data(b"x" * 4000)
        capture.finish(200)
        sent, got = self.content()["client"]["request"]["body"], self.content()["client"]["answer"]["body"]
        self.assertEqual((sent["text"], sent["bytes"], sent["cut"]), ("aéééé", 17, True))
        self.assertEqual((got["text"], got["bytes"], got["cut"]), ("x" * 10, 20_000, True))

    def test_binary(self) -> None:
        """A body that is not text can be had back byte for byte."""
        body = bytes(range(256))
        capture = self.begin(self.captures())
        capture.client.request("POST", "/", [], body)
        capture.finish(200)
        stored = self.content()["client"]["request"]["body"]
        self.assertEqual(base64.b64decode(stored["base64"]), body)
        self.assertFalse(stored["cut"])

    def test_keep(self) -> None:
        """Only the newest files stay, and nothing else in the directory is touched."""
        captures = self.captures(keep=3)
        os.mkdir(self.directory)
        for name in ("notes.txt", "00000000-mine.json"):
            with open(os.path.join(self.directory, name), "w", encoding="utf-8"):
                pass
        for n in range(6):
            self.clock.advance(1)
            self.begin(captures, f"req_{n}").finish(200)
        self.assertEqual([name[-10:-5] for name in self.files()[1:-1]], ["req_3", "req_4", "req_5"])
        self.assertIn("notes.txt", self.files())
        self.assertIn("00000000-mine.json", self.files())

    def test_keep_none(self) -> None:
        """keep = 0 leaves no file."""
        self.begin(self.captures(keep=0)).finish(200)
        self.assertEqual(self.files(), [])

    def test_failed_write(self) -> None:
        """A file that could not be finished is not left behind."""

        def fail(*_: object) -> None:
            raise OSError("no space left")

        self.patch(os, "replace", fail)
        with capturedLogs():
            self.begin(self.captures()).finish(200)
        self.assertEqual(self.files(), [])

    def test_hostile_name(self) -> None:
        """A request's id cannot lead out of the directory."""
        self.begin(self.captures(), "../../" + "x" * 300).finish(200)
        self.assertEqual(len(self.files()), 1)

    def test_memory(self) -> None:
        """All captures together hold no more than their bound, and give it back when they are done."""
        self.patch(module, "MAX_MEMORY_BYTES", 100)
        captures = self.captures("errors")
        first, second = self.begin(captures), self.begin(captures)
        first.client.data(b"x" * 70)
        second.client.data(b"x" * 70)
        self.assertEqual(captures.held, 100)
        first.finish(200)
        self.assertEqual(captures.held, 30)
        second.finish(200)
        second.client.data(b"late")
        self.assertEqual(captures.held, 0)

    def test_too_many(self) -> None:
        """Requests beyond the bound go without, and the metrics tell; files being written count as well."""
        self.patch(module, "MAX_OPEN_CAPTURES", 1)
        self.threads.slow = True
        captures = self.captures()
        metrics = Metrics()
        captures.register(metrics)
        self.begin(captures).finish(200)
        self.assertIsNone(captures.begin("req_2"))
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(metrics.render().decode())
            for sample in family.samples
        }
        self.assertEqual(samples["claudeproxyd_captures_open"], 1)
        self.assertEqual(samples["claudeproxyd_captures_skipped_total"], 1)
        self.threads.run()
        self.assertIsNotNone(captures.begin("req_3"))

    def test_turned_off(self) -> None:
        """What is in progress when an operator turns captures off is not written any more."""
        captures = self.captures(when="errors")
        capture = self.begin(captures)
        captures.reload("never", self.directory, 1000, 100)
        capture.finish(500)
        self.assertEqual(self.files(), [])

    def test_unwritable(self) -> None:
        """A directory that cannot be written costs the capture, not the request, and the log says why."""
        with open(self.directory, "w", encoding="utf-8"):
            pass
        captures = self.captures()
        with capturedLogs() as logs:
            self.begin(captures).finish(200)
        self.assertEqual(len([event for event in logs if "no captures" in event["log_format"]]), 1)
        self.assertEqual(captures.held, 0)

    def test_unwritable_is_told_once(self) -> None:
        """A disk that is full says so in one line, until there was room again."""
        captures = self.captures()

        def requests() -> int:
            """How many lines come of a hundred captures."""
            with capturedLogs() as logs:
                for _ in range(100):
                    self.begin(captures).finish(200)
            return len(logs)

        with open(self.directory, "w", encoding="utf-8"):
            pass
        self.assertEqual((requests(), requests()), (1, 0))
        os.remove(self.directory)
        self.begin(captures).finish(200)
        self.assertEqual(len(self.files()), 1)
        self.patch(module, "MAX_OPEN_CAPTURES", 0)
        self.assertIsNone(captures.begin("req_2"))
        self.patch(module, "MAX_OPEN_CAPTURES", 200)
        captures.reload("always", "/dev/null/nowhere", 1000, 100)
        self.assertEqual((requests(), requests()), (1, 0))

    def test_others_run_meanwhile(self) -> None:
        """Looking through a body that is full of what could be a secret lets the reactor's thread run."""
        rests: list[float] = []
        self.patch(time, "sleep", rests.append)
        capture = self.begin(self.captures(max_bytes=1_000_000))
        capture.client.request("POST", "/v1/messages", [], b"token " * 150_000)
        capture.finish(200)
        self.assertGreater(len(rests), 100)
