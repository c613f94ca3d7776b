"""Finding, including, reading and joining files."""

from __future__ import annotations

import os

from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.config.loading import load
from claudeproxyd.config.schema import Config
from claudeproxyd.executors.vertex.maker import VertexMaker
from tests.config.support import SANDBOX, ConfigTestCase, FakeMaker

OPEN = "[server]\nopen = true\n"


class SearchTests(ConfigTestCase):
    """Which file is read."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def files(self, path: str | None = None) -> tuple[str, ...]:
        return load(path, self.environ, self.makers).files

    def test_order(self) -> None:
        """--config goes before $CLAUDEPROXYD_CONFIG, that before the working directory, that before the home."""
        self.assertEqual(self.files(), ())
        home = self.write(".config/claudeproxyd/claudeproxyd.toml", SANDBOX)
        self.assertEqual(self.files(), (home,))
        self.write("claudeproxyd.toml", SANDBOX)
        self.assertEqual(self.files(), ("claudeproxyd.toml",))
        self.environ["CLAUDEPROXYD_CONFIG"] = self.write("variable.toml", SANDBOX)
        self.assertEqual(self.files(), (self.environ["CLAUDEPROXYD_CONFIG"],))
        asked = self.write("asked.toml", SANDBOX)
        self.assertEqual(self.files(asked), (asked,))

    def test_named_file_is_missing(self) -> None:
        """A file that was named and is not there stops the start; no other is taken in its place."""
        self.write("claudeproxyd.toml", SANDBOX)
        error = self.assertRaises(ConfigError, self.files, "nowhere.toml")
        self.assertIn("nowhere.toml: cannot be read: No such file", str(error))


class EnvironmentTests(ConfigTestCase):
    """No file at all."""

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def test_nothing_set(self) -> None:
        """Without any key the sandbox serves, so that a first start works offline."""
        loaded = load(None, self.environ, self.makers)
        (provider,) = loaded.config.providers
        self.assertEqual((provider.name, provider.kind), ("sandbox", "sandbox"))
        self.assertEqual([c.name for c in provider.credentials], ["default"])
        self.assertEqual(loaded.warnings, [])

    def test_each_key_gives_a_provider(self) -> None:
        """Every variable that is set gives one provider with its secret and base URL."""
        self.environ |= {
            "ANTHROPIC_API_KEY": "sk-a",
            "ANTHROPIC_BASE_URL": "https://a.example/",
            "GOOGLE_API_KEY": "g",
            "OPENAI_API_KEY": "o",
            "AWS_ACCESS_KEY_ID": "i",
            "AWS_SECRET_ACCESS_KEY": "s",
        }
        providers = {p.name: p for p in load(None, self.environ, self.makers).config.providers}
        self.assertEqual(list(providers), ["anthropic", "gemini", "openai", "bedrock"])
        self.assertEqual(providers["anthropic"].base_url, "https://a.example")
        self.assertEqual(providers["openai"].base_url, "https://api.openai.com/v1")
        (credential,) = providers["anthropic"].credentials
        assert credential.api_key is not None
        self.assertEqual(credential.api_key.reveal(), "sk-a")
        self.assertEqual(credential.api_key.variable, "ANTHROPIC_API_KEY")
        self.assertEqual(providers["bedrock"].credentials[0].own.region, "us-east-1")

    def test_vertex(self) -> None:
        """A service account file and a project give a vertex provider; a missing file is an error."""
        self.makers["vertex"] = FakeMaker("vertex", "https://v.example", ("service_account",), like=VertexMaker())
        self.environ |= {"GOOGLE_APPLICATION_CREDENTIALS": self.write("sa.json", "{}"), "GOOGLE_CLOUD_PROJECT": "p"}
        (provider,) = load(None, self.environ, self.makers).config.providers
        self.assertEqual((provider.credentials[0].own.project, provider.credentials[0].own.location), ("p", "global"))
        for name, location in (("CLOUD_ML_REGION", "us-east5"), ("GOOGLE_CLOUD_LOCATION", "eu")):
            self.environ[name] = location
            (provider,) = load(None, self.environ, self.makers).config.providers
            self.assertEqual(provider.credentials[0].own.location, location)
        self.environ["GOOGLE_APPLICATION_CREDENTIALS"] += ".not"
        error = self.assertRaises(ConfigError, load, None, self.environ, self.makers)
        self.assertIn("the environment: providers[0].credentials[0].service_account its file cannot be", str(error))

    def test_vertex_without_project(self) -> None:
        """A key file that names its project is enough; one that names none is for other programs, and is told."""
        self.makers["vertex"] = FakeMaker("vertex", "https://v.example", ("service_account",), like=VertexMaker())
        for text, made in (
            ('{"project_id": "p"}', True),
            ('{"quota_project_id": "p"}', True),
            ("{}", False),
            ("[]", False),
            ("{", False),
            ("\0", False),
        ):
            self.environ["GOOGLE_APPLICATION_CREDENTIALS"] = self.write("sa.json", text)
            loaded = load(None, self.environ, self.makers)
            self.assertEqual([p.name for p in loaded.config.providers], ["vertex" if made else "sandbox"], text)
            self.assertEqual([str(w).count("GOOGLE_CLOUD_PROJECT") for w in loaded.warnings], [] if made else [1])
        self.environ["GOOGLE_APPLICATION_CREDENTIALS"] += ".not"
        self.assertEqual(len(load(None, self.environ, self.makers).warnings), 1)


class BaseURLTests(ConfigTestCase):
    """What other clients' variables hold."""

    def test_with_a_version(self) -> None:
        """``ANTHROPIC_BASE_URL`` with the version that some tools want there serves all the same."""
        self.environ |= {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "https://x.example/v1"}
        (provider,) = load(None, self.environ, self.makers).config.providers
        self.assertEqual(provider.base_url, "https://x.example")


