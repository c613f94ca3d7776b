"""Whom claims make of a token's holder."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.errors import ClaudeError
from claudeproxyd.issuers import claims as reading
from claudeproxyd.issuers.claims import MAX_MODELS, claim, principal_of
from tests.issuers.support import claims, section


class Counted:
    """Leaves texts as they are."""

    count = 0

    def __call__(self, text: str) -> str:
        self.count += 1
        return text


class Paths(SynchronousTestCase):
    """How a claim is named."""

    def test_found(self) -> None:
        """Members, members of members, and elements of lists; a name with dots goes before what it could mean."""
        said = {
            "sub": "ann",
            "groups": ["ads", "search"],
            "realm_access": {"roles": [{"name": "dev"}]},
            "https://example.com/team": "core",
            "a.b": 1,
            "a": {"b": 2, "c": 3},
        }
        for path, value in (
            ("sub", "ann"),
            ("groups.0", "ads"),
            ("groups.1", "search"),
            ("groups", ["ads", "search"]),
            ("realm_access.roles.0.name", "dev"),
            ("https://example.com/team", "core"),
            ("a.b", 1),
            ("a.c", 3),
        ):
            self.assertEqual(claim(said, path), value, path)

    def test_not_found(self) -> None:
        """What is not there is nothing, and no error."""
        for path in ("nobody", "groups.2", "groups.-1", "groups.x", "groups.99999999", "sub.0", "a.b.c", "", ".", "a."):
            self.assertIsNone(claim({"sub": "ann", "groups": ["ads"], "a": {"b": 2}}, path), path)


class Principals(SynchronousTestCase):
    """Names, labels, models."""

    def test_all(self) -> None:
        """The section says what comes of the claims; the address names nobody."""
        found = principal_of(
            claims(groups=["ads"], level=3, admin=True, email="ann@example.com", allowed=["claude-haiku-*", 7]),
            section(
                prefix="staff:",
                labels={"team": "groups.0", "level": "level", "admin": "admin", "none": "nothing"},
                models_claim="allowed",
                max_concurrency=4,
            ),
        )
        self.assertEqual(
            (found.name, dict(found.labels), found.models, found.max_concurrency),
            ("staff:ann", {"team": "ads", "level": "3", "admin": "true"}, ("claude-haiku-*", "7"), 4),
        )

    def test_models(self) -> None:
        """A token without the claim may what the section says; one whose claim is empty may nothing."""
        of = section(models=["claude-*"], models_claim="models")
        for said, may in (
            ({}, ("claude-*",)),
            ({"models": "a b"}, ("a", "b")),
            ({"models": []}, ()),
            ({"models": ""}, ()),
            ({"models": {"x": 1}}, ()),
        ):
            found = principal_of(claims(**said), of)
            self.assertEqual(found.models, may)
        self.assertFalse(principal_of(claims(models=[]), of).may_use("claude-x"))

    def test_costly_models(self) -> None:
        """A glob that takes long to read is none of them, nor is what is beyond a hundred."""
        of = section(models_claim="models")
        self.assertEqual(principal_of(claims(models=["*a" * 100, "b*"]), of).models, ("b*",))
        self.assertEqual(len(principal_of(claims(models=["m"] * 3000), of).models), MAX_MODELS)

    def test_many_words(self) -> None:
        """Who is in thousands of groups is soon known: nothing is done with words but to compare them."""
        self.patch(reading, "scrub", seen := Counted())
        of = section(require={"groups": "claude-*"}, models_claim="groups")
        groups = [f"g{number}" for number in range(1000)]
        self.assertEqual(principal_of(claims(groups=[*groups, "claude-users"]), of).name, "ann")
        self.assertLessEqual(seen.count, 1 + MAX_MODELS)

    def test_nobody(self) -> None:
        """A name that cannot be shown is none: too long, with a line break, half a character, a secret, no word."""
        for sub in (
            "",
            " ",
            "a\nb",
            "x" * 256,
            "\ud800",
            "sk-ant-api03-0123456789abcdef",
            ["ann"],
            {"a": 1},
            None,
            1.5,
        ):
            error = self.assertRaises(ClaudeError, principal_of, claims(sub=sub), section())
            self.assertEqual(error.status, 401, sub)

    def test_required(self) -> None:
        """Whoever lacks what is asked for is known, and may not call."""
        of = section(require={"groups": "claude-*", "email_verified": "true"})
        good: dict[str, Any] = {"groups": ["x", "claude-users"], "email_verified": True}
        self.assertEqual(principal_of(claims(**good), of).name, "ann")
        for lacks in ({"groups": ["x"]}, {"groups": None}, {"email_verified": False}, {"groups": ["a claude-x"]}):
            error = self.assertRaises(ClaudeError, principal_of, claims(**{**good, **lacks}), of)
            self.assertEqual(error.status, 403, lacks)
            self.assertIn("has to be", error.message)
