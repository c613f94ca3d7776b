"""Secrets: where they come from, and that they show up nowhere."""

from __future__ import annotations

import hashlib
import os

from claudeproxyd.config.schema import Aws, CredentialSection, Entra, OAuth
from claudeproxyd.config.secret import Secret, secrets_within
from tests.config.support import SANDBOX, ConfigTestCase

PROVIDER = '[[providers]]\nname = "a"\nkind = "anthropic"\n[[providers.credentials]]\nname = "c"\napi_key = '
CLIENT = SANDBOX + '[[clients]]\nname = "c"\nkey = '
PLACE = "providers[0].credentials[0].api_key"


class SecretTests(ConfigTestCase):
    """Each way to give a secret."""

    def secret(self, written: str) -> Secret:
        secret = self.load(PROVIDER + written).config.providers[0].credentials[0].api_key
        assert secret is not None
        return secret

    def test_plain(self) -> None:
        """A string is the secret itself."""
        self.assertEqual(self.secret('"sk-1"').reveal(), "sk-1")

    def test_variable(self) -> None:
        """A variable's value is the secret; one that is missing or empty is named."""
        self.environ["TEAM_KEY"] = "sk-2"
        self.assertEqual(self.secret('{ env = "TEAM_KEY" }').reveal(), "sk-2")
        self.environ["TEAM_KEY"] = ""
        problem = self.problem(PROVIDER + '{ env = "TEAM_KEY" }')
        self.assertEqual((problem.path, problem.line), (PLACE, 6))
        self.assertIn("$TEAM_KEY is not set", problem.message)

    def test_file(self) -> None:
        """A file beside the configuration is read without the end of its line, and its path is kept."""
        path = self.write("keys/a", "sk-3\r\n")
        secret = self.secret('{ file = "keys/a" }')
        self.assertEqual((secret.reveal(), secret.path), ("sk-3", path))
        self.assertEqual(self.load(PROVIDER + '{ file = "keys/a" }').warnings, [])

    def test_of_a_unit(self) -> None:
        """What systemd brings is found by the variable that it sets, else it is said how to check."""
        path = self.write("run/credentials/team-a", "sk-4\n")
        for written in ("$CREDENTIALS_DIRECTORY/team-a", "${CREDENTIALS_DIRECTORY}/team-a"):
            self.environ.pop("CREDENTIALS_DIRECTORY", None)
            problem = self.problem(f'{PROVIDER}{{ file = "{written}" }}')
            self.assertIn("$CREDENTIALS_DIRECTORY is not set", problem.message)
            self.assertIn("systemd-run", problem.hint)
            self.environ["CREDENTIALS_DIRECTORY"] = os.path.dirname(path)
            secret = self.secret(f'{{ file = "{written}" }}')
            self.assertEqual((secret.reveal(), secret.path), ("sk-4", path))
        path = self.write("a$HOME/$b", "sk-5")
        self.assertEqual(self.secret('{ file = "a$HOME/$b" }').path, path)

    def test_bad_files(self) -> None:
        """A file that is missing, empty, binary, huge or none at all is an error at its place."""
        self.write("empty", "\n")
        self.write("binary", b"\xff")
        self.write("huge", b"x" * 1_048_577)
        os.mkfifo(os.path.join(self.folder, "pipe"))
        for name, words in (
            ("gone", "No such file"),
            ("empty", "is empty"),
            ("binary", "UTF-8"),
            ("huge", "1 MiB"),
            (".", "Is a directory"),
            ("pipe", "no ordinary file"),
            ("\\u0000", "impossible name"),
        ):
            problem = self.problem(f'{PROVIDER}{{ file = "{name}" }}')
            self.assertEqual(problem.path, PLACE)
            self.assertIn(words, problem.message)

    def test_file_for_everyone(self) -> None:
        """A secret that everyone on the machine can read draws a warning."""
        os.chmod(self.write("open", "sk"), 0o644)
        warning = self.warning(PROVIDER + '{ file = "open" }')
        self.assertEqual((warning.path, warning.hint), (PLACE, "chmod o-r"))

    def test_digest(self) -> None:
        """A client's key may be its digest, in either case of letters; a provider's secret may not."""
        digest = hashlib.sha256(b"key").hexdigest()
        key = self.load(f'{CLIENT}"sha256:{digest.upper()}"').config.clients[0].key
        self.assertEqual(key.digest, Secret("key").digest)
        self.assertRaises(ValueError, key.reveal)
        self.assertIn("64 hexadecimal", self.problem(CLIENT + '"sha256:abc"').message)
        self.assertIn("only in [[clients]] and [[operators]]", self.problem(f'{PROVIDER}"sha256:{digest}"').message)

    def test_other_shapes(self) -> None:
        """Any other table, and an empty string, are errors."""
        for written in ("{}", "{ env = 1 }", '{ env = "A", file = "b" }', '{ vault = "x" }', '""'):
            self.assertEqual(self.problem(PROVIDER + written).path, PLACE)
        self.assertIn("a secret, and is an integer", self.problem(PROVIDER + "3").message)

    def test_fits_a_header(self) -> None:
        """A key with a line break or a blank at its end would break the request's head, and is refused."""
        for written in ('"a\\nb"', '"a "', '"ä"'):
            self.assertIn("not allowed in a header", self.problem(PROVIDER + written).message)
            self.assertEqual(self.problem(CLIENT + written).path, "clients[0].key")

    def test_never_shown(self) -> None:
        """A secret that was written in any wrong place or shape is in no error, repr or string."""
        secret = "sk-ant-hunter2"
        for written in (
            f'{{ env = "{secret}" }}',
            f'{{ file = "{secret}" }}',
            f'{{ key = "{secret}" }}',
            f'["{secret}"]',
            f'"{secret} "',
            f'"{secret}',
            f'"sha256:{secret}"',
        ):
            for text in (PROVIDER, CLIENT):
                for problem in self.problems(text + written):
                    self.assertNotIn("hunter2", str(problem) + repr(problem))
        word = PROVIDER.replace("api_key", "service_account")
        self.assertNotIn("hunter2", "".join(map(str, self.problems(f'{word}"{secret}"'))))
        self.assertNotIn("hunter2", repr(self.load(f'{PROVIDER}"{secret}"').config))
        self.assertNotIn("hunter2", f"{Secret(secret)} {Secret(secret)!r}")

    def test_passwords_in_urls(self) -> None:
        """Passwords of proxies and stores, and header values, stay out of errors and of reprs."""
        for line in (
            'proxy = "http://u:hunter2@p:1"',
            'headers = { authorization = "hunter2" }',
        ):
            text = PROVIDER.replace('"anthropic"\n', f'"anthropic"\n{line}\n') + '"k"'
            self.assertNotIn("hunter2", repr(self.load(text).config))
        for line in (
            'proxy = "socks://u:hunter2@p:1"',
            'proxy = "http://u:hunter2@p:x"',
            'base_url = "https://u:hunter2@p"',
            'base_url = "https://p:hunter2/"',
            'headers = { authorization = "hunter2\\n" }',
        ):
            text = PROVIDER.replace('"anthropic"\n', f'"anthropic"\n{line}\n') + '"k"'
            self.assertNotIn("hunter2", str(self.problem(text)))

    def test_equality(self) -> None:
        """Secrets are the same when the value and the file are; a reload tells them apart by it."""
        self.assertEqual(Secret("a"), Secret("a"))
        self.assertEqual(len({Secret("a"), Secret("a")}), 1)
        self.assertNotEqual(Secret("a"), Secret("b"))
        self.assertNotEqual(Secret("a", path="/x"), Secret("a", path="/y"))

    def test_all_are_found(self) -> None:
        """Whatever secret a credential holds, the log can be told to mask it."""
        section = CredentialSection(
            name="c",
            api_key=Secret("1"),
            bearer_token=Secret("2"),
            service_account=Secret("3"),
            aws=Aws(access_key_id=Secret("4"), secret_access_key=Secret("5"), session_token=Secret("6")),
            oauth=OAuth(token_url="u", client_id="i", client_secret=Secret("7"), refresh_token=Secret("8")),
            entra=Entra(tenant_id="t", client_id="i", client_secret=Secret("9"), certificate=Secret("A")),
        )
        self.assertEqual(sorted(each.reveal() for each in secrets_within(section)), list("123456789A"))
