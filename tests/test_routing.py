"""Model names lead where the configuration says."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import Model, Provider, RouteTo
from claudeproxyd.leases import Route
from claudeproxyd.routing import REMEMBERED, Router


def provider(name: str, *models: str) -> Provider:
    """One that serves these."""
    return Provider(name=name, kind="fake", models=list(models or "*"))


class Routes(SynchronousTestCase):
    """What a client's model name comes to."""

    def test_without_models(self) -> None:
        """Every name goes to each provider that serves it, in the file's order."""
        router = Router([], [provider("a", "claude-*"), provider("b", "gpt-*"), provider("c")])
        self.assertEqual(router.routes("claude-x"), (Route("a", "claude-x"), Route("c", "claude-x")))
        self.assertEqual(Router([], [provider("a", "claude-*")]).routes("gpt"), ())

    def test_first_match(self) -> None:
        """The first entry that matches wins, whatever stands below; letters count as they are."""
        models = [
            Model(name="claude-sonnet-*", routes=[RouteTo(provider="a"), RouteTo(provider="b", model="g", context=9)]),
            Model(name="*", routes=[RouteTo(provider="b")]),
        ]
        router = Router(models, [provider("a"), provider("b")])
        self.assertEqual(router.routes("claude-sonnet-5"), (Route("a", "claude-sonnet-5"), Route("b", "g", context=9)))
        self.assertEqual(router.routes("Claude-Sonnet-5"), (Route("b", "Claude-Sonnet-5"),))

    def test_equal_name(self) -> None:
        """A name that is equal wins over every glob, wherever it stands, and whatever stands in it."""
        names = ("claude-*", "claude-opus-4-8[1m]", "claude-[ab]", "claude-opus-4-8", "claude-*[1m]")
        models = [Model(name=name, routes=[RouteTo(provider="p", model=name)]) for name in names]
        for order in (models, models[::-1]):
            router = Router(order, [provider("p")])
            for name in names:
                self.assertEqual([route.model for route in router.routes(name)], [name])
        self.assertEqual(router.routes("claude-a")[0].model, "claude-[ab]")
        self.assertEqual(router.routes("claude-x[1m]")[0].model, "claude-*[1m]")
        self.assertEqual(router.routes("claude-opus-4-81")[0].model, "claude-*")

    def test_window_of_a_provider(self) -> None:
        """A provider that serves a name with its context window serves that very name."""
        router = Router([], [provider("p", "claude-opus-4-8[1m]")])
        self.assertEqual(router.routes("claude-opus-4-8[1m]"), (Route("p", "claude-opus-4-8[1m]"),))
        self.assertEqual(router.routes("claude-opus-4-81"), ())

    def test_thinking(self) -> None:
        """A route may leave it to the model how much it thinks."""
        models = [Model(name="m", routes=[RouteTo(provider="a", thinking="default")])]
        self.assertEqual(Router(models, [provider("a")]).routes("m"), (Route("a", "m", own_thinking=True),))

    def test_no_match(self) -> None:
        """A name that no entry matches is unknown."""
        self.assertEqual(Router([Model(name="m", routes=[RouteTo(provider="a")])], [provider("a")]).routes("n"), ())

    def test_provider_does_not_serve(self) -> None:
        """A route whose provider does not serve its model leads nowhere."""
        models = [Model(name="*", routes=[RouteTo(provider="a", model="x"), RouteTo(provider="b")])]
        router = Router(models, [provider("a", "y"), provider("b")])
        self.assertEqual(router.routes("m"), (Route("b", "m"),))

    def test_without_routes(self) -> None:
        """An entry without routes means all providers."""
        router = Router([Model(name="m")], [provider("a"), provider("b", "n")])
        self.assertEqual(router.routes("m"), (Route("a", "m"),))

    def test_bound(self) -> None:
        """Clients choose the names; what is remembered of them has a bound, and changes no answer."""
        router = Router([], [provider("a")])
        for number in range(3 * REMEMBERED):
            self.assertEqual(router.routes(f"m{number}"), (Route("a", f"m{number}"),))
        self.assertEqual(router.routes("m0"), (Route("a", "m0"),))
        self.assertIs(router.routes("m0"), router.routes("m0"))

    def test_named(self) -> None:
        """What the operator wrote down is known by that very name."""
        router = Router([Model(name="m-*", routes=[RouteTo(provider="a", model="up")])], [provider("a")])
        self.assertTrue(router.is_named("up"))
        self.assertTrue(router.is_named("m-*"))
        self.assertFalse(router.is_named("m-1"))
