"""What nobody may see."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.scrub import CUES_BETWEEN_RESTS, KEPT_FETCHED_VALUES, PIECE_BYTES, Scrubber
from claudeproxyd.remembered import MAX_WORD_LENGTH, MAX_WORDS

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

    def test_words_that_are_remembered(self) -> None:
        """A word that was harmless is masked once it is known to be a secret; so many are remembered, and no more."""
        self.assertEqual(self.scrubber.redacted("word-of-20-characters"), "word-of-20-characters")
        self.scrubber.remember(["word-of-20-characters"])
        for _ in range(2):
            self.assertEqual(self.scrubber.redacted("word-of-20-characters"), "***")
        for number in range(MAX_WORDS + 1):
            self.scrubber.redacted(f"a word of many, number {number}")
        self.assertLessEqual(len(self.scrubber._words), MAX_WORDS)

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

    def test_forms(self) -> None:
        """However a server writes a value: JSON with escaped slashes, as PHP makes it, or a page's HTML."""
        self.scrubber.remember(["abc/def+gh&<>é-0123"])
        for form in (
            "abc/def+gh&<>é-0123",
            "abc\\/def+gh&<>\\u00e9-0123",
            "abc/def+gh&<>\\u00e9-0123",
            "abc%2Fdef%2Bgh%26%3C%3E%C3%A9-0123",
            "abc/def+gh&amp;&lt;&gt;é-0123",
        ):
            self.assertEqual(self.scrubber.text(f"<{form}>"), "<***>")
            self.assertEqual(self.scrubber.redacted(f"<{form}>"), "<***>")

    def test_one_within_another(self) -> None:
        """A value that begins another leaves nothing of it over."""
        self.scrubber.remember(["hunter2hunter2-and-more", "hunter2hunter2-and"])
        self.assertEqual(self.scrubber.text("hunter2hunter2-and-more"), "***")

    def test_every_configured_one(self) -> None:
        """Ten thousand keys are all known, whatever is fetched besides; and for a while after they are gone."""
        keys = [f"configured-{n:06}" for n in range(10_000)]
        self.scrubber.configure(keys)
        self.scrubber.remember(f"fetched-{n:06}" for n in range(2 * KEPT_FETCHED_VALUES))
        for key in (keys[0], keys[5_000], keys[-1]):
            self.assertEqual(self.scrubber.text(f"a {key} b"), "a *** b")
            self.assertEqual(self.scrubber.redacted(f"a{key}b"), "a***b")
        self.scrubber.configure(["another-one"])
        for key in (keys[0], "another-one"):
            self.assertEqual(self.scrubber.text(key), "***")

    def test_one_of_many_in_a_large_text(self) -> None:
        """Also where the text is looked at in pieces, and at its very ends."""
        self.scrubber.configure(f"configured-{n:06}" for n in range(10_000))
        key = "configured-000007"
        for before in (
            0,
            PIECE_BYTES - len(key) - 1,
            PIECE_BYTES - 12,
            PIECE_BYTES - 8,
            PIECE_BYTES - 7,
            PIECE_BYTES - 1,
            PIECE_BYTES,
        ):
            for after in ("", "b" * PIECE_BYTES):
                self.assertEqual(self.scrubber.text("a" * before + key + after), "a" * before + "***" + after)

    def test_clients_words_stay(self) -> None:
        """What clients read loses what is a secret beyond doubt, and nothing that is only called one."""
        for text in (
            "Authorization: Bearer authentication is required",
            "the token: unexpected-identifier was not expected",
            "api_key: field-required",
            "asiapacificregions are not served",
        ):
            self.assertEqual(self.scrubber.redacted(text), text)
        jwt = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhQGIifQ.c2lnbmF0dXJlLW9mLXNvcnRz"
        for text in ("hunter2hunter2", "sk-ant-api03-AbCdEf_123-x", "AIzaSyA1234567890abcdefgh", PEM, jwt):
            self.assertEqual(self.scrubber.redacted(f"bad: {text} no"), "bad: *** no")

    def test_holds_a_secret(self) -> None:
        """Whoever would rather not keep a text than keep half of it can ask."""
        table = {"": False, "a word": False, "\ud800" * 9: False, "a hunter2hunter2 b": True, PEM: True}
        self.assertEqual({text: self.scrubber.holds_secret(text) for text in table}, table)

    def test_headers(self) -> None:
        """Values of headers; those without a secret stay the very same."""
        clean = [(b"content-type", b"application/json"), (b"request-id", b"req_" + b"0" * 40)]
        self.assertIs(self.scrubber.redacted_headers(clean), clean)
        self.assertEqual(
            self.scrubber.redacted_headers([*clean, (b"x-echo", b"hunter2hunter2")]), [*clean, (b"x-echo", b"***")]
        )

    def test_names_of_headers(self) -> None:
        """A key that an upstream makes the name of a header is not passed on, though names have lost their capitals."""
        self.scrubber.remember(["Hunter3Hunter3"])
        clean = [(b"anthropic-ratelimit-requests-remaining", b"1")]
        for _ in range(2):
            self.assertIs(self.scrubber.redacted_headers(clean), clean)
            for name in (b"hunter2hunter2", b"x-of-hunter3hunter3"):
                self.assertEqual(self.scrubber.redacted_headers([*clean, (name, b"1")]), clean)

    def test_headers_that_are_remembered(self) -> None:
        """A harmless value is masked once it is known to be a secret; so many are remembered, none of them long."""
        echo = [(b"x-echo", b"value-of-20-characters")]
        self.assertIs(self.scrubber.redacted_headers(echo), echo)
        self.scrubber.remember(["value-of-20-characters"])
        for _ in range(2):
            self.assertEqual(self.scrubber.redacted_headers(echo), [(b"x-echo", b"***")])
        for number in range(MAX_WORDS):
            self.scrubber.redacted_headers(
                [(b"x", b"%d" % number * 9), (b"y", b"%d" % number * 8), (b"z", b"z" * 5000)]
            )
            self.assertLessEqual(len(self.scrubber._innocent), MAX_WORDS)
        self.assertLessEqual(max(map(len, self.scrubber._innocent)), MAX_WORD_LENGTH)

    def test_rests(self) -> None:
        """Whoever has much to look through can let others run in between."""
        rests: list[None] = []
        self.scrubber.data(b"token " * 10 * CUES_BETWEEN_RESTS, lambda: rests.append(None))
        self.assertEqual(len(rests), 10)

    def test_bound(self) -> None:
        """Secrets that change for ever do not fill the memory; the newest are the ones that are known."""
        self.scrubber.remember(f"rotated-{n:06}" for n in range(KEPT_FETCHED_VALUES + 10))
        self.assertEqual(self.scrubber.text(f"rotated-{KEPT_FETCHED_VALUES + 9:06}"), "***")
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
