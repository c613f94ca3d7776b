"""Programs that tests need and no package index brings: without them these tests are skipped, each with its reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest

Requirement = Callable[[], object]
"""Calls :func:`lacking` where something is missing."""


def lacking(what: str) -> NoReturn:
    """Skip the test for that reason; under ``CI_REQUIRE_CLIENTS=1`` fail it."""
    if os.environ.get("CI_REQUIRE_CLIENTS") == "1":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def needs(*requirements: Requirement) -> pytest.MarkDecorator:
    """The mark of a test, or of a module's, that cannot run without these.

    They are asked before any of its fixtures is set up: one of pytest-twisted's that skips is left half set up, and
    the tests after it fail.
    """
    return pytest.mark.needs.with_args(*requirements)  # called, a mark would take a function for what it marks


def require(item: pytest.Item) -> None:
    """Ask what the marks of a test name; called by ``conftest`` ahead of its fixtures."""
    for mark in item.iter_markers("needs"):
        for requirement in mark.args:
            requirement()
