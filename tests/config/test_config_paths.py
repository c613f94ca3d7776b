"""Lines of settings."""

from __future__ import annotations

import tomllib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.config_paths import ConfigPath, SourceFile, Steps, lines_of

TEXT = '''a = 1
"b c".d = """x [not]
 y\\""" = 2""" # [nor = this]
[[p]]
n = [ 1, # ]
 { q = "}", r = [2] },
]
  [[p.c]]
  k = 1979-05-27 07:32:00
  [p.c.sub]
  z = '#'
[[p]]
e = """"quoted""""
"\\u00e9" = ''
[x.y]
'''


def paths_of(tree: Any, path: Steps = ()) -> set[Steps]:
    """The path of every value of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return {path}.union(*(paths_of(value, (*path, key)) for key, value in items))


class LineTests(SynchronousTestCase):
    """The scanner."""

    def test_every_value_has_its_line(self) -> None:
        """Strings, comments, arrays, inline tables and dotted keys do not mislead the count of lines."""
        lines = lines_of(TEXT)
        expected = {"a": 1, "b c": 2, "p": 4, "x": 15}
        self.assertEqual({key: lines[key,] for key in expected}, expected)
        self.assertEqual(lines["p", 0, "n", 1, "r", 0], 6)
        self.assertEqual(lines["p", 0, "c", 0, "k"], 9)
        self.assertEqual(lines["p", 0, "c", 0, "sub", "z"], 11)
        self.assertEqual(lines["p", 1, "e"], 13)
        self.assertEqual(lines["p", 1, "é"], 14)

    def test_the_same_paths_as_the_parser(self) -> None:
        """The scanner finds exactly the values that the parser finds, so no line is of another setting."""
        for text in (TEXT, TEXT.replace("\n", "\r\n"), "", "# only", "a.b.c = 1\na.b.d = 2"):
            self.assertEqual(set(lines_of(text)), paths_of(tomllib.loads(text)) - {()})

    def test_place(self) -> None:
        """A place reads like a path, and has the line of the nearest thing that is there."""
        path = ConfigPath(SourceFile("f", {}, lines=lines_of(TEXT))) / "p" / 0 / "c" / 0 / "missing" / "or gone"
        self.assertEqual(str(path), 'p[0].c[0].missing."or gone"')
        self.assertEqual(path.line, 8)
        self.assertEqual(ConfigPath(path.source, ("nowhere",)).line, 0)
