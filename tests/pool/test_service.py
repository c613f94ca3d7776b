"""The pool as dispatch sees it: rule by rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.happenings import Happening
from claudeproxyd.interfaces import ICredentialPool, ILease
from claudeproxyd.leases import Exhausted, LeaseRequest, Route
from claudeproxyd.observe.transitions import Transitions
from claudeproxyd.outcomes.types import CANCELLED, OK, Kind, Outcome, Scope
from claudeproxyd.pool.lease import AlreadyReleased, Lease
from claudeproxyd.pool.service import CredentialPool
from claudeproxyd.slices import SLICE
from claudeproxyd.sockets import NEXT_TURN
from tests.pool.support import (
    AUTH,
    BROKEN,
    CLIENT_FAULT,
    HUNG,
    OVERLOADED,
    PERMISSION,
    PROXY,
    QUOTA,
    QUOTA_HOUR,
    TRANSIENT,
    UNAVAILABLE,
    UNREACHABLE,
    PoolTestCase,
    credential,
    name,
    names,
    request,
)
from tests.store.support import exported

verifyClass(ICredentialPool, CredentialPool)
verifyClass(ILease, Lease)


class LeaseTests(PoolTestCase):
    """What a lease is."""

    def test_interfaces(self) -> None:
        """The pool and its leases are what dispatch was promised."""
        pool = self.pool("a")
        verifyObject(ICredentialPool, pool)
        verifyObject(ILease, self.take(pool))

    def test_ready(self) -> None:
        """Where something is ready, the lease is there at once, and no timer runs."""
        lease = self.take(self.pool("a"))
        self.assertEqual(name(lease), "a")
        self.assertEqual(lease.candidate.route, Route("p", "m"))
        lease.release(OK)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_released_twice(self) -> None:
        """A lease that is given back twice is a mistake of ours, and says so."""
        pool = self.pool("a")
        lease = self.take(pool)
        lease.release(OK)
        self.assertRaises(AlreadyReleased, lease.release, OK)
        self.assertEqual(pool.gauges()["in_flight"], 0)

    def test_nobody(self) -> None:
        """A model that no credential serves is refused at once, without a time."""
        pool = self.pool(credential("a", models=("x-*",)))
        self.assertEqual(self.refused(pool.lease(request("m"))), ("none", None))
        self.assertEqual(self.refused(pool.lease(request("elsewhere:x-1"))), ("none", None))


class ChoiceTests(PoolTestCase):
    """Whose turn it is."""

    def test_round_robin(self) -> None:
        """Credentials take turns, for each model by itself."""
        pool = self.pool("abc")
        self.assertEqual(self.turns(pool, 4), "abca")
        self.assertEqual(self.turns(pool, 4, "other"), "abca")
        self.assertEqual(self.turns(pool, 2), "bc")

    def test_weighted(self) -> None:
        """Weights are shares, without runs."""
        pool = self.pool(credential("a", weight=5), credential("b"), credential("c"), strategy="weighted")
        turns = self.turns(pool, 14)
        self.assertEqual([turns.count(one) for one in "abc"], [10, 2, 2])
        self.assertNotIn("aaaaa", turns)
        self.assertNotIn("bc", turns)

    def test_fill_first(self) -> None:
        """The first in the file serves until it is full."""
        pool = self.pool(credential("a", max_concurrency=2), credential("b"), strategy="fill-first")
        self.assertEqual(names([self.take(pool) for _ in range(4)]), "aabb")

    def test_least_busy(self) -> None:
        """The idlest serves, whatever model it is busy with; among equals they take turns."""
        pool = self.pool("abc", strategy="least-busy")
        first, second = self.take(pool), self.take(pool, "other")
        self.assertEqual(names([first, second]), "ab")
        self.assertEqual(name(self.take(pool)), "c")
        second.release(OK)
        self.assertEqual(name(self.take(pool, "other")), "b")
        self.assertEqual(self.turns(pool, 3), "abc")

    def test_priority(self) -> None:
        """A lower priority serves only while no higher one is ready."""
        pool = self.pool(credential("a", priority=1), credential("b", priority=5, max_concurrency=1), credential("c"))
        high = self.take(pool)
        self.assertEqual(name(high), "b")
        self.assertEqual(self.turns(pool, 2), "aa")
        high.release(OK)
        self.assertEqual(self.turns(pool, 2), "bb")

    def test_globs(self) -> None:
        """A credential serves the upstream models that its globs name."""
        pool = self.pool(credential("a", models=("claude-*", "x")), credential("b", models=("gpt-*",)))
        self.assertEqual(self.turns(pool, 2, "claude-1"), "aa")
        self.assertEqual(self.turns(pool, 2, "gpt-4"), "bb")
        self.assertEqual(self.turns(pool, 1, "x"), "a")
        self.assertEqual(self.refused(pool.lease(request("xx"))), ("none", None))

    def test_route_order(self) -> None:
        """The first route with a ready candidate serves, a later one only while the first has none."""
        pool = self.pool("ab", credential("z", "q"))
        both = ("p:m", "q:n")
        self.assertEqual(self.turns(pool, 2, *both), "ab")
        self.take(pool).release(QUOTA)
        self.take(pool).release(QUOTA)
        lease = self.take(pool, *both)
        self.assertEqual((name(lease), lease.candidate.route), ("z", Route("q", "n")))

    def test_tried_come_last(self) -> None:
        """Who failed this request already is offered again only when nothing else is ready on any route."""
        pool = self.pool("ab", credential("z", "q"))
        wish = request("p:m", "q:n")
        order = []
        for _ in range(4):
            lease = self.successResultOf(pool.lease(wish))
            order.append(name(lease))
            wish.tried |= {lease.candidate.credential}
            lease.release(CANCELLED)
        self.assertEqual(order[:3], ["a", "b", "z"])
        self.assertIn(order[3], "ab")

    def test_unused(self) -> None:
        """A lease that nothing was sent with leaves no trace, and whoever waits for its place has it."""
        pool = self.pool(credential("a", max_concurrency=1))
        unused = self.take(pool)
        waiting = pool.lease(request())
        self.assertNoResult(waiting)
        unused.return_unused()
        self.assertRaises(AlreadyReleased, unused.release, OK)
        lease = self.successResultOf(waiting)
        self.assertEqual((name(lease), pool.gauges()["in_flight"]), ("a", 1))
        lease.release(OK)
        self.assertEqual(pool.gauges()["in_flight"], 0)

    def test_unused_probe(self) -> None:
        """What was to put a half-open cooldown to the test lets another do it."""
        pool = self.pool("a")
        self.take(pool).release(QUOTA)
        self.clock.advance(1.0)
        probe = self.take(pool)
        self.assertEqual(self.refused(pool.lease(request(may_wait=False)))[0], "busy")
        probe.return_unused()
        self.assertEqual(name(self.take(pool)), "a")

    def test_given_up_never_come_back(self) -> None:
        """Who is not worth another try of this request is not offered, but counts for when to come back."""
        pool = self.pool("a")
        lease = self.take(pool)
        wish = request(tried={lease.candidate.credential}, excluded={lease.candidate.credential})
        lease.release(QUOTA)
        self.assertEqual(self.refused(pool.lease(wish)), ("quota", 1.0))

    def test_spent_come_last(self) -> None:
        """Who said on success that its limit is used up comes last until the reset, and is used if need be."""
        pool = self.pool("abc")
        self.take(pool).release(Outcome(Kind.OK, exhausted=10.0))
        self.assertEqual(self.turns(pool, 4), "bcbc")
        self.assertEqual(self.turns(pool, 1, "other"), "a")
        self.take(pool).release(Outcome(Kind.OK, exhausted=20.0))
        self.take(pool).release(Outcome(Kind.OK, exhausted=20.0))
        self.assertEqual(len(set(self.turns(pool, 3))), 3)
        self.clock.advance(10.0)
        self.assertEqual(self.turns(pool, 2), "aa")

    def test_disabled(self) -> None:
        """A credential that an operator took out of service is not offered until it is back."""
        pool = self.pool("ab")
        self.assertTrue(pool.is_enabled("p", "a"))
        self.assertTrue(pool.set_enabled("p", "a", False))
        self.assertIs(pool.is_enabled("p", "a"), False)
        self.assertIsNone(pool.is_enabled("p", "nobody"))
        self.assertEqual(self.turns(pool, 2), "bb")
        self.assertTrue(pool.set_enabled("p", "b", False))
        self.assertEqual(self.refused(pool.lease(request())), ("disabled", None))
        self.assertFalse(pool.set_enabled("p", "nobody", False))
        self.assertTrue(pool.set_enabled("p", "a", True))
        self.assertEqual(self.turns(pool, 2), "aa")

    def test_disabled_in_the_configuration(self) -> None:
        """One that the configuration takes out of service comes back by another configuration alone."""
        pool = self.pool(credential("a", disabled=True), credential("b"))
        self.assertIs(pool.is_enabled("p", "a"), False)
        self.assertEqual(self.turns(pool, 2), "bb")
        error = self.assertRaises(ValueError, pool.set_enabled, "p", "a", True)
        self.assertEqual(str(error), "p/a is disabled in the configuration")
        self.assertEqual(self.turns(pool, 2), "bb")
        self.assertEqual([entry["state"] for entry in pool.snapshot()], ["disabled", "ready"])
        self.assertEqual(exported(pool), {})
        pool.reload([credential("a"), credential("b")], pool.settings)
        self.assertEqual(set(self.turns(pool, 2)), {"a", "b"})
        pool.reload([credential("a", disabled=True), credential("b", disabled=True)], pool.settings)
        self.assertEqual(self.refused(pool.lease(request())), ("disabled", None))

    def test_disabled_twice(self) -> None:
        """What an operator says at run time stands beside it, and is what is left when the configuration gives way."""
        pool = self.pool(credential("a", disabled=True), credential("b"))
        self.assertTrue(pool.set_enabled("p", "a", False))
        self.assertEqual(list(exported(pool)), ['["disabled","p","a"]'])
        pool.reload([credential("a"), credential("b")], pool.settings)
        self.assertEqual(self.turns(pool, 2), "bb")
        self.assertTrue(pool.set_enabled("p", "a", True))
        self.assertEqual(set(self.turns(pool, 2)), {"a", "b"})


class AffinityTests(PoolTestCase):
    """A session keeps its credential, so that its prompt cache is hit."""

    def serve(self, pool: CredentialPool, *models: str, **more: object) -> str:
        """One request that succeeds; who served it."""
        lease = self.take(pool, *models, session="s", **more)
        lease.release(OK)
        return name(lease)

    def test_kept(self) -> None:
        """Once served, a session stays, for each model by itself; others go round."""
        pool = self.pool("abc")
        self.assertEqual([self.serve(pool) for _ in range(3)], ["a", "a", "a"])
        self.assertEqual(self.turns(pool, 2), "bc")
        self.assertEqual(self.serve(pool, "other"), "a")
        self.assertEqual(self.serve(pool), "a")

    def test_bound_on_success_alone(self) -> None:
        """A failed attempt binds nothing."""
        pool = self.pool("ab")
        self.take(pool, session="s").release(CLIENT_FAULT)
        self.assertEqual(self.serve(pool), "b")

    def test_moves_when_its_credential_cools(self) -> None:
        """A session whose credential cools is served elsewhere, and stays there."""
        pool = self.pool("ab")
        self.serve(pool)
        self.take(pool, session="s").release(QUOTA)
        self.assertEqual(self.serve(pool), "b")
        self.clock.advance(2.0)
        self.assertEqual(self.serve(pool), "b")

    def test_stays_when_its_credential_is_busy(self) -> None:
        """A session whose credential is at its max_concurrency goes elsewhere for once."""
        pool = self.pool(credential("a", max_concurrency=1), credential("b"))
        self.serve(pool)
        busy = self.take(pool, session="s")
        self.assertEqual(self.serve(pool), "b")
        busy.release(CANCELLED)
        self.assertEqual(self.serve(pool), "a")

    def test_stays_when_its_credential_fails_by_chance(self) -> None:
        """One failure that passes is no reason to leave a prompt cache: the session's next request comes back."""
        pool = self.pool("ab")
        self.serve(pool)
        failed = self.take(pool, session="s")
        failed.release(TRANSIENT)
        self.assertEqual(self.serve(pool, tried={failed.candidate.credential}), "b")
        self.assertEqual(self.serve(pool), "a")

    def test_ttl_of_rest(self) -> None:
        """An affinity outlives its last use by affinity_ttl, and not its first."""
        pool = self.pool("ab", affinity_ttl=100.0)
        self.serve(pool)
        for _ in range(3):
            self.clock.advance(90.0)
            self.assertEqual(self.serve(pool), "a")
        self.clock.advance(101.0)
        self.assertEqual(self.serve(pool), "b")

    def test_higher_priority_wins(self) -> None:
        """A session goes back to a better credential when that is ready again, and is bound there."""
        pool = self.pool(credential("a", priority=1), credential("b", priority=1), credential("c"))
        self.take(pool).release(QUOTA)
        self.take(pool).release(QUOTA)
        self.assertEqual(self.serve(pool), "c")
        self.clock.advance(1.0)
        self.assertEqual(len({self.serve(pool) for _ in range(3)} - {"c"}), 1)

    def test_same_model_elsewhere(self) -> None:
        """A session that is on one provider is not preferred at another that has the same model."""
        pool = self.pool("ab", credential("z", "q"))
        self.assertEqual(self.serve(pool, "q:m"), "z")
        self.assertEqual(self.turns(pool, 1), "a")
        self.assertEqual(self.serve(pool, "p:m"), "b")

    def test_off(self) -> None:
        """With affinity off, sessions go round like anybody."""
        pool = self.pool("ab", affinity=False)
        self.assertEqual([self.serve(pool) for _ in range(3)], ["a", "b", "a"])

    def test_tool_loop_stays_on_its_route(self) -> None:
        """A tool loop that had to change route stays on it, though the first is back; the next turn is on the first."""
        pool = self.pool("a", credential("z", "q"))
        both = ("p:m", "q:n")
        self.assertEqual(self.serve(pool, *both), "a")
        self.take(pool).release(QUOTA)
        self.clock.advance(0.1)
        self.assertEqual(self.serve(pool, *both, in_tool_loop=True), "z")
        self.clock.advance(2.0)
        self.assertEqual(self.serve(pool, *both, in_tool_loop=True), "z")
        self.take(pool, "q:n").release(QUOTA)
        self.assertEqual(self.serve(pool, *both, in_tool_loop=True), "a")
        self.clock.advance(2.0)
        self.assertEqual(self.serve(pool, *both), "a")

    def test_count_tokens_binds_nothing(self) -> None:
        """Counting tokens neither follows a session nor binds it."""
        pool = self.pool("ab")
        self.serve(pool)
        self.assertEqual([self.serve(pool, count_tokens=True) for _ in range(3)], ["a", "b", "a"])
        self.assertEqual(pool.gauges()["affinities"], 1)


