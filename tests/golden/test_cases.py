"""The cases judged for themselves, without the daemon: a case that is wrong is not to lead its code astray."""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.golden import facts, strict
from tests.golden.cases import Case, add_tests
from tests.golden.families import FAMILIES


class CaseTests(SynchronousTestCase):
    """The case itself: facts that are the same on both sides, in forms that the official types take."""

    maxDiff = None


def check_case(test: CaseTests, case: Case) -> None:
    if case.upstream_request is not None:
        judge_request(case, case.upstream_request)
    if case.upstream_answer is not None and case.answer is not None:
        for chunk in case.upstream_answer:
            case.family.check_answer(chunk)
        judge_answer(case, case.answer)


def judge_request(case: Case, body: dict[str, Any]) -> None:
    """Raise unless *body* is an upstream request that says what the case's Claude request says."""
    text = re.sub(r'"<(name_\d+)>"', r'"\1"', json.dumps(body))
    body = json.loads(re.sub(r'"<nine_(\d)>"', r'"nine0000\1"', text))
    case.family.check_request(body, case.place)
    facts.compare_requests(
        case.family, json.loads(case.body), body, own_words=case.own_words, signatures=case.signatures, lost=case.lost
    )


def judge_answer(case: Case, message: dict[str, Any]) -> None:
    """Raise unless *message* is one that says what the case's chunks say."""
    strict.check_message(known_numbers(case.filled(message)))
    facts.compare_answers(case.family, case.upstream_answer or [], case.filled(message), case.request)


def known_numbers(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with a figure in place of every ``<number>``."""
    return json.loads(json.dumps(answer).replace('"<number>"', "1"))


for folder in FAMILIES:
    add_tests(CaseTests, folder, lambda case: case.unsupported is None and case.error is None, check_case)
