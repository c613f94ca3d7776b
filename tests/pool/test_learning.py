"""What another daemon says of the credentials that both use."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from claudeproxyd.config.schema import Pool as Settings
from claudeproxyd.outcomes.types import OK
from claudeproxyd.pool.service import CredentialPool
from tests.pool.support import AUTH, QUOTA, QUOTA_HOUR, PoolTestCase, credential, name, request
from tests.store.support import exported


class LearningTests(PoolTestCase):
    """Two pools, of which the second hears what the first one says."""

    def two(self, *credentials: Any) -> tuple[CredentialPool, CredentialPool]:
        """The first tells the second, and both keep account in ``told``."""
        self.told: list[Any] = []
        second = self.pool(*(credentials or ("ab",)), changed=self.told.append)
        return self.pool(*(credentials or ("ab",)), changed=second.merge), second

    def test_cooldown(self) -> None:
        """A credential that one of them saw cool is not offered by the other, until the same moment."""
        one, other = self.two()
        self.take(one).release(QUOTA_HOUR)
        self.assertEqual(self.turns(other, 2), "bb")
        self.assertEqual(exported(one), exported(other))
        self.assertEqual(self.told, [])

    def test_whoever_waits(self) -> None:
        """Requests that wait are told when the last credential's return is put off beyond their patience."""
        one, other = self.two("a")
        self.take(other).release(QUOTA)
        waiting = self.wait(other)
        self.take(one).release(QUOTA_HOUR)
        self.assertEqual(self.refused(waiting), ("quota", 3600.0))

    def test_later_end(self) -> None:
        """Of two cooldowns the one that ends later holds, whichever was told first."""
        for first, second in ((QUOTA, QUOTA_HOUR), (QUOTA_HOUR, QUOTA)):
            one, other = self.two("a")
            self.take(other).release(first)
            self.take(one).release(second)
            self.assertEqual(other.ready_in(request()), 3600.0)

    def test_end(self) -> None:
        """A success that clears a cooldown, or an operator who does, clears it for both."""
        one, other = self.two("a")
        self.take(one).release(QUOTA)
        self.clock.advance(2.0)
        for _ in range(2):
            self.take(one).release(OK)
        self.assertEqual(exported(other), {})
        self.take(one).release(AUTH)
        one.clear(None, None, None)
        self.take(other)

    def test_old_news(self) -> None:
        """An attempt that was under way when the word came neither ends the cooldown nor raises its level."""
        one, other = self.two("a")
        before = [self.take(other) for _ in range(2)]
        self.take(one).release(QUOTA_HOUR)
        before[0].release(OK)
        before[1].release(QUOTA)
        self.assertEqual(exported(other), exported(one))

    def test_enabled(self) -> None:
        """Who is disabled at one is disabled at the other, and comes back with it."""
        one, other = self.two()
        one.set_enabled("p", "a", False)
        self.assertEqual(self.turns(other, 2), "bb")
        one.set_enabled("p", "a", True)
        self.assertIn("a", self.turns(other, 2))

    def test_affinity(self) -> None:
        """A session finds its credential at the other; the later use holds, and forgetting is each one's own affair."""
        one, other = self.two()
        self.take(one, session="s").release(OK)
        self.assertEqual(name(self.take(other, session="s")), "a")
        older = exported(one)
        self.clock.advance(10.0)
        other.set_enabled("p", "a", False)
        self.take(other, session="s").release(OK)
        other.set_enabled("p", "a", True)
        other.merge(older)
        other.merge(dict.fromkeys(older))
        self.assertEqual(name(self.take(other, session="s")), "b")

    def test_of_others(self) -> None:
        """What concerns credentials that only the other has is passed over, and not deleted."""
        one, other = self.pool(credential("z")), self.two()[1]
        self.take(one).release(AUTH)
        other.merge(exported(one))
        other.merge(dict.fromkeys(exported(one)))
        self.assertEqual((exported(other), self.told), ({}, []))

    @given(st.dictionaries(st.text(), st.none() | st.text() | st.dictionaries(st.text(), st.floats())))
    def test_nonsense(self, said: dict[str, Any]) -> None:
        """Whatever another says, the pool works on."""
        pool = CredentialPool(self.clock, Settings(), [credential("a")])
        pool.merge(said)
        self.successResultOf(pool.lease(request())).release(OK)
        pool.stopService()
