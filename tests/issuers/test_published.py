"""Where an issuer's keys are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from claudeproxyd.config.secret import Secret
from claudeproxyd.issuers.published import fetcher
from claudeproxyd.outcomes.types import AttemptFailed
from claudeproxyd.secrets.endpoint import MAX_RESPONSE_BYTES
from tests.issuers.support import URL, section


class Provider(Resource):
    """A provider of identities, whose answers are by path."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.status = 200
        self.keys = b"the keys"
        self.issuer = URL
        self.jwks_uri: object = "https://keys.example.com/keys?p=policy"

    def render_GET(self, request: Any) -> bytes:
        """One answer."""
        self.asked.append(request.getRequestHostname().decode() + request.uri.decode())
        request.setResponseCode(self.status)
        if 300 <= self.status < 400:
            request.setHeader("location", "http://169.254.169.254/latest")
        if request.path.endswith(b"/.well-known/openid-configuration"):
            return json.dumps({"issuer": self.issuer, "jwks_uri": self.jwks_uri, "more": [1]}).encode()
        return self.keys


class PublishedTests(SynchronousTestCase):
    """Discovery, a URL, a file."""

    def setUp(self) -> None:
        self.provider = Provider()

    def fetch(self, **changes: Any) -> Deferred[bytes]:
        """Fetch the keys of a section like that."""
        return Deferred.fromCoroutine(fetcher(section(**changes), StubTreq(self.provider))())

    def test_discovery(self) -> None:
        """The document below the issuer's URL says where they are; a slash at its end is one of the name alone."""
        self.assertEqual(self.successResultOf(self.fetch()), b"the keys")
        self.assertEqual(
            self.provider.asked,
            ["login.example.com/.well-known/openid-configuration", "keys.example.com/keys?p=policy"],
        )
        self.provider.issuer = f"{URL}/realms/x/"
        self.successResultOf(self.fetch(url=f"{URL}/realms/x/"))
        self.assertEqual(self.provider.asked[2], "login.example.com/realms/x/.well-known/openid-configuration")

    def test_url(self) -> None:
        """Nothing is discovered where it is said."""
        self.assertEqual(self.successResultOf(self.fetch(jwks_url="https://elsewhere.example.com/k")), b"the keys")
        self.assertEqual(self.provider.asked, ["elsewhere.example.com/k"])

    def test_file(self) -> None:
        """A file is read anew each time; one that is gone is told of."""
        path = Path(self.mktemp()).absolute()
        path.write_text("first")
        found = [self.successResultOf(self.fetch(jwks=Secret("first", path=str(path))))]
        path.write_text("second")
        found.append(self.successResultOf(self.fetch(jwks=Secret("first", path=str(path)))))
        self.assertEqual((found, self.provider.asked), ([b"first", b"second"], []))
        path.unlink()
        failure = self.failureResultOf(self.fetch(jwks=Secret("first", path=str(path))), AttemptFailed)
        self.assertIn("jwks its file cannot be read", failure.value.outcome.reason)

    def test_unsafe(self) -> None:
        """A document leads to no keys that anybody could replace, and not to another issuer's."""
        for uri in ("http://keys.example.com", "file:///etc/passwd", "https://u:p@keys.example.com", "keys", "", 7):
            self.provider.jwks_uri = uri
            self.failureResultOf(self.fetch(), ValueError)
        self.provider.jwks_uri, self.provider.issuer = "https://keys.example.com", f"{URL}/"
        self.assertIn("name that in url", str(self.failureResultOf(self.fetch(), ValueError).value))
        self.assertEqual({each.partition("/")[0] for each in self.provider.asked}, {"login.example.com"})

    def test_refused(self) -> None:
        """Errors, redirects and answers without an end bring no keys, and a redirect leads nowhere."""
        for status in (302, 307, 404, 500):
            self.provider.status = status
            self.assertIn(str(status), str(self.failureResultOf(self.fetch(), ValueError).value))
        self.assertEqual({each.partition("/")[0] for each in self.provider.asked}, {"login.example.com"})
        self.provider.status, self.provider.keys = 200, b"x" * (MAX_RESPONSE_BYTES + 1)
        self.failureResultOf(self.fetch(), AttemptFailed)
