"""The list of models: the operator's, or what the providers say."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyClass

from claudeproxyd.catalog import MAX_LISTING_SECONDS, QUIET_SECONDS, REFRESH_SECONDS, Catalog
from claudeproxyd.config.schema import Model, Provider, RouteTo
from claudeproxyd.interfaces import ICatalog, IExecutor
from claudeproxyd.leases import Credential
from claudeproxyd.secrets.static import StaticSecret


@implementer(IExecutor)
class ListingExecutor:
    """Lists its models when a test says so."""

    kind = family = "fake"

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []
        self.credentials: list[Any] = []

    def prepare(self, request: Any, route: Any) -> None:
        return None

    def messages(self, attempt: Any) -> Deferred[Any]:
        raise AssertionError("not for the catalog")

    def count_tokens(self, attempt: Any) -> Deferred[Any]:
        raise AssertionError("not for the catalog")

    def models(self, credential: Any) -> Deferred[Any]:
        asked: Deferred[Any] = Deferred()
        self.asked.append(asked)
        self.credentials.append(credential)
        return asked


verifyClass(ICatalog, Catalog)
verifyClass(IExecutor, ListingExecutor)


class CatalogTestCase(SynchronousTestCase):
    """A catalog over two credentials of one provider."""

    def make(
        self,
        *models: Model,
        serves: tuple[str, ...] = ("*",),
        before: Catalog | None = None,
        credentials: str = "ab",
        others: str = "",
    ) -> None:
        """With these ``[[models]]``."""
        self.clock = Clock()
        self.executor = ListingExecutor()
        self.catalog = Catalog(
            self.clock,  # type: ignore[arg-type]  # it is one in all but its declaration
            models,
            [Provider(name="p", kind="fake", models=list(serves))],
            {"p": self.executor, "q": self.executor},
            [
                Credential(provider, name, StaticSecret({}))
                for provider, names in (("p", credentials), ("q", others))
                for name in names
            ],
            before,
        )

    def ids(self) -> list[str]:
        """What is listed."""
        return [entry["id"] for entry in self.catalog.entries()]


class Named(CatalogTestCase):
    """The operator named them."""

    def test_listed(self) -> None:
        """Names that are to be listed, in order, and no hidden ones; nobody is asked."""
        routes = [RouteTo(provider="p")]
        self.make(
            Model(name="b", routes=routes, display_name="Bee"),
            Model(name="hidden", routes=routes, list=False),
            Model(name="a", routes=routes),
        )
        self.catalog.startService()
        self.assertEqual(self.ids(), ["b", "a"])
        self.assertEqual([entry["display_name"] for entry in self.catalog.entries()], ["Bee", "a"])
        self.assertEqual(self.executor.asked, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.catalog.knows("a"))
        self.assertFalse(self.catalog.knows("a-*"))

    def test_window(self) -> None:
        """A name with its context window is a name, and listed; it is no reason to ask the providers."""
        self.make(Model(name="claude-opus-4-8[1m]", routes=[RouteTo(provider="p")]))
        self.catalog.startService()
        self.assertEqual(self.ids(), ["claude-opus-4-8[1m]"])
        self.assertEqual(self.executor.asked, [])

    def test_description(self) -> None:
        """What the operator says of a model stands in its entry: Claude Code shows it."""
        self.make(Model(name="m", routes=[RouteTo(provider="p")], description="For long texts"))
        self.assertEqual(self.catalog.entries()[0]["description"], "For long texts")

    def test_entry(self) -> None:
        """The API's own shape."""
        self.make(Model(name="m", routes=[RouteTo(provider="p")]))
        (entry,) = self.catalog.entries()
        self.assertEqual(
            entry,
            {
                "type": "model",
                "id": "m",
                "display_name": "m",
                "created_at": "1970-01-01T00:00:00Z",
                "lifecycle": "active",
            },
        )


