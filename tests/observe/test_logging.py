"""The daemon's own log."""

from __future__ import annotations

import io
import json
import os
import sys
from datetime import datetime
from glob import glob
from typing import Any

from twisted.application.app import AppLogger
from twisted.application.service import Application
from twisted.logger import ILogObserver, Logger, formatEventAsClassicLogText, globalLogBeginner, globalLogPublisher
from twisted.python.failure import Failure
from twisted.python.log import msg
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from claudeproxyd.observe import logging
from claudeproxyd.observe.access_log import AccessEntry
from claudeproxyd.observe.logging import as_json, as_text, for_twistd, json_logger, observer, text_logger
from claudeproxyd.observe.usage import UsageRecord


class Terminal(io.StringIO):
    """A file that somebody watches."""

    def isatty(self) -> bool:
        """See IO."""
        return True


class LogTests(SynchronousTestCase):
    """What an event looks like in the end."""

    def written(self, form: str = "text", level: str = "info", out: io.StringIO | None = None, **event: Any) -> str:
        """One event of level *say*, as *form* writes it."""
        out = out or io.StringIO()
        logger = Logger("test", observer=observer(out, form, level))
        say = event.pop("say", "info")
        failure = event.pop("failure", None)
        if failure is not None:
            logger.failure(event.pop("format"), failure, **event)
        else:
            getattr(logger, say)(event.pop("format", "{entry}"), **event)
        return out.getvalue()

    def test_text(self) -> None:
        """The text form is the one that twistd's users know."""
        self.assertRegex(self.written(format="hello {who}", who="you"), r"^\d{4}-\S+ \[test#info\] hello you\n$")

    def test_json(self) -> None:
        """A JSON line is flat: time, level, namespace, message and the simple fields."""
        line = json.loads(self.written("json", format="hello {who}", who="you", n=3, odd=object(), nan=float("nan")))
        self.assertRegex(line.pop("ts"), r"^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$")
        self.assertEqual(line, {"level": "info", "ns": "test", "msg": "hello you", "who": "you", "n": 3})

    def test_level(self) -> None:
        """What is below the level is not written."""
        self.assertEqual(self.written(level="warn", format="x"), "")
        self.assertIn("x", self.written(level="warn", say="warn", format="x"))
        self.assertIn("x", self.written(level="debug", say="debug", format="x"))

    def test_traceback(self) -> None:
        """A failure brings its traceback along, in JSON as a member."""
        failure = Failure(RuntimeError("key=abc"))
        self.assertIn("RuntimeError", self.written(failure=failure, format="broken"))
        line = json.loads(self.written("json", failure=failure, format="broken"))
        self.assertEqual((line["msg"], line["level"]), ("broken", "critical"))
        self.assertIn("RuntimeError", line["traceback"])
        self.assertNotIn("abc", line["traceback"])

    def test_secrets(self) -> None:
        """No secret comes through, be it in the message or in a field that the message does not show."""
        for form in ("text", "json"):
            text = self.written(form, format="at {url}", url="https://h/?key=q1w2e3", extra="Bearer q1w2e3r4t5")
            self.assertNotIn("q1w2e3", text)
        json.loads(self.written("json", format="at {url}", url='"x-api-key": "q1w2e3"'))

    def test_injection(self) -> None:
        """A message with newlines and escapes cannot pass for another line of the log, nor move a cursor."""
        text = self.written(format="{x}", x="a\n2026-01-01 [forged] b\r\x1b[2J\x9b\u202e")
        self.assertEqual(text.count("\n"), 2)
        self.assertIn("\n\t2026-01-01 [forged]", text)
        self.assertTrue(text.replace("\n", "").replace("\t", "").isprintable())
        self.assertEqual(self.written("json", format="{x}", x="a\nb\x7f\u2028").count("\n"), 1)

    def test_unformattable(self) -> None:
        """A log call that is wrong still leaves a line."""
        for form in ("text", "json"):
            self.assertIn("missing", self.written(form, format="{missing}"))

    def test_legacy(self) -> None:
        """Messages of older code and of print are kept."""
        out = io.StringIO()
        log = observer(out, "json")
        globalLogPublisher.addObserver(log)
        self.addCleanup(globalLogPublisher.removeObserver, log)
        msg("hello")
        line = json.loads(out.getvalue())
        self.assertEqual(line["msg"], "hello")
        self.assertEqual(set(line), {"ts", "level", "ns", "msg"})

    def test_entry(self) -> None:
        """A request's line is text in a text log and flat members in a JSON log."""
        entry = AccessEntry(time=1.0, request_id="req_1", client="laptop", status=200)
        self.assertIn(str(entry), self.written(entry=entry))
        line = json.loads(self.written("json", entry=entry))
        self.assertEqual((line["request_id"], line["client"], line["status"]), ("req_1", "laptop", 200))
        self.assertNotIn("msg", line)

    def test_entry_as_any_event(self) -> None:
        """A request's line is told as every other event is: with the same time, level and namespace."""
        entry = AccessEntry(time=1.0, request_id="req_1", client="laptop", status=200)
        seen: list[Any] = []
        Logger("test", observer=seen.append).info("{entry}", entry=entry)  # type: ignore[arg-type]  # it takes events
        self.assertEqual(as_text(seen[0]), formatEventAsClassicLogText(seen[0]))
        line = json.loads(as_json(seen[0]))
        other = json.loads(as_json({**seen[0], "entry": None}))
        self.assertEqual(
            [line[name] for name in ("ts", "level", "ns")], [other[name] for name in ("ts", "level", "ns")]
        )
        self.assertEqual(datetime.fromisoformat(line["ts"]).timestamp(), int(seen[0]["log_time"] * 1000) / 1000)

    def test_usage(self) -> None:
        """A usage record in a JSON log keeps its labels."""
        record = UsageRecord(time=1.0, request_id="req_1", labels={"team": "a"})
        self.assertEqual(json.loads(self.written("json", entry=record))["labels"], {"team": "a"})

    def test_terminal(self) -> None:
        """On a terminal a request is one coloured line, without colours where NO_COLOR is set."""
        entry = AccessEntry(time=1.0, request_id="req_1", status=200)
        self.patch(os, "environ", {})
        self.assertIn("\x1b[32m200", self.written(out=Terminal(), entry=entry))
        self.patch(os, "environ", {"NO_COLOR": "1"})
        self.assertNotIn("\x1b", self.written(out=Terminal(), entry=entry))
        self.assertIn("[test#info] other", self.written(out=Terminal(), format="other"))


