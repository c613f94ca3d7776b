"""One issuer: forged tokens, and keys that come and go."""

from __future__ import annotations

import json
from hashlib import sha256
from hmac import new as new_hmac
from typing import Any

from joserfc.util import int_to_base64, urlsafe_b64encode
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import DO_NOT_RETRY, ClaudeError
from claudeproxyd.issuers import issuer as issuer_module
from claudeproxyd.issuers.issuer import FETCH_TIMEOUT, MIN_INTERVAL, Issuer
from claudeproxyd.issuers.key_set import MAX_KEYS, KeySet
from claudeproxyd.issuers.tokens import read_token
from claudeproxyd.principals import Principal
from tests.issuers.support import EC, NOW, OTHER_RSA, RSA, Key, Publisher, claims, published, raw, section, token


class Random:
    """As early as it may be."""

    def random(self) -> float:
        return 0.0


class IssuerTestCase(SynchronousTestCase):
    """An issuer whose keys are fetched when the test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.publisher = Publisher()
        self.issuer = self.made()

    def made(self, start: bool = True, **changes: Any) -> Issuer:
        """An issuer that runs."""
        issuer = Issuer(section(**changes), self.publisher, self.clock, self.now, Random())  # type: ignore[arg-type]
        if start:
            issuer.startService()
            self.addCleanup(lambda: issuer.running and issuer.stopService())
        return issuer

    def now(self) -> float:
        """The wall clock."""
        return NOW + self.clock.seconds()

    def ask(self, text: str, issuer: Issuer | None = None) -> Principal | Deferred[Principal]:
        """Whose token it is."""
        return (issuer or self.issuer).principal(read_token(text.encode()), digest(text))

    def name(self, text: str, issuer: Issuer | None = None) -> str:
        """The same, where it is known at once."""
        found = self.ask(text, issuer)
        assert isinstance(found, Principal), found
        return found.name

    def later(self, text: str, issuer: Issuer | None = None) -> Deferred[Principal]:
        """The same, where the keys are fetched first."""
        found = self.ask(text, issuer)
        assert isinstance(found, Deferred), found
        return found

    def refusal(self, text: str, issuer: Issuer | None = None) -> ClaudeError:
        """Why it is refused, now or after the next fetch."""
        try:
            found = self.later(text, issuer)
        except ClaudeError as error:
            return error
        self.clock.advance(MIN_INTERVAL)
        return self.failureResultOf(found, ClaudeError).value


def digest(text: str) -> bytes:
    """A token's."""
    return sha256(text.encode()).digest()


