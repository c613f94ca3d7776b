"""What strangers may send in a token's place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import DO_NOT_RETRY, ClaudeError
from claudeproxyd.issuers.tokens import MAX_TOKEN_BYTES, is_token, read_token
from tests.issuers.support import claims, raw, token

HEADER = {"alg": "RS256", "kid": "1"}


class Telling(SynchronousTestCase):
    """Keys are told from tokens."""

    def test_keys(self) -> None:
        """What does not begin with a header is a key, however many dots it has."""
        for key in (
            b"cpxd-0123456789abcdef",
            b"sk-ant-api03-a.b.c",
            b"a.b.c",
            b"eyJhbGciOiJSUzI1NiJ9",
            b"eyJhbGciOiJSUzI1NiJ9.e30",
            b"eyJhbGciOiJSUzI1NiJ9.e30.a.b.c",
            b"ey.ey.ey",
            b"eyJ9.e30.sig",
            b"eyJ0eXAiOiJKV1QifQ.e30.no-alg",
            b"ey\xff.e30.x",
            b"",
        ):
            self.assertFalse(is_token(key), key)

    def test_tokens(self) -> None:
        """What begins with one is a token, good or bad."""
        self.assertTrue(is_token(token().encode()))
        self.assertTrue(is_token(raw({"alg": "none"}, b"no json").encode()))
        self.assertTrue(is_token(b"eyJ" + b"A" * MAX_TOKEN_BYTES + b".."))

    @given(st.binary(max_size=200))
    def test_garbage(self, garbage: bytes) -> None:
        """No bytes break the telling or the reading."""
        head = b"eyJhbGciOiJSUzI1NiJ9."
        for value in (garbage, b"ey" + garbage, head + garbage + b".x", head + b"e30." + garbage):
            if is_token(value):
                try:
                    read_token(value)
                except ClaudeError as error:
                    self.assertEqual(error.status, 401)


class Reading(SynchronousTestCase):
    """A token is read within bounds, and by rules that leave one reading."""

    def test_good(self) -> None:
        """Header and claims."""
        read = read_token(token(groups=["a"]).encode())
        self.assertEqual((read.header["kid"], read.claims["groups"]), ("1", ["a"]))
        self.assertNotIn("ann", repr(read))

    def test_bad(self) -> None:
        """What breaks a rule is refused, in words that quote nothing of it."""
        nested = b'{"alg":"RS256","x":' + b"[" * 5000 + b"]" * 5000 + b"}"
        for why, value in (
            ("larger than 16384 bytes", raw(HEADER, {"x": "a" * MAX_TOKEN_BYTES})),
            ("cannot be read", raw(HEADER, b"no json")),
            ("cannot be read", raw(HEADER, b"[]")),
            ("cannot be read", raw(HEADER, b"\xff\xfe")),
            ("cannot be read", raw(HEADER, b'{"sub":"a","sub":"b"}')),
            ("cannot be read", raw(HEADER, b'{"sub":"a","x":{"y":1,"y":2}}')),
            ("cannot be read", raw(HEADER, b'{"exp":NaN}')),
            ("cannot be read", raw(HEADER, b'{"exp":1' + b"0" * 5000 + b"}")),
            ("cannot be read", raw(HEADER, nested)),
            ("cannot be read", raw(b'{"alg":"RS256","alg":"none"}', claims())),
            ("cannot be read", raw(nested, claims())),
            ("cannot be read", "eyJhbGciOiJSUzI1NiJ9.e30=.x"),
            ("cannot be read", raw(HEADER, claims()) + "\xff"),
            ("crit", raw({**HEADER, "crit": ["exp"], "exp": 1}, claims())),
            ("crit", raw({**HEADER, "b64": False}, claims())),
        ):
            error = self.assertRaises(ClaudeError, read_token, value.encode())
            self.assertEqual((error.status, error.headers), (401, (DO_NOT_RETRY,)))
            self.assertIn(why, error.message)
            self.assertNotIn(value[:20], error.message + error.logged)
