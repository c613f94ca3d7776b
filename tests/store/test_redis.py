"""State that several daemons share."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from twisted.internet.task import Clock
from zope.interface.verify import verifyClass

from claudeproxyd.config.schema import Pool as Settings
from claudeproxyd.config.state import InRedis
from claudeproxyd.interfaces import IStateStore
from claudeproxyd.outcomes.types import OK, Kind, Outcome, Scope
from claudeproxyd.pool.service import CredentialPool
from claudeproxyd.store.changes import StateChanges
from claudeproxyd.store.persistent import PersistentState
from claudeproxyd.store.service import StateService
from claudeproxyd.translate.signatures import Signatures
from tests.pool.support import NoJitter, credential, request
from tests.store.support import COOLING, GRANT, HOME, NOW, A, B, StoreTestCase, affinity, cooldown, exported, grant

if find_spec("hiredis") is not None:
    from claudeproxyd.store import redis
    from claudeproxyd.store.redis import BATCH_KEYS, RedisStore
    from tests.store.fake_redis import Endpoint, FakeRedis

    skip = None
else:
    skip = "hiredis is not installed"

PREFIX = b"claudeproxyd:"
QUOTA = Outcome(Kind.QUOTA, Scope.CREDENTIAL, base=60.0, ceiling=60.0, reason="slow down")


class Host:
    """One daemon's store, and what it learned."""

    def __init__(self, redis: FakeRedis, clock: Clock, ahead: float = 0.0, **place: Any) -> None:
        self.learned: dict[str, Any] = {}
        self.all: dict[str, Any] = {}
        self.store = RedisStore(
            clock,
            Endpoint(redis, clock),
            InRedis("redis.example", **place),
            self.learned.update,
            lambda: iter([self.all]),
            lambda: NOW + clock.seconds() + ahead,
        )

    def save(self, changes: Mapping[str, Any]) -> None:
        """As the pool would."""
        self.all.update(changes)
        self.all = {key: value for key, value in self.all.items() if value is not None}
        self.store.save(changes)


class RedisTestCase(StoreTestCase):
    """A Redis in memory, and time that the test moves."""

    def setUp(self) -> None:
        """An empty one."""
        super().setUp()
        self.clock = Clock()
        self.redis = FakeRedis()

    def host(self, load: bool = True, **options: Any) -> Host:
        """A daemon, connected."""
        host = Host(self.redis, self.clock, **options)
        if load:
            host.loaded = host.store.load()  # type: ignore[attr-defined]
            self.turn()
        self.addCleanup(self.close, host)
        return host

    def close(self, host: Host) -> None:
        """And nothing is left."""
        host.store.close()
        self.turn()

    def turn(self, seconds: float = 0.0) -> None:
        """Let so much time pass, and everything that is on its way arrive."""
        for _ in range(max(1, round(seconds * 10))):
            self.clock.advance(min(seconds, 0.1))
            for _ in range(8):
                self.clock.advance(0)