class Forged(IssuerTestCase):
    """No token lets in that the issuer did not sign for us, now."""

    def test_good(self) -> None:
        """Those let in that it did sign, by each algorithm that is allowed."""
        self.publisher.document = published(("1", RSA), ("2", EC))
        issuer = self.made(algorithms=["RS256", "PS256", "ES256"], audience=["a", "claudeproxyd"])
        for text in (
            token(),
            token(EC, "2"),
            token(header={"alg": "PS256"}),
            token(aud=["x", "claudeproxyd"]),
            token(header={"typ": "at+jwt", "x5t": "abc", "nonce": "n", "weird": {"a": [1]}}),
            token(nbf=NOW, iat=None),
        ):
            self.assertEqual(self.name(text, issuer), "ann")

    def test_table(self) -> None:
        """Each of these is a 401 that says what is wrong, is not to be repeated, and quotes nothing of the token."""
        public = RSA.as_pem()
        head, body, signature = token().split(".")
        other = token(sub="bob").split(".")[1]
        jwk = OTHER_RSA.as_dict(private=False)
        table = (
            ("has to be signed by RS256 or ES256", raw({"alg": "none", "kid": "1"}, claims(), b"")),
            ("has to be signed by", raw({"alg": "None", "kid": "1"}, claims(), b"")),
            ("has to be signed by", hmac(public)),
            ("has to be signed by", hmac(public.strip())),
            ("has to be signed by", hmac(RSA.as_der())),
            ("has to be signed by", token(header={"alg": "PS256"})),
            ("has to be signed by", token(header={"alg": "RS512"})),
            ("has to be signed by", raw({"alg": ["RS256"], "kid": "1"}, claims())),
            ("has to be signed by", raw({"alg": None, "kid": "1"}, claims())),
            ("audience has to be claudeproxyd", token(aud="another")),
            ("audience has to be claudeproxyd", token(aud=["another", "claudeproxyd2"])),
            ("lacks aud", token(aud=None)),
            ("aud", token(aud=[])),
            ("aud", token(aud={"claudeproxyd": 1})),
            ("iss", token(iss="https://login.example.com/")),
            ("iss", token(iss=["https://login.example.com"])),
            ("lacks iss", token(iss=None)),
            ("expired on 2027-01-15 at 07:59 UTC", token(exp=NOW - 1)),
            ("expired", token(exp=NOW)),
            ("has expired: get", token(exp=-1e300)),
            ("lacks exp", token(exp=None)),
            ("exp is not valid", token(exp=str(NOW + 60))),
            ("exp is not valid", token(exp=True)),
            ("not valid yet before 2027", token(nbf=NOW + 60)),
            ("nbf is not valid", token(nbf="soon")),
            ("not valid yet", token(iat=NOW + 60)),
            ("lacks sub", token(sub=None)),
            ("sub", token(sub=7)),
            ("sub", token(sub="")),
            ("no key that its issuer has", token(OTHER_RSA)),
            ("no key that its issuer has", token(kid="2")),
            ("no key that its issuer has", token(OTHER_RSA, kid=None)),
            ("no key that its issuer has", raw({"alg": "RS256", "kid": 1}, claims())),
            ("no key that its issuer has", raw({"alg": "RS256", "kid": ["1"]}, claims())),
            ("no key that its issuer has", raw({"alg": "RS256", "kid": "1"}, claims(), b"")),
            ("no key that its issuer has", raw({"alg": "RS256", "kid": "1"}, claims(), b"\0" * 256)),
            ("no key that its issuer has", raw({"alg": "ES256", "kid": "1"}, claims(), b"\0" * 64)),
            ("no key that its issuer has", f"{head}.{other}.{signature}"),
            ("no key that its issuer has", f"{head}.{body}."),
            ("no key that its issuer has", f"{head}.{body}.{signature}="),
            ("no key that its issuer has", f"{head}.{body}.{signature[:-2]}"),
            ("no key that its issuer has", token(OTHER_RSA, header={"jwk": jwk})),
            ("no key that its issuer has", token(OTHER_RSA, header={"jku": "https://evil.example/keys"})),
            ("no key that its issuer has", token(OTHER_RSA, header={"x5u": "https://evil.example/cert"})),
            ("no key that its issuer has", token(OTHER_RSA, kid=None, header={"jwk": jwk, "x5c": ["AAAA"]})),
        )
        for why, text in table:
            error = self.refusal(text)
            self.assertEqual((error.status, error.headers), (401, (DO_NOT_RETRY,)), why)
            self.assertIn(why, error.message)
            for part in text.split("."):
                self.assertNotIn(part[:30] or "?", error.message + error.logged)
            self.assertIsNone(self.issuer.known(digest(text)))
        self.assertEqual(self.name(token(), self.issuer), "ann")

    def test_leeway(self) -> None:
        """Clocks may differ by so much, at both ends, and a remembered token lives no longer."""
        issuer = self.made(leeway=30)
        for text in (token(exp=NOW - 29), token(nbf=NOW + 30), token(iat=NOW + 30)):
            self.assertEqual(self.name(text, issuer), "ann")
        text = token(exp=NOW + 10)
        self.name(text, issuer)
        self.clock.advance(39)
        self.assertIsNotNone(issuer.known(digest(text)))
        self.clock.advance(1)
        self.assertIsNone(issuer.known(digest(text)))
        self.assertIn("expired", self.refusal(text, issuer).message)

    def test_key_without_an_id(self) -> None:
        """A token that names no key is taken where there is only one."""
        self.publisher.document = published((None, RSA))
        issuer = self.made()
        self.assertEqual(self.name(token(kid=None), issuer), "ann")
        self.publisher.document = published(("1", RSA), ("2", OTHER_RSA))
        self.assertEqual(self.refusal(token(kid=None), self.made()).status, 401)

    def test_key_for_another_use(self) -> None:
        """A key that is not for signing, or for another algorithm, proves nothing."""
        for more in ({"use": "enc"}, {"alg": "RS512"}, {"key_ops": ["encrypt"]}):
            (misused,) = json.loads(published(("1", RSA), **more))["keys"]
            (other,) = json.loads(published(("2", EC)))["keys"]
            self.publisher.document = json.dumps({"keys": [misused, other]}).encode()
            self.assertEqual(self.refusal(token(), self.made()).status, 401, more)