class CoolingTests(PoolTestCase):
    """What failures cost."""

    def test_model_scope(self) -> None:
        """A quota failure cools one model on one credential."""
        pool = self.pool("ab")
        self.take(pool).release(QUOTA)
        self.assertEqual(self.turns(pool, 3), "bbb")
        self.assertEqual(self.turns(pool, 1, "other"), "a")

    def test_credential_scope(self) -> None:
        """A refused key cools for every model."""
        pool = self.pool("ab")
        self.take(pool).release(AUTH)
        self.assertEqual(self.turns(pool, 2), "bb")
        self.assertEqual(self.turns(pool, 2, "other"), "bb")

    def test_model_on_provider_scope(self) -> None:
        """A model can cool at the provider, whoever's key; other models and providers do not."""
        pool = self.pool("ab", credential("z", "q"))
        self.take(pool, "p:m", "q:m").release(Outcome(Kind.PERMISSION, Scope.MODEL_ON_PROVIDER, base=9.0, ceiling=9.0))
        self.assertEqual(self.turns(pool, 2, "p:m", "q:m"), "zz")
        self.assertEqual(self.turns(pool, 2, "other"), "ab")

    def test_provider_scope(self) -> None:
        """A provider that cannot be used cools with all its models and keys."""
        pool = self.pool("ab", credential("z", "q"))
        self.take(pool, "p:m", "q:m").release(PROXY)
        self.assertEqual(self.turns(pool, 2, "p:x", "q:x"), "zz")

    def test_no_fault_of_its_own(self) -> None:
        """A client's fault, a hang-up and a success cost a credential nothing."""
        pool = self.pool("a")
        for outcome in (CLIENT_FAULT, CANCELLED, OK, Outcome(Kind.STALE), Outcome(Kind.MODEL_FAULT)):
            self.take(pool).release(outcome)
        self.assertEqual(self.turns(pool, 1), "a")
        self.assertEqual(pool.gauges()["cooling"], 0)

    def test_refused_is_told(self) -> None:
        """Once for each credential, until a request with it was served; nothing else that cools it is told."""
        told: list[Any] = []
        transitions = Transitions(lambda: 1.0)
        transitions.subscribe(told.append)
        pool = self.pool("ab", transitions=transitions)
        for outcome in (QUOTA, AUTH, AUTH, OK, AUTH):
            self.take(pool).release(outcome)
            self.take(pool).release(PERMISSION)
            pool.clear(None, None, None)
        self.assertEqual([each.subject for each in told], [{"provider": "p", "credential": "a"}] * 2)
        self.assertEqual(told[0].message, "p refuses the credential a: bad key")
        self.assertIs(told[0].what, Happening.CREDENTIAL_REFUSED)

    def test_refused_is_told_once_by_several(self) -> None:
        """Of pools that share their state, and one that goes on from it, one tells; and again the next time."""
        told: list[str] = []
        pools: dict[str, CredentialPool] = {}
        under_way: list[tuple[str, Mapping[str, object]]] = []

        def pool(named: str) -> CredentialPool:
            transitions = Transitions(lambda: 1.0)
            transitions.subscribe(lambda transition: told.append(named))
            pools[named] = self.pool(
                "a", transitions=transitions, changed=lambda changes: under_way.append((named, changes))
            )
            return pools[named]

        def attempt(each: CredentialPool, outcome: Outcome) -> None:
            """All hear what came of it; an hour later the next may come."""
            self.take(each).release(outcome)
            hear()
            self.clock.advance(3600)

        def hear() -> None:
            for named, changes in under_way:
                for its, other in pools.items():
                    if its != named:
                        other.merge(changes)
            under_way.clear()

        first, second = pool("first"), pool("second")
        for each in (first, second):
            attempt(each, AUTH)
        third = pool("third")
        third.import_state(exported(first))
        attempt(third, AUTH)
        for each in pools.values():  # as an operator has all do at once
            each.clear(None, None, None)
        hear()
        attempt(second, AUTH)
        self.assertEqual(told, ["first"])
        for _ in range(2):
            attempt(second, OK)
        self.assertEqual(exported(second), {})
        attempt(third, AUTH)
        self.assertEqual(told, ["first", "third"])

    def test_doubling(self) -> None:
        """Failures in a row double the cooldown, up to the ceiling."""
        pool = self.pool("a", max_wait=0.0)
        spans = []
        for _ in range(13):
            self.take(pool).release(QUOTA)
            _, ready_in = self.refused(pool.lease(request()))
            assert ready_in is not None
            spans.append(ready_in)
            self.clock.advance(ready_in)
        self.assertEqual(spans[:5], [1.0, 2.0, 4.0, 8.0, 16.0])
        self.assertEqual(spans[-1], 1800.0)

    def test_level_rises_once_a_window(self) -> None:
        """Ten attempts that fail together are one failure, also those that end after the cooldown has."""
        pool = self.pool("a", max_wait=0.0)
        ten = [self.take(pool) for _ in range(10)]
        for lease in ten[:8]:
            lease.release(QUOTA)
        self.assertEqual(self.refused(pool.lease(request())), ("quota", 1.0))
        self.clock.advance(1.5)
        for lease in ten[8:]:
            lease.release(QUOTA)
        self.assertEqual(self.refused(pool.lease(request())), ("quota", 1.0))
        self.clock.advance(1.0)
        self.take(pool).release(QUOTA)
        self.assertEqual(self.refused(pool.lease(request())), ("quota", 2.0))

    def test_extends_and_never_shortens(self) -> None:
        """A later failure makes a running cooldown longer, or leaves it."""
        pool = self.pool("a", max_wait=0.0)
        three = [self.take(pool) for _ in range(3)]
        three[0].release(Outcome(Kind.QUOTA, Scope.MODEL, until_hint=50.0))
        three[1].release(Outcome(Kind.QUOTA, Scope.MODEL, until_hint=10.0))
        self.assertEqual(self.refused(pool.lease(request())), ("quota", 50.0))
        three[2].release(Outcome(Kind.QUOTA, Scope.MODEL, until_hint=70.0))
        self.assertEqual(self.refused(pool.lease(request())), ("quota", 70.0))

    def test_hint_is_capped(self) -> None:
        """No upstream may shut a credential out for longer than max_cooldown."""
        pool = self.pool("a", max_cooldown=600.0)
        self.take(pool).release(Outcome(Kind.QUOTA, Scope.MODEL, until_hint=1_580_000.0))
        self.assertEqual(self.refused(pool.lease(request())), ("quota", 600.0))

    def test_success_clears(self) -> None:
        """After a success the next failure starts from the beginning."""
        pool = self.pool("a", max_wait=0.0)
        for _ in range(3):
            self.take(pool).release(QUOTA)
            self.clock.advance(10.0)
        self.take(pool).release(OK)
        self.take(pool).release(QUOTA)
        self.assertEqual(self.refused(pool.lease(request())), ("quota", 1.0))

    def test_success_elsewhere_clears_nothing(self) -> None:
        """A success on one model does not end a cooldown of the whole credential, nor does an older one end any."""
        pool = self.pool("a", max_wait=0.0)
        old, other, failing = self.take(pool), self.take(pool, "other"), self.take(pool)
        failing.release(Outcome(Kind.QUOTA, Scope.CREDENTIAL, until_hint=60.0))
        other.release(OK)
        old.release(OK)
        self.assertEqual(self.refused(pool.lease(request())), ("quota", 60.0))

    def test_hanging(self) -> None:
        """A key that takes a request and never answers cools for as long as that took, doubling, to four times that."""
        pool = self.pool("ab")
        spans = []
        for _ in range(4):
            leases = [self.take(pool), self.take(pool)]
            self.clock.advance(20.0)
            for lease in leases:
                lease.release(HUNG if name(lease) == "a" else OK)
            began = self.clock.seconds()
            self.assertEqual(self.turns(pool, 2), "bb")
            while self.turns(pool, 2) == "bb":
                self.clock.advance(1.0)
            spans.append(self.clock.seconds() - began)
        self.assertEqual(spans, [20.0, 40.0, 80.0, 80.0])

    def test_hanging_alone(self) -> None:
        """The only key that there is does not cool for that: nobody else could answer."""
        pool = self.pool("a")
        lease = self.take(pool)
        self.clock.advance(20.0)
        lease.release(HUNG)
        self.assertEqual(self.turns(pool, 2), "aa")

    def test_count_tokens_apart(self) -> None:
        """count_tokens has its own cooldowns and no share in max_concurrency."""
        pool = self.pool(credential("a", max_concurrency=1), provider_limits={"p": 1})
        counts = [self.take(pool, count_tokens=True) for _ in range(27)]
        message = self.take(pool)
        for lease in counts:
            lease.release(QUOTA_HOUR)
        message.release(OK)
        self.take(pool).release(OK)
        self.assertEqual(self.refused(pool.lease(request(count_tokens=True))), ("quota", 3600.0))


