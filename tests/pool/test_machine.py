"""Thousands of random steps against the pool, each checked by what an onlooker can know.

The onlooker keeps its own books: who was granted what, which failures it reported, and when those must have healed.
Failures that pass are the gates' matter: of those it knows only what always holds, whatever was learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import Pool as Settings
from claudeproxyd.leases import Credential, Exhausted, LeaseRequest
from claudeproxyd.outcomes.types import CANCELLED, OK, Outcome, Scope
from claudeproxyd.pool.cooldown import JITTER_SHARE, MAX_JITTER_SECONDS
from claudeproxyd.pool.lease import AlreadyReleased, Lease
from claudeproxyd.pool.scopes import ScopeGate
from claudeproxyd.pool.service import CredentialPool
from tests.pool.support import (
    AUTH,
    CLIENT_FAULT,
    EPOCH,
    OVERLOADED,
    QUOTA,
    QUOTA_HOUR,
    TRANSIENT,
    UNREACHABLE,
    credential,
    request,
)
from tests.store.support import exported

ALL = {
    "a": credential("a", max_concurrency=2),
    "b": credential("b", max_concurrency=1),
    "c": credential("c", models=("m", "u")),
    "z": credential("z", "q", max_concurrency=1),
}
LIMITS = {"p": 9}
WISHES = [("m",), ("m",), ("m",), ("n",), ("n",), ("u",), ("m", "q:m"), ("q:m", "n"), ("q:n",)]
OUTCOMES = [OK] * 8 + [CANCELLED, CLIENT_FAULT, OVERLOADED, UNREACHABLE] + [QUOTA, QUOTA_HOUR, AUTH, TRANSIENT] * 2
MAX_WAIT = 30.0
AHEAD = EPOCH

#: What a cooldown holds back: provider, credential, model; None for any.
Key = tuple[str, str | None, str | None]


class Grant:
    """A lease as the onlooker sees it."""

    def __init__(self, lease: Lease, wish: LeaseRequest, number: int) -> None:
        self.lease = lease
        self.wish = wish
        self.number = number
        self.credential: Credential = lease.candidate.credential
        self.model: str = lease.candidate.route.model
        self.gone = False
        """Its credential was taken out of the file: one of that name that comes back is another."""

    @property
    def counted(self) -> bool:
        """Whether it counts for its credential's limit."""
        return not (self.gone or self.wish.count_tokens)

    def scopes(self) -> list[Key]:
        """What bears on it."""
        provider, name = self.credential.provider, self.credential.name
        return [
            (provider, None, None),
            (provider, None, self.model),
            (provider, name, None),
            (provider, name, self.model),
        ]


class Waiting:
    """A request that has not been answered yet."""

    def __init__(self, wish: LeaseRequest, deferred: Deferred[Lease], deadline: float) -> None:
        self.wish = wish
        self.deferred = deferred
        self.deadline = deadline


class CooldownRecord:
    """One failure, or several, in one scope."""

    def __init__(self) -> None:
        self.until = 0.0
        """It must not be used before, whatever else happens."""
        self.healed = 0.0
        """By then it may be tried again, whatever its level was."""
        self.began = -1
        """The newest grant at the time."""
        self.probe_succeeded = False
        """A later grant succeeded."""
        self.before = 1
        """How many were under way when it began."""
        self.probes = 1
        """How many may try at once when it is over."""


class PoolMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.out: list[Grant] = []
        self.waiting: list[Waiting] = []
        self.disabled: set[str] = set()
        self.present = list(ALL)
        self.cooldowns: tuple[dict[Key, CooldownRecord], dict[Key, CooldownRecord]] = ({}, {})
        self.affinities: dict[tuple[str, str], str] = {}
        self.number = 0
        self.restart_from = 20
        self.broken: list[Failure] = []
        self.pool: CredentialPool

    def make(self) -> CredentialPool:
        """A pool of those who are present."""
        return CredentialPool(
            self.clock,
            self.settings,
            [ALL[name] for name in self.present],
            jitter=Random(1),
            provider_limits=LIMITS,
            known_models=lambda model: model != "u",
            wall_clock=lambda: self.clock.seconds() + AHEAD,
        )

    @initialize(strategy=st.sampled_from(["round-robin", "weighted", "fill-first", "least-busy"]))
    def start(self, strategy: str) -> None:
        """With any strategy."""
        # Affinities are not forgotten: the books do not know how long one was unused.
        self.settings = Settings(strategy=strategy, max_wait=MAX_WAIT, queue=8, affinity_ttl=1e9)
        self.pool = self.make()

    # -- what the onlooker knows

    def candidates(self, wish: LeaseRequest) -> list[tuple[Credential, str]]:
        """Who could serve, enabled."""
        return [
            (ALL[name], route.model)
            for route in wish.routes
            for name in self.present
            if ALL[name].provider == route.provider
            and name not in self.disabled
            and (name != "c" or route.model in "mu")
        ]

    def under_way(self, name: str) -> int:
        """Attempts that count for the limit of a credential."""
        return sum(grant.counted and grant.credential.name == name for grant in self.out)

    def full(self, one: Credential, wish: LeaseRequest) -> bool:
        """Whether a limit stands in the way."""
        if wish.count_tokens:
            return False
        total = sum(not grant.wish.count_tokens and grant.credential.provider == one.provider for grant in self.out)
        return (0 < one.max_concurrency <= self.under_way(one.name)) or total >= LIMITS.get(one.provider, 100)

    def records(self, one: Credential, model: str, wish: LeaseRequest) -> list[CooldownRecord]:
        """All that is known against a candidate.

        With nothing under way, who succeeded is as good as new, and who has cooled for long enough may be probed.
        """
        provider, now = one.provider, self.clock.seconds()
        keys: list[Key] = [
            (provider, None, None),
            (provider, None, model),
            (provider, one.name, None),
            (provider, one.name, model),
        ]
        cooldowns = self.cooldowns[wish.count_tokens]
        return [
            cooldowns[key]
            for key in keys
            if key in cooldowns
            and not (
                (cooldowns[key].probe_succeeded or cooldowns[key].healed < now)
                and not any(
                    key in grant.scopes() and grant.wish.count_tokens == wish.count_tokens for grant in self.out
                )
            )
        ]

    def surely_ready(self, wish: LeaseRequest) -> list[tuple[Credential, str]]:
        """Candidates against whom nothing at all is known."""
        return [
            (one, model)
            for one, model in self.candidates(wish)
            if not self.full(one, wish) and not self.records(one, model, wish) and not self.held(one, model, wish)
        ]

    def gates(self, one: Credential, model: str, count_tokens: bool) -> list[ScopeGate]:
        """Those that bear on a candidate."""
        candidates = self.pool._counts if count_tokens else self.pool._messages
        names = (one.provider, one.name, model)
        return [
            gate
            for gate in candidates.gates
            if all(its in (None, name) for its, name in zip(gate.scope.names, names, strict=True))
        ]

    def held(self, one: Credential, model: str, wish: LeaseRequest) -> bool:
        """Whether a gate holds it back."""
        now = self.clock.seconds()
        gates = self.gates(one, model, wish.count_tokens)
        return any(not gate.open or gate.wait(wish.size, now) for gate in gates)

    # -- what happens

    @rule(
        models=st.sampled_from(WISHES),
        client=st.sampled_from("xyz"),
        session=st.sampled_from(["", "s"]),
        count_tokens=st.sampled_from([False] * 6 + [True]),
        in_tool_loop=st.booleans(),
        may_wait=st.sampled_from([True, True, False]),
        number=st.integers(1, 6),
    )
    def request(self, models: tuple[str, ...], number: int, **more: Any) -> None:
        """Somebody wants leases."""
        for _ in range(number):
            self.one_request(request(*models, **more))

    def one_request(self, wish: LeaseRequest) -> None:
        """And what must come of it at once."""
        ready = self.surely_ready(wish)
        target = self.affinities.get((wish.session, wish.routes[0].model)) if not wish.count_tokens else None
        stays = any(one.name == target and one.provider == wish.routes[0].provider for one, _ in ready)
        newest = self.number
        deferred = self.pool.lease(wish)
        self.watch(Waiting(wish, deferred, self.clock.seconds() + MAX_WAIT))
        if ready:
            assert self.number == newest + 1, f"{ready} ready, and no lease"
            if stays and len(wish.routes) == 1:
                assert self.out[-1].credential.name == target, f"{target} preferred, not {self.out[-1].credential}"

    def watch(self, waiting: Waiting) -> None:
        """Note whatever comes of it, when it comes."""
        self.waiting.append(waiting)

        def granted(lease: Lease) -> None:
            self.waiting.remove(waiting)
            self.grant(lease, waiting.wish)

        def refused(failure: Failure) -> None:
            self.waiting.remove(waiting)
            if failure.trap(Exhausted, CancelledError) is Exhausted:
                assert failure.value.ready_in is None or failure.value.ready_in > 0

        waiting.deferred.addCallbacks(granted, refused)
        waiting.deferred.addErrback(self.broken.append)

    def grant(self, lease: Lease, wish: LeaseRequest) -> None:
        """A lease was granted: it must be a good one."""
        self.number += 1
        grant = Grant(lease, wish, self.number)
        assert (grant.credential, grant.model) in self.candidates(wish), f"{grant.credential} cannot serve {wish}"
        assert not self.full(grant.credential, wish), f"{grant.credential} is full"
        cooldowns = self.cooldowns[wish.count_tokens]
        for key in grant.scopes():
            record = cooldowns.get(key)
            if record is None:
                continue
            assert self.clock.seconds() >= record.until - 1e-6, f"{key} cools until {record.until}"
            if not record.probe_succeeded:
                others = [
                    other
                    for other in self.out
                    if key in other.scopes()
                    and other.number > record.began
                    and other.wish.count_tokens == wish.count_tokens
                ]
                assert len(others) < record.probes, f"a second probe of {key}"
        self.out.append(grant)
        for gate in self.gates(grant.credential, grant.model, wish.count_tokens):
            assert gate.in_flight <= gate.limit, f"{gate.scope} carries {gate.limit}"

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 20), outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=5))
    def release(self, which: int, outcomes: list[Outcome]) -> None:
        """Some attempts end, each in its own way."""
        for outcome in outcomes[: len(self.out)]:
            self.one_release(self.out.pop(which % len(self.out)), outcome)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 20))
    def probe_succeeded(self, which: int) -> None:
        """An answer begins, and may take for ever."""
        grant = self.out[which % len(self.out)]
        self.note_proof(grant)
        grant.lease.probe_succeeded()

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 20), outcomes=st.permutations([QUOTA_HOUR, QUOTA, TRANSIENT]))
    def fail_together(self, which: int, outcomes: list[Outcome]) -> None:
        """Attempts at one candidate fail one after another, for longer and for shorter."""
        scopes = self.out[which % len(self.out)].scopes()
        for grant, outcome in zip([each for each in self.out if each.scopes() == scopes], outcomes, strict=False):
            self.out.remove(grant)
            self.one_release(grant, outcome)

    @rule(models=st.sampled_from(WISHES), outcome=st.sampled_from([CANCELLED, CLIENT_FAULT]))
    def try_again(self, models: tuple[str, ...], outcome: Outcome) -> None:
        """Everything stands still, and much later one is tried after the other; none of them teaches anything."""
        while self.out:
            self.one_release(self.out.pop(), outcome)
        self.advance(4000.0)
        for _ in range(3):
            self.one_request(request(*models))
            if self.out:
                self.one_release(self.out.pop(), outcome)

    def one_release(self, grant: Grant, outcome: Outcome) -> None:
        """And can end only once."""
        # The books come first: the release may grant to those who wait.
        self.learn(grant, outcome)
        grant.lease.release(outcome)
        try:
            grant.lease.release(OK)
        except AlreadyReleased:
            return
        raise AssertionError("released twice")

    def note_proof(self, grant: Grant) -> None:
        """Whatever was known against it and is over counts no more."""
        for key in grant.scopes():
            record = self.cooldowns[grant.wish.count_tokens].get(key)
            if record is not None and grant.number > record.began and self.clock.seconds() >= record.until:
                record.probe_succeeded = True

    def learn(self, grant: Grant, outcome: Outcome) -> None:
        """Note what the outcome must mean."""
        cooldowns = self.cooldowns[grant.wish.count_tokens]
        if outcome is OK:
            self.note_proof(grant)
            if grant.counted and grant.wish.session:
                self.note_affinity(grant)
            return
        if outcome.scope is Scope.NONE or outcome.passing or grant.gone:
            return
        provider, name = grant.credential.provider, grant.credential.name
        key: Key = (
            provider,
            name if outcome.scope in (Scope.MODEL, Scope.CREDENTIAL) else None,
            grant.model if outcome.scope in (Scope.MODEL, Scope.MODEL_ON_PROVIDER) else None,
        )
        record = cooldowns.setdefault(key, CooldownRecord())
        if grant.number > record.began:
            record.began = self.number
            record.probe_succeeded = False
        # As many as were under way may try where the upstream named the time. This one was, and is no more.
        at_once = 1 + sum(
            other.credential.provider == provider
            and key[1] in (None, other.credential.name)
            and other.wish.count_tokens == grant.wish.count_tokens
            for other in self.out
        )
        record.before = max(record.before, at_once)
        if outcome.until_hint is not None:
            record.probes = record.before
        now = self.clock.seconds()
        longest = outcome.until_hint or outcome.ceiling
        record.healed = max(record.healed, now + longest + min(longest * JITTER_SHARE, MAX_JITTER_SECONDS))
        record.until = max(record.until, now + (outcome.until_hint or outcome.base))

    def note_affinity(self, grant: Grant) -> None:
        """A session was served: its affinity is there, unless the request was an overflow."""
        key = (grant.wish.session, grant.model)
        if key not in self.affinities or self.affinities[key] == grant.credential.name:
            self.affinities[key] = grant.credential.name
        else:
            # It moved, or overflowed while its target was busy: the books cannot know.
            del self.affinities[key]
            self.affinities[key] = "?"

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 2.5, 10.0, 29.0, 100.0, 1900.0]))
    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.clock.pump([seconds / 4] * 4)

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 7))
    def leave(self, which: int) -> None:
        """A client that waits goes away."""
        self.waiting[which % len(self.waiting)].deferred.cancel()

    @rule(name=st.sampled_from("abcz"), enabled=st.booleans())
    def switch(self, name: str, enabled: bool) -> None:
        """An operator takes a credential out, or back."""
        if enabled:
            self.disabled.discard(name)
        else:
            self.disabled.add(name)
        known = self.pool.set_enabled(ALL[name].provider, name, enabled)
        assert known == (name in self.present)
        if not known:
            self.disabled.discard(name)

    @rule(
        provider=st.sampled_from([None, "p", "q"]),
        name=st.sampled_from([None, None, "a", "b"]),
        model=st.sampled_from([None, None, "m"]),
    )
    def clear(self, provider: str | None, name: str | None, model: str | None) -> None:
        """An operator clears cooldowns."""
        for cooldowns in self.cooldowns:
            for key in list(cooldowns):
                if provider in (None, key[0]) and name in (None, key[1]) and model in (None, key[2]):
                    del cooldowns[key]
        self.pool.clear(provider, name, model)

    @rule(order=st.permutations(list(ALL)), number=st.integers(2, 4))
    def reload(self, order: list[str], number: int) -> None:
        """Another configuration; ``a`` and ``z`` are in every one, so that no provider goes."""
        kept = [name for name in order if name in "az" or order.index(name) < number]
        gone = set(self.present) - set(kept)
        self.present = kept
        self.disabled -= gone
        for cooldowns in self.cooldowns:
            for key in [key for key in cooldowns if key[1] in gone]:
                del cooldowns[key]
        for target in [target for target, name in self.affinities.items() if name in gone]:
            self.affinities[target] = "?"
        for grant in self.out:
            if grant.credential.name in gone:
                grant.gone = True
        self.pool.reload([ALL[name] for name in kept], self.settings)

    @precondition(lambda self: self.number >= self.restart_from)
    @rule()
    def restart(self) -> None:
        """The daemon is restarted, with the state that it saved; not before there is something to remember."""
        self.restart_from = self.number + 20
        saved = exported(self.pool)
        self.pool.stopService()
        assert not self.waiting
        self.out = []
        for cooldowns in self.cooldowns:
            for key in [key for key in cooldowns if key[2] == "u"]:
                del cooldowns[key]
            for record in cooldowns.values():
                record.began = self.number
        self.affinities = {key: name for key, name in self.affinities.items() if key[1] != "u"}
        self.pool = self.make()
        self.pool.import_state(saved)

    # -- what always holds

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """Who waits has time left, and somebody to wait for; and what is ready has no queue."""
        now = self.clock.seconds()
        for waiting in self.waiting:
            assert waiting.deadline > now, "it waits past its deadline"
            assert not self.surely_ready(waiting.wish), "it waits, and something is ready"
            hopes = [
                one
                for one, model in self.candidates(waiting.wish)
                if all(record.until <= waiting.deadline for record in self.records(one, model, waiting.wish))
            ]
            assert hopes, "it waits for what will not come"

    @invariant()
    def books_agree(self) -> None:
        """What the pool says of itself is what was seen."""
        if not hasattr(self, "pool"):
            return
        assert not self.broken, self.broken[0].getTraceback()
        gauges = self.pool.gauges()
        assert gauges["in_flight"] == len(self.out)
        assert gauges["waiting"] == len(self.waiting) <= 8
        for entry in self.pool.snapshot():
            name = entry["credential"]
            assert entry["in_flight"] == self.under_way(name)
            assert (entry["state"] == "disabled") == (name in self.disabled)
            self.cools_as_long_as_it_must(name, entry["cooldowns"], self.cooldowns[False])
            self.cools_as_long_as_it_must(name, entry["count_tokens"]["cooldowns"], self.cooldowns[True])

    def cools_as_long_as_it_must(
        self, name: str, shown: Sequence[Mapping[str, Any]], records: Mapping[Key, CooldownRecord]
    ) -> None:
        """No later failure shortens what an earlier one began."""
        remaining = {(each["scope"], each["model"]): each["remaining"] for each in shown}
        for (_, whose, model), record in records.items():
            left = record.until - self.clock.seconds()
            if whose == name and left > 0.01:
                scope = Scope.CREDENTIAL if model is None else Scope.MODEL
                assert remaining.get((scope.value, model), 0.0) > left - 0.01, f"{name} cools for {left}: {remaining}"

    @invariant()
    def gates_agree(self) -> None:
        """A gate knows what is under way in its scope, and lets something through sooner or later."""
        if not hasattr(self, "pool"):
            return
        for candidates, count_tokens in ((self.pool._messages, False), (self.pool._counts, True)):
            for gate in candidates.gates:
                provider, credential, model = gate.scope.names
                out = [
                    grant
                    for grant in self.out
                    if not grant.gone
                    and grant.wish.count_tokens == count_tokens
                    and grant.credential.provider == provider
                    and credential in (None, grant.credential.name)
                    and model in (None, grant.model)
                ]
                assert gate.in_flight >= len(out), f"{gate.scope}: {gate.in_flight} are not {len(out)}"
                assert gate.open or gate.in_flight or gate.due < 1e12, f"{gate.scope} is shut for good"

    @rule(models=st.sampled_from(WISHES))
    def all_is_well(self, models: tuple[str, ...]) -> None:
        """A minute of nothing but successes, and no gate holds anything back."""
        while self.out:
            self.one_release(self.out.pop(), OK)
        for _ in range(240):
            self.one_request(request(*models, may_wait=False))
            self.clock.advance(0.25)
            while self.out:
                self.one_release(self.out.pop(), OK)
        for route in request(*models).routes:
            for gate in self.pool._messages.gates:
                provider, _, model = gate.scope.names
                if provider == route.provider and model in (None, route.model):
                    assert gate.open, f"{gate.scope} is {gate.condition}"

    @invariant()
    def no_timer_is_left(self) -> None:
        """One alarm at most."""
        assert len(self.clock.getDelayedCalls()) <= 1

    def teardown(self) -> None:
        """Everything can be given back."""
        if hasattr(self, "pool"):
            for grant in self.out:
                grant.lease.release(OK)
            self.out = []
            self.pool.stopService()
            assert self.pool.gauges()["waiting"] == 0


class MachineTests(SynchronousTestCase):
    """The machine, run."""

    def test_random_steps(self) -> None:
        """Whatever requests, outcomes, operators, reloads and restarts come in whatever order, the rules hold."""
        run_state_machine_as_test(  # type: ignore[no-untyped-call]  # hypothesis does not annotate it
            PoolMachine,
            settings=settings(
                max_examples=160,
                stateful_step_count=60,
                deadline=None,
                database=None,
                # Shrinking a run of this length takes minutes; the steps are printed as they are.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
