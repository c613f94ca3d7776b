"""The kind ``bedrock`` as a configuration has it, and the models that it lists."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import Aws
from claudeproxyd.executors.bedrock.maker import BedrockMaker
from claudeproxyd.executors.bedrock.names import api_name, is_claude
from claudeproxyd.executors.bedrock.places import ANYWHERE
from claudeproxyd.leases import Credential
from claudeproxyd.outcomes.types import AttemptFailed, Kind
from tests.executors.bedrock.support import BedrockTestCase, credential, section

MAKER = BedrockMaker()


class Environment(SynchronousTestCase):
    """A provider of the environment alone."""

    def test_keys(self) -> None:
        """A key pair, with its session token, in the region that is named."""
        pair = {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s"}
        (made,) = _credentials(pair)
        self.assertEqual(made["region"], "us-east-1")
        self.assertEqual(
            made["aws"],
            {"access_key_id": {"env": "AWS_ACCESS_KEY_ID"}, "secret_access_key": {"env": "AWS_SECRET_ACCESS_KEY"}},
        )
        (made,) = _credentials({**pair, "AWS_SESSION_TOKEN": "t", "AWS_DEFAULT_REGION": "eu-west-1"})
        self.assertEqual(made["aws"]["session_token"], {"env": "AWS_SESSION_TOKEN"})
        self.assertEqual(made["region"], "eu-west-1")
        (made,) = _credentials({**pair, "AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-1"})
        self.assertEqual(made["region"], "eu-west-3")

    def test_a_key_of_bedrocks(self) -> None:
        """It goes before a pair that may be there for other programs."""
        (made,) = _credentials(
            {"AWS_BEARER_TOKEN_BEDROCK": "k", "AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s"}
        )
        self.assertEqual(made["bearer_token"], {"env": "AWS_BEARER_TOKEN_BEDROCK"})
        self.assertNotIn("aws", made)

    def test_none(self) -> None:
        """Half a pair is none."""
        self.assertIsNone(MAKER.from_environment({"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": ""}))
        self.assertIsNone(MAKER.from_environment({"AWS_REGION": "us-east-1"}))


def _credentials(environ: dict[str, str]) -> list[dict[str, Any]]:
    made: Any = MAKER.from_environment(environ)
    listed: list[dict[str, Any]] = made["credentials"]
    return listed


class Regions(SynchronousTestCase):
    """Where a credential's region comes from."""

    def test_in_order(self) -> None:
        """Its own, its profile's, the environment's, the default profile's."""
        home = Path(self.mktemp()).absolute()
        (home / ".aws").mkdir(parents=True)
        (home / ".aws" / "config").write_text("[default]\nregion=eu-west-1\n[profile p]\nregion=eu-west-2\n")
        profile = Aws(profile="p")
        for own, aws, environ, region in (
            ("eu-west-4", profile, {"AWS_REGION": "eu-west-3"}, "eu-west-4"),
            ("", profile, {"AWS_REGION": "eu-west-3"}, "eu-west-2"),
            ("", "chain", {"AWS_REGION": "eu-west-3"}, "eu-west-3"),
            ("", "chain", {}, "eu-west-1"),
        ):
            with patch.dict(os.environ, {"HOME": str(home), **environ}, clear=True):
                made = section(credential(region=own, aws=aws), base_url=ANYWHERE)
                self.assertEqual(MAKER.check(made), [])
                self.assertEqual(MAKER.base_urls(made), [f"https://bedrock-runtime.{region}.amazonaws.com"])

    def test_mistakes(self) -> None:
        """No region anywhere, what is none, and a profile that there is not."""
        with patch.dict(os.environ, {"HOME": self.mktemp()}, clear=True):
            for members, wrong in (
                ({"region": ""}, "credentials[0].region"),
                ({"region": "us-east"}, "credentials[0].region"),
                ({"region": "evil.example/"}, "credentials[0].region"),
                ({"inference_profile": "moon"}, "credentials[0].inference_profile"),
                ({"region": "us-gov-west-1"}, None),
                ({"region": "ap-southeast-2", "inference_profile": "apac"}, None),
            ):
                found = MAKER.check(section(credential(**members)))
                self.assertEqual([member for member, _ in found], [wrong] if wrong else [])


