"""Signature Version 4."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.secrets.sigv4 import Signer, canonical_request

#: AWS's published test suite (Apache License 2.0, © 2019 Amazon.com, Inc. or its affiliates), one file of it.
SUITE = json.loads((Path(__file__).parents[1] / "data" / "sigv4.json").read_text("utf-8"))
NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
SECRET = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}


def read(text: str) -> tuple[str, str, list[tuple[str, str]], bytes]:
    """Method, target, headers and body of a request as the suite has them."""
    head, _, body = text.partition("\n\n")
    first, *lines = head.rstrip("\n").split("\n")
    method, _, rest = first.partition(" ")
    headers: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith(" "):
            headers[-1] = (headers[-1][0], f"{headers[-1][1]} {line}")
        else:
            name, _, value = line.partition(":")
            headers.append((name, value))
    return method, rest.removesuffix(" HTTP/1.1"), headers, body.encode()


def fields(lines: bytes) -> dict[str, str]:
    """Header lines by their names."""
    return dict(line.split(": ", 1) for line in lines.decode().split("\r\n") if line)


def by_botocore(secret: dict[str, str], url: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
    """The headers by which AWS's own library signs a request to Bedrock."""
    request: Any = AWSRequest("POST", url, headers=headers, data=body)
    keys = Credentials(secret["access_key_id"], secret["secret_access_key"], secret.get("session_token"))
    with patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        SigV4Auth(keys, "bedrock", "eu-west-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


class Suite(SynchronousTestCase):
    """The published cases."""

    def test_canonical_requests(self) -> None:
        """What is signed is what AWS signs."""
        for name, case in SUITE.items():
            method, target, headers, body = read(case["request"])
            if "with-session-token" in name:
                token = case["canonical"].partition("x-amz-security-token:")[2].partition("\n")[0]
                headers.append(("X-Amz-Security-Token", token))
            signed, request = canonical_request(method, target, headers, body)
            self.assertEqual(request, case["canonical"], name)
            self.assertIn(f"SignedHeaders={signed},", case["authorization"], name)

    def test_signatures(self) -> None:
        """Each signature is AWS's own."""
        for name, case in SUITE.items():
            method, target, headers, body = read(case["request"])
            given = {key.lower(): value for key, value in headers}
            secret = dict(SECRET)
            token = case["canonical"].partition("x-amz-security-token:")[2].partition("\n")[0]
            if token:
                secret["session_token"] = token
            added = ("host", "x-amz-date", "x-amz-security-token")
            others = [(key, value) for key, value in headers if key.lower() not in added]
            signer = Signer("us-east-1", "service")
            lines = signer.lines(secret, method, given["host"], target, others, body, NOW.timestamp())
            self.assertEqual(fields(lines)["authorization"], case["authorization"], name)


class AgainstBotocore(SynchronousTestCase):
    """What AWS's own library signs alike."""

    @settings(max_examples=100, deadline=None)
    @given(
        st.text("abc:/.%é ~-", min_size=1, max_size=20).filter(lambda model: model not in (".", "..")),
        st.binary(max_size=50),
        st.none() | st.text("abc/+=", min_size=1, max_size=40),
    )
    def test_any_model_and_body(self, model: str, body: bytes, token: str | None) -> None:
        """Whatever the model is called, its escaped name is escaped once more."""
        target = f"/model/{quote(model, safe='')}/invoke"
        secret = {**SECRET, **({"session_token": token} if token else {})}
        lines = Signer("eu-west-1", "bedrock").lines(
            secret, "POST", "bedrock.example", target, [("content-type", "application/json")], body, NOW.timestamp()
        )
        theirs = by_botocore(secret, f"https://bedrock.example{target}", {"content-type": "application/json"}, body)
        ours = fields(lines)
        self.assertEqual(ours, {name: theirs[name] for name in ours})

    def test_keys_are_derived_once_a_day(self) -> None:
        """A day later, and for another secret, the signature is another one's."""
        signer = Signer("us-east-1", "bedrock")

        def signature(secret: str, now: float) -> str:
            lines = signer.lines({**SECRET, "secret_access_key": secret}, "POST", "h", "/", [], b"", now)
            return fields(lines)["authorization"]

        first = signature("a", NOW.timestamp())
        self.assertEqual(signature("a", NOW.timestamp()), first)
        self.assertNotEqual(signature("b", NOW.timestamp()), first)
        self.assertIn("/20150831/", signature("a", NOW.timestamp() + 86_400))
        self.assertEqual(signature("a", NOW.timestamp()), first)