class WhoseFaultTests(PoolTestCase):
    """A 403, or a 404 about a model, may be the request's own doing."""

    def refuse(self, pool: CredentialPool, outcome: Outcome, *credentials: str, **more: Any) -> LeaseRequest:
        """A request is refused by those credentials, one after the other, and by no others."""
        wish = request(**more)
        for each in credentials:
            lease = self.successResultOf(pool.lease(wish))
            self.assertEqual(name(lease), each)
            wish.tried |= {lease.candidate.credential}
            lease.release(outcome)
        return wish

    def test_two_refuse_alike(self) -> None:
        """The second credential answers the same: it is the request, and nothing cools."""
        pool = self.pool("ab")
        for client in ("x", "y", "z"):
            wish = self.refuse(pool, PERMISSION, *self.turns(pool, 2), client=client)
            self.assertTrue(wish.to_blame)
        self.assertEqual(pool.gauges()["cooling"], 0)

    def test_another_serves(self) -> None:
        """It succeeds elsewhere: whoever refused it cools."""
        pool = self.pool("ab")
        wish = self.refuse(pool, PERMISSION, "a")
        self.successResultOf(pool.lease(wish)).release(OK)
        self.assertEqual(self.turns(pool, 2), "bb")

    def test_served_lately(self) -> None:
        """One that served the model lately cools only when a different request meets the same within a minute."""
        pool = self.pool("ab", affinity=False)
        for _ in range(2):
            self.take(pool).release(OK)

        def meet(**more: Any) -> None:
            wish = self.refuse(pool, PERMISSION, "a", **more)
            self.successResultOf(pool.lease(wish)).release(CANCELLED)

        meet(client="x", session="s")
        meet(client="x", session="s")
        self.assertEqual(pool.gauges()["cooling"], 0)
        self.clock.advance(61.0)
        meet(client="y")
        self.assertEqual(pool.gauges()["cooling"], 0)
        meet(client="z")
        self.assertEqual(self.turns(pool, 2), "bb")

    def test_a_success_between(self) -> None:
        """Somebody else's success clears it of suspicion."""
        pool = self.pool("a")
        self.refuse(pool, PERMISSION, "a", client="x")
        self.take(pool).release(OK)
        self.refuse(pool, PERMISSION, "a", client="y")
        self.assertEqual(pool.gauges()["cooling"], 0)

    def test_alone(self) -> None:
        """The only one cools after the second different request."""
        pool = self.pool("a")
        self.refuse(pool, PERMISSION, "a", client="x")
        self.assertEqual(pool.gauges()["cooling"], 0)
        self.refuse(pool, PERMISSION, "a", client="y")
        self.assertEqual(self.refused(pool.lease(request())), ("permission", 600.0))

    def test_model_that_few_have(self) -> None:
        """Credentials that never served a model are no argument: the third one may have it."""
        pool = self.pool("abc")
        wish = self.refuse(pool, UNAVAILABLE, "a", "b")
        self.assertFalse(wish.to_blame)
        self.successResultOf(pool.lease(wish)).release(OK)
        self.assertEqual(self.turns(pool, 3), "ccc")

    def test_challenge(self) -> None:
        """A wall that refuses one client's request does not shut the provider for the others."""
        pool = self.pool("a", max_wait=0.0)
        challenge = replace(PERMISSION, scope=Scope.PROVIDER, base=10.0)
        for _ in range(3):
            self.refuse(pool, challenge, "a", client="x")
        self.assertEqual(self.turns(pool, 1), "a")
        self.refuse(pool, challenge, "a", client="y")
        self.assertEqual(self.refused(pool.lease(request())), ("permission", 10.0))

    def test_bounded(self) -> None:
        """However many models are made up, few suspicions are kept."""
        pool = self.pool("a")
        for number in range(1500):
            self.take(pool, f"made-up-{number}").release(PERMISSION)
        self.assertEqual(len(pool._messages.suspicions.by_scope), 1000)


