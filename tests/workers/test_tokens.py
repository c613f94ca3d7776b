"""Tokens that the parent fetches for all."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from claudeproxyd.interfaces import ISecretSource
from claudeproxyd.outcomes.types import AttemptFailed, Kind
from claudeproxyd.secrets.failures import refused
from claudeproxyd.secrets.refreshed import RefreshedSecret, Token
from claudeproxyd.workers.tokens import answered, fetched_by_parent
from tests.secrets.support import SecretsTestCase
from tests.workers.support import Pair


class TokenTests(SecretsTestCase):
    """Two workers that send requests with one credential."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.fetches: list[Deferred[Token]] = []
        self.parent = RefreshedSecret("p/c", self.fetch, self.clock)
        asked: list[tuple[str, str]] = []
        self.asked = asked

        def token(channel: object, body: Any) -> Deferred[object]:
            asked.append((body[0], body[1]))
            return answered(self.parent, body[2])

        self.pairs = [Pair(self.clock, {"token": token}) for _ in range(2)]
        self.workers = [
            RefreshedSecret("p/c", fetched_by_parent(pair.worker)("p", "c"), self.clock) for pair in self.pairs
        ]

    async def fetch(self) -> Token:
        self.fetches.append(Deferred())
        return await self.fetches[-1]

    def settle(self) -> None:
        for pair in self.pairs:
            pair.settle()

    def refresh(self, *workers: int) -> list[Deferred[Any]]:
        refreshed: list[Deferred[Any]] = [self.workers[worker].refresh() for worker in workers]
        self.settle()
        return refreshed

    def test_once(self) -> None:
        """However many workers need it, it is fetched once, and masked in each; it ends for all at the same time."""
        verifyObject(ISecretSource, self.workers[0])
        first, second = self.refresh(0, 1)
        self.fetches[0].callback(Token("token-number-one", 1000.0))
        self.settle()
        for got in (first, second):
            self.assertEqual(self.successResultOf(got), {"bearer_token": "token-number-one"})
        self.assertEqual((len(self.fetches), self.asked), (1, [("p", "c")] * 2))
        self.assert_masked("token-number-one")
        self.assertNotIn("one", repr(self.workers[0]))
        self.clock.advance(1000.0)
        self.assertEqual([each.present() for each in (self.parent, *self.workers)], [None] * 3)

    def test_refused_upstream(self) -> None:
        """A worker whose token was refused gets what another has asked for meanwhile, or else a new one."""
        for got in self.refresh(0, 1):
            got.addErrback(lambda failure: None)
        self.fetches[0].callback(Token("token-number-one", 1000.0))
        self.settle()
        (first,) = self.refresh(0)
        self.fetches[1].callback(Token("token-number-two", 1000.0))
        self.settle()
        self.assertEqual(self.successResultOf(first), {"bearer_token": "token-number-two"})
        (second,) = self.refresh(1)
        self.assertEqual(self.successResultOf(second), {"bearer_token": "token-number-two"})
        self.assertEqual(len(self.fetches), 2)

    def test_failures(self) -> None:
        """Why there is none is the same for a worker as for the parent; and without a parent the credential waits."""
        (got,) = self.refresh(0)
        self.fetches[0].errback(refused("invalid_grant"))
        self.settle()
        failed: Any = self.failureResultOf(got, AttemptFailed).value
        self.assertEqual((failed.outcome.kind, failed.outcome.reason), (Kind.AUTH, "invalid_grant"))
        self.pairs[0].cut()
        (got,) = self.refresh(0)
        failed = self.failureResultOf(got, AttemptFailed).value
        self.assertEqual(failed.outcome.kind, Kind.TRANSIENT)