class TwistdTests(SynchronousTestCase):
    """Under twistd."""

    def test_logfile(self) -> None:
        """The log goes to --logfile, in our form."""
        for form, expected in (("json", '"msg": "hello é"'), ("text", "[test#info] hello é")):
            path = self.mktemp()
            out = for_twistd({"logfile": path, "nodaemon": True})
            assert out is not None
            Logger("test", observer=observer(out, form)).info("hello é")
            with open(path, encoding="utf-8") as file:
                self.assertIn(expected, file.read().replace("\\u00e9", "é"))

    def test_bounded(self) -> None:
        """A --logfile that goes on for months takes so many pieces of the disk, and no more."""
        self.patch(logging, "MAX_ROTATED_FILES", 2)
        path = os.path.abspath(self.mktemp())
        out = for_twistd({"logfile": path, "nodaemon": True})
        assert out is not None
        for _ in range(6):
            Logger("test", observer=observer(out)).info("x" * 1_000_000)
        self.assertEqual(sorted(os.path.basename(each) for each in glob(path + "*")), ["temp", "temp.1", "temp.2"])

    def test_foreground(self) -> None:
        """In the foreground the log goes to stdout, be it as the default or by name."""
        for options in ({"nodaemon": True}, {"nodaemon": True, "logfile": "-"}):
            stdout = io.StringIO()
            self.patch(sys, "stdout", stdout)
            out = for_twistd(options)
            assert out is not None
            Logger("test", observer=observer(out)).info("hello")
            self.assertIn("hello", stdout.getvalue())

    def test_syslog(self) -> None:
        """--syslog is left to twistd."""
        self.assertIsNone(for_twistd({"syslog": True, "nodaemon": True}))

    def test_component(self) -> None:
        """twistd takes the observer that the application was given, ahead of its own."""
        application = Application("test")
        log = observer(io.StringIO(), "json")
        application.setComponent(ILogObserver, log)
        begun: list[Any] = []
        self.patch(globalLogBeginner, "beginLoggingTo", begun.append)
        self.patch(AppLogger, "_initialLog", lambda self: None)
        AppLogger({}).start(application)
        self.assertEqual(begun, [[log]])

    def test_factories(self) -> None:
        """The names for --logger give observers."""
        for factory in (text_logger, json_logger):
            verifyObject(ILogObserver, factory())
