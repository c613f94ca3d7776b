"""``[[issuers]]``: what the check of a configuration says of them."""

from __future__ import annotations

from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.config.loading import load
from claudeproxyd.config.report import report
from tests.config.support import MAKERS, SANDBOX, ConfigTestCase
from tests.issuers.support import RSA, published

GOOD = '[[issuers]]\nurl = "https://login.example.com"\naudience = "claudeproxyd"\n'
EVERYWHERE = '[server]\nlisten = ["tcp:8765:interface=0.0.0.0"]\n'


class IssuersTests(ConfigTestCase):
    """As operators meet them."""

    def test_good(self) -> None:
        """Issuers are enough to listen for others, and the report names them."""
        self.write("keys.json", published(("1", RSA)))
        for more in (
            "",
            'name = "oid"\nprefix = "staff:"\nlabels = { team = "groups.0" }\nmodels_claim = "https://example.com/models"\n',
            'audience = ["a", "b"]\n',
            'jwks = { file = "keys.json" }\n',
            'jwks_url = "https://keys.example.com/keys?p=policy"\n',
            'url = "http://127.0.0.1:8080/realms/x"\n',
            'proxy = "env"\nrequire = { groups = "claude-*" }\n',
        ):
            loaded = self.load(EVERYWHERE + changed(more) + SANDBOX)
            self.assertTrue(loaded.config.is_keyed)
            self.assertEqual(loaded.warnings, [], more)
        told = report(self.load(changed('audience = ["a", "b"]\n') + SANDBOX), MAKERS)
        self.assertIn("clients:\n  whoever has a token of https://login.example.com for a or b\n", told)

    def test_mistakes(self) -> None:
        """Each names the member: what would let in others, or nobody."""
        self.write("keys.json", b'{"keys":[]}')
        for more, member in (
            ('url = "http://login.example.com"\n', "url"),
            ('url = "login.example.com"\n', "url"),
            ('url = "https://user:pass@login.example.com"\n', "url"),
            ('url = "https://login.example.com?a=b"\n', "url"),
            ('audience = ""\n', "audience"),
            ("audience = []\n", "audience"),
            ('audience = ["a", ""]\n', "audience"),
            ("audience = 7\n", "audience"),
            ("algorithms = []\n", "algorithms"),
            ('algorithms = ["none"]\n', "algorithms[0]"),
            ('algorithms = ["RS256", "HS256"]\n', "algorithms[1]"),
            ('jwks_url = "http://keys.example.com"\n', "jwks_url"),
            ('jwks = { file = "keys.json" }\n', "jwks"),
            ('jwks = { file = "missing.json" }\n', "jwks"),
            ('name = "email"\n', "name"),
            ('name = "profile.email"\n', "name"),
            ('name = "https://example.com/email"\n', "name"),
            ('jwks_url = "https://keys.example.com?a b"\n', "jwks_url"),
            ('jwks_url = "https://keys.example.com?a#b"\n', "jwks_url"),
            ('name = ""\n', "name"),
            ('labels = { team = "" }\n', "labels.team"),
            ('require = { groups = "" }\n', "require.groups"),
            ("refresh = 1\n", "refresh"),
            ("hold = 20\n", "hold"),
            ('proxy = "ftp://x"\n', "proxy"),
            ('ca_file = "/nowhere.pem"\n', "ca_file"),
        ):
            problems = [str(each) for each in self.problems(changed(more) + SANDBOX)]
            self.assertTrue(any(f"issuers[0].{member} " in each for each in problems), (more, problems))
        self.write("keys.json", published(("1", RSA)))
        both = 'jwks_url = "https://keys.example.com"\njwks = { file = "keys.json" }\n'
        self.assertEqual(self.problem(changed(both) + SANDBOX).path, "issuers[0].jwks")

    def test_names_that_change(self) -> None:
        """A claim that people choose themselves draws a warning."""
        self.assertEqual(self.warning(changed('name = "preferred_username"\n') + SANDBOX).path, "issuers[0].name")

    def test_two(self) -> None:
        """Two issuers must not be able to name two people alike."""
        other = GOOD.replace("login", "sso")
        for prefixes, wrong in (
            (("", ""), 2),
            (("a:", ""), 1),
            (("a:", "a:b:"), 1),
            (("a:", "a:"), 2),
            (("a:", "b:"), 0),
        ):
            text = "".join(f'{each}prefix = "{prefix}"\n' for each, prefix in zip((GOOD, other), prefixes, strict=True))
            found = self.problems(text + SANDBOX) if wrong else []
            self.assertEqual(len(found), wrong, prefixes)
            self.assertTrue(all(each.path.endswith("prefix") for each in found))
        self.load(f'{GOOD}prefix = "a:"\n{other}prefix = "b:"\n{SANDBOX}')
        self.assertIn("url", [each.path.rpartition(".")[2] for each in self.problems(GOOD + GOOD + SANDBOX)])

    def test_open(self) -> None:
        """Issuers and open access exclude each other, and a reload from some to none opens nothing."""
        self.assertEqual(self.problem("[server]\nopen = true\n" + GOOD + SANDBOX).path, "server.open")
        in_force = self.load(GOOD + SANDBOX).config
        path = self.write("main.toml", SANDBOX)
        error = self.assertRaises(ConfigError, load, path, self.environ, MAKERS, in_force=in_force)
        self.assertIn("issuers are all gone, and a reload opens nothing", str(error))


def changed(more: str) -> str:
    """The good section with other members in the place of its own."""
    names = {line.partition(" =")[0] for line in more.splitlines()}
    return "".join(f"{line}\n" for line in GOOD.splitlines() if line.partition(" =")[0] not in names) + more
