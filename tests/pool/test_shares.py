"""Limits of which only a part is this process's."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import Pool
from claudeproxyd.outcomes.types import Kind, Outcome
from claudeproxyd.pool.service import CredentialPool
from tests.pool.support import credential, request

OK = Outcome(Kind.OK)


class Shares:
    """One of two processes, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def allowed(self, provider: str, credential: str, whole: int) -> int:
        return whole // 2

    def short(self, provider: str, credential: str, whole: int) -> None:
        self.asked.append(("short", provider, credential, str(whole)))

    def came_back(self, provider: str, credential: str, *, needed: bool) -> None:
        self.asked.append(("came back", provider, credential, str(needed)))


class SharesTests(SynchronousTestCase):
    """A pool that may use half of everything."""

    def setUp(self) -> None:
        self.shares = Shares()
        self.pool = CredentialPool(
            Clock(),
            Pool(max_wait=30.0),
            [credential("a", max_concurrency=3)],
            provider_limits={"p": 9},
            shares=self.shares,
        )
        self.addCleanup(self.pool.stopService)

    def test_short(self) -> None:
        """A request that waits for a share has more of it asked for; with more it is served."""
        lease = self.successResultOf(self.pool.lease(request()))
        self.assertEqual(self.shares.asked, [])
        waiting = [self.pool.lease(request()) for _ in range(2)]
        self.assertEqual(self.shares.asked, [("short", "p", "a", "3")] * 2)
        self.shares.asked.clear()
        self.pool.allow("p", "a", 2)
        self.successResultOf(waiting[0])
        self.assertNoResult(waiting[1])
        self.assertEqual(self.shares.asked, [("short", "p", "a", "3")])
        self.assertEqual((self.pool.in_use("p", "a"), self.pool.in_use("p", ""), self.pool.in_use("x", "")), (2, 2, 0))
        self.shares.asked.clear()
        lease.release(OK)
        self.successResultOf(waiting[1])
        self.assertEqual(self.shares.asked, [("came back", "p", "a", "True"), ("came back", "p", "a", "False")])

    def test_nothing_at_all(self) -> None:
        """A share may be nothing; that is not the same as no limit."""
        self.pool.allow("p", "a", 0)
        waiting = self.pool.lease(request())
        self.assertNoResult(waiting)
        self.pool.allow("p", "a", 1)
        self.successResultOf(waiting)
        self.pool.allow("p", "b", 1)
        self.pool.allow("q", "", 1)

    def test_provider(self) -> None:
        """Of a provider's own limit likewise."""
        self.pool.reload([credential("a")], Pool(max_wait=30.0), {"p": 2})
        self.successResultOf(self.pool.lease(request()))
        waiting = self.pool.lease(request())
        self.assertEqual(self.shares.asked, [("short", "p", "", "2")])
        self.pool.allow("p", "", 2)
        self.successResultOf(waiting)

    def test_no_limit(self) -> None:
        """What has no limit gets none by a share, and count_tokens never has one."""
        self.pool.reload([credential("a")], Pool(max_wait=30.0), {})
        self.pool.allow("p", "a", 0)
        self.pool.allow("p", "", 0)
        self.successResultOf(self.pool.lease(request()))
        self.pool.reload([credential("a", max_concurrency=1)], Pool(max_wait=30.0), {})
        self.successResultOf(self.pool.lease(request(count_tokens=True)))

    def test_returned(self) -> None:
        """A lease that was not used comes back, too."""
        lease = self.successResultOf(self.pool.lease(request()))
        lease.return_unused()
        self.assertEqual(len(self.shares.asked), 2)
