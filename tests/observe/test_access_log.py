"""One line a request, in its three forms."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe import access_log as module
from claudeproxyd.observe.access_log import AccessEntry, mask, terminal_line, text_line
from claudeproxyd.observe.lines import json_line
from claudeproxyd.observe.scrub import remember


def entry(**fields: Any) -> AccessEntry:
    """A stream that went well."""
    usual = {
        "time": 1_790_000_000.25,
        "request_id": "req_1",
        "client": "laptop",
        "remote": "127.0.0.1",
        "method": "POST",
        "path": "/v1/messages",
        "model": "sonnet",
        "provider": "anthropic",
        "credential": "team-a",
        "attempts": 2,
        "status": 200,
        "outcome": "ok",
        "stop_reason": "end_turn",
        "stream": True,
        "input_tokens": 10,
        "output_tokens": 300,
        "time_to_first_byte": 0.5,
        "duration": 12.3,
        "bytes_in": 333,
        "bytes_out": 4444,
    }
    return AccessEntry(**{**usual, **fields})


class AccessLogTests(SynchronousTestCase):
    """What an operator reads."""

    def test_text(self) -> None:
        """The text form has everything on one line, in words that grep finds."""
        self.assertEqual(
            text_line(entry()),
            "2026-09-21T14:13:20.250Z POST /v1/messages 200 ok request=req_1 client=laptop remote=127.0.0.1"
            " model=sonnet via=anthropic/team-a attempts=2 stream stop=end_turn tokens=10/300 first=500ms"
            " total=12300ms bytes=333/4444",
        )

    def test_sparse(self) -> None:
        """What does not apply is left out rather than shown as nothing."""
        line = str(AccessEntry(time=1.0, request_id="req_1", method="GET", path="/healthz", status=200))
        self.assertEqual(line, "GET /healthz 200 - request=req_1 client=- remote=- total=0ms bytes=0/0")

    def test_json(self) -> None:
        """The JSON form has every field under its own name, flat."""
        line = json.loads(json_line(entry()))
        self.assertEqual(line["credential"], "team-a")
        self.assertEqual(tuple(line), AccessEntry.__struct_fields__)

    def test_terminal(self) -> None:
        """Somebody who watches sees status, model, who served it, tokens and time; colours only where asked for."""
        line = terminal_line(entry(), colour=False)
        self.assertEqual(
            line[8:], "  200  sonnet  by anthropic/team-a  after 2 attempts  10 in, 300 out  0.50 s to 12.30 s"
        )
        self.assertIn("\x1b[32m200\x1b[0m", terminal_line(entry(), colour=True))
        self.assertIn("\x1b[31m502\x1b[0m", terminal_line(entry(status=502), colour=True))
        self.assertIn("\x1b[33m404\x1b[0m", terminal_line(entry(status=404), colour=True))

    @given(
        st.text()
        | st.sampled_from(["a\nb", "\x1b[2J", "\x9b31m", "a b=c", '"', "\u2028", "\x7f", "\u202e", "x" * 9999])
    )
    def test_injection(self, hostile: str) -> None:
        """No client forges a line, moves a cursor or fakes a field, whatever it calls itself."""
        odd = entry(model=hostile, path="/" + hostile, error=hostile, client=hostile, provider=hostile)
        for line in (text_line(odd), terminal_line(odd, colour=False)):
            self.assertTrue(line.isascii() and line.isprintable(), line)
            self.assertLess(len(line), 5 * 200 * 12 + 500)

    def test_forged_field(self) -> None:
        """A name that looks like another field is in quotes."""
        self.assertIn(' client="a status=200" ', text_line(entry(client="a status=200")))
        longest = "a " * (module.MAX_FIELD_CHARACTERS // 2)
        self.assertIn(f' client="{longest}" ', text_line(entry(client=longest)))

    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_json_injection(self, hostile: str) -> None:
        """A JSON line is one line of plain ASCII, and reads back as what was sent."""
        line = json_line(entry(path=hostile))
        self.assertTrue(line.isascii() and line.isprintable(), line)
        self.assertEqual(json.loads(line)["path"], hostile)


class MaskTests(SynchronousTestCase):
    """Lines go to their file as they are, so secrets are masked in the entry."""

    def test_refused(self) -> None:
        """A key that a client put where a model's name belongs, or an upstream into its error, reaches no file."""
        entry = AccessEntry(
            time=0.0, request_id="req_1", status=404, model="sk-ant-api03-abcdef", error="bad key sk-ant-api03-abcdef"
        )
        mask(entry)
        self.assertNotIn("abcdef", text_line(entry))
        self.assertIn("bad key ***", text_line(entry))

    def test_long(self) -> None:
        """What clients and upstreams make long is cut, in the entry and in what is remembered of lines, and no secret
        shows half of itself at the cut."""
        long = "x " * 500 + "sk-ant-api03-" + "abcdef" * 10_000
        entry = AccessEntry(time=0.0, request_id="req_1", status=404, model=long, error=long, path=long, client=long)
        mask(entry)
        self.assertNotIn("abcdef", json_line(entry).replace(long, ""))
        self.assertLess(len(json_line(entry)), 4000 + len(long))
        self.assertLess(len(text_line(entry)), 1500)
        remembered: list[str] = []
        self.patch(module, "_quoted", lambda word: remembered.append(word) or word)
        text_line(entry)
        self.assertLess(max(map(len, remembered)), 300)

    def test_many(self) -> None:
        """Masks are shorter than what they stand for; the half of a secret behind a hundred others is not shown."""
        known = "planted-many-times-in-the-words-of-a-client"
        remember([known])
        for before in range(len(known)):
            entry = AccessEntry(time=0.0, request_id="req_1", status=404, path="/" * before + known * 100)
            mask(entry)
            self.assertNotIn("planted-", entry.path)

    def test_broken_off(self) -> None:
        """The same where a stream had begun with 200."""
        entry = AccessEntry(time=0.0, request_id="req_1", status=200, error="key sk-ant-api03-abcdef")
        mask(entry)
        self.assertNotIn("abcdef", text_line(entry))
