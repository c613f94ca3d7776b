"""Tokens of Microsoft Entra ID."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from claudeproxyd.config.schema import Entra
from claudeproxyd.config.secret import Secret
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Scope
from claudeproxyd.secrets.entra import EntraTokens
from claudeproxyd.secrets.refreshed import FETCH_TIMEOUT, RefreshedSecret, Token
from tests.secrets.support import SecretsTestCase, TokenEndpoint

NOW = 1.7e9
URL = "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token"
SCOPE = "https://cognitiveservices.azure.com/.default"
TOLD = "Trace ID: 1f2e Correlation ID: 3d4c Timestamp: 2026-11-29 11:00:00Z"


def pem_of(key: Any) -> str:
    """Return *key* in PEM."""
    text: str = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return text


def certificate_of(key: Any) -> x509.Certificate:
    """Return a certificate that *key* has signed for itself."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "claudeproxyd")])
    began = datetime.fromtimestamp(NOW, UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(7).not_valid_before(began).not_valid_after(began + timedelta(days=9))
    return made.sign(key, SHA256())


KEY = rsa.generate_private_key(65537, 2048)
CERTIFICATE = certificate_of(KEY)
PEM = pem_of(KEY) + CERTIFICATE.public_bytes(Encoding.PEM).decode()


class Silent:
    """A client whose requests are not answered."""

    def __init__(self) -> None:
        self.cancelled = 0

    def post(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        def cancel(_: Deferred[Any]) -> None:
            self.cancelled += 1

        return Deferred(cancel)


class EntraTests(SecretsTestCase):
    """The client credentials grant."""

    def setUp(self) -> None:
        super().setUp()
        self.endpoint = TokenEndpoint()
        self.endpoint.body = b'{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"eyJ0.x"}'

    def source(self, http: Any = None, **settings: Any) -> EntraTokens:
        """What asks."""
        if "certificate" not in settings:
            settings.setdefault("client_secret", Secret("s~cret-of-an-app"))
        entra = Entra(**{"tenant_id": "contoso.example", "client_id": "app-1", **settings})
        return EntraTokens(entra, http or self.endpoint.http, lambda: NOW)

    def fetch(self, **settings: Any) -> Deferred[Token]:
        return Deferred.fromCoroutine(self.source(**settings).fetch())

    def outcome(self, **settings: Any) -> Any:
        """How it fails."""
        return self.failureResultOf(self.fetch(**settings), AttemptFailed).value.outcome

    def test_secret(self) -> None:
        """The tenant's endpoint gets the application's id and secret, and what the token is to be for."""
        token = self.successResultOf(self.fetch())
        self.assertEqual((token.value, token.lifetime), ("eyJ0.x", 3599.0))
        form = {"grant_type": "client_credentials", "client_id": "app-1", "scope": SCOPE}
        self.assertEqual(self.endpoint.forms, [{**form, "client_secret": "s~cret-of-an-app"}])
        (request,) = self.endpoint.requests
        self.assertEqual(f"https://{request.getHeader('host')}{request.uri.decode()}", URL)

    def test_another_cloud(self) -> None:
        """Authority and scope are settings, since national clouds have others."""
        scope = "https://cognitiveservices.azure.us/.default"
        self.successResultOf(self.fetch(authority="https://login.microsoftonline.us/", scope=scope))
        (request,) = self.endpoint.requests
        self.assertEqual(request.getHeader("host"), "login.microsoftonline.us")
        self.assertEqual(request.uri, b"/contoso.example/oauth2/v2.0/token")
        self.assertEqual(self.endpoint.forms[0]["scope"], scope)

    def test_certificate(self) -> None:
        """An application without a secret signs what it asks with, and names the certificate by its digest."""
        self.successResultOf(self.fetch(certificate=Secret(PEM)))
        (form,) = self.endpoint.forms
        self.assertNotIn("client_secret", form)
        self.assertEqual(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        parts = [urlsafe_b64decode(part + "==") for part in form["client_assertion"].split(".")]
        header, claims = (json.loads(part) for part in parts[:2])
        self.assertEqual((header["alg"], header["typ"]), ("PS256", "JWT"))
        self.assertEqual(urlsafe_b64decode(header["x5t#S256"] + "=="), CERTIFICATE.fingerprint(SHA256()))
        self.assertTrue(claims.pop("jti"))
        self.assertEqual(claims, {"aud": URL, "iss": "app-1", "sub": "app-1", "iat": NOW, "nbf": NOW, "exp": NOW + 600})
        signed = form["client_assertion"].rpartition(".")[0].encode()
        KEY.public_key().verify(parts[2], signed, PSS(MGF1(SHA256()), PSS.DIGEST_LENGTH), SHA256())
        self.assert_masked(form["client_assertion"])

    def test_files_are_read_anew(self) -> None:
        """A secret that another program replaces in its file is sent the next time, without a reload, and masked."""
        path = Path(self.mktemp()).absolute()
        path.write_text("first-secret-of-it\n")
        source = self.source(client_secret=Secret("first-secret-of-it", path=str(path)))
        for secret in ("first-secret-of-it", "second-secret-of-it"):
            path.write_text(f"{secret}\n")
            self.successResultOf(Deferred.fromCoroutine(source.fetch()))
            self.assertEqual(self.endpoint.forms[-1]["client_secret"], secret)
        self.assert_masked("second-secret-of-it")
        path.unlink()
        failed = self.failureResultOf(Deferred.fromCoroutine(source.fetch()), AttemptFailed).value.outcome
        self.assertEqual(failed.kind, Kind.AUTH)
        self.assertIn("client_secret", failed.reason)

    def test_refused(self) -> None:
        """What Entra ID refuses names what mends it, and neither secret, tenant nor trace."""
        for code, part in (
            ("AADSTS7000215", "client_secret is wrong"),
            ("AADSTS7000222", "client_secret has expired"),
            ("AADSTS700016", "client_id"),
            ("AADSTS90002", "tenant_id"),
            ("AADSTS500011", "scope"),
        ):
            self.endpoint.status = 401
            told = f"{code}: Something about 's~cret-of-an-app' and 8b7d6c5e-1234-4abc-8def-0123456789ab. {TOLD}"
            self.endpoint.body = json.dumps({"error": "invalid_client", "error_description": told}).encode()
            outcome = self.outcome()
            self.assertEqual((outcome.kind, outcome.scope), (Kind.AUTH, Scope.CREDENTIAL))
            self.assertIn(part, outcome.reason)
            for word in ("s~cret", "8b7d6c5e", "Trace"):
                self.assertNotIn(word, outcome.reason)
        self.endpoint.body = b'{"error":"invalid_client","error_description":"AADSTS7999999: Of another kind."}'
        self.assertIn("AADSTS7999999: Of another kind.", self.outcome().reason)

    def test_not_now(self) -> None:
        """An endpoint that is ill, or answers with what is no token, says nothing against the credential."""
        for status, body in (
            (503, b"<html>Service Unavailable</html>"),
            (400, b'{"error":"temporarily_unavailable","error_description":"AADSTS90033: A transient error."}'),
            (429, b'{"error":"too_many"}'),
            (200, b"<html>Sign in</html>"),
            (200, b'{"access_token":""}'),
            (200, b'{"access_token":"a\\r\\nb"}'),
            (302, b""),
            (200, b" " * 70_000),
        ):
            self.endpoint.status, self.endpoint.body = status, body
            outcome = self.outcome()
            self.assertEqual((outcome.kind, outcome.scope), (Kind.TRANSIENT, Scope.CREDENTIAL), (status, body))

    def test_useless_certificates(self) -> None:
        """A file that holds no certificate with its key is the credential's fault, and is not quoted."""
        other = rsa.generate_private_key(65537, 2048)
        curve = ec.generate_private_key(ec.SECP256R1())
        for pem, part in (
            ("hunter2-no-pem", "no private key"),
            (pem_of(KEY), "no certificate"),
            (pem_of(KEY) + certificate_of(other).public_bytes(Encoding.PEM).decode(), "another private key"),
            (pem_of(curve) + certificate_of(curve).public_bytes(Encoding.PEM).decode(), "no RSA private key"),
        ):
            outcome = self.outcome(certificate=Secret(pem))
            self.assertEqual(outcome.kind, Kind.AUTH)
            self.assertIn(part, outcome.reason)
            self.assertNotIn("hunter2", outcome.reason)
        self.assertEqual(self.endpoint.forms, [])

    def test_ahead_of_its_end(self) -> None:
        """The next token is fetched minutes before the end of the present one, which serves meanwhile."""
        clock = Clock()
        secret = RefreshedSecret("azure/a", self.source().fetch, clock)
        self.assertIsNone(secret.present())
        self.assertEqual(self.successResultOf(secret.refresh()), {"bearer_token": "eyJ0.x"})
        clock.advance(3200)
        self.assertEqual(secret.present(), {"bearer_token": "eyJ0.x"})
        self.assertEqual(len(self.endpoint.forms), 1)
        self.endpoint.body = b'{"access_token":"eyJ1.y","expires_in":3599}'
        clock.advance(200)
        secret.present()
        self.assertEqual(len(self.endpoint.forms), 2)
        self.assertEqual(secret.present(), {"bearer_token": "eyJ1.y"})

    def test_slow(self) -> None:
        """An endpoint that does not answer is given up, and whoever waits goes on to another credential."""
        clock, http = Clock(), Silent()
        secret = RefreshedSecret("azure/a", self.source(http=http).fetch, clock)
        waiting = secret.refresh()
        clock.advance(FETCH_TIMEOUT + 1)
        outcome = self.failureResultOf(waiting, AttemptFailed).value.outcome
        self.assertEqual((outcome.kind, http.cancelled), (Kind.TRANSIENT, 1))
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("azure/a", self.warnings[0])