class HalfOpenTests(PoolTestCase):
    """How one comes back."""

    def test_one_probe(self) -> None:
        """When a cooldown is over, one probe goes; the others use other credentials."""
        pool = self.pool("ab")
        self.take(pool).release(QUOTA)
        self.clock.advance(1.0)
        self.assertEqual(sorted(names([self.take(pool) for _ in range(4)])), ["a", "b", "b", "b"])

    def test_probe_that_says_nothing(self) -> None:
        """A probe that the client cancelled makes room for another."""
        pool = self.pool("a")
        self.take(pool).release(QUOTA)
        self.clock.advance(1.0)
        probe = self.take(pool)
        waiting = self.wait(pool)
        probe.release(CANCELLED)
        self.successResultOf(waiting)
        self.wait(pool)

    def test_answer_that_takes_long(self) -> None:
        """A probe has succeeded when its answer has begun: nobody waits for minutes until it is over."""
        pool = self.pool("a")
        self.take(pool).release(QUOTA)
        self.clock.advance(1.0)
        probe = self.take(pool)
        waiting = [self.wait(pool) for _ in range(4)]
        probe.probe_succeeded()
        self.assertEqual([deferred.called for deferred in waiting], [True, True, False, False])
        probe.probe_succeeded()
        probe.release(OK)
        self.assertEqual([deferred.called for deferred in waiting], [True, True, False, False])
        self.successResultOf(waiting[0]).probe_succeeded()
        self.assertTrue(waiting[2].called)

    def test_answer_that_breaks_off(self) -> None:
        """A probe that succeeded does not keep an attempt from failing in the end."""
        pool = self.pool("a")
        self.take(pool).release(QUOTA)
        self.clock.advance(1.0)
        probe = self.take(pool)
        probe.probe_succeeded()
        probe.release(QUOTA)
        self.wait(pool)

    def test_ramp(self) -> None:
        """Each round of successes doubles what may be under way, until as many as before go through."""
        pool = self.pool("ab")
        before = [self.take(pool) for _ in range(10)]
        for lease in before:
            lease.release(QUOTA if name(lease) == "a" else OK)
        self.clock.advance(1.0)
        rounds = []
        for _ in range(5):
            leases = [self.take(pool) for _ in range(40)]
            rounds.append(names(leases).count("a"))
            for lease in leases:
                lease.release(OK)
        self.assertEqual(rounds, [1, 2, 4, 8, 16])

    def test_named(self) -> None:
        """Where the upstream named the time, as many go at once as were under way: no probe is needed."""
        pool = self.pool("ab")
        for lease in [self.take(pool) for _ in range(10)]:
            lease.release(QUOTA_HOUR if name(lease) == "a" else OK)
        self.clock.advance(3600.0)
        self.assertEqual(names([self.take(pool) for _ in range(40)]).count("a"), 5)

    def test_ramp_ends(self) -> None:
        """The ramp is over once nobody is held back by it any more."""
        pool = self.pool("a")
        self.take(pool).release(QUOTA)
        self.clock.advance(1.0)
        self.take(pool).release(OK)
        self.take(pool).release(OK)
        self.assertEqual(len([self.take(pool) for _ in range(100)]), 100)

    def test_failed_probe(self) -> None:
        """A probe that fails starts a longer cooldown, and one probe after that."""
        pool = self.pool("ab")
        self.take(pool).release(QUOTA)
        self.clock.advance(1.0)
        probes = [lease for lease in (self.take(pool), self.take(pool)) if name(lease) == "a"]
        probes[0].release(QUOTA)
        self.clock.advance(1.9)
        self.assertEqual(self.turns(pool, 3), "bbb")
        self.clock.advance(0.2)
        self.assertEqual(names([self.take(pool) for _ in range(4)]).count("a"), 1)

    def test_herd(self) -> None:
        """Of 500 that wait for one key, one goes when it is back, then two, then four."""
        pool = self.pool("a")
        self.take(pool).release(QUOTA)
        granted: list[Lease] = []
        for number in range(500):
            self.wait(pool, client=str(number % 10)).addCallback(granted.append)
        self.clock.advance(1.0)
        sizes = []
        while granted and len(sizes) < 6:
            sizes.append(len(granted))
            now, granted[:] = granted[:], []
            for lease in now:
                lease.release(OK)
        self.assertEqual(sizes[:4], [1, 2, 4, 8])
        self.assertLessEqual(max(after / before for before, after in pairwise(sizes)), 2)


