"""``[traces]`` and ``[[webhooks]]``."""

from __future__ import annotations

import importlib.util

import claudeproxyd.config.reporting
from claudeproxyd.config.report import report
from claudeproxyd.config.reporting import traces_url
from claudeproxyd.configured import secrets_of
from claudeproxyd.happenings import Happening
from tests.config.support import MAKERS, SANDBOX, ConfigTestCase

TRACES = '[traces]\nendpoint = "http://127.0.0.1:4318"\n'
KEY = "key-of-the-collector"


class TracesTests(ConfigTestCase):
    """What an operator can write."""

    def test_off(self) -> None:
        """Nothing is said, nothing is sent."""
        self.assertEqual(self.load(SANDBOX).config.traces.endpoint, "")

    def test_secrets(self) -> None:
        """A header's value is a secret: masked in the log, and not shown by --check."""
        loaded = self.load(TRACES + f'sample = 0.25\nheaders = {{ x-key = "{KEY}" }}\n' + SANDBOX)
        self.assertIn(KEY, secrets_of(loaded.config))
        text = report(loaded, MAKERS)
        self.assertIn("0.25 of all requests, to http://127.0.0.1:4318/v1/traces, x-key ****", text)
        self.assertNotIn(KEY, text + repr(loaded.config))

    def test_password_of_a_proxy(self) -> None:
        """It is masked too."""
        proxy = 'proxy = "http://user:pass%2Fword-of-it@proxy:3128"\n'
        for text in (TRACES + proxy, HOOK + URL + proxy):
            loaded = self.load(text + SANDBOX)
            self.assertIn("pass/word-of-it", secrets_of(loaded.config))
            self.assertNotIn("word-of-it", report(loaded, MAKERS) + repr(loaded.config))

    def test_url(self) -> None:
        """The usual path is for who names none."""
        for endpoint, url in (
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
        ):
            self.assertEqual(traces_url(endpoint), url)

    def test_mistakes(self) -> None:
        """Each names the member."""
        for more, path, words in (
            ("sample = 1.5\n", "traces.sample", "from 0 to 1"),
            ("sample = -0.5\n", "traces.sample", "at least 0"),
            ('trust = "nobody"\n', "traces.trust", "must be one of clients, all, none"),
            ('headers = { "a b" = "x" }\n', 'traces.headers."a b"', "not a header name"),
            ('headers = { host = "x" }\n', "traces.headers.host", "writes itself"),
            ('headers = { x = "a\\nb" }\n', "traces.headers.x", "not allowed in a header"),
            ('proxy = "socks://h"\n', "traces.proxy", "http://"),
        ):
            problem = self.problem(TRACES + more + SANDBOX)
            self.assertEqual(problem.path, path, more)
            self.assertIn(words, problem.message)
        problem = self.problem('[traces]\nendpoint = "collector:4318"\n' + SANDBOX)
        self.assertEqual((problem.path, problem.hint), ("traces.endpoint", "such as http://127.0.0.1:4318"))

    def test_package(self) -> None:
        """What is not installed is told before anything is sent."""
        find = importlib.util.find_spec
        self.patch(
            claudeproxyd.config.reporting,
            "find_spec",
            lambda name: None if name.startswith("opentelemetry") else find(name),
        )
        problem = self.problem(TRACES + SANDBOX)
        self.assertEqual((problem.path, problem.hint), ("traces.endpoint", "pip install 'claudeproxyd[traces]'"))
        self.load(SANDBOX)

    def test_warnings(self) -> None:
        """What is allowed and hardly meant."""
        keyed = f'headers = {{ x-key = "{KEY}" }}\n'
        for text, words in (
            ('[traces]\nendpoint = "http://collector"\n' + keyed, "not encrypted"),
            ("[traces]\n" + keyed, "sent nowhere"),
        ):
            self.assertTrue(any(words in str(warning) for warning in self.load(text + SANDBOX).warnings), text)
        self.assertEqual(self.load(TRACES + keyed + SANDBOX).warnings, self.load(SANDBOX).warnings)


HOOK = '[[webhooks]]\nname = "chat"\n'
URL = 'url = "https://hooks.example.com/T0/B0?sig=x"\n'


class WebhooksTests(ConfigTestCase):
    """What an operator can write."""

    def test_all(self) -> None:
        """Every event, unless some are chosen."""
        (hook,) = self.load(HOOK + URL + SANDBOX).config.webhooks
        self.assertEqual(hook.events, [happening.value for happening in Happening])

    def test_secrets(self) -> None:
        """Its URL is one, for whoever has it can post."""
        loaded = self.load(HOOK + URL + 'secret = "signed-with-this"\nevents = ["model.unserved"]\n' + SANDBOX)
        self.assertIn("https://hooks.example.com/T0/B0?sig=x", secrets_of(loaded.config))
        text = report(loaded, MAKERS)
        self.assertIn("chat: ****, signed with ****: model.unserved", text)
        self.assertNotIn("example.com", text + repr(loaded.config))

    def test_mistakes(self) -> None:
        """Each names the member, and quotes no secret."""
        for more, path, words in (
            ("", "webhooks[0].url", "is missing"),
            ('url = "hooks.example.com"\n', "webhooks[0].url", "must be an http"),
            ('url = "https://h/?a=b#c"\n', "webhooks[0].url", "no fragment"),
            ('url = "https://u:p@h/"\n', "webhooks[0].url", "no user"),
            ('url = { env = "NOT_SET" }\n', "webhooks[0].url", "is not set"),
            (URL + 'events = ["model.lost"]\n', "webhooks[0].events[0]", 'no event "model.lost"'),
            (URL + 'secret = "whsec_?"\n', "webhooks[0].secret", "no base64"),
            (URL + 'proxy = "socks://h"\n', "webhooks[0].proxy", "http://"),
        ):
            problem = self.problem(HOOK + more + SANDBOX)
            self.assertEqual(problem.path, path, more)
            self.assertIn(words, problem.message)
        self.assertIn("is taken already", self.problem((HOOK + URL) * 2 + SANDBOX).message)

    def test_warnings(self) -> None:
        """What is allowed and hardly meant."""
        for more, words in (
            ('url = "http://hooks/x"\n', "not encrypted"),
            (URL + "events = []\n", "nothing is ever sent"),
        ):
            self.assertTrue(any(words in str(warning) for warning in self.load(HOOK + more + SANDBOX).warnings), more)
