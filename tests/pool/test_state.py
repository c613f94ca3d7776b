"""What outlives a restart, and what is seen of the pool."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from claudeproxyd.config.schema import Pool as Settings
from claudeproxyd.leases import LeaseRequest
from claudeproxyd.outcomes.types import OK, Kind, Outcome, Scope
from claudeproxyd.pool.service import CredentialPool
from tests.pool.support import (
    AUTH,
    QUOTA,
    QUOTA_HOUR,
    TRANSIENT,
    PoolTestCase,
    credential,
    name,
    request,
)
from tests.store.support import exported

scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner), max_leaves=5
)
keys = st.lists(
    st.sampled_from(["cooldown", "affinity", "disabled", "messages", "count_tokens", "p", "a", "m", None]), max_size=6
).map(json.dumps)
damaged = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["quota", "nonsense"]),
        "until": st.floats() | st.text(),
        "end": st.floats(),
        "level": st.integers(),
        "provider": st.just("p"),
        "credential": st.sampled_from(["a", "nobody"]),
        "used": st.floats(),
    },
)


class RestartTests(PoolTestCase):
    """A new daemon with the old one's state."""

    def again(self, saved: dict[str, Any], *credentials: Any, **settings: Any) -> CredentialPool:
        """As if from disk."""
        pool = self.pool(*(credentials or ("ab",)), **settings)
        pool.import_state(json.loads(json.dumps(saved)))
        return pool

    def test_cooldowns(self) -> None:
        """Cooldowns of every scope go on, with their level, until the same moment."""
        pool = self.pool("ab", credential("z", "q"), credential("w", "r"))
        for _ in range(2):
            self.clock.advance(3.0)
            two = self.take(pool), self.take(pool)
            for lease in two:
                lease.release(QUOTA if name(lease) == "a" else OK)
        self.take(pool, "other", count_tokens=True).release(AUTH)
        self.take(pool, "q:n", "m").release(Outcome(Kind.PERMISSION, Scope.MODEL_ON_PROVIDER, base=1.0, ceiling=1.0))
        self.take(pool, "r:n", "m").release(Outcome(Kind.CONFIGURATION, Scope.PROVIDER, base=1.0, ceiling=1.0))
        self.clock.advance(0.5)
        again = self.again(exported(pool), "ab", credential("z", "q"), credential("w", "r"))
        self.assertEqual(exported(again), exported(pool))
        self.assertEqual(self.turns(again, 2), "bb")
        self.assertEqual(self.turns(again, 2, "x", count_tokens=True), "bb")
        self.assertEqual(again.ready_in(request("q:n")), 0.5)
        self.assertEqual(again.ready_in(request("r:anything")), 0.5)
        self.clock.advance(2.0)
        two = self.take(again), self.take(again)
        next(lease for lease in two if name(lease) == "a").release(QUOTA)
        again.set_enabled("p", "b", False)
        self.assertEqual(again.ready_in(request()), 4.0)

    def test_half_open(self) -> None:
        """A cooldown that ended meanwhile is half open: one probe."""
        pool = self.pool("a")
        self.take(pool).release(QUOTA)
        saved = exported(pool)
        self.clock.advance(5.0)
        again = self.again(saved, "a")
        self.take(again)
        self.wait(again)

    def test_affinities_and_disabled(self) -> None:
        """Sessions find their credential again, in the order of their use, and what was disabled stays so."""
        pool = self.pool("abc")
        for session in ("1", "2"):
            self.take(pool, session=session).release(OK)
        pool.set_enabled("p", "c", False)
        again = self.again(exported(pool), "abc")
        self.assertEqual(name(self.take(again, session="2")), "b")
        self.assertEqual(name(self.take(again, session="1")), "a")
        self.assertNotIn("c", self.turns(again, 4))
        self.assertTrue(again.set_enabled("p", "c", True))

    def test_changes_add_up(self) -> None:
        """The changes that are told, one after the other, come to the same as the whole."""
        kept: dict[str, Any] = {}

        def changed(changes: Any) -> None:
            for key, value in changes.items():
                kept.pop(key, None)
                if value is not None:
                    kept[key] = value

        pool = self.pool("ab", changed=changed)
        self.take(pool, session="s").release(OK)
        self.take(pool).release(QUOTA)
        self.take(pool).release(QUOTA_HOUR)
        pool.set_enabled("p", "a", False)
        self.assertEqual(kept, exported(pool))
        self.clock.advance(2.0)
        for _ in range(3):
            self.take(pool, session="s").release(OK)
        pool.set_enabled("p", "a", True)
        pool.clear(None, None, None)
        self.assertEqual(kept, exported(pool))
        self.assertEqual(len(kept), 1)

    def test_of_those_who_are_gone(self) -> None:
        """State of credentials that are configured no more is passed over, and deleted from the store."""
        pool = self.pool("ab")
        self.take(pool, session="s").release(AUTH)
        self.take(pool, session="s").release(OK)
        pool.set_enabled("p", "b", False)
        told: list[Any] = []
        again = self.again(exported(pool), "c", changed=told.append)
        self.assertEqual(self.turns(again, 1), "c")
        self.assertEqual(len(told), 3)
        self.assertEqual({value for change in told for value in change.values()}, {None})

    def test_absurd_times(self) -> None:
        """A store that speaks of years shuts nobody out for more than a day."""
        pool = self.pool("a")
        self.take(pool).release(QUOTA)
        saved = {key: {**value, "until": 1e18, "end": 1e18} for key, value in exported(pool).items()}
        self.assertEqual(self.again(saved, "a").ready_in(request()), 86_400.0)

    @given(st.dictionaries(keys | st.text(), damaged | json_values))
    def test_damage(self, saved: dict[str, Any]) -> None:
        """Whatever stands in a damaged store, the pool takes it without an error, and works on."""
        pool = CredentialPool(Clock(), Settings(), [credential("a"), credential("b")])
        pool.import_state(saved)
        pool.clear(None, None, None)
        for one in "ab":
            pool.set_enabled("p", one, True)
        self.successResultOf(pool.lease(request())).release(OK)
        pool.stopService()