class SliceTests(PoolTestCase):
    """What many wait for is handed out for a slice of time in each turn of the reactor."""

    def work(self, _: object) -> None:
        """What whoever waited does at once, which takes a millisecond."""
        self.clock.rightNow += 0.001

    def crowd(self, pool: CredentialPool, *models: str) -> list[Deferred[Lease]]:
        """One lease is out, and so many wait for what it had."""
        self.take(pool, *models)
        waiting = [self.wait(pool, *models, client=str(number % 3)) for number in range(90)]
        for deferred in waiting:
            deferred.addBoth(lambda result: self.work(result) or result)
        return waiting

    def called(self, waiting: list[Deferred[Lease]]) -> int:
        return sum(deferred.called for deferred in waiting)

    def test_grants(self) -> None:
        """Leases come a slice at a time, however many are ready and given back; in order, and nobody overtakes."""
        pool = self.pool(credential("a", max_concurrency=1))
        waiting = self.crowd(pool)
        pool.reload([credential("a")], pool.settings)
        steps = [self.called(waiting)]
        self.successResultOf(waiting[0]).release(OK)
        self.assertEqual(self.called(waiting), steps[0])
        late = pool.lease(request(client="new"))
        while not all(deferred.called for deferred in waiting):
            self.clock.advance(NEXT_TURN)
            steps.append(self.called(waiting))
            self.assertEqual(self.called(waiting[: steps[-1] - 1]), steps[-1] - 1)
        self.assertTrue(late.called)
        self.assertLessEqual(max(after - before for before, after in pairwise([0, *steps])), SLICE / 0.001 + 1)

    def test_lines(self) -> None:
        """The same where all wait for something else."""
        pool = self.pool(credential("a", max_concurrency=1))
        self.take(pool)
        waiting = [self.wait(pool, f"m{number}").addCallback(self.work) for number in range(90)]
        pool.reload([credential("a")], pool.settings)
        self.assertLessEqual(self.called(waiting), SLICE / 0.001 + 1)
        for _ in range(10):
            self.clock.advance(NEXT_TURN)
        self.assertEqual(self.called(waiting), 90)

    def test_refusals(self) -> None:
        """So do refusals: where nothing will come of waiting any more, and where it has taken too long."""
        for outcome, seconds in ((QUOTA_HOUR, 0.0), (None, 30.0)):
            pool = self.pool(credential("a", max_concurrency=1))
            lease = self.take(pool)
            waiting = [self.wait(pool, client=str(number % 3)) for number in range(90)]
            for deferred in waiting:
                deferred.addErrback(self.work)
            if outcome is not None:
                lease.release(outcome)
            self.clock.advance(seconds)
            self.assertLessEqual(self.called(waiting), SLICE / 0.001 + 1)
            for _ in range(10):
                self.clock.advance(NEXT_TURN)
            self.assertEqual(self.called(waiting), 90)