def hmac(secret: bytes) -> str:
    """A token that is signed with what everybody knows, as if that were a secret."""
    signed = raw({"alg": "HS256", "kid": "1"}, claims()).rpartition(".")[0]
    return f"{signed}.{urlsafe_b64encode(new_hmac(secret, signed.encode(), 'sha256').digest()).decode()}"


def entry(key: Key) -> bytes:
    """One key of a set."""
    return json.dumps(key.as_dict(private=False)).encode()


class KeySets(SynchronousTestCase):
    """What an issuer may publish."""

    def test_left_out(self) -> None:
        """Keys that are secret, weak, broken or of kinds that we do not know are left out; the rest counts."""
        odd = (
            b'{"kty":"oct","k":"c2VjcmV0"}',
            b'{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}',
            b'{"kty":"RSA","n":"AQAB","e":"AQAB"}',
            b'{"kty":"RSA","n":7,"e":[]}',
            b'{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}',
            b'{"kty":"EC","crv":"P-999","x":"AA","y":"AA"}',
            b'{"kty":["RSA"]}',
            b"{}",
        )
        good = entry(RSA)
        self.assertEqual(len(KeySet(b'{"keys":[' + b",".join((*odd, good)) + b"]}")), 1)
        self.assertRaises(ValueError, KeySet, b'{"keys":[' + b",".join(odd) + b"]}")

    def test_slow(self) -> None:
        """A key that it takes long to check by is left out: strangers have as many checks as they like."""
        usual = RSA.as_dict(private=False)
        good = entry(RSA)
        for slow in ({**usual, "e": int_to_base64(2**2040 + 1)}, {**usual, "n": int_to_base64(2**16383 + 1)}):
            keys = KeySet(b'{"keys":[' + json.dumps(slow).encode() + b"," + good + b"]}")
            self.assertEqual(keys.thumbprints, {RSA.thumbprint()})

    def test_private(self) -> None:
        """Of a key that was published whole, only what is public is taken."""
        document = json.dumps({"keys": [RSA.as_dict(private=True)]}).encode()
        (key,) = KeySet(document)._keys
        self.assertFalse(key.is_private)

    def test_none(self) -> None:
        """What is no set is refused."""
        for document in (b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[]}', b'{"keys":[7]}', b"<html>", b"[" * 9999):
            self.assertRaises(ValueError, KeySet, document)
        self.assertRaises(ValueError, KeySet, b'{"keys":[' + b",".join([entry(EC)] * (MAX_KEYS + 1)) + b"]}")


