"""Google's tokens: service accounts, what gcloud left, the machine's own."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.secret import Secret
from claudeproxyd.outcomes.types import AttemptFailed, Kind
from claudeproxyd.secrets.google import DefaultCredentials, ServiceAccount, mistake_in, project_of
from claudeproxyd.secrets.refreshed import Token
from tests.secrets.support import SecretsTestCase, TokenEndpoint

NOW = 1_700_000_000.5
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(private: Any = PRIVATE) -> str:
    """As key files have it."""
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def key_file(**changes: Any) -> str:
    """The text of a service account's key file."""
    key = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "key-1",
        "private_key": pem(),
        "client_email": "robot@project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.example/token",
    }
    return json.dumps({**key, **changes})


def decoded(segment: str) -> bytes:
    """One part of a JWT."""
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


class GoogleTestCase(SecretsTestCase):
    """An endpoint that gives a token."""

    def setUp(self) -> None:
        """It answers."""
        super().setUp()
        self.endpoint = TokenEndpoint()

    def fetch(self, source: Any) -> Deferred[Token]:
        """What the source brings."""
        return Deferred.fromCoroutine(source.fetch())

    def account(self, text: str, path: str = "") -> ServiceAccount:
        """A service account as it was configured."""
        return ServiceAccount(Secret(text, path=path), self.endpoint.http, lambda: NOW)

    def outcome(self, source: Any) -> tuple[Kind, str]:
        """How it fails."""
        outcome = self.failureResultOf(self.fetch(source), AttemptFailed).value.outcome
        return outcome.kind, outcome.reason


class ServiceAccountTests(GoogleTestCase):
    """RFC 7523, as Google has it."""

    def test_assertion(self) -> None:
        """The endpoint gets a JWT for it, signed with the account's key, good for an hour; a token comes back."""
        token = self.successResultOf(self.fetch(self.account(key_file())))
        self.assertEqual((token.value, token.lifetime), ("ya29-first-token", 3600.0))
        (form,) = self.endpoint.forms
        self.assertEqual(form.pop("grant_type"), "urn:ietf:params:oauth:grant-type:jwt-bearer")
        head, claims, signature = form.pop("assertion").split(".")
        self.assertEqual(form, {})
        self.assertEqual(json.loads(decoded(head)), {"alg": "RS256", "typ": "JWT", "kid": "key-1"})
        self.assertEqual(
            json.loads(decoded(claims)),
            {
                "iss": "robot@project.iam.gserviceaccount.com",
                "scope": "https://www.googleapis.com/auth/cloud-platform",
                "aud": "https://oauth2.example/token",
                "iat": 1_700_000_000,
                "exp": 1_700_003_600,
            },
        )
        PRIVATE.public_key().verify(decoded(signature), f"{head}.{claims}".encode(), PKCS1v15(), hashes.SHA256())

    def test_rotated(self) -> None:
        """A key file that was replaced is used for the next token, and one that is gone is told of."""
        path = Path(self.mktemp()).absolute()
        path.write_text(key_file(private_key_id="key-2"))
        account = self.account(key_file(), str(path))
        self.successResultOf(self.fetch(account))
        self.assertEqual(json.loads(decoded(self.endpoint.forms[0]["assertion"].split(".")[0]))["kid"], "key-2")
        path.unlink()
        self.assertEqual(self.outcome(account)[0], Kind.AUTH)

    def test_bad_keys(self) -> None:
        """A key file that is none is the credential's fault, in words that do not quote it."""
        for text in (
            "not json",
            "{}",
            '{"type":7}',
            key_file(private_key="-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"),
            key_file(private_key=""),
            key_file(private_key=pem(ec.generate_private_key(ec.SECP256R1()))),
            key_file(type="external_account"),
        ):
            kind, reason = self.outcome(self.account(text))
            self.assertEqual(kind, Kind.AUTH)
            self.assertNotIn("PRIVATE", reason)
            self.assertNotIn("c2VjcmV0", reason)
        self.assertEqual(self.endpoint.forms, [])


