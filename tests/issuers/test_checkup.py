"""How issuers are, by asking them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.checkup import IssuerFinding
from claudeproxyd.issuers.checkup import issuer_findings
from claudeproxyd.issuers.issuer import FETCH_TIMEOUT
from claudeproxyd.secrets.endpoint import unavailable
from tests.issuers.support import EC, RSA, URL, Publisher, published, section


class Checkup(SynchronousTestCase):
    """Each is asked once, and its keys are looked at as its tokens' would be."""

    def setUp(self) -> None:
        self.clock = Clock()

    def ask(self, publisher: Publisher, **settings: Any) -> Deferred[list[IssuerFinding]]:
        """How one issuer is."""
        return Deferred.fromCoroutine(issuer_findings(self.clock, [section(**settings)], lambda _: publisher))

    def found(self, publisher: Publisher, **settings: Any) -> IssuerFinding:
        """The same, where it answers at once."""
        (finding,) = self.successResultOf(self.ask(publisher, **settings))
        return finding

    def test_well(self) -> None:
        """How many keys there are, and which of the algorithms they are for: one is enough."""
        finding = self.found(Publisher(published(("1", RSA), ("2", RSA))))
        self.assertEqual(finding, IssuerFinding(issuer=URL, keys=2, algorithms=["RS256"]))
        both = self.found(Publisher(published(("1", RSA), ("2", EC))), algorithms=["ES256", "PS512", "ES384"])
        self.assertEqual(both.algorithms, ["ES256", "PS512"])

    def test_no_key_of_use(self) -> None:
        """Keys that are for other algorithms let nobody in: it says for which they are."""
        finding = self.found(Publisher(published(("1", RSA), alg="RS384")), algorithms=["RS256", "ES256"])
        self.assertEqual((finding.keys, finding.trouble), (1, "none of its keys is for RS256 or ES256"))
        self.assertEqual(finding.mend, "name in algorithms what they are for: RS384")

    def test_no_keys(self) -> None:
        """No JWKS, another document, or keys that nothing can be checked by."""
        for document, words in (
            (ValueError("https://login.example.com/keys says 404"), "says 404"),
            (b"<html>", "is no JSON Web Key Set"),
            (b'{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}', "holds no public key"),
        ):
            finding = self.found(Publisher(document))
            self.assertIsNone(finding.keys)
            self.assertIn(words, finding.trouble)
            self.assertIn("jwks_url", finding.mend)

    def test_not_reached(self) -> None:
        """Whatever keeps it from answering is said, and where to look."""
        finding = self.found(Publisher(unavailable("https://login.example.com cannot be reached: wrong certificate")))
        self.assertIn("wrong certificate", finding.trouble)
        self.assertIn("ca_file", finding.mend)
        silent = Publisher()
        silent.at_once = False
        asked = self.ask(silent)
        self.clock.advance(FETCH_TIMEOUT)
        (finding,) = self.successResultOf(asked)
        self.assertEqual(finding.trouble, "no answer within 10 s")