class Rotation(IssuerTestCase):
    """Keys come and go, and no request is lost for it."""

    def test_remembered(self) -> None:
        """A token is proved once; after that a look tells whose it is."""
        text = token()
        self.assertIsNone(self.issuer.known(digest(text)))
        found = self.ask(text)
        self.assertIs(self.issuer.known(digest(text)), found)
        self.assertEqual(self.issuer.remembered, 1)

    def test_memory_is_bounded(self) -> None:
        """So many tokens are remembered."""
        self.patch(issuer_module, "MAX_REMEMBERED", 10)
        read = read_token(token().encode())
        for number in range(25):
            self.issuer.principal(read, b"%d" % number)
            self.assertLessEqual(self.issuer.remembered, 10)

    def test_unknown_key_is_fetched(self) -> None:
        """All who come with a new key wait for one fetch, those with the old one for none."""
        self.assertEqual(self.publisher.asked, 1)
        self.publisher.document = published(("1", RSA), ("2", OTHER_RSA))
        waiting = [self.later(token(OTHER_RSA, "2", sub=f"p{number}")) for number in range(50)]
        self.assertEqual((self.issuer.waiting, self.publisher.asked), (50, 1))
        self.assertEqual(self.name(token(sub="old")), "old")
        self.clock.advance(MIN_INTERVAL)
        self.assertEqual([self.successResultOf(each).name for each in waiting], [f"p{number}" for number in range(50)])
        self.assertEqual((self.issuer.waiting, self.publisher.asked), (0, 2))
        self.assertEqual(self.name(token(OTHER_RSA, "2")), "ann")

    def test_fetch_begins_at_once(self) -> None:
        """The first who comes with a new key, long after the last fetch, waits no more than that takes."""
        self.clock.advance(MIN_INTERVAL * 3)
        self.publisher.at_once = False
        self.publisher.document = published(("2", OTHER_RSA))
        waiting = self.later(token(OTHER_RSA, "2"))
        self.clock.advance(0)
        self.assertEqual(self.publisher.asked, 2)
        self.publisher.answer()
        self.assertEqual(self.successResultOf(waiting).name, "ann")

    def test_garbage_is_no_hammer(self) -> None:
        """Tokens with keys that nobody has cost the issuer a fetch in five seconds, however many come."""
        for number in range(100):
            waiting = self.later(token(kid=f"k{number}"))
            self.clock.advance(1.0)
            waiting.addErrback(lambda failure: failure.trap(ClaudeError))
        self.clock.advance(MIN_INTERVAL)
        self.assertEqual(self.issuer.waiting, 0)
        self.assertLessEqual(self.publisher.asked, 2 + 105 / MIN_INTERVAL)

    def test_under_way(self) -> None:
        """What a fetch brings that began before the token came is not the last word on it."""
        self.clock.advance(MIN_INTERVAL)
        self.publisher.at_once = False
        self.later(token(kid="garbage")).addErrback(lambda failure: failure.trap(ClaudeError))
        self.clock.advance(0)
        waiting = self.later(token(OTHER_RSA, "2"))
        self.publisher.answer(published(("1", RSA)))
        self.assertNoResult(waiting)
        self.clock.advance(MIN_INTERVAL)
        self.publisher.answer(published(("2", OTHER_RSA)))
        self.assertEqual(self.successResultOf(waiting).name, "ann")

    def test_same_id(self) -> None:
        """An issuer whose new key has the old one's id loses no request either."""
        self.publisher.document = published(("1", OTHER_RSA))
        waiting = self.later(token(OTHER_RSA))
        self.clock.advance(MIN_INTERVAL)
        self.assertEqual(self.successResultOf(waiting).name, "ann")

    def test_revoked(self) -> None:
        """A key that is taken out proves nothing after the next fetch, and remembered tokens of it go."""
        mine, others = token(), token(EC, "2")
        self.publisher.document = published(("1", RSA), ("2", EC))
        issuer = self.made()
        self.name(mine, issuer), self.name(others, issuer)
        self.publisher.document = published(("2", EC))
        self.clock.advance(299)
        self.assertIsNotNone(issuer.known(digest(mine)))
        self.clock.advance(1)
        self.assertIsNone(issuer.known(digest(mine)))
        self.assertIsNotNone(issuer.known(digest(others)))
        self.assertIn("no key that its issuer has", self.refusal(mine, issuer).message)

    def test_too_many_wait(self) -> None:
        """A flood of unknown keys is answered at once from a point on."""
        self.patch(issuer_module, "MAX_WAITING", 10)
        for number in range(10):
            self.later(token(kid=f"k{number}")).addErrback(lambda failure: failure.trap(ClaudeError))
        error = self.failureResultOf(self.later(token(kid="k")), ClaudeError).value
        self.assertEqual((error.status, error.headers), (503, ((b"retry-after", b"5"),)))

    def test_client_leaves(self) -> None:
        """Who leaves waits no more, and the others go on."""
        self.publisher.document = published(("2", OTHER_RSA))
        gone, stays = self.later(token(OTHER_RSA, "2", sub="gone")), self.later(token(OTHER_RSA, "2", sub="stays"))
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.assertEqual(self.issuer.waiting, 1)
        self.clock.advance(MIN_INTERVAL)
        self.assertEqual(self.successResultOf(stays).name, "stays")


