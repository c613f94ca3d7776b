"""Tokens that end."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from claudeproxyd.interfaces import ISecretSource
from claudeproxyd.outcomes.types import AttemptFailed, Kind, Scope
from claudeproxyd.secrets.failures import refused
from claudeproxyd.secrets.refreshed import RefreshedSecret, Token
from tests.secrets.support import SecretsTestCase


class RefreshedSecretTests(SecretsTestCase):
    """When it is fetched, and who hears of it."""

    def setUp(self) -> None:
        """A source whose fetches the test answers."""
        super().setUp()
        self.clock = Clock()
        self.fetches: list[Deferred[Token]] = []
        self.source = RefreshedSecret("p/c", self.fetch, self.clock, Random(1))

    async def fetch(self) -> Token:
        """As the test says, later."""
        self.fetches.append(Deferred())
        return await self.fetches[-1]

    def give(self, value: str = "token-number-one", lifetime: float = 3600.0) -> None:
        """Answer the newest fetch."""
        self.fetches[-1].callback(Token(value, lifetime))

    def test_interface(self) -> None:
        """It is a source, and shows nothing."""
        verifyObject(ISecretSource, self.source)
        self.source.refresh()
        self.give()
        self.assertNotIn("one", repr(self.source) + repr(Token("one", 1.0)))
        self.assert_masked("token-number-one")

    def test_fetched_when_needed(self) -> None:
        """Nothing is fetched before the first use, and then once."""
        self.assertIsNone(self.source.present())
        self.assertEqual(self.fetches, [])
        got = self.source.refresh()
        self.assertNoResult(got)
        self.give()
        self.assertEqual(self.successResultOf(got), {"bearer_token": "token-number-one"})
        self.assertEqual(self.source.present(), {"bearer_token": "token-number-one"})
        self.assertEqual((len(self.fetches), self.clock.getDelayedCalls()), (1, []))

    def test_who_pays(self) -> None:
        """The project that a token's requests are charged to comes with it, where there is one."""
        got = self.source.refresh()
        self.fetches[-1].callback(Token("token-number-one", 3600.0, "payer"))
        secret = {"bearer_token": "token-number-one", "quota_project": "payer"}
        self.assertEqual((self.successResultOf(got), self.source.present()), (secret, secret))

    def test_shared(self) -> None:
        """However many ask at once, there is one fetch, and all have what it brings."""
        got = [self.source.refresh() for _ in range(50)]
        self.give()
        self.assertEqual(len(self.fetches), 1)
        self.assertEqual({self.successResultOf(each)["bearer_token"] for each in got}, {"token-number-one"})

    def test_cancelled(self) -> None:
        """Who no longer wants it leaves the others alone, and the fetch, be it the first or the only one."""
        first, second = self.source.refresh(), self.source.refresh()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.give()
        self.successResultOf(second)
        third = self.source.refresh()
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.give("token-number-two")
        self.assertEqual(self.source.present(), {"bearer_token": "token-number-two"})

    def test_ahead(self) -> None:
        """Some minutes before its end its use fetches the next, while the present one is still given."""
        self.source.refresh()
        self.give()
        self.clock.advance(3299.0)
        self.source.present()
        self.assertEqual(len(self.fetches), 1)
        self.clock.advance(76.0)
        for _ in range(10):
            self.assertEqual(self.source.present(), {"bearer_token": "token-number-one"})
        self.assertEqual(len(self.fetches), 2)
        self.give("token-number-two")
        self.assertEqual(self.source.present(), {"bearer_token": "token-number-two"})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_together(self) -> None:
        """Daemons that fetched at the same moment do not all fetch the next at the same moment."""
        dues = set()
        for seed in range(10):
            self.source = RefreshedSecret("p/c", self.fetch, self.clock, Random(seed))
            self.source.refresh()
            self.give()
            dues.add(self.source._due)
        self.assertEqual(len(dues), 10)
        self.assertTrue(all(3300.0 <= due <= 3375.0 for due in dues))

    def test_ended(self) -> None:
        """One that has ended, or will have when the request arrives, is not given."""
        self.source.refresh()
        self.give(lifetime=100.0)
        self.clock.advance(89.0)
        self.assertIsNotNone(self.source.present())
        self.clock.advance(1.5)
        self.assertIsNone(self.source.present())

    def test_slow(self) -> None:
        """Its life counts from when it was asked for."""
        self.source.refresh()
        self.clock.advance(14.0)
        self.give(lifetime=100.0)
        self.clock.advance(77.0)
        self.assertIsNone(self.source.present())

    def test_refused(self) -> None:
        """A refusal goes to all who wait, as the failure of an attempt; the next one asks anew."""
        got = [self.source.refresh() for _ in range(3)]
        self.fetches[0].errback(refused("invalid_grant"))
        for each in got:
            outcome = self.failureResultOf(each, AttemptFailed).value.outcome
            self.assertEqual(
                (outcome.kind, outcome.scope, outcome.reason), (Kind.AUTH, Scope.CREDENTIAL, "invalid_grant")
            )
        again = self.source.refresh()
        self.give()
        self.successResultOf(again)

    def test_hangs(self) -> None:
        """An endpoint that does not answer is given up, and only this credential waits for it."""
        got = self.source.refresh()
        self.clock.advance(15.0)
        outcome = self.failureResultOf(got, AttemptFailed).value.outcome
        self.assertEqual((outcome.kind, outcome.scope), (Kind.TRANSIENT, Scope.CREDENTIAL))

    def test_fault_of_ours(self) -> None:
        """Whatever goes wrong in a fetch is the failure of an attempt."""
        got = self.source.refresh()
        self.fetches[0].errback(ZeroDivisionError("oops"))
        self.assertEqual(self.failureResultOf(got, AttemptFailed).value.outcome.kind, Kind.TRANSIENT)

    def test_refused_while_good(self) -> None:
        """While the present one is good a failure costs a warning, and the next try comes half a minute later."""
        self.source.refresh()
        self.give()
        self.clock.advance(3400.0)
        self.source.present()
        self.fetches[-1].errback(refused("not now"))
        self.assertEqual(len(self.warnings), 1)
        self.assertIsNotNone(self.source.present())
        self.assertEqual(len(self.fetches), 2)
        self.clock.advance(31.0)
        self.source.present()
        self.assertEqual(len(self.fetches), 3)
