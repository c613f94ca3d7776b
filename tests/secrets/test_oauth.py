"""Refresh tokens, and what token endpoints say."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectBindError, ConnectionLost, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI

from claudeproxyd.config.schema import OAuth
from claudeproxyd.config.secret import Secret
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Scope
from claudeproxyd.secrets.endpoint import EndpointFactory, http_client, response_of
from claudeproxyd.secrets.grants import Grants
from claudeproxyd.secrets.oauth import OAuthRefresh
from claudeproxyd.secrets.refreshed import Token
from tests.secrets.support import SecretsTestCase, TokenEndpoint


class Unreachable:
    """A client that reaches nobody."""

    def __init__(self, why: Exception | None = None) -> None:
        self.why = why or ConnectionRefusedError()

    def post(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        return fail(self.why)


class OAuthTests(SecretsTestCase):
    """RFC 6749 section 6."""

    def setUp(self) -> None:
        """An endpoint, and a client of it."""
        super().setUp()
        self.endpoint = TokenEndpoint()
        self.grants = Grants(lambda: 1.7e9)
        self.source = self.refresher(client_secret=Secret("client-secret"))

    def settings(self, **more: Any) -> OAuth:
        """As it was configured."""
        return OAuth(token_url="https://login.example/token", client_id="me", refresh_token=Secret("refresh-1"), **more)

    def refresher(self, **more: Any) -> OAuthRefresh:
        """What asks with it."""
        settings = self.settings(**more)
        return OAuthRefresh(settings, self.endpoint.http, self.grants)

    def fetch(self) -> Deferred[Token]:
        """The next token."""
        return Deferred.fromCoroutine(self.source.fetch())

    def outcome(self) -> Any:
        """How it fails."""
        return self.failureResultOf(self.fetch(), AttemptFailed).value.outcome

    def test_form(self) -> None:
        """The endpoint gets the grant, and the client's id and secret; a public client has none."""
        token = self.successResultOf(self.fetch())
        self.assertEqual((token.value, token.lifetime), ("ya29-first-token", 3600.0))
        self.source = self.refresher()
        self.successResultOf(self.fetch())
        form = {"grant_type": "refresh_token", "refresh_token": "refresh-1", "client_id": "me"}
        self.assertEqual(self.endpoint.forms, [{**form, "client_secret": "client-secret"}, form])

    def test_rotated(self) -> None:
        """A new refresh token takes the old one's place, with one warning that it is not kept, and is masked."""
        for number in (2, 3):
            self.endpoint.body = b'{"access_token":"a","refresh_token":"refresh-token-%d"}' % number
            self.successResultOf(self.fetch())
        self.successResultOf(self.fetch())
        self.assertEqual(
            [form["refresh_token"] for form in self.endpoint.forms], ["refresh-1", "refresh-token-2", "refresh-token-3"]
        )
        self.assertEqual(len(self.warnings), 1)
        self.assert_masked("refresh-token-3")

    def test_nothing_left_here(self) -> None:
        """Without a descriptor for the question the credential is not to blame."""
        self.source._http = Unreachable(ConnectBindError(errno.EMFILE, "Too many open files"))
        outcome = self.outcome()
        self.assertEqual((outcome.kind, outcome.scope), (Kind.INTERNAL, Scope.NONE))

    def test_kept_one_is_refused(self) -> None:
        """A kept token that the server takes no more is not the last word: the configured one is asked with first."""
        self.grants.replace(self.grants.grant(self.settings()), "of-another-life")
        answers = [
            (400, b'{"error":"invalid_grant"}'),
            (200, b'{"access_token":"ya29-second","refresh_token":"refresh-token-2"}'),
        ]

        def render(request: Any) -> bytes:
            self.endpoint.status, self.endpoint.body = answers.pop(0)
            return TokenEndpoint.render(self.endpoint, request)

        self.patch(self.endpoint, "render", render)
        self.source = self.refresher()
        self.assertEqual(self.successResultOf(self.fetch()).value, "ya29-second")
        self.assertEqual([form["refresh_token"] for form in self.endpoint.forms], ["of-another-life", "refresh-1"])
        self.assertEqual(self.grants.grant(self.settings()).newest, "refresh-token-2")

    def test_lifetimes(self) -> None:
        """A life in a string counts, and one that is missing or absurd is an hour."""
        for said, lifetime in (
            (b"", 3600.0),
            (b',"expires_in":"120"', 120.0),
            (b',"expires_in":12.5', 12.5),
            (b',"expires_in":-1', 3600.0),
            (b',"expires_in":"soon"', 3600.0),
            (b',"expires_in":"nan"', 3600.0),
            (b',"expires_in":1e300', 3600.0),
        ):
            self.endpoint.body = b'{"access_token":"a"%b}' % said
            self.assertEqual(self.successResultOf(self.fetch()).lifetime, lifetime)

    def test_refused(self) -> None:
        """invalid_grant and its like are the credential's fault; the reason names it and quotes no secret."""
        self.endpoint.body = (
            b'{"error":"invalid_grant","error_description":"revoked: token=abcdefgh\\n' + b"x" * 999 + b'"}'
        )
        for status in (400, 401, 403):
            self.endpoint.status = status
            outcome = self.outcome()
            self.assertEqual((outcome.kind, outcome.scope), (Kind.AUTH, Scope.CREDENTIAL))
            self.assertIn("invalid_grant", outcome.reason)
            self.assertNotIn("abcdefgh", outcome.reason)
            self.assertLess(len(outcome.reason), 201)

    def test_not_now(self) -> None:
        """Overload, faults, redirects, and answers without a token pass; the credential alone waits."""
        for status, body in (
            (429, b"{}"),
            (500, b"<html>"),
            (503, b""),
            (302, b""),
            (400, b'{"error":"temporarily_unavailable"}'),
            (200, b"<html>"),
            (200, b"{}"),
            (200, b"[]"),
            (200, b'{"access_token":"two\\nlines"}'),
            (200, b'{"access_token":"' + b"x" * 70_000 + b'"}'),
        ):
            self.endpoint.forms.clear()
            self.endpoint.status, self.endpoint.body = status, body
            outcome = self.outcome()
            self.assertEqual((outcome.kind, outcome.scope), (Kind.TRANSIENT, Scope.CREDENTIAL), (status, body[:50]))
            self.assertEqual(len(self.endpoint.forms), 1)

    def test_unreachable(self) -> None:
        """An endpoint that cannot be reached is no fault of the credential."""
        self.source._http = Unreachable()  # type: ignore[assignment]
        self.assertEqual(self.outcome().kind, Kind.TRANSIENT)


