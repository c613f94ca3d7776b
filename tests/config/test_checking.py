"""What types cannot say."""

from __future__ import annotations

from typing import ClassVar

from tests.config.support import SANDBOX, ConfigTestCase, FakeMaker

CLIENT = '[[clients]]\nname = "c"\nkey = "k"\n'
CREDENTIAL = '[[providers.credentials]]\nname = "c"\napi_key = "k"\n'


def provider(more: str = "", kind: str = "anthropic", name: str = "a", credentials: str = CREDENTIAL) -> str:
    return f'[[providers]]\nname = "{name}"\nkind = "{kind}"\n{more}\n{credentials}'


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
            mistake = self.mistake(text)
            self.assertEqual((mistake.place, mistake.line), ("server.listen[0]", 2))
            self.assertIn("there are no [[clients]]", mistake.message)
            self.load(text + CLIENT)

    def test_open_admin(self) -> None:
        """Administration beyond loopback needs a key of its own; "" turns it off."""
        self.assertEqual(self.mistake('[server]\nadmin = "tcp:1"\n' + SANDBOX).place, "server.admin_key")
        self.load('[server]\nadmin = "tcp:1"\nadmin_key = "k"\n' + SANDBOX)
        self.load('[server]\nadmin = ""\n' + SANDBOX)

    def test_no_endpoint(self) -> None:
        """A string that is no endpoint is refused in its place, a missing certificate among them."""
        for endpoint in ("", "8765", "tcp:x", "tcp:99999", "nope:1", "ssl:443:privateKey=/nowhere.pem", "tcp"):
            mistake = self.mistake(f'[server]\nlisten = ["{endpoint}"]\n' + SANDBOX)
            self.assertEqual(mistake.place, "server.listen[0]")
            self.assertIn("is no endpoint", mistake.message)
        pem = self.write("damaged.pem", "no certificate")
        damaged = f'[server]\nlisten = ["ssl:443:interface=127.0.0.1:privateKey={pem}"]\n' + SANDBOX
        self.assertIn("certificate", self.mistake(damaged).message)
        self.assertIn("must name an endpoint", self.mistake("[server]\nlisten = []\n" + SANDBOX).message)

    def test_same_port(self) -> None:
        """Two listeners on one port are found before the system refuses the second."""
        mistake = self.mistake('[server]\nadmin = "tcp:8765:interface=127.0.0.1"\n' + SANDBOX)
        self.assertEqual(mistake.place, "server.admin")
        self.assertIn("another listener", mistake.message)
        self.load('[server]\nlisten = ["tcp:0:interface=127.0.0.1"]\nadmin = "tcp:0:interface=127.0.0.1"\n' + SANDBOX)


class ServerTests(ConfigTestCase):
    """The rest of [server], and [streaming]."""

    def test_contradictions(self) -> None:
        """A head commit before the pool's wait ends, and a buffer below one body, are contradictions."""
        mistake = self.mistake("[streaming]\nhead_commit = 30\n" + SANDBOX)
        self.assertEqual((mistake.place, mistake.line), ("streaming.head_commit", 2))
        self.assertEqual(self.mistake("[pool]\nmax_wait = 45\n" + SANDBOX).place, "streaming.head_commit")
        self.assertEqual(
            self.mistake("[server]\nmax_buffered_bytes = 5\n" + SANDBOX).place, "server.max_buffered_bytes"
        )

    def test_forms(self) -> None:
        """States, origins and proxies' addresses have forms."""
        for line, place in (
            ('state = "postgres:x"', "state"),
            ('cors_origins = ["*"]', "cors_origins[0]"),
            ('cors_origins = ["https://x/y"]', "cors_origins[0]"),
            ('trusted_proxies = ["10.0.0.1", "proxy"]', "trusted_proxies[1]"),
        ):
            self.assertEqual(self.mistake(f"[server]\n{line}\n" + SANDBOX).place, f"server.{place}")
        self.load('[server]\nstate = "memory:"\ntrusted_proxies = ["10.0.0.0/8", "::1"]\n' + SANDBOX)


class NameTests(ConfigTestCase):
    """Names and keys."""

    def test_unique(self) -> None:
        """Two providers, clients or credentials of one provider cannot share a name."""
        self.assertEqual(self.mistake(SANDBOX + SANDBOX).place, "providers[1].name")
        self.assertEqual(self.mistake(provider() + CREDENTIAL).place, "providers[0].credentials[1].name")
        again = CLIENT.replace('"k"', '"other"')
        self.assertEqual(self.mistake(SANDBOX + CLIENT + again).place, "clients[1].name")
        self.load(provider() + provider(name="b"))

    def test_odd_names(self) -> None:
        """Names that would break a log line or a header are refused."""
        for name in ("", " a", "a\\nb"):
            self.assertEqual(self.mistake(provider(name=name)).place, "providers[0].name")
        self.assertIn("ASCII", self.mistake(provider(name="é")).message)

    def test_same_key(self) -> None:
        """Two clients with one key could not be told apart, even if one gives its digest."""
        other = (
            '[[clients]]\nname = "d"\nkey = "sha256:8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"\n'
        )
        mistake = self.mistake(SANDBOX + CLIENT + other)
        self.assertEqual(mistake.place, "clients[1].key")
        self.assertIn('client "c"', mistake.message)


