"""Names and globs."""

from __future__ import annotations

from fnmatch import fnmatchcase

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.globs import is_glob, matches, oddity

names = st.text("ab[]!-1m*?.", max_size=8)


class Globs(SynchronousTestCase):
    """What stands for what."""

    def test_what_is_one(self) -> None:
        """Wildcards make a glob; a context window at the end does not, nor a bracket that nothing closes."""
        for glob in ("*", "a?", "a[bc]", "a[1m]b", "[1m]*", "a*[1m]", "a[1mb]"):
            self.assertTrue(is_glob(glob), glob)
        for name in ("", "a", "a[1m]", "a[200K]", "a[", "a[]", "a]b"):
            self.assertFalse(is_glob(name), name)

    def test_window(self) -> None:
        """It stands for itself, behind wildcards too."""
        self.assertTrue(matches("claude-opus[1m]", ["claude-*[1m]"]))
        self.assertFalse(matches("claude-opus1", ["claude-*[1m]"]))
        self.assertFalse(matches("claude-opus", ["claude-opus[1m]"]))

    @given(names, st.lists(names, max_size=3))
    def test_as_a_shell(self, name: str, globs: list[str]) -> None:
        """In all else they are read as in a shell, and a name that is equal always matches."""
        if any("m]" in glob for glob in globs):
            return
        self.assertEqual(matches(name, globs), name in globs or any(fnmatchcase(name, glob) for glob in globs))

    @given(names)
    def test_itself(self, name: str) -> None:
        """Whatever it is, it stands for itself; and what is no glob for nothing else."""
        self.assertTrue(matches(name, [name]))
        if not is_glob(name):
            self.assertFalse(matches(name + "1", [name]))

    def test_oddities(self) -> None:
        """Words of regular expressions, lists in one string, and words in brackets are told."""
        for glob in (
            "^claude",
            "claude-.*$",
            "a|b",
            "a, b",
            " a",
            "claude-(opus)",
            "claude-[latest]",
            "a{b}",
            "*a" * 11,
        ):
            self.assertNotEqual(oddity(glob), "", glob)
        for glob in ("claude-*", "gemini-2.*", "a[1m]", "gpt-[45]", "a[a-z]", "a[!ab]", "arn:aws:x/y", "m@2025", "x_1"):
            self.assertEqual(oddity(glob), "", glob)