class Away(IssuerTestCase):
    """The issuer does not answer."""

    def test_from_the_start(self) -> None:
        """Nobody is let in, or told that a token is bad: the gateway cannot know."""
        self.publisher.document = ValueError("it is down")
        issuer = self.made()
        error = self.refusal(token(), issuer)
        self.assertEqual((error.status, error.headers), (503, ((b"retry-after", b"5"),)))
        self.publisher.document = published(("1", RSA))
        self.clock.advance(30)
        self.assertEqual(self.name(token(), issuer), "ann")
        self.assertEqual(issuer.fetches, {"ok": 1, "failed": 2})

    def test_last_keys_hold(self) -> None:
        """For a stated time; after that nobody is let in, those whose tokens are remembered neither."""
        issuer = self.made(hold=1000.0)
        text = token()
        self.name(text, issuer)
        self.publisher.document = ValueError("it is down")
        for _ in range(9):
            self.clock.advance(100)
        self.assertIsNotNone(issuer.known(digest(text)))
        self.assertEqual(self.name(token(sub="new"), issuer), "new")
        self.clock.advance(100)
        self.assertEqual((issuer.known(digest(text)), issuer.key_count), (None, 0))
        self.assertEqual(self.refusal(text, issuer).status, 503)
        self.publisher.document = published(("1", RSA))
        self.clock.advance(30)
        self.assertEqual(self.name(text, issuer), "ann")

    def test_unknown_key(self) -> None:
        """Whether a new key is good nobody can tell then: 503, and the others go on."""
        self.publisher.document = ValueError("it is down")
        self.assertEqual(self.refusal(token(OTHER_RSA, "2")).status, 503)
        self.assertEqual(self.name(token()), "ann")

    def test_broken_set(self) -> None:
        """What is no key set leaves the last one."""
        self.publisher.document = b"<html>maintenance</html>"
        self.clock.advance(300)
        self.assertEqual(self.name(token()), "ann")
        self.assertEqual(self.issuer.fetches, {"ok": 1, "failed": 1})

    def test_hangs(self) -> None:
        """A fetch ends after a while, and another is tried."""
        self.publisher.at_once = False
        issuer = self.made()
        waiting = self.later(token(), issuer)
        self.clock.advance(FETCH_TIMEOUT)
        self.assertEqual(self.failureResultOf(waiting, ClaudeError).value.status, 503)
        self.publisher.at_once = True
        self.clock.advance(30)
        self.assertEqual(self.name(token(), issuer), "ann")

    def test_stopped(self) -> None:
        """The end of the daemon, or of the section, lets nobody wait, and leaves no timer."""
        issuer = self.made(start=False)
        self.issuer.stopService()
        self.publisher.at_once = False
        issuer.startService()
        waiting = self.later(token(), issuer)
        issuer.stopService()
        self.assertEqual(self.failureResultOf(waiting, ClaudeError).value.status, 503)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.failureResultOf(self.later(token(), issuer), ClaudeError).value.status, 503)
