"""Keys of AWS: its chain, roles, containers and machines, on endpoints in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import QueryParser
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from claudeproxyd.outcomes.types import AttemptFailed, Kind
from claudeproxyd.secrets.aws import REREAD_SECONDS, AwsChain, AwsKeys
from claudeproxyd.secrets.aws_profiles import BadProfile, read_profile, region_of
from claudeproxyd.secrets.refreshed import RefreshedSecret
from tests.secrets.support import SecretsTestCase

NOW = 1_700_000_000.5
ROLE = "arn:aws:iam::123456789012:role/claude"
STS = """<{0}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{0}Result><Credentials>
<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>role-secret</SecretAccessKey>
<SessionToken>role//token==</SessionToken><Expiration>2023-11-14T23:13:20Z</Expiration></Credentials>
<AssumedRoleUser><Arn>x</Arn></AssumedRoleUser></{0}Result></{0}Response>"""
REFUSED = (
    """<ErrorResponse><Error><Type>Sender</Type><Code>{}</Code><Message>No: {}</Message></Error></ErrorResponse>"""
)
TOLD = {
    "Code": "Success",
    "Type": "AWS-HMAC",
    "AccessKeyId": "ASIATOLD",
    "SecretAccessKey": "told-secret",
    "Token": "told-token",
    "Expiration": "2023-11-14T22:28:20Z",
}


class Endpoints(Resource):
    """All that AWS's tools ask, at one place: STS, a container's endpoint, a machine's metadata."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []
        self.forms: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.answers: dict[str, tuple[int, str]] = {}
        """By method and path; what they say otherwise is right."""
        self.quoted = ""
        """What refusals quote."""

    def render(self, request: Any) -> bytes:
        """One request."""
        method, path = request.method.decode(), request.path.decode()
        headers = {
            name.decode().lower(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.asked.append((method, path, headers))
        body = request.content.read()
        self.bodies.append(body)
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.forms.append(form)
        status, text = self.answers.get(f"{method} {path}") or self.usual(method, path, headers, form)
        request.setResponseCode(status)
        return (text.format(self.quoted) if self.quoted and status != 200 else text).encode()

    def usual(self, method: str, path: str, headers: Mapping[str, str], form: Mapping[str, str]) -> tuple[int, str]:
        """As AWS answers."""
        roles = "/latest/meta-data/iam/security-credentials/"
        if "Action" in form:
            return 200, STS.format(form["Action"])
        if (method, path) == ("PUT", "/latest/api/token"):
            return (200, "imds-token") if headers["x-aws-ec2-metadata-token-ttl-seconds"] == "21600" else (400, "")
        if path.startswith(roles):
            if headers.get("x-aws-ec2-metadata-token") != "imds-token":
                return 401, ""
            return 200, "some-role" if path == roles else json.dumps(TOLD)
        return 200, json.dumps({name: value for name, value in TOLD.items() if name not in ("Code", "Type")})


class ChainTestCase(SecretsTestCase):
    """A chain with files of its own."""

    def setUp(self) -> None:
        """They are empty."""
        super().setUp()
        self.endpoints = Endpoints()
        self.home = Path(self.mktemp()).absolute()
        (self.home / ".aws").mkdir(parents=True)
        self.environ = {"HOME": str(self.home), "AWS_ENDPOINT_URL_STS": "https://sts.test"}

    def write(self, name: str, text: str) -> None:
        """One of the files of profiles."""
        (self.home / ".aws" / name).write_text(text)

    def fetch(self, **options: Any) -> Deferred[AwsKeys]:
        """What the chain brings."""
        http: Any = StubTreq(self.endpoints)
        return Deferred.fromCoroutine(AwsChain(http, lambda: NOW, self.environ, **options).fetch())

    def keys(self, **options: Any) -> AwsKeys:
        """The same, where it brings something."""
        keys: AwsKeys = self.successResultOf(self.fetch(**options))
        return keys

    def refusal(self, **options: Any) -> tuple[Kind, str]:
        """How it fails."""
        outcome = self.failureResultOf(self.fetch(**options), AttemptFailed).value.outcome
        return outcome.kind, outcome.reason


class Chain(ChainTestCase):
    """Where keys are looked for, in AWS's order."""

    def test_environment(self) -> None:
        """It goes before all else, and is read anew after a while."""
        self.write("credentials", "[default]\naws_access_key_id = AKIAFILE\naws_secret_access_key = f\n")
        self.environ |= {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "e"}
        self.assertEqual(self.keys(), AwsKeys("AKIAENV", "e", "", REREAD_SECONDS))
        self.environ["AWS_SESSION_TOKEN"] = "t"
        self.assertEqual(
            self.keys().members(), {"access_key_id": "AKIAENV", "secret_access_key": "e", "session_token": "t"}
        )

    def test_profiles(self) -> None:
        """The default one, the one that a variable names, the one that is configured; each file may have half of it."""
        self.write(
            "credentials", "[default]\naws_access_key_id=A\naws_secret_access_key=a\n[two]\naws_access_key_id=B\n"
        )
        self.write(
            "config", "[default]\nregion=eu-west-1\n[profile two]\naws_secret_access_key=b\nregion = us-west-2\n"
        )
        self.assertEqual(self.keys().access_key_id, "A")
        self.assertEqual(self.keys(profile="two").secret_access_key, "b")
        self.environ["AWS_PROFILE"] = "two"
        self.assertEqual(self.keys().access_key_id, "B")
        self.environ["AWS_ACCESS_KEY_ID"] = self.environ["AWS_SECRET_ACCESS_KEY"] = "E"
        self.assertEqual(self.keys(profile="two").access_key_id, "B")

    def test_web_identity(self) -> None:
        """A token in a file is shown to STS, unsigned; it is read anew each time."""
        token = self.home / "token"
        token.write_text("jwt-1\n")
        self.environ |= {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_ROLE_ARN": ROLE,
            "AWS_ROLE_SESSION_NAME": "pod",
        }
        self.assertEqual(self.keys(), AwsKeys("ASIAROLE", "role-secret", "role//token==", 3_599.5))
        token.write_text("jwt-2")
        self.keys()
        (_, path, headers), _ = self.endpoints.asked
        self.assertEqual((path, headers["host"]), ("/", "sts.test"))
        self.assertNotIn("authorization", headers)
        first, second = self.endpoints.forms
        self.assertEqual(
            first,
            {
                "Action": "AssumeRoleWithWebIdentity",
                "Version": "2011-06-15",
                "RoleArn": ROLE,
                "RoleSessionName": "pod",
                "WebIdentityToken": "jwt-1",
            },
        )
        self.assertEqual(second["WebIdentityToken"], "jwt-2")
        token.unlink()
        self.assertEqual(self.refusal()[0], Kind.AUTH)

    def test_role_of_a_profile(self) -> None:
        """A profile's role is assumed with another profile's keys, and the question is signed as AWS signs it."""
        self.write("config", f"[profile p]\nrole_arn={ROLE}\nsource_profile=q\nexternal_id=x\nduration_seconds=900\n")
        self.write("credentials", "[q]\naws_access_key_id=A\naws_secret_access_key=a\naws_session_token=t\n")
        self.environ["AWS_REGION"] = "eu-west-1"
        self.assertEqual(self.keys(profile="p").access_key_id, "ASIAROLE")
        (form,), ((_, _, headers),), (body,) = self.endpoints.forms, self.endpoints.asked, self.endpoints.bodies
        self.assertEqual((form["Action"], form["ExternalId"], form["DurationSeconds"]), ("AssumeRole", "x", "900"))
        signed = {name: headers[name] for name in ("content-type",)}
        request: Any = AWSRequest("POST", "https://sts.test/", headers=signed, data=body)
        moment = datetime.fromtimestamp(NOW, UTC).replace(tzinfo=None)
        with patch("botocore.auth.get_current_datetime", return_value=moment):
            SigV4Auth(Credentials("A", "a", "t"), "sts", "eu-west-1").add_auth(request)
        self.assertEqual(headers["authorization"], request.headers["Authorization"])

    def test_role_that_is_configured(self) -> None:
        """With the keys beside it, or with what the chain brings."""
        keys = AwsKeys("K", "k", "", 1.0)
        self.assertEqual(self.keys(role_arn=ROLE, keys=keys).access_key_id, "ASIAROLE")
        self.environ |= {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "e"}
        self.keys(role_arn=ROLE)
        credentials = [headers["authorization"].split()[1] for _, _, headers in self.endpoints.asked]
        self.assertEqual([each.split("/")[0] for each in credentials], ["Credential=K", "Credential=E"])

    def test_other_sources_of_a_role(self) -> None:
        """The environment, a container, the machine, and the profile's own keys."""
        self.environ |= {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "e"}
        self.environ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "/v2/credentials/1"
        for source, key in (("Environment", "E"), ("EcsContainer", "ASIATOLD"), ("Ec2InstanceMetadata", "ASIATOLD")):
            self.write("config", f"[profile p]\nrole_arn={ROLE}\ncredential_source={source}\n")
            self.keys(profile="p")
            self.assertIn(f"Credential={key}/", self.endpoints.asked[-1][2]["authorization"])
        self.write(
            "config", f"[profile p]\nrole_arn={ROLE}\nsource_profile=p\naws_access_key_id=O\naws_secret_access_key=o\n"
        )
        self.keys(profile="p")
        self.assertIn("Credential=O/", self.endpoints.asked[-1][2]["authorization"])

    def test_container(self) -> None:
        """ECS and EKS have an endpoint, and a token for it in a variable or in a file."""
        self.environ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "/v2/credentials/1"
        self.assertEqual(self.keys(), AwsKeys("ASIATOLD", "told-secret", "told-token", 899.5))
        _, path, headers = self.endpoints.asked.pop()
        self.assertEqual((headers["host"], path), ("169.254.170.2", "/v2/credentials/1"))
        del self.environ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]
        self.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://169.254.170.23/v1/credentials"
        (self.home / "token").write_text("pod-token")
        self.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(self.home / "token")
        self.keys()
        self.assertEqual(self.endpoints.asked[-1][2]["authorization"], "pod-token")
        self.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://example.com/"
        self.assertEqual(self.refusal()[0], Kind.AUTH)

    def test_machine(self) -> None:
        """IMDSv2: a token first, then the role, then its keys."""
        self.assertEqual(self.keys(), AwsKeys("ASIATOLD", "told-secret", "told-token", 899.5))
        self.assertEqual(
            [(method, path.rpartition("/")[2]) for method, path, _ in self.endpoints.asked],
            [("PUT", "token"), ("GET", ""), ("GET", "some-role")],
        )
        self.assertEqual(self.endpoints.asked[0][2]["host"], "169.254.169.254")
        self.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:1338/"
        self.keys()
        self.assertEqual(self.endpoints.asked[-1][2]["host"], "127.0.0.1:1338")
        self.environ["AWS_EC2_METADATA_DISABLED"] = "true"
        self.assertEqual(self.refusal()[0], Kind.AUTH)

    def test_like_botocore(self) -> None:
        """AWS's own library finds the same keys and the same region in the same files."""
        self.write(
            "config",
            "[default]\nregion = eu-central-1\n[profile  two]\nregion=us-west-2\n  # a note\ncli_pager =\n"
            "[profile s3]\ns3 =\n  max_concurrent_requests = 10\nregion=ap-south-1\n[sso-session x]\nsso_region=y\n",
        )
        self.write(
            "credentials",
            "[default]\naws_access_key_id = A\naws_secret_access_key = a%b\n"
            "[two]\naws_access_key_id=B\naws_secret_access_key=b\n",
        )
        for profile, has_keys in (("", True), ("two", True), ("s3", False)):
            names = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"}
            files = {variable: str(self.home / ".aws" / name) for variable, name in names.items()}
            with patch.dict("os.environ", {**files, "AWS_EC2_METADATA_DISABLED": "true"}, clear=True):
                session = botocore.session.Session(profile=profile or None)
                theirs = session.get_credentials()
                region = session.get_config_variable("region")
            self.assertEqual(region_of(self.environ, profile), region)
            if has_keys:
                assert theirs is not None
                ours = self.keys(profile=profile)
                self.assertEqual((ours.access_key_id, ours.secret_access_key), (theirs.access_key, theirs.secret_key))

    def test_sts_as_botocore_reads_it(self) -> None:
        """What this test's STS says is what AWS's library takes for keys."""
        model = botocore.session.Session().get_service_model("sts")
        shape = model.operation_model("AssumeRole").output_shape
        answer = {"body": STS.format("AssumeRole").encode(), "headers": {}, "status_code": 200}
        parsed = QueryParser().parse(answer, shape)
        self.assertEqual(parsed["Credentials"]["SessionToken"], "role//token==")


class Failing(ChainTestCase):
    """What brings no keys."""

    def test_nothing_anywhere(self) -> None:
        """The words say where was looked."""
        self.environ["AWS_EC2_METADATA_DISABLED"] = "true"
        kind, why = self.refusal()
        self.assertEqual(kind, Kind.AUTH)
        self.assertIn("neither the environment nor a profile", why)

    def test_profiles_that_cannot_be_used(self) -> None:
        """One that is not there, that leads to itself, that wants a browser, that has nothing."""
        self.write(
            "config",
            f"[profile a]\nrole_arn={ROLE}\nsource_profile=b\n[profile b]\nrole_arn={ROLE}\nsource_profile=a\n"
            f"[profile sso]\nsso_start_url=x\n[profile bare]\nregion=x\n[profile half]\nrole_arn={ROLE}\n",
        )
        for profile, words in (
            ("none", "no profile none in"),
            ("a", "leads to itself"),
            ("sso", "a login by browser"),
            ("bare", "no keys and no role"),
            ("half", "neither a source_profile nor a credential_source"),
        ):
            kind, why = self.refusal(profile=profile)
            self.assertEqual(kind, Kind.AUTH)
            self.assertIn(words, why)

    def test_files_that_cannot_be_read(self) -> None:
        """No line of them is quoted."""
        self.write("credentials", "[default\naws_secret_access_key = hunter2\n")
        kind, why = self.refusal()
        self.assertEqual(kind, Kind.AUTH)
        self.assertNotIn("hunter2", why)
        self.write("credentials", "\xff")
        (self.home / ".aws" / "credentials").write_bytes(b"\xff\xfe")
        self.assertRaises(BadProfile, read_profile, "", self.environ)
        self.assertEqual(region_of(self.environ), "")

    def test_sts_refuses(self) -> None:
        """A refusal is the credential's; trouble passes."""
        keys = AwsKeys("K", "k", "", 1.0)
        for status, code, kind in (
            (403, "AccessDenied", Kind.AUTH),
            (400, "ExpiredTokenException", Kind.AUTH),
            (400, "Throttling", Kind.TRANSIENT),
            (400, "IDPCommunicationError", Kind.TRANSIENT),
            (503, "ServiceUnavailable", Kind.TRANSIENT),
        ):
            self.endpoints.answers["POST /"] = (status, REFUSED.format(code, ROLE))
            self.assertEqual(self.refusal(role_arn=ROLE, keys=keys)[0], kind)

    def test_what_was_sent_is_not_told(self) -> None:
        """Who is asked for keys may repeat by what it was asked: tokens of pods, containers, machines and sessions."""
        self.write("config", f"[profile p]\nrole_arn={ROLE}\nsource_profile=q\n")
        session = "aws_access_key_id=A\naws_secret_access_key=b\naws_session_token=planted-of-a-session\n"
        self.write("credentials", f"[q]\n{session}")
        for name in ("pod", "container"):
            (self.home / name).write_text(f"planted-with-a-{name}\n")
        self.endpoints.answers = {
            "POST /": (403, REFUSED.format("AccessDenied", "{}")),
            "GET /container": (403, '{{"Code":"No","Message":"not by {}"}}'),
            "PUT /latest/api/token": (200, "planted-of-a-machine"),
            "GET /latest/meta-data/iam/security-credentials/": (200, "some-role"),
            "GET /latest/meta-data/iam/security-credentials/some-role": (403, '{{"Code":"No","Message":"not by {}"}}'),
        }
        relative = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/container"}
        token, file = "AWS_CONTAINER_AUTHORIZATION_TOKEN", str(self.home / "container")
        for environ, sent in (
            ({"AWS_PROFILE": "p"}, "planted-of-a-session"),
            (
                {"AWS_WEB_IDENTITY_TOKEN_FILE": str(self.home / "pod"), "AWS_ROLE_ARN": ROLE},
                "planted-with-a-pod",
            ),
            ({**relative, token: "planted-of-a-container"}, "planted-of-a-container"),
            ({**relative, f"{token}_FILE": file}, "planted-with-a-container"),
            ({}, "planted-of-a-machine"),
        ):
            self.environ = {"HOME": str(self.home), "AWS_ENDPOINT_URL_STS": "https://sts.test", **environ}
            self.endpoints.quoted = sent
            _, why = self.refusal()
            self.assertIn("***", why, sent)
            self.assertNotIn("planted", why)

    def test_answers_that_are_none(self) -> None:
        """Nonsense, keys that have expired already, a machine without a role."""
        role = "GET /latest/meta-data/iam/security-credentials/some-role"
        for path, status, text, kind in (
            (role, 200, "<html>", Kind.TRANSIENT),
            (role, 200, json.dumps({**TOLD, "Expiration": "2020-01-01T00:00:00Z"}), Kind.TRANSIENT),
            (role, 200, json.dumps({**TOLD, "Code": "AssumeRoleUnauthorizedAccess"}), Kind.TRANSIENT),
            (role, 200, json.dumps({**TOLD, "Token": ""}), Kind.TRANSIENT),
            (role, 500, "", Kind.TRANSIENT),
            ("PUT /latest/api/token", 403, "", Kind.TRANSIENT),
            ("GET /latest/meta-data/iam/security-credentials/", 404, "", Kind.AUTH),
        ):
            self.endpoints.answers = {path: (status, text)}
            self.assertEqual(self.refusal()[0], kind, (path, text))
        self.endpoints.answers = {role: (200, json.dumps({**TOLD, "Expiration": "soon"}))}
        self.assertEqual(self.keys().lifetime, REREAD_SECONDS)


class Refreshing(ChainTestCase):
    """The chain as a credential's source."""

    def test_ahead_of_the_end(self) -> None:
        """Keys are fetched anew before they expire, in nobody's way, and masked wherever they are repeated."""
        clock = Clock()
        http: Any = StubTreq(self.endpoints)
        chain = AwsChain(http, lambda: NOW + clock.seconds(), self.environ)
        source = RefreshedSecret("p/c", chain.fetch, clock)
        self.assertIsNone(source.present())
        first = self.successResultOf(source.refresh())
        self.assertEqual(first["session_token"], "told-token")
        self.assert_masked("told-secret")
        self.assert_masked("told-token")
        clock.advance(500)
        self.assertIs(source.present(), first)
        self.assertEqual(len(self.endpoints.asked), 3)
        later = json.dumps({**TOLD, "Token": "second-token", "Expiration": "2023-11-14T23:00:00Z"})
        self.endpoints.answers["GET /latest/meta-data/iam/security-credentials/some-role"] = (200, later)
        clock.advance(240)
        present = source.present()
        assert present is not None
        self.assertEqual(present["session_token"], "second-token")
        clock.advance(3_000)
        self.assertIsNone(source.present())
        self.assertNotIn("told-secret", repr(source) + repr(AwsKeys("a", "told-secret", "t", 1.0)))
