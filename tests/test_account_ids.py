"""Whose account it is stays here; the sentence goes out."""

from __future__ import annotations

import json
import time

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.account_ids import without_accounts

UUID = "8b7d6c5e-1234-4abc-8def-0123456789ab"

#: A sentence, and what is left of it.
SENTENCES = [
    (
        f"This request would exceed your organization's rate limit of 0 fast mode input tokens per minute (org: {UUID},"
        " model: claude-opus-4-8)",
        "This request would exceed your organization's rate limit of 0 fast mode input tokens per minute (org: ***,"
        " model: claude-opus-4-8)",
    ),
    ("User: arn:aws:iam::123456789012:user/x is not authorized", "User: *** is not authorized"),
    (
        "not authorized to perform bedrock:InvokeModel on arn:aws-us-gov:bedrock:us-east-1::foundation-model/m",
        "not authorized to perform bedrock:InvokeModel on ***",
    ),
    ("account 123456789012 has no access", "account *** has no access"),
    ("123456789012 has no access", "*** has no access"),
    (
        "Publisher Model `projects/my-team/locations/eu/publishers/anthropic/models/m` was not found",
        "Publisher Model `projects/***/locations/eu/publishers/anthropic/models/m` was not found",
    ),
    ("organization org-AbCdEf012345 is over its limit", "organization *** is over its limit"),
    (f"workspace {UUID} is closed", "workspace *** is closed"),
    (f"Closed: {UUID}", "Closed: ***"),
    (
        "The API has not been used in project 106271234567. Visit https://x/overview?project=106271234567 then",
        "The API has not been used in project ***. Visit https://x/overview?project=*** then",
    ),
    ("Quota exceeded for consumer 'project_number:10627123'", "Quota exceeded for consumer 'project_number:***'"),
    ("Permission denied: Consumer 'projects/10627' is closed", "Permission denied: Consumer 'projects/***' is closed"),
    ("API is disabled in project my-team-42 since today", "API is disabled in project *** since today"),
    ("Project 'myteam' is closed", "Project '***' is closed"),
    ('{"m":"Project \\"myteam\\" is closed"}', '{"m":"Project \\"***\\" is closed"}'),
    ("vertex@my-team.iam.gserviceaccount.com may not", "*** may not"),
    ("Account: acct_1A2b3C4d5E is closed", "Account: *** is closed"),
]

INNOCENT = [
    "file_011CNha8iCJcU1wXNR6q4V8w not found in project",
    "prompt is too long: 204801 tokens > 200000 maximum",
    "the project settings of this organization are wrong; ask your account team",
    f'{{"request_id":"{UUID}"}}',
    f"tool_use_id: {UUID} has no result",
    "accounts/fireworks/models/llama-4 is not there",
    "This account is closed",
    "Your organization has been disabled.",
]


class Accounts(SynchronousTestCase):
    """What is cut."""

    def test_ids_go_and_sentences_stay(self) -> None:
        """Each family's way to name an account; as it is in JSON, too."""
        for sentence, left in SENTENCES:
            self.assertEqual(without_accounts(sentence), left)
            body = json.dumps({"error": {"message": sentence}})
            self.assertEqual(json.loads(without_accounts(body)), {"error": {"message": left}})

    def test_other_words_stay(self) -> None:
        """What is no account's is not touched."""
        for sentence in INNOCENT:
            self.assertEqual(without_accounts(sentence), sentence)

    def test_bare(self) -> None:
        """What only may be an account's can be left: in an error about the request it is the client's own."""
        self.assertEqual(without_accounts(f"tool {UUID} and 123456789012", bare=False), f"tool {UUID} and 123456789012")
        self.assertEqual(without_accounts(f"org {UUID}", bare=False), "org ***")

    def test_twice(self) -> None:
        """Doing it again changes nothing."""
        for sentence, left in SENTENCES:
            self.assertEqual(without_accounts(left), left, sentence)

    def test_no_text_is_slow(self) -> None:
        """Whatever an upstream says."""
        for piece in (
            "project ",
            "project_",
            "a.",
            "a@",
            "org_",
            "org ",
            "account\\\\",
            "1" * 11 + " ",
            "arn:aws:",
            "a-",
        ):
            text = piece * (65_536 // len(piece))
            began = time.process_time()
            without_accounts(text)
            self.assertLess(time.process_time() - began, 0.5, piece)