class Discovered(CatalogTestCase):
    """The providers are asked."""

    def setUp(self) -> None:
        self.make(serves=("mine", "x-*"))

    def test_asked(self) -> None:
        """Every credential; entries are merged, the operator's names first."""
        self.catalog.startService()
        self.assertEqual(self.ids(), ["mine"])
        self.executor.asked[0].callback([{"id": "x", "display_name": "X", "max_tokens": 9}, {"id": "mine"}])
        self.executor.asked[1].callback([{"id": "x", "display_name": "Y"}, {"id": "z"}])
        self.assertEqual(self.ids(), ["mine", "x", "z"])
        entry = self.catalog.entries()[1]
        self.assertEqual((entry["display_name"], entry["max_tokens"], entry["type"]), ("X", 9, "model"))
        self.catalog.stopService()

    def test_one_fails(self) -> None:
        """A credential that does not list, or lists nonsense, hides nothing of the others, then or later."""
        self.catalog.startService()
        for number, nonsense in enumerate((ZeroDivisionError("no"), CancelledError(), [{"no": "id"}])):
            first = self.executor.asked[2 * number]
            if isinstance(nonsense, Exception):
                first.errback(nonsense)
            else:
                first.callback(nonsense)
            self.executor.asked[2 * number + 1].callback([{"id": f"x{number}"}])
            self.assertEqual(self.ids(), ["mine", f"x{number}"])
            self.clock.advance(REFRESH_SECONDS)
        self.assertEqual(len(self.executor.asked), 8)
        self.catalog.stopService()

    def test_kept(self) -> None:
        """What a credential listed stays while it says nothing else, whatever the others say."""
        self.catalog.startService()
        for asked, name in zip(self.executor.asked, "xy", strict=True):
            asked.callback([{"id": name}])
        self.clock.advance(REFRESH_SECONDS)
        self.executor.asked[2].errback(ZeroDivisionError())
        self.assertEqual(self.ids(), ["mine", "x", "y"])
        self.executor.asked[3].callback([{"id": "z"}])
        self.assertEqual(self.ids(), ["mine", "x", "z"])
        self.catalog.stopService()

    def test_asked_again_soon(self) -> None:
        """Who cannot list is asked again in a minute, then ever later up to an hour; once all list, in an hour."""
        self.catalog.startService()

        def look(*answers: Any) -> float:
            """Seconds until the next look after one with these answers."""
            for asked, answer in zip(self.executor.asked[-2:], answers, strict=True):
                asked.callback(answer)
            (call,) = self.clock.getDelayedCalls()
            after: float = call.getTime() - self.clock.seconds()
            self.clock.advance(after)
            return after

        fails = [None], []
        self.assertEqual(
            [look(*fails) for _ in range(8)], [60, 120, 240, 480, 960, 1920, REFRESH_SECONDS, REFRESH_SECONDS]
        )
        self.assertEqual([look([], []), look(*fails), look(*fails)], [REFRESH_SECONDS, 60, 120])
        self.catalog.stopService()

    def test_one_that_never_answers(self) -> None:
        """What the others listed is there while a credential takes its time, and it has fifteen seconds of that."""
        self.catalog.startService()
        self.executor.asked[1].callback([{"id": "x"}])
        self.assertEqual(self.ids(), ["mine", "x"])
        self.clock.advance(MAX_LISTING_SECONDS)
        self.assertTrue(self.executor.asked[0].called)
        self.clock.advance(60.0)
        self.assertEqual(len(self.executor.asked), 4)
        self.executor.asked[2].callback([{"id": "y"}])
        self.assertEqual(self.ids(), ["mine", "y", "x"])
        self.catalog.stopService()

    def test_many(self) -> None:
        """A provider with many credentials is asked for a few lists at a time, and keeps no other one waiting."""
        self.make(serves=("mine", "x-*"), credentials="abcdefghijklm", others="z")
        self.catalog.startService()
        self.assertEqual([credential.name for credential in self.executor.credentials], [*"abcdefghz"])
        self.executor.asked[8].callback([{"id": "theirs"}])
        self.assertEqual(self.ids(), ["mine", "theirs"])
        self.clock.advance(MAX_LISTING_SECONDS)
        self.assertEqual([credential.name for credential in self.executor.credentials[9:]], [*"ijklm"])
        self.catalog.stopService()

    def test_stop(self) -> None:
        """Stopping ends the questions that are out."""
        self.catalog.startService()
        self.catalog.stopService()
        self.assertEqual([asked.called for asked in self.executor.asked], [True, True])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Reloaded(CatalogTestCase):
    """Another configuration takes the place of one whose models were discovered."""

    def discover(self) -> Catalog:
        """A catalog that knows a model."""
        self.make()
        self.catalog.startService()
        self.addCleanup(self.catalog.stopService)
        self.executor.asked[0].callback([{"id": "found"}])
        self.executor.asked[1].callback([])
        return self.catalog

    def test_kept_until_the_next_look(self) -> None:
        """Clients that list the models right after a reload see no empty list."""
        before = self.discover()
        self.make(before=before)
        self.assertEqual(self.ids(), ["found"])

    def test_storm(self) -> None:
        """Reloads that come thick and fast have nobody asked; the last of them has, when it is quiet."""
        self.discover()
        asked = 0
        for _ in range(20):
            before = self.catalog
            before.stopService()
            self.make(before=before)
            self.catalog.startService()
            self.clock.advance(QUIET_SECONDS / 2)
            asked += len(self.executor.asked)
        self.clock.advance(QUIET_SECONDS)
        self.assertEqual((asked, len(self.executor.asked)), (0, 2))
        self.catalog.stopService()

    def test_kept_of_what_is_there(self) -> None:
        """What a credential listed goes with it."""
        before = self.discover()
        self.make(before=before, credentials="b")
        self.assertEqual(self.ids(), [])

    def test_not_among_the_operators(self) -> None:
        """Where the operator names the models now, what was discovered before is gone."""
        before = self.discover()
        self.make(Model(name="mine", routes=[RouteTo(provider="p")]), before=before)
        self.assertEqual(self.ids(), ["mine"])


class Globs(CatalogTestCase):
    """The operator's entry is a glob: which models it stands for, the providers know."""

    def test_known_but_not_listed(self) -> None:
        """A cooldown of a model that a provider lists is kept over a restart, although the list shows no such name."""
        self.make(Model(name="claude-*", routes=[RouteTo(provider="p")]))
        self.catalog.startService()
        self.addCleanup(self.catalog.stopService)
        self.executor.asked[0].callback([{"id": "claude-found"}])
        self.executor.asked[1].callback([])
        self.assertEqual(self.ids(), [])
        self.assertTrue(self.catalog.knows("claude-found"))
        self.assertFalse(self.catalog.knows("claude-made-up"))