class DefaultTests(GoogleTestCase):
    """``service_account = "adc"``."""

    def default(self, **environ: str) -> DefaultCredentials:
        """In that environment, on a machine of nobody's."""
        home = Path(self.mktemp())
        home.mkdir()
        self.home = home.absolute()
        return DefaultCredentials(self.endpoint.http, lambda: NOW, {"HOME": str(self.home), **environ})

    def test_variable(self) -> None:
        """The file that GOOGLE_APPLICATION_CREDENTIALS names comes first."""
        path = Path(self.mktemp()).absolute()
        path.write_text(key_file())
        self.successResultOf(self.fetch(self.default(GOOGLE_APPLICATION_CREDENTIALS=str(path))))
        self.assertIn("assertion", self.endpoint.forms[0])

    def test_gcloud(self) -> None:
        """Then what ``gcloud auth application-default login`` left: a refresh token."""
        source = self.default()
        folder = self.home / ".config/gcloud"
        folder.mkdir(parents=True)
        user = {"type": "authorized_user", "client_id": "id", "client_secret": "cs", "refresh_token": "rt"}
        (folder / "application_default_credentials.json").write_text(json.dumps(user))
        self.successResultOf(self.fetch(source))
        self.assertEqual(
            self.endpoint.forms,
            [{"grant_type": "refresh_token", "client_id": "id", "client_secret": "cs", "refresh_token": "rt"}],
        )

    def test_who_pays(self) -> None:
        """A user's key file may name the project that requests are charged to; a service account has its own."""
        user = {"type": "authorized_user", "quota_project_id": "payer"}
        for key, pays in ((user, "payer"), ({**user, "quota_project_id": ""}, "")):
            self.assertEqual(self.successResultOf(self.fetch(self.account(json.dumps(key)))).quota_project, pays)
        account = self.account(key_file(quota_project_id="payer"))
        self.assertEqual(self.successResultOf(self.fetch(account)).quota_project, "")
        path = Path(self.mktemp())
        path.write_text(json.dumps(user))
        source = self.default(GOOGLE_APPLICATION_CREDENTIALS=str(path))
        self.assertEqual(self.successResultOf(self.fetch(source)).quota_project, "payer")
        for name in ("a\r\nx: y", "a b", "\u00e9", "p\x00"):
            spoilt = self.account(json.dumps({**user, "quota_project_id": name}))
            self.assertEqual(self.outcome(spoilt), (Kind.AUTH, "the key file's quota_project_id is no project"))

    def test_machine(self) -> None:
        """Then the machine's own account, from the metadata server, with the header that it demands."""
        self.successResultOf(self.fetch(self.default(GCE_METADATA_HOST="169.254.1.1:8080")))
        (request,) = self.endpoint.requests
        self.assertEqual(request.getHeader("host"), "169.254.1.1:8080")
        self.assertEqual(request.path, b"/computeMetadata/v1/instance/service-accounts/default/token")
        self.assertEqual(request.getHeader("metadata-flavor"), "Google")


class ProjectTests(GoogleTestCase):
    """Which project a credential is of, where the operator does not say."""

    def test_named_in_the_key(self) -> None:
        """A service account's file names its project, a user's the one that pays; neither has to be written twice."""
        self.assertEqual(project_of(Secret(key_file()), {}), "project")
        user = json.dumps({"type": "authorized_user", "quota_project_id": "payer"})
        self.assertEqual(project_of(Secret(user), {}), "payer")

    def test_default_credentials(self) -> None:
        """Of ``"adc"`` it is what Google's own variable says, else what stands in the file."""
        path = Path(self.mktemp())
        path.write_text(key_file())
        environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}
        self.assertEqual(project_of("adc", environ), "project")
        self.assertEqual(project_of("adc", {**environ, "GOOGLE_CLOUD_PROJECT": "other"}), "other")

    def test_unknown(self) -> None:
        """A bearer token, a key that cannot be read and a machine without files name none; nothing is raised."""
        home = {"HOME": self.mktemp()}
        for account in (None, Secret("{"), Secret('{"type":"service_account"}'), "adc"):
            self.assertEqual(project_of(account, home), "")


class Mistakes(SynchronousTestCase):
    """What can be told of a configured account before it is used."""

    def test_fine(self) -> None:
        """A key that can sign, a user's, another kind of secret and a machine without files draw no word."""
        home = {"HOME": self.mktemp()}
        for account in (Secret(key_file()), Secret('{"type":"authorized_user"}'), None, "adc"):
            self.assertEqual(mistake_in(account, home), "")

    def test_keys(self) -> None:
        """A file that is no key, or no key that is understood, is found out before a request needs it."""
        for text, words in (
            ("{", "no JSON"),
            ("", "no JSON"),
            (key_file(type="external_account"), "external_account"),
            (key_file(private_key="-----BEGIN"), "private_key"),
        ):
            self.assertIn(words, mistake_in(Secret(text), {}))

    def test_default_credentials(self) -> None:
        """Of ``"adc"`` the file is named, which the configuration does not name."""
        path = Path(self.mktemp())
        environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}
        self.assertIn(f"No such file or directory ({path})", mistake_in("adc", environ))
        path.write_text("{}")
        self.assertIn(f"no JSON of a service account ({path})", mistake_in("adc", environ))
