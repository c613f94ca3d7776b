"""Usage records and their ways."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.interfaces import IUsageSink
from claudeproxyd.observe.usage import Sinks, UsageLog, UsageRecord

verifyClass(IUsageSink, UsageLog)
verifyClass(IUsageSink, Sinks)


@implementer(IUsageSink)
class BrokenSink:
    """Fails at every record."""

    def record(self, record: UsageRecord) -> None:
        """See IUsageSink."""
        raise RuntimeError("out of paper")


verifyClass(IUsageSink, BrokenSink)


class UsageTests(SynchronousTestCase):
    """One record an attempt."""

    def test_fields(self) -> None:
        """A record has what docs/observability.md lists, under names that ledgers may rely on."""
        self.assertEqual(
            UsageRecord.__struct_fields__,
            (
                *("time", "request_id", "upstream_request_id", "client", "labels", "trace_id", "session"),
                *("model_asked", "model_served", "provider", "credential", "attempt", "operation"),
                *("outcome", "status", "stop_reason"),
                *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"),
                *("cache_write_1h_tokens", "thinking_tokens", "nano_usd"),
                *("estimated", "time_to_first_byte", "time_to_first_content", "duration", "bytes_in", "bytes_out"),
            ),
        )

    def test_log(self) -> None:
        """Each record is written as it is."""
        written: list[msgspec.Struct] = []
        record = UsageRecord(time=1.0, request_id="req_1")
        UsageLog(written.append).record(record)
        self.assertEqual(written, [record])

    def test_text(self) -> None:
        """In a text log too a record is JSON, which a ledger can read back."""
        record = UsageRecord(time=1.0, request_id="req_1", labels={"team": "é\n"}, output_tokens=3)
        self.assertTrue(str(record).isascii())
        self.assertEqual(msgspec.json.decode(str(record), type=UsageRecord), record)

    def test_broken_sink(self) -> None:
        """A sink that fails is named in the log once, and the next sink still gets every record."""
        written: list[msgspec.Struct] = []
        sinks = Sinks([BrokenSink(), UsageLog(written.append)])
        for n in range(3):
            sinks.record(UsageRecord(time=float(n), request_id="req_1"))
        self.assertEqual(len(written), 3)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