class Names(SynchronousTestCase):
    """Whose a model is, by its name."""

    def test_claudes(self) -> None:
        """By all the names that Bedrock has for them."""
        for name, api in (
            ("claude-opus-4-8", "claude-opus-4-8"),
            ("anthropic.claude-opus-4-6-v1", "claude-opus-4-6"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929"),
            ("global.anthropic.claude-opus-5-5", "claude-opus-5-5"),
            ("anthropic.claude-3-5-sonnet-20241022-v2:0:200k", "claude-3-5-sonnet-20241022"),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-8",
                "claude-opus-4-8",
            ),
            (
                "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-haiku-4-5-20251001-v1:0",
                "claude-haiku-4-5-20251001",
            ),
        ):
            self.assertTrue(is_claude(name), name)
            self.assertEqual(api_name(name), api)

    def test_others(self) -> None:
        """Nova, Llama, and ARNs that do not tell."""
        for name in ("us.amazon.nova-pro-v1:0", "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", "x"):
            self.assertFalse(is_claude(name))
            self.assertEqual(api_name(name), "")


class Lists(BedrockTestCase):
    """What ``/v1/models`` shows."""

    def ask(self) -> Any:
        """Ask for the list."""
        self.make(credential(), base_url=ANYWHERE)
        asked = ensureDeferred(self.executor.models(Credential("b", "a", self.sources["a"])))
        self.wire = self.net.accept()
        return asked

    def answered(self, body: object) -> str:
        """Answer one question; its target."""
        head = self.wire.taken().decode()
        self.assertIn("authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20231114/us-east-1/bedrock/", head)
        self.wire.respond(200, json.dumps(body).encode())
        return head.split()[1]

    def test_profiles_and_models(self) -> None:
        """Profiles, on all their pages, and the models that are served without one."""
        asked = self.ask()
        self.assertIn("https://bedrock.us-east-1.amazonaws.com", self.hosts)
        profile = {"inferenceProfileName": "US Claude", "inferenceProfileId": "us.anthropic.claude-opus-4-8"}
        first = self.answered(
            {"inferenceProfileSummaries": [{**profile, "status": "ACTIVE", "type": "x"}], "nextToken": "a/b"}
        )
        self.assertEqual(first, "/inference-profiles?maxResults=1000")
        second = self.answered({"inferenceProfileSummaries": [{"inferenceProfileId": "us.amazon.nova-pro-v1:0"}]})
        self.assertEqual(second, "/inference-profiles?maxResults=1000&nextToken=a%2Fb")
        models = [
            {"modelId": "amazon.nova-pro-v1:0", "modelName": "Nova Pro", "modelLifecycle": {"status": "ACTIVE"}},
            {"modelId": "old", "modelLifecycle": {"status": "LEGACY"}},
        ]
        third = self.answered({"modelSummaries": models})
        self.assertTrue(third.startswith("/foundation-models?"))
        self.assertEqual(
            [(each["id"], each["display_name"]) for each in self.result(asked)],
            [
                ("us.anthropic.claude-opus-4-8", "US Claude"),
                ("us.amazon.nova-pro-v1:0", "us.amazon.nova-pro-v1:0"),
                ("amazon.nova-pro-v1:0", "Nova Pro"),
            ],
        )

    def test_refused(self) -> None:
        """A credential may not be allowed to list: that says so, and costs nothing else."""
        asked = self.ask()
        self.wire.taken()
        self.wire.respond(403, b'{"message":"no"}', "x-amzn-errortype: AccessDeniedException")
        failed = self.result(asked)
        assert isinstance(failed, AttemptFailed)
        self.assertIs(failed.outcome.kind, Kind.PERMISSION)

    def test_a_host_of_the_operators(self) -> None:
        """It may have no lists: it is not asked."""
        self.make(credential())
        asked = ensureDeferred(self.executor.models(Credential("b", "a", self.sources["a"])))
        self.assertEqual(self.result(asked), [])
