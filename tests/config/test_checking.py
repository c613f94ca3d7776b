"""What types cannot say."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from claudeproxyd.config.diagnostics import SHOWN, ConfigError
from claudeproxyd.config.loading import load
from claudeproxyd.config.report import report
from claudeproxyd.executors.anthropic.maker import AnthropicMaker
from claudeproxyd.outcomes.classify import operator_rule
from claudeproxyd.outcomes.types import Kind
from tests.config.support import SANDBOX, ConfigTestCase, FakeMaker

CLIENT = '[[clients]]\nname = "c"\nkey = "k"\n'
CREDENTIAL = '[[providers.credentials]]\nname = "c"\napi_key = "k"\n'


def provider(more: str = "", kind: str = "anthropic", name: str = "a", credentials: str = CREDENTIAL) -> str:
    return f'[[providers]]\nname = "{name}"\nkind = "{kind}"\n{more}\n{credentials}'


def certificate() -> str:
    """A certificate of its own."""
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


class ListenerTests(ConfigTestCase):
    """Who can reach the daemon."""

    def test_loopback(self) -> None:
        """Loopback addresses and unix sockets need no clients."""
        for endpoint in (
            "tcp:1:interface=127.0.0.1",
            r"tcp:1:interface=\\:\\:1",
            "tcp:1:interface=localhost",
            "unix:/s",
        ):
            self.load(f'[server]\nlisten = ["{endpoint}"]\n' + SANDBOX)

    def test_open_without_clients(self) -> None:
        """A listener that others can reach, or might, is refused without clients and taken with them."""
        for endpoint in ("tcp:1", "tcp:1:interface=10.0.0.1", "tcp6:1", "systemd:domain=INET:index=0", "haproxy:tcp:1"):
            text = f'[server]\nlisten = ["{endpoint}"]\n' + SANDBOX
            problem = self.problem(text)
            self.assertEqual((problem.path, problem.line), ("server.listen[0]", 2))
            self.assertIn("there are no [[clients]]", problem.message)
            self.load(text + CLIENT)

    def test_open_admin(self) -> None:
        """Administration beyond loopback needs a key of its own; "" turns it off."""
        self.assertEqual(self.problem('[server]\nadmin = "tcp:1"\n' + SANDBOX).path, "server.admin_key")
        self.load('[server]\nadmin = "tcp:1"\nadmin_key = "k"\n' + SANDBOX)
        self.load('[server]\nadmin = ""\n' + SANDBOX)

    def test_no_endpoint(self) -> None:
        """A string that is no endpoint is refused in its place, a missing certificate among them."""
        for endpoint in ("", "8765", "tcp:x", "tcp:99999", "nope:1", "ssl:443:privateKey=/nowhere.pem", "tcp"):
            problem = self.problem(f'[server]\nlisten = ["{endpoint}"]\n' + SANDBOX)
            self.assertEqual(problem.path, "server.listen[0]")
            self.assertIn("is no endpoint", problem.message)
        pem = self.write("damaged.pem", "no certificate")
        damaged = f'[server]\nlisten = ["ssl:443:interface=127.0.0.1:privateKey={pem}"]\n' + SANDBOX
        self.assertIn("certificate", self.problem(damaged).message)
        self.assertIn("must name an endpoint", self.problem("[server]\nlisten = []\n" + SANDBOX).message)

    def test_endless_certificate(self) -> None:
        """A key or a certificate that is a pipe or a device is told, and not read for ever."""
        os.mkfifo(os.path.join(self.folder, "pipe.pem"))
        pem = self.write("there.pem", "x")
        for files in ("privateKey=/dev/zero", f"privateKey={pem}:certKey={self.folder}/pipe.pem"):
            problem = self.problem(f'[server]\nlisten = ["ssl:443:interface=127.0.0.1:{files}"]\n' + SANDBOX)
            self.assertEqual(problem.path, "server.listen[0]")
            self.assertIn("no ordinary file", problem.message)

    def test_same_port(self) -> None:
        """Two listeners on one port are found before the system refuses the second."""
        problem = self.problem('[server]\nadmin = "tcp:8765:interface=127.0.0.1"\n' + SANDBOX)
        self.assertEqual(problem.path, "server.admin")
        self.assertIn("another listener", problem.message)
        self.load('[server]\nlisten = ["tcp:0:interface=127.0.0.1"]\nadmin = "tcp:0:interface=127.0.0.1"\n' + SANDBOX)


class ServerTests(ConfigTestCase):
    """The rest of [server], and [streaming]."""

    def test_contradictions(self) -> None:
        """A head commit before the pool's wait ends, and a buffer below one body, are contradictions."""
        problem = self.problem("[streaming]\nhead_commit = 30\n" + SANDBOX)
        self.assertEqual((problem.path, problem.line), ("streaming.head_commit", 2))
        self.assertEqual(self.problem("[pool]\nmax_wait = 45\n" + SANDBOX).path, "streaming.head_commit")
        self.assertEqual(self.problem("[server]\nmax_buffered_bytes = 5\n" + SANDBOX).path, "server.max_buffered_bytes")

    def test_forms(self) -> None:
        """States, origins and proxies' addresses have forms."""
        for line, path in (
            ('state = "postgres:x"', "state"),
            ('cors_origins = ["*"]', "cors_origins[0]"),
            ('cors_origins = ["https://x/y"]', "cors_origins[0]"),
            ('trusted_proxies = ["10.0.0.1", "proxy"]', "trusted_proxies[1]"),
        ):
            self.assertEqual(self.problem(f"[server]\n{line}\n" + SANDBOX).path, f"server.{path}")
        self.load('[server]\nstate = "memory:"\ntrusted_proxies = ["10.0.0.0/8", "::1"]\n' + SANDBOX)


