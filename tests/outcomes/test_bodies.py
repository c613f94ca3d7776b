"""The sentence in an error body, whoever wrote it."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.outcomes.bodies import aws_name, error_message, is_unnamed_error


def said(family: str, body: Any) -> str:
    return error_message(body if isinstance(body, bytes) else json.dumps(body).encode(), family)


class ErrorMessageTests(SynchronousTestCase):
    """What a client is told in the upstream's words."""

    def test_each_family(self) -> None:
        """The sentence is found where each API puts it."""
        for family, body in (
            ("anthropic", {"type": "error", "error": {"type": "api_error", "message": "Sorry"}, "request_id": "r"}),
            ("google", {"error": {"code": 500, "message": "Sorry", "status": "INTERNAL"}}),
            ("google", [{"error": {"code": 500, "message": "Sorry", "status": "INTERNAL"}}]),
            ("openai", {"error": {"message": "Sorry", "type": "server_error", "param": None, "code": None}}),
            ("openai", {"type": "response.failed", "response": {"error": {"code": "x", "message": "Sorry"}}}),
            ("openai", {"type": "error", "code": "x", "message": "Sorry", "param": None}),
            ("bedrock", {"message": "Sorry"}),
            ("bedrock", {"Message": "Sorry"}),
            ("bedrock", {"message": "The model returned the following errors: Sorry"}),
        ):
            self.assertEqual(said(family, body), "Sorry", body)

    def test_other_shapes(self) -> None:
        """Gateways and token endpoints have sentences too."""
        for body in (
            {"error": "Sorry"},
            {"error": "invalid_grant", "error_description": "Sorry"},
            "Sorry",
            b" Sorry\n",
            {"object": "error", "message": "Sorry", "type": "BadRequestError", "param": None, "code": 400},
            {"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": '{"error":"Sorry"}'}}},
            {"error": {"message": "Sorry", "code": 502, "metadata": {"raw": ""}}},
            {"detail": "Sorry"},
            {"code": 1, "msg": "Sorry"},
            {"base_resp": {"status_code": 1004, "status_msg": "Sorry"}},
            b"<html><head><title>\nSorry</title></head><body>x</body></html>",
        ):
            self.assertEqual(said("openai", body), "Sorry", body)

    def test_what_is_wrong_with_a_request(self) -> None:
        """Of a list of objections to a request's members the first is told, with its place."""
        detail = [{"type": "extra_forbidden", "loc": ["body", "user"], "msg": "Extra inputs are not permitted"}]
        for body in ({"detail": detail}, {"object": "error", "message": {"detail": detail}}):
            self.assertEqual(said("openai", body), "user: Extra inputs are not permitted")

    def test_no_sentence(self) -> None:
        """Where there is none, none is made up."""
        for body in (
            b"",
            b"{}",
            b"[]",
            b"null",
            b"7",
            {"error": {"message": 7}},
            {"error": []},
            {"detail": []},
            b"<html>x</html>",
        ):
            self.assertEqual(said("openai", body), "", body)

    def test_is_bounded(self) -> None:
        """No upstream makes us carry a book about."""
        self.assertEqual(len(said("openai", {"error": {"message": "x" * 100_000}})), 8_000)


class AwsNameTests(SynchronousTestCase):
    """AWS writes one name in four ways."""

    def test_all_spellings(self) -> None:
        """Header, body, and stream name the same error."""
        for spelling in (
            "ThrottlingException",
            "ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/",
            "com.amazon.coral.service#ThrottlingException",
            "throttlingException",
        ):
            self.assertEqual(aws_name(spelling), "Throttling")

    def test_other_names_stay(self) -> None:
        """What is not AWS's is left as it came."""
        self.assertEqual(aws_name("rate_limit_error"), "rate_limit_error")


class UnnamedErrorTests(SynchronousTestCase):
    """What is an error though it does not say so."""

    def test_each(self) -> None:
        """A sentence beside a code or a status is one; a sentence alone may be what a model said."""
        for body, is_one in (
            ({"code": 429, "message": "Rate limit reached"}, True),
            ({"code": "401", "msg": "Invalid token"}, True),
            ({"detail": "Unauthorized", "code": 401}, True),
            ({"message": "Dear diary"}, False),
            ({"detail": "Dear diary"}, False),
            ({"code": 429}, False),
        ):
            self.assertIs(is_unnamed_error(json.dumps(body).encode(), "openai"), is_one, body)
