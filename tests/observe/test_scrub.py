"""What nobody may see."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.scrub import REMEMBERED, Scrubber

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nqqqq\n-----END RSA PRIVATE KEY-----"

#: A text, and the part of it that must go.
SECRETS = [
    ("key sk-ant-api03-AbCdEf_123-x refused", "AbCdEf"),
    ("sk-proj-0123456789abcdefXYZ", "0123456789"),
    ("AIzaSyA1234567890abcdefgh", "A1234567890"),
    ("token ya29.a0AfH6SMBxyz-_.9 expired", "a0AfH6SMB"),
    ("by AKIAIOSFODNN7EXAMPLE today", "IOSFODNN7"),
    ("by ASIAIOSFODNN7EXAMPLE today", "IOSFODNN7"),
    ("Authorization: Bearer abcdefghijk", "abcdefghijk"),
    ("authorization: short1", "short1"),
    ("saw 'BEARER abc.def.ghi' there", "abc.def.ghi"),
    ("Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("https://host/v1?alt=sse&key=q1w2e3", "q1w2e3"),
    ("x-api-key: q1w2e3", "q1w2e3"),
    ("(b'x-goog-api-key', b'q1w2e3')", "q1w2e3"),
    ("Headers({b'x-api-key': [b'q1w2e3']})", "q1w2e3"),
    ('{"refresh_token": "q1w2e3"}', "q1w2e3"),
    ('{"aws_secret_access_key":"q1w2e3"}', "q1w2e3"),
    ("Cookie: a=q1w2e3; b=r4t5", "r4t5"),
    ("via http://user:q1w2e3@proxy:3128/", "q1w2e3"),
    (f"file {PEM} end", "MIIEow"),
    (PEM.replace("\n", "\\n"), "qqqq"),
    ("-----BEGIN PRIVATE KEY-----\nMIIEow cut he", "MIIEow"),
]

INNOCENT = [
    "200 POST /v1/messages request=req_011Cabc model=claude-sonnet-4 tokens=10/300",
    "task-force-of-many-words and disk-utilisation-report",
    '{"max_tokens": 1024, "input_tokens": 5, "cache_read_tokens": 7}',
    "the key: friends; a monkey=funny, no secrets here, one cookie, two cookies",
    "http://127.0.0.1:8765/v1/messages",
    "Asia and akin, bearer of news, basic idea",
]

FRAGMENTS = st.sampled_from(
    [text for text, _ in SECRETS]
    + [
        "sk-",
        "sk-ant-",
        "key=",
        "api-key",
        "Bearer ",
        "basic ",
        "AKIA",
        "://",
        ":",
        "@",
        "'",
        '"',
        "=",
        "***",
        ",",
        " ",
        "A" * 12,
    ]
    + ["hunter2hunter2", "ya29.", "é", "\x00", "\n", "-", "_", "&", "token", "cookie"]
)


class ScrubTests(SynchronousTestCase):
    """Secrets go, everything else stays."""

    def setUp(self) -> None:
        self.scrubber = Scrubber()
        self.scrubber.remember(["hunter2hunter2", 'Straße"42"', "tiny"])

    def test_secrets_go(self) -> None:
        """No shape of secret that the providers use survives, as text or as bytes."""
        for text, secret in SECRETS:
            self.assertIn(secret, text)
            self.assertNotIn(secret, self.scrubber.text(text))
            self.assertNotIn(secret.encode(), self.scrubber.data(text.encode()))

    def test_surroundings_stay(self) -> None:
        """One can still read what the line was about."""
        self.assertEqual(self.scrubber.text("GET /v1?alt=sse&key=abc&x=1"), "GET /v1?alt=sse&key=***&x=1")
        self.assertEqual(self.scrubber.text('{"x-api-key": "abc", "n": 1}'), '{"x-api-key": "***", "n": 1}')
        self.assertEqual(self.scrubber.text("Authorization: Bearer abc rest"), "Authorization: Bearer *** rest")

    def test_cut_pem(self) -> None:
        """Talk about private keys does not blank out the rest of a log or a capture."""
        self.assertEqual(self.scrubber.text('{"a":"-----BEGIN PRIVATE KEY-----\\nMII","b":1}'), '{"a":"***","b":1}')

    def test_innocent_text_stays(self) -> None:
        """Ordinary log lines are not mangled."""
        for text in INNOCENT:
            self.assertEqual(self.scrubber.text(text), text)

    def test_remembered_values(self) -> None:
        """A configured secret of no known shape is masked wherever it stands, also inside JSON and URLs."""
        self.assertEqual(self.scrubber.text("ahunter2hunter2b"), "a***b")
        for form in ('Straße"42"', 'Stra\\u00dfe\\"42\\"', "Stra%C3%9Fe%2242%22"):
            self.assertEqual(self.scrubber.text(f"<{form}>"), "<***>")

    def test_short_values_are_not_remembered(self) -> None:
        """A secret of a few letters does not blank out every word that holds them."""
        self.assertEqual(self.scrubber.text("tiny tinyness"), "tiny tinyness")

    def test_bound(self) -> None:
        """Secrets that change for ever do not fill the memory; the newest are the ones that are known."""
        self.scrubber.remember(f"rotated-{n:06}" for n in range(REMEMBERED + 10))
        self.assertEqual(self.scrubber.text(f"rotated-{REMEMBERED + 9:06}"), "***")
        self.assertEqual(self.scrubber.text("rotated-000009"), "rotated-000009")

    def test_hostile_text_is_not_slow(self) -> None:
        """Nobody stops the log with a text that takes quadratic time."""
        for piece in (
            "token:" + " " * 1000,
            "://a:",
            "sk-ant",
            "-----BEGIN PRIVATE KEY",
            "bearer ",
            "key=key",
            "cookie='",
        ):
            text = piece * (200_000 // len(piece))
            began = time.process_time()
            self.scrubber.text(text)
            self.assertLess(time.process_time() - began, 2.0, piece)

    @settings(deadline=None, max_examples=300)
    @given(st.lists(FRAGMENTS | st.text(max_size=3), max_size=12))
    def test_idempotent(self, pieces: list[str]) -> None:
        """Scrubbing twice changes nothing, and text and bytes come to the same."""
        once = self.scrubber.text("".join(pieces))
        self.assertEqual(self.scrubber.text(once), once)
        self.assertEqual(self.scrubber.data("".join(pieces).encode()).decode(), once)
        self.assertNotIn("hunter2hunter2", once)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """A capture of any binary body can be scrubbed."""
        self.scrubber.data(data)

    def test_lone_surrogates(self) -> None:
        """Text that cannot be encoded does not break the log."""
        self.assertEqual(self.scrubber.text("\ud800 key=abc"), "\ud800 key=***")
