"""The text of --check."""

from __future__ import annotations

from claudeproxyd.config import accounts
from claudeproxyd.config.report import report
from claudeproxyd.executors.bedrock.maker import BedrockMaker
from tests.config.support import MAKERS, SANDBOX, ConfigTestCase, FakeMaker

TEXT = """
[server]
listen = ["tcp:8765"]
admin = ""
state = "rediss://:hunter2@h/1"
[[clients]]
name = "laptop"
key = "hunter2-of-the-laptop"
max_concurrency = 3
[[clients]]
name = "desk"
key = "sha256:8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"
models = ["claude-*", "gpt-*"]
[[providers]]
name = "a"
kind = "anthropic"
proxy = "http://user:hunter2@proxy:3128"
headers = { x-token = "hunter2" }
timeouts = { idle = 3 }
[[providers.credentials]]
name = "one"
api_key = { env = "A_KEY" }
weight = 2
[[providers.credentials]]
name = "two"
api_key = { file = "key" }
priority = 1
disabled = true
[[providers]]
name = "b"
kind = "bedrock"
[[providers.credentials]]
name = "pair"
aws = { access_key_id = "AKhunter2", secret_access_key = "hunter2" }
[[providers.credentials]]
name = "role"
aws = "chain"
region = "eu-west-1"
[[models]]
name = "claude-*"
routes = [{ provider = "a" }, { provider = "b", model = "anthropic.claude" }]
[[models]]
name = "claude-opus-*"
routes = [{ provider = "a" }]
[accounts]
database = "sqlite:FOLDER/accounts.db"
"""

EXPECTED = """\
configuration: {folder}/main.toml
listens on tcp:8765
no administration
state: Redis at h:6379, database 1, under claudeproxyd:
accounts: {folder}/accounts.db
limits: none
prices: the published ones

clients:
  laptop: key ****, models *, at most 3 at once
  desk: key **** (its digest), models claude-* gpt-*

providers:
  a: anthropic at https://api.anthropic.com
    headers x-token
    through the proxy proxy:3128
    time-outs idle 3 s
    credential one: api_key **** ($A_KEY), weight 2
    credential two: api_key **** (file {folder}/key), priority 1, disabled
  b: bedrock at https://bedrock-runtime.us-east-1.amazonaws.com, https://b.example
    credential pair: aws ****
    credential role: aws "chain", region eu-west-1

models:
  claude-* -> a, then b as anthropic.claude
  claude-opus-* -> a

warnings:
  {folder}/main.toml:43: models[1].name is never reached: "claude-*" stands before it (the first match wins)"""


class ReportTests(ConfigTestCase):
    """What an operator reads."""

    def test_full(self) -> None:
        """Everything that was configured is there, in its words, and no secret is."""
        self.environ["A_KEY"] = "hunter2"
        self.write("key", "hunter2")
        self.patch(accounts, "find_spec", lambda name: object())
        self.makers["bedrock"] = FakeMaker(
            "bedrock", MAKERS["bedrock"].default_base_url, ("aws",), like=BedrockMaker(), others=["https://b.example"]
        )
        text = report(self.load(TEXT.replace("FOLDER", self.folder)), self.makers)
        self.assertEqual(text, EXPECTED.format(folder=self.folder))
        self.assertNotIn("hunter2", text)

    def test_small(self) -> None:
        """Without clients, models and keys it says what that means."""
        text = report(self.load(SANDBOX), self.makers)
        self.assertIn("anyone on this machine, without a key, until one is minted", text)
        text = report(self.load(SANDBOX + '[accounts]\ndatabase = ""\n'), self.makers)
        self.assertIn("anyone on this machine, without a key\n", text)
        self.assertIn("credential default: needs no secret", text)
        self.assertIn("every name goes to each provider that serves it, in this order: sandbox", text)
        self.assertNotIn("warnings", text)

    def test_limits_and_prices(self) -> None:
        """How many there are, and whether the published prices are installed: without one nothing costs anything."""
        limit = '[[limits]]\nname = "%s"\nrequests = 3\nper = "day"\n'
        price = '[[prices]]\nmodel = "*"\ninput = 1\noutput = 1\n'
        for installed, more, told in (
            (False, "", "limits: none\nprices: none\n"),
            (True, price + limit % "a", "limits: 1\nprices: 1 of the configuration, then the published ones\n"),
            (False, price * 2 + limit % "a" + limit % "b", "limits: 2\nprices: 2 of the configuration\n"),
        ):
            self.patch(accounts, "find_spec", lambda name, is_there=installed: object() if is_there else None)
            self.assertIn(told, report(self.load(SANDBOX + more), self.makers))

    def test_operators(self) -> None:
        """Who may administrate is listed with the role, and who may call by a minted key is told."""
        operator = '[[operators]]\nname = "o"\nkey = "hunter2-of-an-operator"\nrole = "read"\n'
        server = '[server]\nadmin_key = "hunter2-of-the-admin"\n[accounts]\nrequire_keys = true\n'
        text = report(self.load(SANDBOX + server + operator), self.makers)
        self.assertIn("operators:\n  whoever has server.admin_key ****: operate\n  o: key ****: read\n", text)
        self.assertIn("clients:\n  whoever has a minted key\n", text)
        self.assertNotIn("hunter2", text)