class SnapshotTests(PoolTestCase):
    """What people and metrics see."""

    def test_entries(self) -> None:
        """Each credential: its state, what it cools for and how long, its counts and its last failure."""
        pool = self.pool(credential("a", max_concurrency=1), "bc")
        for outcome in (QUOTA_HOUR, AUTH):
            self.take(pool).release(outcome)
        self.take(pool).release(OK)
        pool.set_enabled("p", "c", False)
        self.take(pool, "other")
        self.clock.advance(600.0)
        a, b, c = pool.snapshot()
        self.assertEqual([entry["state"] for entry in (a, b, c)], ["busy", "cooling", "disabled"])
        self.assertEqual((a["provider"], a["credential"], a["in_flight"]), ("p", "a", 1))
        self.assertEqual(
            a["cooldowns"],
            [
                {
                    "scope": "model",
                    "model": "m",
                    "outcome": "quota",
                    "reason": "come back later",
                    "level": 1,
                    "remaining": 3000.0,
                    "trials": None,
                }
            ],
        )
        self.assertEqual(b["last_failure"], {"outcome": "auth", "reason": "bad key", "seconds_ago": 600.0})
        self.assertEqual((b["outcomes"], c["outcomes"]), ({"auth": 1}, {"ok": 1}))
        self.clock.advance(1200.0)
        self.assertEqual(pool.snapshot()[1]["state"], "trial")
        self.assertEqual(json.loads(json.dumps(list(pool.snapshot())))[0]["credential"], "a")

    def test_gauges(self) -> None:
        """Everything that can grow has its number."""
        pool = self.pool("ab")
        self.take(pool, session="s").release(OK)
        self.take(pool).release(QUOTA)
        self.take(pool).release(TRANSIENT)
        self.take(pool)
        self.take(pool, "other", count_tokens=True)
        self.take(pool, count_tokens=True).release(Outcome(Kind.QUOTA, Scope.MODEL_ON_PROVIDER, base=1.0, ceiling=1.0))
        pool.set_enabled("p", "b", False)
        self.wait(pool, count_tokens=True)
        gauges = pool.gauges()
        self.assertEqual(
            {key: gauges[key] for key in ("in_flight", "waiting", "cooling", "gates", "affinities", "disabled")},
            {"in_flight": 2, "waiting": 1, "cooling": 2, "gates": 2, "affinities": 1, "disabled": 1},
        )

    def test_no_secret(self) -> None:
        """Neither the page nor the state touches a secret; LeaseRequest and leases show names alone."""
        pool = self.pool("a")
        lease = self.take(pool)
        self.assertNotIn("Source", repr([*pool.snapshot(), exported(pool), lease.candidate, LeaseRequest([])]))
