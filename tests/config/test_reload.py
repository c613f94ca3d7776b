"""What a reload changes."""

from __future__ import annotations

from claudeproxyd.config.reload import difference
from claudeproxyd.config.schema import Config
from tests.config.support import SANDBOX, ConfigTestCase

OTHER = '[[providers]]\nname = "other"\nkind = "sandbox"\n'


class DifferenceTests(ConfigTestCase):
    """The log line of a SIGHUP."""

    def config(self, text: str) -> Config:
        return self.load(text).config

    def test_nothing(self) -> None:
        """The same file read again changes nothing."""
        both = difference(self.config(SANDBOX), self.config(SANDBOX), self.makers)
        self.assertEqual(str(both), "nothing changed")
        self.assertEqual(both.unchanged, ("sandbox",))

    def test_providers(self) -> None:
        """Providers that came, went, changed and stayed are told apart by name."""
        old = self.config(SANDBOX + OTHER + OTHER.replace("other", "gone"))
        new = self.config(OTHER.replace("other", "fresh") + OTHER + "max_concurrency = 3\n" + SANDBOX)
        both = difference(old, new, self.makers)
        self.assertEqual(
            (both.added, both.removed, both.changed, both.unchanged), (("fresh",), ("gone",), ("other",), ("sandbox",))
        )
        self.assertEqual(str(both), "providers added: fresh; removed: gone; changed: other")

    def test_secret(self) -> None:
        """A provider whose key changed has changed, though nothing else in the file did."""
        text = '[[providers]]\nname="a"\nkind="anthropic"\n[[providers.credentials]]\nname="c"\napi_key={env="A_KEY"}\n'
        self.environ["A_KEY"] = "1"
        old = self.config(text)
        self.environ["A_KEY"] = "2"
        self.assertEqual(difference(old, self.config(text), self.makers).changed, ("a",))

    def test_settings(self) -> None:
        """Settings that need a restart are told from those that take effect."""
        both = difference(
            self.config(SANDBOX),
            self.config('[server]\nlisten=["tcp:1:interface=127.0.0.1"]\ndrain=3\n[pool]\nqueue=3\n' + SANDBOX),
            self.makers,
        )
        self.assertEqual(both.restart, ("server.listen",))
        self.assertEqual(both.settings, ("server.drain", "pool.queue"))
        self.assertEqual(str(both), "settings changed: server.drain, pool.queue; not before a restart: server.listen")
        clients = self.config(SANDBOX + '[[clients]]\nname="c"\nkey="k"\n')
        self.assertEqual(difference(self.config(SANDBOX), clients, self.makers).settings, ("clients",))

    def test_timeouts(self) -> None:
        """A change of [timeouts] changes the providers that do not override it."""
        overriding = OTHER + "timeouts = { idle = 3 }\n"
        both = difference(
            self.config(SANDBOX + overriding), self.config("[timeouts]\nidle = 9\n" + SANDBOX + overriding), self.makers
        )
        self.assertEqual((both.changed, both.unchanged), (("sandbox",), ("other",)))