class NameTests(ConfigTestCase):
    """Names and keys."""

    def test_unique(self) -> None:
        """Two providers, clients or credentials of one provider cannot share a name."""
        self.assertEqual(self.problem(SANDBOX + SANDBOX).path, "providers[1].name")
        self.assertEqual(self.problem(provider() + CREDENTIAL).path, "providers[0].credentials[1].name")
        again = CLIENT.replace('"k"', '"other"')
        self.assertEqual(self.problem(SANDBOX + CLIENT + again).path, "clients[1].name")
        self.load(provider() + provider(name="b"))

    def test_odd_names(self) -> None:
        """Names that would break a log line or a header are refused."""
        for name in ("", " a", "a\\nb"):
            self.assertEqual(self.problem(provider(name=name)).path, "providers[0].name")
        self.assertIn("ASCII", self.problem(provider(name="é")).message)

    def test_same_key(self) -> None:
        """Two clients with one key could not be told apart, even if one gives its digest."""
        other = (
            '[[clients]]\nname = "d"\nkey = "sha256:8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"\n'
        )
        problem = self.problem(SANDBOX + CLIENT + other)
        self.assertEqual(problem.path, "clients[1].key")
        self.assertIn('client "c"', problem.message)


class ProviderTests(ConfigTestCase):
    """[[providers]]."""

    def test_kinds(self) -> None:
        """Of a kind that nobody knows it is said which there are."""
        problem = self.problem(provider(kind="claude"))
        self.assertEqual(problem.message, 'there is no kind "claude"')
        self.assertEqual(problem.hint, "there are anthropic, bedrock, gemini, openai-chat, openai-responses, sandbox")

    def test_none(self) -> None:
        """Without any provider there is nothing to serve."""
        self.assertEqual(self.problem("").message, "are missing")

    def test_url_sources(self) -> None:
        """Buckets and hosts, each plainly; nothing to a kind that has no URL fetched."""
        self.makers["anthropic"] = AnthropicMaker()
        (a,) = self.load(provider('url_sources = ["gs://docs", "http://images.corp:8080"]')).config.providers
        self.assertEqual(a.own.url_sources, ["gs://docs", "http://images.corp:8080"])
        for text in ("docs", "gs://docs/", "gs://docs/a", "gs://*", "https://a@b"):
            problem = self.problem(provider(f'url_sources = ["gs://docs", "{text}"]'))
            self.assertEqual(problem.path, "providers[0].url_sources[1]")
        problem = self.problem(provider('url_sources = ["gs://docs"]', kind="gemini"))
        self.assertEqual(problem.message, 'is no setting of kind "gemini"')

    def test_base_url(self) -> None:
        """A base URL is the kind's default, loses its last slash, and must be one where there is no default."""
        (a,) = self.load(provider()).config.providers
        self.assertEqual(a.base_url, "https://api.anthropic.com")
        (a,) = self.load(provider('base_url = "https://x/y/"')).config.providers
        self.assertEqual(a.base_url, "https://x/y")
        self.assertEqual(self.problem(provider(kind="openai-chat")).message, "is missing")
        for url in (
            "x",
            "ftp://x",
            "https://123",
            "https://a*b",
            "https://",
            "https://x:0",
            "https://x:y",
            "https://[",
            "https://x/?a",
            "https://x y",
        ):
            self.assertEqual(self.problem(provider(f'base_url = "{url}"')).path, "providers[0].base_url")

    def test_what_is_added(self) -> None:
        """What the kind adds to a base URL may be there already, as an upstream's pages have it: it is left out."""
        for kind, url, base_url in (
            ("anthropic", "https://api.anthropic.com/v1", "https://api.anthropic.com"),
            ("anthropic", "https://x/v1/", "https://x"),
            ("anthropic", "https://x/api/v1/messages", "https://x/api"),
            ("anthropic", "https://x/api//v1/messages/count_tokens//", "https://x/api"),
            ("anthropic", "https://x/v1/models", "https://x"),
            ("anthropic", "https://v1/", "https://v1"),
            ("anthropic", "https://gateway/v1/account/anthropic", "https://gateway/v1/account/anthropic"),
            ("anthropic", "https://x/api/v12", "https://x/api/v12"),
            (
                "gemini",
                "https://generativelanguage.googleapis.com/v1beta/",
                "https://generativelanguage.googleapis.com",
            ),
            ("gemini", "https://x/v1beta/models", "https://x"),
            ("openai-chat", "https://api.openai.com/v1", "https://api.openai.com/v1"),
            ("openai-chat", "https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ):
            (a,) = self.load(provider(f'base_url = "{url}"', kind)).config.providers
            self.assertEqual(a.base_url, base_url)

    def test_itself(self) -> None:
        """A base URL that leads back to this daemon is refused: the variable that clients use may still be set."""
        for url in (
            "http://127.0.0.1:8765",
            "http://localhost:8765/",
            "http://[::1]:8766",
            "http://[::ffff:127.0.0.1]:8765",
        ):
            self.assertIn("this daemon itself", self.problem(provider(f'base_url = "{url}"')).message)

    def test_in_the_clear(self) -> None:
        """Plain HTTP to another machine draws a warning, to this one none."""
        self.assertIn("not encrypted", self.warning(provider('base_url = "http://x"')).message)
        self.assertEqual(self.load(provider('base_url = "http://localhost:1"')).warnings, [])

    def test_credentials(self) -> None:
        """A provider needs a credential with the one secret that its kind takes; the sandbox needs none."""
        self.assertIn("has no credentials", self.problem(provider(credentials="")).message)
        named = '[[providers.credentials]]\nname = "c"\n'
        self.assertIn("has no secret", self.problem(provider(credentials=named)).message)
        both = named + 'api_key = "k"\nbearer_token = "t"\n'
        self.assertIn("api_key and bearer_token", self.problem(provider(credentials=both)).message)
        other = named + 'aws = "chain"\n'
        self.assertEqual(self.problem(provider(credentials=other)).path, "providers[0].credentials[0].aws")
        (sandbox,) = self.load(SANDBOX + named).config.providers
        self.assertEqual([c.name for c in sandbox.credentials], ["c"])

    def test_the_kinds_own_check(self) -> None:
        """What a kind itself finds wrong is placed where it says."""
        self.makers["anthropic"] = FakeMaker(
            "anthropic",
            "https://a",
            like=AnthropicMaker(),
            problems=[("credentials[0].region", "is missing"), ("betas", "are odd")],
        )
        problems = self.problems(provider("betas = {}"))
        self.assertEqual(
            [(m.path, m.line) for m in problems],
            [("providers[0].betas", 4), ("providers[0].credentials[0].region", 5)],
        )

    bad: ClassVar = (
        ("timeouts = { idel = 3 }", "timeouts.idel"),
        ("timeouts = { request_head = 3 }", "timeouts.request_head"),
        ("timeouts = { idle = -3 }", "timeouts.idle"),
        ('proxy = "proxy:3128"', "proxy"),
        ('tls = { ca_file = "/nowhere.pem" }', "tls.ca_file"),
        ('headers = { "a b" = "c" }', 'headers."a b"'),
        ('headers = { Content-Length = "3" }', "headers.Content-Length"),
        ('headers = { a = "b\\r\\nc: d" }', "headers.a"),
        ('rules = [{ status = 42, outcome = "quota" }]', "rules[0].status"),
        ('rules = [{ match = "(", outcome = "quota" }]', "rules[0].match"),
        ('rules = [{ match = "a", outcome = "ok" }]', "rules[0].outcome"),
        ('rules = [{ match = "a", outcome = "broken_stream" }]', "rules[0].outcome"),
        ('rules = [{ match = "a", outcome = "quota", scope = "all" }]', "rules[0].scope"),
        ('rules = [{ outcome = "quota" }]', "rules[0]"),
        ('rules = [{ status = 400, outcome = "client_fault", cooldown = 5 }]', "rules[0]"),
        ('rules = [{ status = 400, outcome = "client_fault", scope = "model" }]', "rules[0]"),
    )

    def test_bad_settings(self) -> None:
        """Overrides, proxies, files, headers and rules that cannot work are refused where they stand."""
        for line, path in self.bad:
            problem = self.problem(provider(line))
            self.assertEqual((problem.path, problem.line), (f"providers[0].{path}", 4))

    def test_authorities(self) -> None:
        """A file of authorities is loaded by the check; one that is there and cannot be used is an error."""
        pem = certificate()
        self.patch(os, "environ", {**os.environ, "HOME": self.folder})
        self.write("good.pem", f"Of an authority:\n{pem}\n{pem}")
        for name in (f"{self.folder}/good.pem", "~/good.pem"):
            (made,) = self.load(provider(f'tls = {{ ca_file = "{name}" }}')).config.providers
            self.assertEqual(made.tls.ca_file, f"{self.folder}/good.pem")
        self.write("empty.pem", "")
        self.write("text.pem", "no certificate")
        self.write("broken.pem", pem.replace("M", "N", 3))
        os.mkfifo(os.path.join(self.folder, "pipe.pem"))
        for name, said in (
            ("empty.pem", "no certificates"),
            ("text.pem", "no certificates"),
            ("broken.pem", "no certificates"),
            ("pipe.pem", "no ordinary file"),
            ("/dev/zero", "no ordinary file"),
            ("nowhere.pem", "No such file"),
        ):
            path = os.path.join(self.folder, name)
            problem = self.problem(provider(f'tls = {{ ca_file = "{path}" }}'))
            self.assertEqual((problem.path, problem.line), ("providers[0].tls.ca_file", 4))
            self.assertIn(said, problem.message)

    def test_good_settings(self) -> None:
        """What the documentation shows is taken."""
        for line in (
            "timeouts = { idle = 3, total = 0 }",
            'proxy = "http://u:p@proxy:3128"',
            'proxy = "env"',
            'headers = { x-user = "{client}" }',
            'rules = [{ status = 400, match = "(?i)again", outcome = "transient", cooldown = 5, scope = "model" }]',
        ):
            self.assertEqual(self.load(provider(line)).warnings, [])

    def test_outcomes_of_rules(self) -> None:
        """Every outcome is either refused where it stands or can be made a rule of."""
        for kind in Kind:
            rule = provider(f'rules = [{{ status = 400, outcome = "{kind.value}" }}]')
            try:
                operator_rule(kind.value, 400)
            except ValueError:
                self.assertEqual(self.problem(rule).path, "providers[0].rules[0].outcome")
            else:
                self.load(rule)


class ModelTests(ConfigTestCase):
    """[[models]]."""

    def models(self, *names: str) -> str:
        return provider() + "".join(f'[[models]]\nname = "{name}"\nroutes = [{{ provider = "a" }}]\n' for name in names)

    def test_dangling(self) -> None:
        """A route to a provider that is not there, and a model without routes, are errors."""
        problem = self.problem(provider() + '[[models]]\nname = "m"\nroutes = [\n{ provider = "b" },\n]\n')
        self.assertEqual((problem.path, problem.line), ("models[0].routes[0].provider", 11))
        self.assertEqual(problem.hint, "there are a")
        self.assertEqual(self.problem(provider() + '[[models]]\nname = "m"\n').path, "models[0].routes")

    def test_shadowed(self) -> None:
        """An entry that an earlier one hides draws a warning, and one that still can match does not."""
        for earlier, later in (("claude-*", "claude-sonnet-*"), ("*", "a*"), ("a", "a"), ("a*c", "a*b*c")):
            warning = self.warning(self.models(earlier, later))
            self.assertEqual(warning.path, "models[1].name")
        for earlier, later in (
            ("claude-sonnet-*", "claude-*"),
            ("a?", "a*"),
            ("a[bc]", "ab"),
            ("a", "b"),
            ("*", "a"),
            ("a*", "a[1m]"),
        ):
            self.assertEqual(self.load(self.models(earlier, later)).warnings, [])

    def test_hidden_by_claude_code(self) -> None:
        """A Gemini model by its own name is not in Claude Code's list: a warning, unless an alias is there, or it is
        not listed anyway."""
        gemini = provider(kind="gemini")
        named = '[[models]]\nname = "gemini-3-pro"\nroutes = [{ provider = "a" }]\n'
        self.assertEqual(
            self.warning(gemini + named).hint, "add claude-gemini-3-pro with the same routes, or say list = false"
        )
        alias = '[[models]]\nname = "claude-gemini-3-pro"\nroutes = [{ provider = "a", model = "gemini-3-pro" }]\n'
        for text in (gemini + named + alias, gemini + named + "list = false\n", provider() + named):
            self.assertEqual(self.load(text).warnings, [])

    def test_lists_hidden_by_claude_code(self) -> None:
        """So it is with all models of a provider that has none of Claude's, where none are named."""
        gemini = provider(kind="gemini")
        warning = self.warning(gemini)
        self.assertEqual(warning.path, "providers[0]")
        self.assertIn("are hidden by Claude Code's /model", warning.message)
        self.assertIn('provider = "a"', warning.hint)
        alias = '[[models]]\nname = "claude-gemini-3-pro"\nroutes = [{ provider = "a", model = "gemini-3-pro" }]\n'
        for text in (gemini + alias, provider('models = ["claude-one"]', kind="gemini"), provider()):
            self.assertEqual(self.load(text).warnings, [])
        self.assertEqual(self.warning(provider('models = ["claude-one", "two"]', kind="gemini")).path, "providers[0]")

    def test_odd_globs(self) -> None:
        """A glob that can hardly match what it seems to mean draws a warning, wherever globs stand."""
        odd = "claude-*|gpt-*"
        for text, path in (
            (self.models(odd), "models[0].name"),
            (provider(f'models = ["x", "{odd}"]'), "providers[0].models[1]"),
            (provider() + f'models = ["{odd}"]\n', "providers[0].credentials[0].models[0]"),
            (
                provider() + f'[[clients]]\nname = "c"\nkey = "{KeyTests.long}"\nmodels = ["{odd}"]\n',
                "clients[0].models[0]",
            ),
        ):
            self.assertEqual(self.warning(text).path, path)

    def test_not_served(self) -> None:
        """A route to a model that no credential may use draws a warning."""
        text = provider('models = ["x-*"]') + '[[models]]\nname = "m"\nroutes = [{ provider = "a", model = "y" }]\n'
        self.assertEqual(self.warning(text).path, "models[0].routes[0].model")
        self.assertEqual(self.load(text.replace('"y"', '"x-1"')).warnings, [])

    def test_thinking_of_a_route(self) -> None:
        """What a route makes of silence has one other value, and is nothing where bodies pass as they are."""
        text = provider() + '[[models]]\nname = "claude-m"\nroutes = [{ provider = "a", thinking = "default" }]\n'
        warning = self.warning(text)
        self.assertEqual((warning.path, warning.hint), ("models[0].routes[0].thinking", "leave it out"))
        self.assertEqual(self.load(text.replace('"anthropic"', '"gemini"')).warnings, [])
        self.assertEqual(self.problem(text.replace('"default"', '"high"')).path, "models[0].routes[0].thinking")


class KeyTests(ConfigTestCase):
    """Keys that are not as secret as they should be."""

    long = "0123456789abcdef"

    def client(self, key: str, name: str = "c") -> str:
        return f'[[clients]]\nname = "{name}"\nkey = "{key}"\n'

    def test_good(self) -> None:
        """Keys of some length draw no warning, nor does a digest."""
        text = (
            f'[server]\nadmin_key = "x{self.long}"\n' + self.client(self.long) + self.client(f"sha256:{'0' * 64}", "d")
        )
        self.assertEqual(self.load(text + SANDBOX).warnings, [])

    def test_short(self) -> None:
        """A key that can be guessed draws a warning, a client's as an operator's."""
        for text, path in ((self.client("k"), "clients[0].key"), ('[server]\nadmin_key = "k"\n', "server.admin_key")):
            warning = self.warning(text + SANDBOX)
            self.assertEqual(warning.path, path)
            self.assertIn("can be guessed", warning.message)

    def test_unread(self) -> None:
        """Of a key that could not be read nothing is told but that: it is not short, and nobody else's."""
        text = self.client("k").replace('"k"', '{ env = "UNSET" }')
        provider = '[[providers]]\nname = "a"\nkind = "anthropic"\n'
        provider += '[[providers.credentials]]\nname = "c"\napi_key = { file = "gone" }\n'
        error = self.assertRaises(ConfigError, self.load, text + provider)
        self.assertEqual(
            [each.path for each in error.errors], ["clients[0].key", "providers[0].credentials[0].api_key"]
        )
        self.assertEqual(error.warnings, ())

    def test_of_a_client_and_an_operator(self) -> None:
        """A client that shows the operators' key is an operator: an error, also where one of them is a digest."""
        digest = "sha256:" + hashlib.sha256(self.long.encode()).hexdigest()
        for one, other in ((self.long, self.long), (digest, self.long)):
            problem = self.problem(f'[server]\nadmin_key = "{other}"\n' + self.client(one) + SANDBOX)
            self.assertEqual(problem.path, "clients[0].key")
            self.assertIn("could administrate", problem.message)

    def operator(self, key: str, name: str = "o", role: str = "read") -> str:
        return f'[[operators]]\nname = "{name}"\nkey = "{key}"\nrole = "{role}"\n'

    @property
    def boss(self) -> str:
        """One who may operate."""
        return self.operator(f"sha256:{'1' * 64}", "boss", "operate")

    def test_operators(self) -> None:
        """Operators have names, keys and roles like nobody else's, and keys that cannot be guessed."""
        digest = "sha256:" + hashlib.sha256(self.long.encode()).hexdigest()
        good = self.operator(self.long) + self.operator(f"sha256:{'0' * 64}", "p", "operate")
        self.assertEqual(self.load(good + SANDBOX).warnings, [])
        admin = f'[server]\nadmin_key = "{self.long}"\n'
        for text, path, words in (
            (self.operator(self.long) + self.operator(f"x{self.long}"), "operators[1].name", "o"),
            (self.operator(self.long) + self.operator(digest, "p"), "operators[1].key", 'operator "o"'),
            (admin + self.operator(self.long), "operators[0].key", "server.admin_key"),
            (admin + self.operator(f"x{self.long}", "operator"), "operators[0].name", "server.admin_key"),
            (self.operator(self.long) + self.client(digest), "clients[0].key", "could administrate"),
            (self.operator(self.long, role="root"), "operators[0].role", "metrics, read, operate"),
            (self.operator(""), "operators[0].key", "empty"),
        ):
            problem = self.problem(text + SANDBOX)
            self.assertEqual(problem.path, path)
            self.assertIn(words, problem.message)
        self.assertIn("can be guessed", self.warning(self.operator("k") + self.boss + SANDBOX).message)

    def test_nobody_operates(self) -> None:
        """With operators of whom none may act the command may not either: it cannot reload."""
        problem = self.warning(self.operator(self.long, role="metrics") + SANDBOX)
        self.assertEqual(problem.path, "operators")
        self.assertIn("nobody who may operate", problem.message)
        for also in (self.boss, f'[server]\nadmin_key = "x{self.long}"\n'):
            self.assertEqual(self.load(self.operator(self.long, role="metrics") + also + SANDBOX).warnings, [])

    def test_minting(self) -> None:
        """Who mints for a label has one, and does not operate."""
        good = 'mint = { labels = { team = "ads" }, models = ["claude-haiku-*"], longest = 86400 }\n'
        for role in ("mint", "metrics", "read"):
            loaded = self.load(self.operator(self.long, role=role) + good + self.boss + SANDBOX)
            self.assertEqual(loaded.warnings, [])
        self.assertIn("  o: key ****: read, mints for team = ads", report(loaded, self.makers))
        for role, mint, member in (
            ("operate", good, "mint"),
            ("mint", "", "mint"),
            ("mint", "mint = {}\n", "mint.labels"),
            ("mint", "mint = { labels = {} }\n", "mint.labels"),
            ("mint", 'mint = { labels = { team = "" } }\n', "mint.labels"),
            ("read", 'mint = { labels = { team = "a" }, models = [] }\n', "mint.models"),
            ("read", 'mint = { labels = { team = "a" }, names = [] }\n', "mint.names"),
            ("read", 'mint = { labels = { team = "a" }, longest = -1 }\n', "mint.longest"),
        ):
            problem = self.problem(self.operator(self.long, role=role) + mint + SANDBOX)
            self.assertEqual(problem.path, f"operators[0].{member}", mint)
        nowhere = self.operator(self.long, role="mint") + good + '[accounts]\ndatabase = ""\n'
        self.assertEqual(self.warning(self.boss + nowhere + SANDBOX).path, "operators[1].mint")

    def test_minting_beside_issuers(self) -> None:
        """Whoever mints for a label could take the name of somebody whom an issuer names: that is warned of."""
        issuer = f'[[issuers]]\nurl = "https://login.test"\naudience = "a"\nprefix = "staff:"\n{SANDBOX}'
        for names, warned in (('["*"]', True), ('["ads-*", "s*"]', True), ('["ads-*", "staffing"]', False)):
            mint = f'mint = {{ labels = {{ team = "ads" }}, names = {names} }}\n'
            loaded = self.load(self.operator(self.long, role="mint") + mint + self.boss + issuer)
            self.assertEqual([each.path for each in loaded.warnings], ["operators[0].mint.names"] * warned, names)

    def test_of_a_client_and_a_provider(self) -> None:
        """A client that holds a credential needs no gateway: it is told whose."""
        credentials = '[[providers.credentials]]\nname = "pair"\n'
        pair = f'aws = {{ access_key_id = "i", secret_access_key = "{self.long}" }}\n'
        for kind, secret in (("anthropic", f'api_key = "{self.long}"\n'), ("bedrock", pair)):
            text = provider(kind=kind, credentials=credentials + secret)
            for key in (self.client(self.long), f'[server]\nadmin_key = "{self.long}"\n'):
                self.assertIn("is the secret of credential a/pair too", self.warning(key + text).message)

    def test_file_for_everyone(self) -> None:
        """A file that everybody may read and that holds secrets draws a warning; one that names them does not."""
        path = self.write("main.toml", self.client(self.long) + self.client(f"x{self.long}", "d") + SANDBOX)
        os.chmod(path, 0o644)
        (warning,) = load(path, self.environ, self.makers).warnings
        self.assertEqual((warning.file, warning.path), (path, ""))
        self.assertIn("can be read by everyone", str(warning))
        self.environ["A_KEY"] = self.long
        with open(path, "w", encoding="utf-8") as file:
            file.write('[[clients]]\nname = "c"\nkey = { env = "A_KEY" }\n' + SANDBOX)
        self.assertEqual(load(path, self.environ, self.makers).warnings, [])

    def test_everybody_is_trusted(self) -> None:
        """Who believes every address's X-Forwarded-For believes none."""
        for network in ("0.0.0.0/0", "::/0"):
            warning = self.warning(f'[server]\ntrusted_proxies = ["10.0.0.0/8", "{network}"]\n' + SANDBOX)
            self.assertEqual(warning.path, "server.trusted_proxies[1]")

    def test_many_errors(self) -> None:
        """A file that is something else altogether is told in a hundred lines, and not in as many as it has."""
        problems = self.problems("".join(f"k{number} = 1\n" for number in range(SHOWN + 7)) + SANDBOX)
        self.assertEqual(len(problems), SHOWN + 1)
        self.assertIn("7 more are no settings here", str(ConfigError(problems * 2)))
        self.assertIn(f"and {SHOWN + 2} more", str(ConfigError(problems * 2)))

    def test_one_error_or_several(self) -> None:
        """How many errors and warnings there are is said in English."""
        for number, words in ((1, "1 error:"), (2, "2 errors:")):
            [problem] = self.problems("k = 1\n" + SANDBOX)
            self.assertEqual(str(ConfigError([problem] * number)).splitlines()[0], f"the configuration has {words}")
        shown = str(ConfigError([problem], [problem])).splitlines()
        self.assertIn("and 1 warning:", shown)