class IncludeTests(ConfigTestCase):
    """Several files."""

    def test_lists_are_joined(self) -> None:
        """Clients may stand in files of their own; they are joined in the order of the globs and names."""
        self.write("clients.d/b.toml", '[[clients]]\nname = "b"\nkey = "2"\n')
        self.write("clients.d/a.toml", '[[clients]]\nname = "a"\nkey = "1"\n')
        main = 'include = ["clients.d/*.toml"]\n[[clients]]\nname = "main"\nkey = "0"\n' + SANDBOX
        loaded = self.load(main)
        self.assertEqual([client.name for client in loaded.config.clients], ["main", "a", "b"])
        self.assertEqual([os.path.basename(name) for name in loaded.files], ["main.toml", "a.toml", "b.toml"])

    def test_places_are_of_the_file(self) -> None:
        """An error in an included file is reported with that file's name, its own count and line."""
        path = self.write("more.toml", '\n[[clients]]\nname = "main"\nkey = "1"\n')
        problem = self.problem('include = ["more.toml"]\n[[clients]]\nname = "main"\nkey = "0"\n' + SANDBOX)
        self.assertEqual((problem.file, problem.path, problem.line), (path, "clients[0].name", 3))

    def test_section_twice(self) -> None:
        """One section in two files is an error, whatever it says."""
        self.write("more.toml", "[pool]\nqueue = 3\n")
        problem = self.problem('include = ["more.toml"]\n[pool]\nqueue = 3\n' + OPEN + SANDBOX)
        self.assertEqual((problem.path, problem.line), ("pool", 1))
        self.assertIn("main.toml too", problem.message)

    def test_section_of_an_included_file(self) -> None:
        """A section may stand in any one file, and its errors are placed there."""
        self.write("more.toml", "[streaming]\nhead_commit = 50\n")
        self.assertEqual(self.load('include = ["more.toml"]\n' + OPEN + SANDBOX).config.streaming.head_commit, 50.0)
        self.write("more.toml", "[streaming]\nhead_commit = 5\n")
        problem = self.problem('include = ["more.toml"]\n' + OPEN + SANDBOX)
        self.assertTrue(problem.file.endswith("more.toml"))
        self.assertEqual(problem.line, 2)

    def test_cycles(self) -> None:
        """Files that include each other, or themselves, are refused and not followed for ever."""
        self.write("more.toml", 'include = ["main.toml"]\n')
        problem = self.problem('include = ["more.toml"]\n' + SANDBOX)
        self.assertEqual(problem.path, "include[0]")
        self.assertIn("leads back here", problem.message)
        self.assertIn("leads back here", self.problem('include = ["main.*"]\n' + SANDBOX).message)

    def test_twice_the_same(self) -> None:
        """A file that two globs match is read once."""
        self.write("a.toml", '[[clients]]\nname = "a"\nkey = "1"\n')
        self.assertEqual(len(self.load('include = ["a.toml", "a*.toml"]\n' + SANDBOX).config.clients), 1)

    def test_missing(self) -> None:
        """A glob may match nothing, which is told; a file that is named must be there."""
        warning = self.warning('include = ["none.d/*.toml"]\n' + OPEN + SANDBOX)
        self.assertEqual((warning.path, warning.line), ("include[0]", 1))
        self.assertIn("matches no file", warning.message)
        problems = self.problems('include = ["none.toml",\n "\\u0000"]\n' + SANDBOX)
        self.assertEqual([(m.path, m.line) for m in problems], [("include[0]", 1), ("include[1]", 2)])

    def test_all_broken_files(self) -> None:
        """Syntax errors of all files are reported at once."""
        self.write("a.toml", "x =\n")
        self.write("b.toml", "[[\n")
        self.assertEqual(len(self.problems('include = ["a.toml", "b.toml"]\n' + SANDBOX)), 2)