class PassingTests(PoolTestCase):
    """What passes by itself stops nobody; test_gate.py has the rest."""

    def burst(self, pool: CredentialPool, number: int, outcome: Outcome, *models: str) -> None:
        """So many under way at a time fail in that way."""
        leases = [self.take(pool, *models) for _ in range(number)]
        self.clock.advance(0.02)
        for lease in leases:
            lease.release(outcome)

    def down(self, pool: CredentialPool, outcome: Outcome = TRANSIENT, *models: str) -> None:
        """Everything fails until nothing is let through."""
        while (deferred := pool.lease(request(*models))).called:
            self.clock.advance(0.02)
            self.successResultOf(deferred).release(outcome)
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)

    def test_one_failure(self) -> None:
        """A single failure of any such kind holds nobody back."""
        for outcome in (TRANSIENT, OVERLOADED, UNREACHABLE, BROKEN):
            pool = self.pool("a")
            self.burst(pool, 1, outcome)
            self.assertEqual(len([self.take(pool) for _ in range(50)]), 50)
            self.assertEqual(pool.gauges()["cooling"], 0)

    def test_cap(self) -> None:
        """A key that takes ten at once is found by the first refusals: no more go than it carries."""
        pool = self.pool("a")
        out = [self.take(pool) for _ in range(40)]
        tries = len(out)
        while len(out) > 10:
            self.clock.advance(0.02)
            refused, out = out[10:], out[:10]
            for lease in refused:
                lease.release(TRANSIENT)
                pool.lease(request()).addCallbacks(out.append, lambda failure: failure.trap(Exhausted) and None)
            tries += len(out) - 10
        self.assertEqual(pool.gauges()["in_flight"], 10)
        self.assertLess(tries, 40 + 40)

    def test_scopes(self) -> None:
        """An overload is the model's at the provider; what cannot be reached is the provider with all of its models."""
        pool = self.pool("ab", credential("z", "q"))
        self.down(pool, OVERLOADED)
        self.assertEqual(self.turns(pool, 2, "p:m", "q:m"), "zz")
        self.assertEqual(self.turns(pool, 2, "other"), "ab")
        self.down(pool, UNREACHABLE, "other")
        self.assertEqual(self.turns(pool, 2, "p:third", "q:third"), "zz")

    def test_an_ill_key_comes_last(self) -> None:
        """Where much fails with one key and not with the others, it is asked now and then."""
        pool = self.pool("abc")
        for _ in range(30):
            for lease in [self.take(pool) for _ in range(3)]:
                lease.release(TRANSIENT if name(lease) == "a" else OK)
        turns = self.turns(pool, 160)
        self.assertLess(turns.count("a"), 16)

    def test_crowd(self) -> None:
        """When all keys of a model fail there is one probe for all of them, and not one for each."""
        pool = self.pool("abcdefghij")
        self.down(pool)
        self.clock.advance(2.0)
        probes = [pool.lease(request()) for _ in range(20)]
        self.assertEqual(sum(deferred.called for deferred in probes), 1)
        for deferred in probes[1:]:
            deferred.addErrback(lambda failure: failure.trap(Exhausted) and None)

    def test_probe_that_says_nothing(self) -> None:
        """A probe that failed by a fault of our own, or that its client cancelled, does not end an outage."""
        for outcome in (CANCELLED, Outcome(Kind.INTERNAL)):
            pool = self.pool("a")
            self.down(pool)
            self.clock.advance(2.0)
            probe = self.take(pool)
            waiting = [self.wait(pool) for _ in range(4)]
            probe.release(outcome)
            self.assertLessEqual(sum(deferred.called for deferred in waiting), 1)

    def test_session_moves_when_its_key_is_down(self) -> None:
        """A key that is down loses its sessions, one that is merely at its limit keeps them."""
        pool = self.pool("ab", strategy="fill-first")
        self.take(pool, session="s").release(OK)
        while name(lease := self.take(pool, session="s")) == "a":
            self.clock.advance(0.02)
            lease.release(TRANSIENT)
        lease.release(OK)
        self.assertEqual(name(self.take(pool, session="s")), "b")

    def test_refusal_says_why(self) -> None:
        """Who has waited in vain in a scope that is down is told of the last failure there."""
        pool = self.pool("a", max_wait=0.2)
        self.down(pool, OVERLOADED)
        waiting = [pool.lease(request()) for _ in range(2)]
        self.clock.advance(0.15)
        self.successResultOf(waiting[0]).release(OVERLOADED)
        self.clock.advance(0.06)
        self.assertEqual(self.refused(waiting[1])[0], "overloaded")

    def test_retry_after(self) -> None:
        """What is down is not tried before the time that it named, and nobody waits for longer than they may."""
        pool = self.pool("a", max_wait=30.0)
        asked = replace(OVERLOADED, until_hint=20.0)
        self.down(pool, asked)
        waiting = self.wait(pool)
        self.clock.advance(19.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        self.successResultOf(waiting).release(replace(OVERLOADED, until_hint=3000.0))
        reason, ready_in = self.refused(pool.lease(request()))
        self.assertEqual((reason, ready_in), ("overloaded", 3000.0))

    def test_comes_back(self) -> None:
        """Of 500 that wait in a scope that is down all have gone within a second after it is up again."""
        pool = self.pool("a")
        busy = [self.take(pool) for _ in range(500)]
        self.clock.advance(0.02)
        for lease in busy:
            lease.release(TRANSIENT)
        granted: list[Lease] = []
        for number in range(500):
            pool.lease(request(client=str(number % 10))).addCallbacks(granted.append, lambda _: None)
        # What was let go before it was known to be down fails.
        for _ in range(10):
            self.clock.advance(0.02)
            now, granted[:] = granted[:], []
            for lease in now:
                lease.release(TRANSIENT)
        waiting = pool.gauges()["waiting"]
        self.assertGreater(waiting, 300)
        for _ in range(20):
            self.clock.advance(0.05)
        self.assertEqual(len(granted), waiting)

    def test_gone(self) -> None:
        """What goes takes its gates with it: a credential, and a model that is forgotten, though leases are out."""
        pool = self.pool("ab", known_models=lambda model: model == "m")
        by_key = replace(TRANSIENT, scope=Scope.CREDENTIAL)
        for outcome in (by_key, by_key, TRANSIENT, TRANSIENT):
            self.take(pool).release(outcome)
        out = self.take(pool, "made-up-0")
        for number in range(300):
            self.take(pool, f"made-up-{number}").release(TRANSIENT)
        pool.reload([credential("b")], pool.settings)
        out.release(TRANSIENT)
        self.assertEqual(pool.gauges()["gates"], len(list(pool._messages.gates)))
        for _ in range(20):
            self.clock.advance(60.0)
        self.assertEqual(pool.gauges()["gates"], 0)

    def test_forgotten(self) -> None:
        """A gate without a failure for a while is dropped."""
        pool = self.pool("a")
        self.burst(pool, 1, TRANSIENT)
        self.assertEqual(pool.gauges()["gates"], 1)
        for _ in range(3):
            self.clock.advance(30.0)
        self.assertEqual(pool.gauges()["gates"], 0)

    def test_count_tokens_apart(self) -> None:
        """What counting fails with holds no message back."""
        pool = self.pool("a")
        while (deferred := pool.lease(request(count_tokens=True))).called:
            self.clock.advance(0.02)
            self.successResultOf(deferred).release(TRANSIENT)
        deferred.addErrback(lambda failure: failure.trap(Exhausted) and None)
        self.assertEqual(self.turns(pool, 2), "aa")

    def test_quota_of_the_last(self) -> None:
        """Quota and auth shut out the last one too: trying is of no use."""
        pool = self.pool("a", max_wait=0.0)
        self.take(pool).release(QUOTA_HOUR)
        self.assertEqual(self.refused(pool.lease(request())), ("quota", 3600.0))


class WaitingTests(PoolTestCase):
    """Requests that wait."""

    def test_expiry(self) -> None:
        """When all cool, a request waits for the first that is back within max_wait."""
        pool = self.pool("ab")
        self.take(pool).release(QUOTA)
        self.take(pool).release(QUOTA_HOUR)
        waiting = self.wait(pool)
        self.clock.advance(0.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        self.assertEqual(name(self.successResultOf(waiting)), "a")

    def test_too_far_off(self) -> None:
        """When the first is back only after max_wait, a request is told at once how long that is."""
        pool = self.pool("ab", max_wait=30.0)
        self.take(pool).release(AUTH)
        self.take(pool).release(QUOTA_HOUR)
        self.assertEqual(self.refused(pool.lease(request())), ("quota", 1800.0))

    def test_quota_comes_first(self) -> None:
        """Where some are out for a quota, that is what is told, whichever is back first."""
        for outcomes in ((AUTH, QUOTA_HOUR), (QUOTA_HOUR, AUTH)):
            pool = self.pool("ab")
            for outcome in outcomes:
                self.take(pool).release(outcome)
            self.assertEqual(self.refused(pool.lease(request()))[0], "quota")
        pool = self.pool("a", credential("z", "q"))
        self.take(pool).release(AUTH)
        self.take(pool, "q:m").release(QUOTA_HOUR)
        self.assertEqual(self.refused(pool.lease(request("m", "q:m")))[0], "quota")

    def test_busy(self) -> None:
        """A request for a credential at its max_concurrency waits until an attempt ends, or max_wait."""
        pool = self.pool(credential("a", max_concurrency=1))
        first = self.take(pool)
        second, third = self.wait(pool), self.wait(pool)
        first.release(CANCELLED)
        self.successResultOf(second)
        self.clock.advance(30.0)
        self.assertEqual(self.refused(third), ("busy", None))

    def test_provider_limit(self) -> None:
        """A provider's max_concurrency holds over all its credentials and models."""
        pool = self.pool("ab", provider_limits={"p": 2})
        first = self.take(pool)
        self.take(pool, "other")
        waiting = self.wait(pool)
        first.release(OK)
        self.successResultOf(waiting)

    def test_deadline_of_its_own(self) -> None:
        """A request that has less time than max_wait does not wait longer than it has."""
        pool = self.pool(credential("a", max_concurrency=1))
        self.take(pool)
        waiting = self.wait(pool, deadline=self.clock.seconds() + 5.0)
        self.clock.advance(5.0)
        self.assertEqual(self.refused(waiting), ("busy", None))

    def test_may_not_wait(self) -> None:
        """After an early head commit no new wait begins."""
        pool = self.pool("a")
        self.take(pool).release(QUOTA)
        self.assertEqual(self.refused(pool.lease(request(may_wait=False))), ("quota", 1.0))

    def test_queue_full(self) -> None:
        """Beyond the queue's bound a request is refused at once."""
        pool = self.pool("a", queue=2)
        self.take(pool).release(QUOTA)
        self.wait(pool)
        self.wait(pool)
        self.assertEqual(self.refused(pool.lease(request())), ("queue_full", 1.0))

    def test_queue_is_shared(self) -> None:
        """A client that fills the queue keeps nobody out: the others' requests take its slots, up to as many."""
        pool = self.pool("a", queue=6)
        for model in "mn":
            self.take(pool, model).release(QUOTA)
        greedy = [self.wait(pool, model, client="greedy") for model in "mmmnnn"]
        others = [self.wait(pool, client=client) for client in ("x", "y", "x")]
        self.assertEqual(self.refused(pool.lease(request(client="x"))), ("queue_full", 1.0))
        self.assertEqual(self.refused(pool.lease(request(client="greedy"))), ("queue_full", 1.0))
        self.assertEqual(pool.gauges()["waiting"], 6)
        gone = [each for each in greedy if each.called]
        self.assertEqual([self.refused(each) for each in gone], [("queue_full", 1.0)] * 3)
        self.assertFalse(greedy[0].called)
        for each in others:
            self.assertNoResult(each)

    def test_cancel(self) -> None:
        """A client that leaves gives its place up, and nothing is granted to it."""
        pool = self.pool(credential("a", max_concurrency=1), queue=1)
        first = self.take(pool)
        gone = self.wait(pool)
        gone.cancel()
        self.failureResultOf(gone)
        self.assertEqual(pool.gauges()["waiting"], 0)
        waiting = self.wait(pool)
        first.release(OK)
        self.successResultOf(waiting)

    def test_hopeless_later(self) -> None:
        """Nobody waits for a cooldown that would have ended in time and was made longer meanwhile."""
        pool = self.pool("a")
        first, second = self.take(pool), self.take(pool)
        first.release(QUOTA)
        waiting = self.wait(pool)
        second.release(QUOTA_HOUR)
        self.assertEqual(self.refused(waiting), ("quota", 3600.0))

    def test_hopeless(self) -> None:
        """Those who wait are told at once when what they wait for will not be ready in time after all."""
        pool = self.pool(credential("a", max_concurrency=1))
        first = self.take(pool)
        waiting = self.wait(pool)
        first.release(AUTH)
        self.assertEqual(self.refused(waiting), ("auth", 1800.0))

    def test_disabled_under_them(self) -> None:
        """The same when an operator takes the last credential out of service."""
        pool = self.pool(credential("a", max_concurrency=1))
        self.take(pool)
        waiting = self.wait(pool)
        pool.set_enabled("p", "a", False)
        self.assertEqual(self.refused(waiting), ("disabled", None))

    def test_no_overtaking(self) -> None:
        """A new request does not pass those who wait for the same, not even from a callback."""
        pool = self.pool(credential("a", max_concurrency=1))
        first = self.take(pool)
        order: list[str] = []

        def served(lease: Lease, who: str) -> None:
            order.append(who)
            if who == "one":
                pool.lease(request()).addCallback(served, "late")
            lease.release(OK)

        for who in ("one", "two"):
            self.wait(pool).addCallback(served, who)
        first.release(OK)
        self.assertEqual(order, ["one", "two", "late"])

    def test_clients_take_turns(self) -> None:
        """One client with 200 waiting and ten with one each: the ten are served within the first 20."""
        pool = self.pool(credential("a", max_concurrency=1), queue=1000)
        current = self.take(pool)
        order: list[str] = []
        held: list[Lease] = [current]

        def served(lease: Lease, who: str) -> None:
            order.append(who)
            held.append(lease)

        for _ in range(200):
            self.wait(pool, client="swarm").addCallback(served, "swarm")
        for number in range(10):
            model = "m" if number % 2 else "other"
            self.wait(pool, model, client=f"c{number}").addCallback(served, f"c{number}")
        while len(order) < 210:
            held.pop().release(OK)
        self.assertEqual(len(set(order[:20]) - {"swarm"}), 10)

    def test_one_turn_over_all_models(self) -> None:
        """A client that waits for many models has no more turns than one that waits for one."""
        pool = self.pool(credential("a", max_concurrency=1))
        held = [self.take(pool)]
        order: list[str] = []

        def served(lease: Lease, who: str) -> None:
            order.append(who)
            held.append(lease)

        for number in range(20):
            self.wait(pool, f"model-{number % 5}", client="swarm").addCallback(served, "swarm")
        for number in range(5):
            self.wait(pool, f"model-{number}", client="single").addCallback(served, "single")
        while len(order) < 25:
            held.pop().release(OK)
        self.assertEqual(order[:10].count("single"), 5)

    def test_stop(self) -> None:
        """A daemon that stops leaves nobody waiting and no timer behind."""
        pool = self.pool("a")
        self.take(pool).release(QUOTA)
        waiting = pool.lease(request())
        pool.stopService()
        self.assertEqual(self.refused(waiting), ("none", None))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class OperatorTests(PoolTestCase):
    """What operators do and see."""

    def test_clear(self) -> None:
        """Clearing ends the cooldowns that match, forgets their level, and wakes who waits."""
        pool = self.pool("ab", credential("z", "q"))
        for model in ("m", "m", "q:m"):
            self.take(pool, model).release(QUOTA_HOUR)
        self.assertEqual(pool.clear("p", "a", "other"), 0)
        self.assertEqual(pool.clear("p", "a", None), 1)
        self.assertEqual(names([self.take(pool) for _ in range(3)]), "aaa")
        self.assertEqual(pool.clear(None, None, None), 2)
        self.assertEqual(pool.gauges()["cooling"], 0)

    def test_clear_wakes(self) -> None:
        """Who waits for a cooldown that is cleared goes at once."""
        pool = self.pool("a")
        self.take(pool).release(QUOTA)
        waiting = self.wait(pool)
        pool.clear("p", None, None)
        self.successResultOf(waiting)

    def test_ready_in(self) -> None:
        """The pool says when something could serve: now, in so many seconds, or that it does not know."""
        pool = self.pool("ab")
        self.assertEqual(pool.ready_in(request()), 0.0)
        self.take(pool).release(QUOTA)
        self.take(pool).release(AUTH)
        self.assertEqual(pool.ready_in(request()), 1.0)
        self.assertIsNone(pool.ready_in(request("nowhere:m")))

    def outage(self, pool: CredentialPool, *models: str) -> tuple[str, float | None] | None:
        """Why nobody serves these, and for how long."""
        why = pool.outage(request(*models).routes)
        return None if why is None else (why.reason.value, why.ready_in)

    def test_outage(self) -> None:
        """Nobody serves a model where all that might rest, fail or are out of service; not where they are busy."""
        pool = self.pool(credential("a", max_concurrency=1), credential("b", models=("n",)))
        self.assertEqual(self.outage(pool, "nowhere:m"), ("none", None))
        lease = self.take(pool)
        self.assertIsNone(self.outage(pool))
        lease.release(QUOTA_HOUR)
        self.assertEqual(self.outage(pool), ("quota", 3600.0))
        self.assertIsNone(self.outage(pool, "n"))
        self.assertIsNone(self.outage(pool, "m", "n"))
        pool.clear("p", "a", "m")
        self.assertIsNone(self.outage(pool))
        pool.set_enabled("p", "a", False)
        self.assertEqual(self.outage(pool), ("disabled", None))

    def test_outage_of_a_place_that_is_down(self) -> None:
        """A probe that may go is nobody's service; and to ask is no use of a model's name."""
        pool = self.pool("a")
        while self.outage(pool) is None:
            self.take(pool).release(UNREACHABLE)
        reason, ready_in = self.outage(pool) or ("", None)
        self.assertEqual(reason, "transient")
        self.clock.advance(ready_in or 0.0)
        self.assertEqual(self.outage(pool), ("transient", None))
        self.take(pool).release(OK)
        self.assertIsNone(self.outage(pool))
        models = pool.gauges()["models"]
        self.assertIsNone(self.outage(pool, "never-asked-for"))
        self.assertEqual(pool.gauges()["models"], models)

    def test_reload(self) -> None:
        """Who keeps provider and name keeps state; leases that are out stay good; the rest is as the file says."""
        pool = self.pool("ab", credential("z", "q"))
        self.take(pool).release(QUOTA_HOUR)
        out, old = self.take(pool), self.take(pool, "q:m")
        self.assertEqual(name(out), "b")
        pool.set_enabled("p", "b", False)
        pool.reload([credential(one) for one in "cba"], pool.settings)
        self.assertEqual(self.turns(pool, 3), "ccc")
        pool.set_enabled("p", "b", True)
        self.assertEqual(self.turns(pool, 4), "bcbc")
        self.assertEqual(self.turns(pool, 3, "other"), "cba")
        self.assertEqual(self.refused(pool.lease(request("q:m"))), ("none", None))
        out.release(AUTH)
        old.release(AUTH)
        self.assertEqual(self.turns(pool, 2), "cc")
        self.assertEqual(pool.gauges()["in_flight"], 0)
        self.clock.advance(3600.0)
        self.assertEqual(sorted(self.turns(pool, 3)), ["a", "b", "c"])

    def test_reload_wakes_and_dismisses(self) -> None:
        """Who waits is served by a new credential, or told when the last one is gone."""
        pool = self.pool(credential("a", max_concurrency=1))
        self.take(pool)
        one, two = self.wait(pool), self.wait(pool, "x-1")
        pool.reload([credential("b", models=("m",))], pool.settings)
        self.assertEqual(name(self.successResultOf(one)), "b")
        self.assertEqual(self.refused(two), ("none", None))

    def test_log_lines(self) -> None:
        """The log has one line when a cooldown starts, with the upstream's words, and one when it is over."""
        events: list[str] = []

        def observe(event: dict[str, object]) -> None:
            if str(event.get("log_namespace", "")).startswith("claudeproxyd.pool"):
                events.append(str(event["log_format"]).format(**event))  # type: ignore[arg-type]

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        pool = self.pool("ab")
        two = self.take(pool), self.take(pool, "m")
        self.take(pool).release(QUOTA)
        two[0].release(QUOTA)
        self.clock.advance(2.0)
        self.assertEqual(len(events), 2)
        self.assertIn("p/a for m cools for 1.0 s, quota: slow down", events[0])
        self.assertIn("p/a for m", events[1])

    def test_unknown_names(self) -> None:
        """A thousand spellings of a model that nobody knows leave memory and state as they were."""
        saved: list[object] = []
        pool = self.pool("a", known_models=lambda model: model == "m", changed=saved.append)
        unavailable = Outcome(Kind.MODEL_UNAVAILABLE, Scope.MODEL, base=600.0, ceiling=43200.0)
        before = exported(pool)
        for number in range(1000):
            self.take(pool, f"typo-{number}", session="s").release(unavailable)
            self.take(pool, f"typo-{number}x", session="s").release(OK)
        gauges = pool.gauges()
        self.assertLessEqual(gauges["unknown_models"], 256)
        self.assertLessEqual(gauges["deadlines"], 600)
        self.assertLessEqual(gauges["cooling"], 256)
        self.assertEqual((saved, exported(pool)), ([], before))
        self.assertEqual(self.turns(pool, 1), "a")


class ReentryTests(PoolTestCase):
    """Callbacks that call back."""

    def test_deep_queue(self) -> None:
        """A thousand that are served and done at once, one after the other, do not exhaust the stack."""
        pool = self.pool(credential("a", max_concurrency=1), queue=2000)
        first = self.take(pool)
        done = []

        def serve(lease: Lease) -> None:
            lease.release(OK)
            done.append(lease)

        waiting: list[Deferred[Lease]] = [self.wait(pool) for _ in range(1500)]
        for deferred in waiting:
            deferred.addCallback(serve)
        first.release(OK)
        for _ in range(20):
            self.clock.advance(0)
        self.assertEqual(len(done), 1500)
