"""``claudeproxyd doctor`` where a daemon runs; without one it is in ``tests/integration``."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.checkup import Finding
from claudeproxyd.cli.command import CommandFailed
from claudeproxyd.cli.doctor import DoctorCommand, in_words
from tests.cli.support import CommandTestCase

PATH = "/admin/v1/pool/check"
WELL = {"provider": "p", "credential": "a", "models": 3, "model": "m", "tokens": 7}
WRONG = {"provider": "p", "credential": "b", "trouble": "the key is refused", "mend": "put in another"}


class Doctor(CommandTestCase):
    """What it asks, and its exit code."""

    def code(self, *findings: dict[str, Any], argv: tuple[str, ...] = ()) -> int:
        """What it exits with."""
        self.admin.tell(PATH, {"credentials": findings})
        return self.successResultOf(self.begin(DoctorCommand(), *argv))

    def test_well(self) -> None:
        """0 where all are well."""
        self.assertEqual(self.code(WELL), 0)
        self.assertEqual(self.out.getvalue(), "well   p/a: lists 3 models, counts tokens of m\n")

    def test_wrong(self) -> None:
        """1 where one is not, with what mends it; one that is disabled does not count."""
        self.assertEqual(self.code(WELL, WRONG), 1)
        self.assertIn("WRONG  p/b: the key is refused\n       put in another", self.out.getvalue())
        self.assertEqual(self.code(WELL, {**WRONG, "disabled": True}), 0)

    def test_issuers(self) -> None:
        """They are told of below, with the same exit code."""
        well = {"issuer": "https://a", "keys": 2, "algorithms": ["RS256"]}
        self.admin.tell(PATH, {"credentials": [WELL], "issuers": [well]})
        self.assertEqual(self.successResultOf(self.begin(DoctorCommand())), 0)
        self.assertIn("well   issuer https://a: publishes 2 keys, for RS256\n", self.out.getvalue())
        self.admin.tell(PATH, {"credentials": [WELL], "issuers": [well, {"issuer": "b", "trouble": "t", "mend": "m"}]})
        self.assertEqual(self.successResultOf(self.begin(DoctorCommand())), 1)
        self.assertIn("WRONG  issuer b: t\n       m\n", self.out.getvalue())

    def test_chosen(self) -> None:
        """Provider and credential go up."""
        self.code(WELL, argv=("--provider", "p", "--credential", "a"))
        self.assertEqual(self.admin.asked[0].body, {"provider": "p", "credential": "a"})

    def test_none(self) -> None:
        """A name that nobody has is a mistake."""
        self.admin.tell(PATH, {"credentials": []})
        error = self.failureResultOf(self.begin(DoctorCommand(), "--provider", "x"), CommandFailed).value
        self.assertEqual(error.code, 1)

    def test_json(self) -> None:
        """For machines, with the same exit code."""
        self.assertEqual(self.code(WRONG, argv=("--json",)), 1)
        self.assertIn('"trouble": "the key is refused"', self.out.getvalue())


class Words(SynchronousTestCase):
    """One credential's lines."""

    def test_note(self) -> None:
        """What it cannot do is said beside what it can, or alone."""
        some = Finding(provider="p", credential="a", tokens=1, model="m", note="it does not list its models")
        self.assertEqual(in_words(some), "well   p/a: counts tokens of m, but it does not list its models")
        self.assertEqual(in_words(Finding(provider="p", credential="a", note="not asked")), "well   p/a: not asked")

    def test_upstreams_words(self) -> None:
        """An upstream's words do nothing to a terminal."""
        self.assertNotIn("\x1b", in_words(Finding(provider="p", credential="a", trouble="\x1b[2J", mend="m")))