class ProviderTests(ConfigTestCase):
    """[[providers]]."""

    def test_kinds(self) -> None:
        """A kind that is promised and not built is told from one that nobody knows."""
        mistake = self.mistake(provider(kind="vertex"))
        self.assertEqual(mistake.message, "kind 'vertex' is not built yet in this version")
        self.assertEqual(mistake.mend, "there are anthropic, bedrock, gemini, openai-chat, sandbox")
        self.assertEqual(self.mistake(provider(kind="claude")).message, "there is no kind 'claude'")

    def test_none(self) -> None:
        """Without any provider there is nothing to serve."""
        self.assertEqual(self.mistake("").message, "are missing")

    def test_base_url(self) -> None:
        """A base URL is the kind's default, loses its last slash, and must be one where there is no default."""
        (a,) = self.load(provider()).config.providers
        self.assertEqual(a.base_url, "https://api.anthropic.com")
        (a,) = self.load(provider('base_url = "https://x/y/"')).config.providers
        self.assertEqual(a.base_url, "https://x/y")
        self.assertEqual(self.mistake(provider(kind="openai-chat")).message, "is missing")
        for url in (
            "x",
            "ftp://x",
            "https://",
            "https://x:0",
            "https://x:y",
            "https://[",
            "https://x/?a",
            "https://x y",
        ):
            self.assertEqual(self.mistake(provider(f'base_url = "{url}"')).place, "providers[0].base_url")

    def test_itself(self) -> None:
        """A base URL that leads back to this daemon is refused: the variable that clients use may still be set."""
        for url in ("http://127.0.0.1:8765", "http://localhost:8765/", "http://[::1]:8766"):
            self.assertIn("this daemon itself", self.mistake(provider(f'base_url = "{url}"')).message)

    def test_in_the_clear(self) -> None:
        """Plain HTTP to another machine draws a warning, to this one none."""
        self.assertIn("not encrypted", self.warning(provider('base_url = "http://x"')).message)
        self.assertEqual(self.load(provider('base_url = "http://localhost:1"')).warnings, [])

    def test_credentials(self) -> None:
        """A provider needs a credential with the one secret that its kind takes; the sandbox needs none."""
        self.assertIn("has no credentials", self.mistake(provider(credentials="")).message)
        named = '[[providers.credentials]]\nname = "c"\n'
        self.assertIn("has no secret", self.mistake(provider(credentials=named)).message)
        both = named + 'api_key = "k"\nbearer_token = "t"\n'
        self.assertIn("api_key and bearer_token", self.mistake(provider(credentials=both)).message)
        other = named + 'aws = "chain"\n'
        self.assertEqual(self.mistake(provider(credentials=other)).place, "providers[0].credentials[0].aws")
        (sandbox,) = self.load(SANDBOX + named).config.providers
        self.assertEqual([c.name for c in sandbox.credentials], ["c"])

    def test_the_kinds_own_check(self) -> None:
        """What a kind itself finds wrong is placed where it says."""
        self.makers["anthropic"] = FakeMaker(
            "anthropic", "https://a", mistakes=[("credentials[0].region", "is missing"), ("betas", "are odd")]
        )
        mistakes = self.mistakes(provider("betas = {}"))
        self.assertEqual(
            [(m.place, m.line) for m in mistakes],
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
        ('rules = [{ match = "a", outcome = "quota", scope = "all" }]', "rules[0].scope"),
    )

    def test_bad_settings(self) -> None:
        """Overrides, proxies, files, headers and rules that cannot work are refused where they stand."""
        for line, place in self.bad:
            mistake = self.mistake(provider(line))
            self.assertEqual((mistake.place, mistake.line), (f"providers[0].{place}", 4))

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

    def test_rule_for_everything(self) -> None:
        """A rule that names neither status nor text draws a warning."""
        self.assertIn("every failure", self.warning(provider('rules = [{ outcome = "quota" }]')).message)


class ModelTests(ConfigTestCase):
    """[[models]]."""

    def models(self, *names: str) -> str:
        return provider() + "".join(f'[[models]]\nname = "{name}"\nroutes = [{{ provider = "a" }}]\n' for name in names)

    def test_dangling(self) -> None:
        """A route to a provider that is not there, and a model without routes, are mistakes."""
        mistake = self.mistake(provider() + '[[models]]\nname = "m"\nroutes = [\n{ provider = "b" },\n]\n')
        self.assertEqual((mistake.place, mistake.line), ("models[0].routes[0].provider", 11))
        self.assertEqual(mistake.mend, "there are a")
        self.assertEqual(self.mistake(provider() + '[[models]]\nname = "m"\n').place, "models[0].routes")

    def test_shadowed(self) -> None:
        """An entry that an earlier one hides draws a warning, and one that still can match does not."""
        for earlier, later in (("claude-*", "claude-sonnet-*"), ("*", "a"), ("a", "a"), ("a*c", "a*b*c")):
            warning = self.warning(self.models(earlier, later))
            self.assertEqual(warning.place, "models[1].name")
        for earlier, later in (("claude-sonnet-*", "claude-*"), ("a?", "a*"), ("a[bc]", "ab"), ("a", "b")):
            self.assertEqual(self.load(self.models(earlier, later)).warnings, [])

    def test_not_served(self) -> None:
        """A route to a model that no credential may use draws a warning."""
        text = provider('models = ["x-*"]') + '[[models]]\nname = "m"\nroutes = [{ provider = "a", model = "y" }]\n'
        self.assertEqual(self.warning(text).place, "models[0].routes[0].model")
        self.assertEqual(self.load(text.replace('"y"', '"x-1"')).warnings, [])

    def test_thinking_of_a_route(self) -> None:
        """What a route makes of silence has one other value, and is nothing where bodies pass as they are."""
        text = provider() + '[[models]]\nname = "m"\nroutes = [{ provider = "a", thinking = "default" }]\n'
        warning = self.warning(text)
        self.assertEqual((warning.place, warning.mend), ("models[0].routes[0].thinking", "leave it out"))
        self.assertEqual(self.load(text.replace('"anthropic"', '"gemini"')).warnings, [])
        self.assertEqual(self.mistake(text.replace('"default"', '"high"')).place, "models[0].routes[0].thinking")