class SharingTests(RedisTestCase):
    """What one says, the others know."""

    def test_interface(self) -> None:
        """It is a store like the others."""
        verifyClass(IStateStore, RedisStore)

    def test_pushed(self) -> None:
        """A change reaches the others within a second, and nobody asks for it: it is pushed."""
        one, other, third = self.host(), self.host(), self.host()
        before = len(self.redis.commands)
        changes = {COOLING: cooldown(60), HOME: affinity(0), A: True}
        one.save(changes)
        self.turn(0.2)
        self.assertEqual([other.learned, third.learned], [changes, changes])
        self.assertEqual(one.learned, {})
        self.assertEqual({command[0] for command in self.redis.commands[before:]}, {b"SET", b"PUBLISH"})

    def test_much(self) -> None:
        """Of much there is one batch on its way at a time: no more is taken back at once when the link is lost."""
        one, other = self.host(), self.host()
        changes = {f'["affinity","{number}","m"]': affinity(0) for number in range(3 * BATCH_KEYS)}
        before = len(self.redis.commands)
        self.redis.silent = True
        one.save(changes)
        self.turn(2.0)
        self.assertEqual([command[0] for command in self.redis.commands[before:]].count(b"SET"), BATCH_KEYS)
        self.redis.silent = False
        self.redis.die()
        self.redis.there = True
        self.turn(2.0)
        self.assertEqual(other.learned, changes)

    def test_memory(self) -> None:
        """The times of changes are remembered for so many keys and no more, the latest."""
        self.patch(redis, "MAX_REMEMBERED_KEYS", 2)
        one, other = self.host(), self.host()
        for key in (COOLING, A, B):
            one.save({key: True})
            self.turn(0.2)
        self.assertEqual(list(other.store._last), [A, B])

    def test_at_once(self) -> None:
        """A refresh token that takes the place of one that is spent waits for no fellows."""
        one, other = self.host(), self.host()
        one.save({A: True})
        one.save({GRANT: grant(60)})
        self.turn()
        self.assertEqual(other.learned, {A: True, GRANT: grant(60)})

    def test_kept(self) -> None:
        """Who starts later finds it."""
        one = self.host()
        one.save({COOLING: cooldown(60), A: True, B: True})
        self.turn(0.2)
        one.save({B: None})
        self.turn(0.2)
        late = self.host()
        self.assertEqual(self.successResultOf(late.loaded), {})
        self.assertEqual(late.learned, {COOLING: cooldown(60), A: True, B: None})

    def test_every_key_ends(self) -> None:
        """Each key bears the prefix and a time to live: a day beyond its use."""
        one = self.host(prefix="farm*[1]:")
        one.save({COOLING: cooldown(60), HOME: affinity(0), A: True, B: None})
        self.turn(0.2)
        self.assertEqual(set(self.redis.data), set(self.redis.lives))
        lives = {key.removeprefix(b"farm*[1]:").decode(): life // 100_000 for key, life in self.redis.lives.items()}
        self.assertEqual(lives, {COOLING: 864, HOME: 863, A: 315_360, B: 864})

    def test_farms_apart(self) -> None:
        """Two farms on one Redis hear nothing of each other; nor do two databases of it."""
        one = self.host()
        others = [self.host(prefix="other:"), self.host(database=1)]
        one.save({A: True})
        self.turn(0.2)
        self.assertEqual([other.learned for other in others], [{}, {}])

    def test_batches(self) -> None:
        """Many changes at once come in messages of a bounded size, and all arrive."""
        one, other = self.host(), self.host()
        changes = {f'["disabled","p","{number}"]': True for number in range(BATCH_KEYS * 2 + 1)}
        one.save(changes)
        self.turn(0.5)
        self.assertEqual(other.learned, changes)
        self.assertEqual([command[0] for command in self.redis.commands].count(b"PUBLISH"), 3)

    def test_later_word_holds(self) -> None:
        """An end that was said before a disabling or a cooldown began does not undo it, whatever arrives when."""
        one, other = self.host(), self.host(ahead=-1.0)
        one.save({A: True, COOLING: cooldown(60)})
        self.turn(0.2)
        one.learned.clear()
        other.save({A: None, COOLING: None})
        self.turn(0.2)
        self.assertEqual(one.learned, {})

    def test_later_end_holds(self) -> None:
        """A cooldown that was said earlier is handed on all the same: the pool takes the one that ends later."""
        one, behind = self.host(), self.host(ahead=-5.0)
        one.save({COOLING: cooldown(1)})
        self.turn(0.2)
        behind.save({COOLING: cooldown(600)})
        self.turn(0.2)
        self.assertEqual(one.learned, {COOLING: cooldown(600)})

    def test_both_at_once(self) -> None:
        """When one disables and another enables at nearly the same time, both come to what was said last."""
        one, other = self.host(), self.host()
        one.save({A: True})
        self.turn(0.05)
        other.save({A: None})
        self.turn(0.3)
        self.assertEqual((one.learned, other.learned), ({A: None}, {}))

    def test_clock_ahead(self) -> None:
        """A daemon whose clock is an hour ahead does not have the last word for an hour."""
        fast, one, other = self.host(ahead=3600.0), self.host(), self.host()
        fast.save({A: True})
        self.turn(0.3)
        one.save({A: None})
        self.turn(0.3)
        self.assertEqual(other.learned, {A: None})

    def test_forgetting_is_not_said(self) -> None:
        """That one daemon has no more room for a session does not cost the others its affinity."""
        one, other = self.host(), self.host()
        one.save({HOME: affinity(0)})
        self.turn(0.2)
        one.save({HOME: None})
        self.turn(0.2)
        self.assertEqual(other.learned, {HOME: affinity(0)})
        self.assertEqual(len(self.redis.data), 1)

    def test_secrets_stay(self) -> None:
        """What goes to Redis is the pool's state and the daemon's name for itself, and no password but its own."""
        one = self.host(password="hunter2-hunter2", user="someone")
        self.assertEqual(self.redis.commands[0][:5], [b"HELLO", b"3", b"AUTH", b"someone", b"hunter2-hunter2"])
        one.save({A: True})
        self.turn(0.2)
        self.assertNotIn("hunter2", repr([self.redis.data, self.redis.commands[1:], one.store._place]))

    def test_nonsense(self) -> None:
        """What others write under the prefix, or publish, harms nothing."""
        self.redis.data |= {PREFIX + b"[": b"{}", PREFIX + b'["x"]': b'["a"]', PREFIX + b"[\xff": b"[0,1]"}
        self.redis.data[PREFIX + COOLING.encode()] = b'[0,{"until":"soon"}]'
        one, other = self.host(), self.host()
        for message in (b"", b"\xff", b'["x",{"a":1}]', b'["x",{"[":[1e999,{}]}]', b'["x",{"[":[0]}]'):
            self.redis.publish(b"claudeproxyd:0:changes", message)
        self.turn()
        one.save({A: True})
        self.turn(0.2)
        self.assertEqual(other.learned[A], True)


class OutageTests(RedisTestCase):
    """Redis is gone, or of no use."""

    def test_comes_back_empty(self) -> None:
        """What Redis forgot it is told again, and what changed meanwhile reaches the others."""
        one, other = self.host(), self.host()
        one.save({A: True})
        self.turn(0.2)
        other.all[A] = True
        self.redis.die()
        self.assertEqual(len(self.warnings), 2)
        other.save({B: True})
        self.turn(60.0)
        self.redis.there = True
        self.turn(15.0)
        self.assertEqual({key.removeprefix(PREFIX).decode() for key in self.redis.data}, {A, B})
        self.assertEqual(one.learned[B], True)
        self.assertEqual(len(self.warnings), 2)

    def test_backs_off(self) -> None:
        """A Redis that is gone is tried ever more slowly, and with one warning."""
        self.redis.there = False
        self.host()
        self.turn(120.0)
        self.assertTrue(8 < self.redis.asked < 30, self.redis.asked)

    def test_hears_of_ends(self) -> None:
        """Who was away when a credential was enabled again does not disable it for the others."""
        one, other = self.host(), self.host()
        one.save({A: True})
        self.turn(0.2)
        other.all[A] = True
        self.redis.connections[1].end(OSError())
        self.redis.there = False
        one.save({A: None})
        self.turn(0.2)
        self.redis.there = True
        one.learned.clear()
        self.turn(15.0)
        self.assertIsNone(other.learned[A])

    def test_knows_better(self) -> None:
        """Who disabled a credential while it was away does not hear that it had been enabled before."""
        one, other = self.host(), self.host()
        self.redis.connections[1].end(OSError())
        self.redis.there = False
        one.save({A: None})
        self.turn(0.3)
        other.save({A: True})
        self.redis.there = True
        self.turn(15.0)
        self.assertEqual((one.learned, other.learned), ({A: True}, {}))

    def test_repeats_nothing(self) -> None:
        """A link that comes back is no reason to tell again what Redis still has."""
        one = self.host()
        one.save({COOLING: cooldown(60), HOME: affinity(0), A: True})
        self.turn(0.2)
        before = len(self.redis.commands)
        self.redis.connections[0].end(OSError())
        self.turn(15.0)
        names = {command[0] for command in self.redis.commands[before:]}
        self.assertEqual(names, {b"HELLO", b"SUBSCRIBE", b"SCAN", b"MGET", b"PING"})

    def test_what_was_on_its_way(self) -> None:
        """A change that was sent and not confirmed when the link was cut is sent again."""
        one = self.host()
        self.redis.silent = True
        one.save({A: None})
        self.turn(0.2)
        self.redis.silent = False
        self.redis.die()
        self.redis.there = True
        self.turn(15.0)
        self.assertEqual(len(self.redis.data), 1)

    def test_link_that_is_dead(self) -> None:
        """A Redis that answers nothing any more is given up within twenty seconds, and connected to anew."""
        one = self.host()
        (dead,) = self.redis.connections
        self.redis.silent = True
        self.turn(25.0)
        self.redis.silent = False
        self.turn(15.0)
        self.assertTrue(dead.lost)
        one.save({A: True})
        self.turn(0.2)
        self.assertEqual(len(self.redis.data), 1)

    def test_link_that_lives(self) -> None:
        """A Redis that answers keeps its connection, hour after hour."""
        self.host()
        (connection,) = self.redis.connections
        self.turn(120.0)
        self.assertFalse(connection.lost)
        self.assertEqual(self.redis.connections, [connection])

    def test_refuses(self) -> None:
        """A wrong password, an old Redis, a channel that may not be subscribed to: one warning that says so."""
        for command, words in ((b"HELLO", b"WRONGPASS invalid"), (b"SUBSCRIBE", b"NOPERM no"), (b"SCAN", b"LOADING")):
            self.warnings.clear()
            self.redis.errors = {command: words}
            host = self.host()
            self.turn(30.0)
            self.assertEqual(len(self.warnings), 1)
            self.assertIn(words.decode(), self.warnings[0])
            self.close(host)
            self.assertEqual(self.redis.connections, [])

    def test_takes_no_writes(self) -> None:
        """A Redis that is full, or a replica, is told of once; what is published still arrives."""
        one, other = self.host(), self.host()
        self.redis.errors = {b"SET": b"OOM command not allowed"}
        for number in range(5):
            one.save({f'["disabled","p","{number}"]': True})
            self.turn(0.2)
        self.assertEqual(len(self.warnings), 1)
        self.assertEqual(len(other.learned), 5)

    def test_speaks_something_else(self) -> None:
        """What is no Redis is left again."""
        self.host()
        (connection,) = self.redis.connections
        connection.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.turn()
        self.assertTrue(connection.lost)

    def test_close(self) -> None:
        """A stop sends what waits, and leaves neither a connection nor a timer."""
        one = self.host()
        one.save({A: True})
        self.successResultOf(self.closed(one))
        self.assertEqual(len(self.redis.data), 1)
        self.assertEqual((self.redis.connections, self.clock.getDelayedCalls(), self.warnings), ([], [], []))

    def test_close_without_redis(self) -> None:
        """Nor does it where Redis never was."""
        self.redis.there = False
        host = self.host()
        self.turn(3.0)
        self.successResultOf(self.closed(host))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def closed(self, host: Host) -> Any:
        """Close it, and let the connection end."""
        closed = host.store.close()
        self.turn()
        return closed


class DaemonsTests(RedisTestCase):
    """Pools that share."""

    def daemon(self) -> CredentialPool:
        """One's pool."""
        return self.both()[0]

    def both(self, **bounds: int) -> tuple[CredentialPool, Signatures]:
        """A daemon's pool and signatures, with their store."""
        changes = StateChanges()
        signatures = Signatures(lambda: NOW + self.clock.seconds(), changed=changes, **bounds)
        pool = CredentialPool(
            self.clock,
            Settings(),
            [credential("a"), credential("b")],
            jitter=NoJitter(),
            wall_clock=lambda: NOW + self.clock.seconds(),
            changed=changes,
        )
        parts = {"cooldown": pool, "affinity": pool, "disabled": pool, "signature": signatures}
        kept = PersistentState(parts, changes)
        store = RedisStore(
            self.clock,
            Endpoint(self.redis, self.clock),
            InRedis("redis.example"),
            kept.merge,
            kept.export_state,
            lambda: NOW + self.clock.seconds(),
        )
        service = StateService(self.clock, kept, changes, store)
        service.startService()
        self.addCleanup(self.turn)
        self.addCleanup(service.stopService)
        self.addCleanup(pool.stopService)
        self.turn()
        return pool, signatures

    def use(self, pool: CredentialPool, session: str = "") -> Any:
        """A lease."""
        return self.successResultOf(pool.lease(request(session=session)))

    def test_quota(self) -> None:
        """A 429 that one of them was given spares the other one the same, and its success frees both."""
        one, other = self.daemon(), self.daemon()
        self.use(one).release(QUOTA)
        self.turn(0.2)
        self.assertEqual([self.use(other).candidate.credential.name for _ in range(3)], ["b"] * 3)
        self.assertEqual(exported(one), exported(other))
        one.clear(None, None, None)
        self.turn(0.2)
        self.assertEqual(exported(other), {})

    def test_signatures(self) -> None:
        """A signature that one of them keeps the others recall, and whoever comes later; no pool is disturbed."""
        (pool, one), (_, other) = self.both(), self.both()
        self.use(pool).release(QUOTA)
        one.keep("toolu_1", "s" * 9_000)
        self.turn(0.2)
        later, third = self.both()
        self.assertEqual([signatures.lookup("toolu_1") for signatures in (other, third)], ["s" * 9_000] * 2)
        self.assertEqual((exported(later), len(self.redis.data)), (exported(pool), 2))
        self.assertEqual([command[0] for command in self.redis.commands].count(b"PUBLISH"), 1)

    def test_too_many_signatures(self) -> None:
        """Those that are too many for a daemon go from Redis, but from nobody who has room for them."""
        (_, one), (_, other) = self.both(count=2), self.both()
        for key in ("1", "2", "3"):
            one.keep(key, "s")
            self.turn(0.2)
        self.assertEqual(sorted(self.redis.data), [PREFIX + b'["signature","2"]', PREFIX + b'["signature","3"]'])
        self.assertEqual((one.lookup("1"), other.lookup("1")), (None, "s"))

    def test_signatures_after_an_outage(self) -> None:
        """A Redis that forgot everything is given the signatures again."""
        _, one = self.both()
        one.keep("1", "s")
        self.turn(0.2)
        self.redis.die()
        self.redis.there = True
        self.turn(5.0)
        self.assertEqual(self.both()[1].lookup("1"), "s")

    def test_no_echo(self) -> None:
        """Nobody repeats what it was told: three daemons, one change, one message."""
        pools = [self.daemon() for _ in range(3)]
        self.use(pools[0]).release(QUOTA)
        self.turn(5.0)
        self.assertEqual([command[0] for command in self.redis.commands].count(b"PUBLISH"), 1)

    def test_comes_back(self) -> None:
        """After an outage of both everybody knows what anybody learned during it."""
        one, other = self.daemon(), self.daemon()
        self.redis.die()
        self.use(one).release(QUOTA)
        other.set_enabled("p", "b", False)
        self.use(other, "session").release(OK)
        self.turn(10.0)
        self.redis.there = True
        self.turn(20.0)
        self.assertEqual(exported(one), exported(other))
        self.assertEqual(len(exported(one)), 3)