class ResponseTests(SynchronousTestCase):
    """How a response is read."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        asked = http_client(self.reactor).get("http://127.0.0.1:9/keys")
        self.read = Deferred.fromCoroutine(response_of(asked, "it"))
        self.reactor.advance(0)
        self.wire: Any = StringTransport()
        self.protocol = self.reactor.tcpClients.pop(0)[2].buildProtocol(None)
        self.protocol.makeConnection(self.wire)
        self.protocol.dataReceived(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    def test_no_end(self) -> None:
        """One that is given up in its middle takes its connection along, and it is said why."""
        self.read.addTimeout(9.0, self.reactor)
        self.reactor.advance(9.0)
        reason = self.failureResultOf(self.read, AttemptFailed).value.outcome.reason
        self.assertEqual(reason, "it did not answer in time")
        self.assertTrue(self.wire.disconnecting)

    def test_cut(self) -> None:
        """One that breaks off is none."""
        self.protocol.connectionLost(Failure(ConnectionLost()))
        self.failureResultOf(self.read, AttemptFailed)


class WaysTests(SecretsTestCase):
    """How the endpoint is reached."""

    def target(self, url: bytes, proxy: str, environ: dict[str, str] | None = None) -> tuple[str, int]:
        """The address that is connected to."""
        reactor = MemoryReactorClock()
        way = EndpointFactory(reactor, proxy, environ or {}).endpointForURI(URI.fromBytes(url))
        for name in ("_endpoint", "_wrappedEndpoint", "_proxy"):
            way = getattr(way, name, way)
        return way._hostText, way._port

    def test_proxy(self) -> None:
        """Through the provider's proxy where it has one and the endpoint is beyond; straight on this machine's net."""
        self.assertEqual(self.target(b"https://login.example/t", ""), ("login.example", 443))
        self.assertEqual(self.target(b"https://login.example/t", "http://proxy.example:3128"), ("proxy.example", 3128))
        self.assertEqual(self.target(b"http://metadata/t", "http://proxy.example:3128"), ("metadata", 80))
        environ = {"https_proxy": "http://proxy.example:3128", "no_proxy": "login.example"}
        self.assertEqual(self.target(b"https://login.example/t", "env", environ), ("login.example", 443))
