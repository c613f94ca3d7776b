"""The audit's lines."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.audit import AuditEntry, audit_line

KEY = "cpxd-" + "0123456789abcdef" * 3


class AuditLines(SynchronousTestCase):
    """For machines, and for the daemon's log."""

    def test_json(self) -> None:
        """A line has every member, be it null."""
        entry = AuditEntry(time=1.5, operator="ann", address="::1", action="key.mint", target="bob", after={"a": 1})
        self.assertEqual(
            json.loads(audit_line(entry)),
            {
                "time": 1.5,
                "operator": "ann",
                "address": "::1",
                "action": "key.mint",
                "target": "bob",
                "before": None,
                "after": {"a": 1},
                "error": "",
                "request_id": "",
            },
        )

    def test_one_line(self) -> None:
        """Nothing that somebody sent breaks a line, or is a key in clear, and it stays JSON."""
        action = f'GET /admin/\n"{KEY}"\x1b[31m\u2028'
        line = audit_line(AuditEntry(time=0.0, operator="", address="a", action=action, error=f"not {KEY}"))
        self.assertTrue(line.isascii() and line.isprintable())
        self.assertNotIn(KEY, line)
        self.assertEqual(json.loads(line)["action"], 'GET /admin/\n"***"\x1b[31m\u2028')

    def test_text(self) -> None:
        """In the log it begins with what one searches for."""
        entry = AuditEntry(
            time=0.0, operator="ann", address="::1", action="pool.clear", before={"cooldowns": 3}, request_id="req_1"
        )
        self.assertEqual(str(entry), 'audit: ann at ::1 pool.clear before={"cooldowns":3} request=req_1')
        nobody = AuditEntry(time=0.0, operator="", address="::1", action="GET /metrics", error="no key")
        self.assertEqual(str(nobody), 'audit: - at ::1 GET /metrics error="no key" request=')