class SyntaxTests(ConfigTestCase):
    """Files that are no TOML."""

    def test_line_and_column(self) -> None:
        """A syntax error carries its line and column."""
        problem = self.problem("[server]\nlisten = [1 2]\n")
        self.assertEqual((problem.line, problem.column), (2, 13))
        self.assertIn("main.toml:2:13: is no TOML: Unclosed array", str(problem))

    def test_end_of_document(self) -> None:
        """An error at the end of the file has a line too."""
        problem = self.problem('[server]\nstate = "x')
        self.assertEqual((problem.line, problem.column), (2, 11))

    def test_garbage(self) -> None:
        """Bytes that are no text, nesting without end and numbers without end are errors like any other."""
        self.assertIn("UTF-8", self.problem(b"\xff\xfe").message)
        self.assertIn("nested", self.problem("a = " + "[" * 100_000).message)
        self.assertIn("no TOML", self.problem("a = " + "1" * 5_000).message)
        self.assertIn("no file name", str(self.assertRaises(ConfigError, load, "a\0b", {}, self.makers)))


class TypeTests(ConfigTestCase):
    """What the reader makes of values."""

    def test_defaults(self) -> None:
        """What is left out has its default."""
        config = self.load(SANDBOX).config
        blank = Config()
        self.assertEqual((config.server, config.pool, config.log), (blank.server, blank.pool, blank.log))

    def test_integer_for_a_number(self) -> None:
        """A whole number will do for seconds, and becomes a float."""
        value = self.load("[pool]\nmax_wait = 3\n" + SANDBOX).config.pool.max_wait
        self.assertEqual((value, type(value)), (3.0, float))

    def test_wrong_types(self) -> None:
        """Each wrong type is named beside the right one, all of them at once."""
        text = """
[server]
listen = "tcp:1"
max_connections = true
drain = false
cors_origins = [1]
[pool]
affinity = 1
queue = 1.0
strategy = 2024-01-01
[capture]
keep = "3"
[log]
level = []
"""
        self.assertEqual(
            [f"{m.line} {m.path} {m.message}" for m in self.problems(text + SANDBOX)],
            [
                "3 server.listen must be a list of strings, and is a string",
                "4 server.max_connections must be an integer, and is true or false",
                "5 server.drain must be a number, and is true or false",
                "6 server.cors_origins[0] must be a string, and is an integer",
                "8 pool.affinity must be true or false, and is an integer",
                "9 pool.queue must be an integer, and is a number",
                "10 pool.strategy must be a string, and is a date or time",
                "12 capture.keep must be an integer, and is a string",
                "14 log.level must be a string, and is a list",
            ],
        )

    def test_tables(self) -> None:
        """A table where a list of tables belongs, and the other way round, are errors and no crash."""
        messages = [m.message for m in self.problems("server = []\nproviders = { }\nmodels = [3]\n")]
        self.assertEqual(messages[0], "must be a table, and is a list")
        self.assertEqual(messages[1], "must be a list of tables, and is a table")
        self.assertEqual(messages[2], "must be a table, and is an integer")
        self.assertEqual(len(messages), 3)

    def test_ranges(self) -> None:
        """Negative durations, nan, infinity and numbers beyond 64 bits are refused."""
        for value, words in (
            ("-1", "at least 0"),
            ("nan", "finite"),
            ("inf", "finite"),
            ("1e300", "finite"),
            (str(2**70), "finite"),
        ):
            problem = self.problem(f"[pool]\naffinity_ttl = {value}\n" + SANDBOX)
            self.assertEqual((problem.path, problem.line), ("pool.affinity_ttl", 2))
            self.assertIn(words, problem.message)
        self.assertIn("beyond", self.problem(f"[pool]\nqueue = {2**70}\n" + SANDBOX).message)
        self.assertIn("at least 1", self.problem("[pool]\nmax_attempts = 0\n" + SANDBOX).message)

    def test_choices(self) -> None:
        """A word that is not among the choices is answered with them, and with the nearest."""
        problem = self.problem('[pool]\nstrategy = "round-robbin"\n' + SANDBOX)
        self.assertIn("round-robin, weighted, fill-first, least-busy", problem.message)
        self.assertEqual(problem.hint, 'did you mean "round-robin"?')

    def test_unknown_keys(self) -> None:
        """A misspelt setting is reported with its line and the one that was meant."""
        problem = self.problem(SANDBOX + '\n[[providers.rules]]\noutcom = "quota"\noutcome = "quota"\nstatus = 400\n')
        self.assertEqual((problem.path, problem.line), ("providers[0].rules[0].outcom", 6))
        self.assertEqual(problem.hint, 'did you mean "outcome"?')
        self.assertIn("is no setting here", self.problem("[nonsense]\n" + SANDBOX).message)

    def test_missing(self) -> None:
        """What is missing is reported with the line of its table, without the errors that follow from it."""
        problems = self.problems("\n[[providers]]\n[[clients]]\n")
        self.assertEqual(
            [(m.path, m.line, m.message) for m in problems],
            [
                ("providers[0].name", 2, "is missing"),
                ("providers[0].kind", 2, "is missing"),
                ("clients[0].name", 3, "is missing"),
                ("clients[0].key", 3, "is missing"),
            ],
        )

    def test_word_where_a_table_may_stand(self) -> None:
        """aws may be a table of secrets or the word "chain"; another word is refused without quoting it."""
        text = '[[providers]]\nname = "b"\nkind = "bedrock"\n[[providers.credentials]]\nname = "c"\n'
        text += 'region = "us-east-1"\naws = %s\n'
        self.assertEqual(self.load(text % '"chain"').config.providers[0].credentials[0].aws, "chain")
        aws = (
            self.load(text % '{ access_key_id = "i", secret_access_key = "s" }').config.providers[0].credentials[0].aws
        )
        self.assertEqual(aws.secret_access_key.reveal(), "s")  # type: ignore[union-attr]
        problem = self.problem(text % '"hunter2"')
        self.assertEqual(problem.message, 'must be "chain" or a table')
        for wrong, member in (
            ('{ access_key_id = "i" }', ".secret_access_key"),
            ('{ access_key_id = "i", secret_access_key = "s", profile = "p" }', ".profile"),
            ("{}", ""),
        ):
            self.assertEqual(self.problem(text % wrong).path, f"providers[0].credentials[0].aws{member}")
