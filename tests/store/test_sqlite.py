"""State in a file."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from zope.interface.verify import verifyClass, verifyObject

from claudeproxyd.interfaces import IStateStore
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.slices import KEYS_AT_ONCE, batches
from claudeproxyd.store import database, write_behind
from claudeproxyd.store.database import Database, Foreign, Locked
from claudeproxyd.store.memory import MemoryStore
from claudeproxyd.store.sqlite import RETRY_DELAY, SQLiteStore
from tests.store.support import COOLING, GRANT, HOME, NOW, A, B, StoreTestCase, Thread, affinity, cooldown, grant


class SQLiteTestCase(StoreTestCase):
    """Stores on one file, on a Clock, with a thread that the test drives."""

    def setUp(self) -> None:
        """A file that is not there yet."""
        super().setUp()
        self.path = os.path.join(self.mktemp(), "folder", "state.db")
        self.clock = Clock()
        self.thread = Thread()
        self.now = NOW

    def store(self, everything: Mapping[str, object] | None = None) -> SQLiteStore:
        """A store as a daemon has it that has *everything* to keep."""
        parts = [] if everything is None else [everything]
        store = SQLiteStore(Database(self.path, lambda: self.now), self.clock, self.thread, lambda: iter(parts))
        self.addCleanup(self._end, store)
        return store

    def _end(self, store: SQLiteStore) -> None:
        self.thread.at_once = True
        store._database.close()

    def kept(self) -> dict[str, Any]:
        """What another daemon finds now."""
        return dict(self.successResultOf(self.store().load()))


class KeepingTests(SQLiteTestCase):
    """What is saved is there again."""

    def test_interface(self) -> None:
        """The stores are what the daemon takes them for."""
        for kind in (SQLiteStore, MemoryStore):
            verifyClass(IStateStore, kind)
        verifyObject(IStateStore, self.store())
        verifyObject(IStateStore, MemoryStore())
        self.assertEqual(self.successResultOf(MemoryStore().load()), {})

    def test_comes_back(self) -> None:
        """Cooldowns, affinities and disabled credentials are as they were."""
        store = self.store()
        self.assertEqual(self.successResultOf(store.load()), {})
        changes = {COOLING: cooldown(60), HOME: affinity(-5), A: True}
        store.save(changes)
        self.clock.advance(1.0)
        self.assertEqual(self.kept(), changes)

    def test_order(self) -> None:
        """What keeps requests from credentials is there first; then what was used last comes last."""
        store = self.store()
        others = {f'["affinity","{number}","m"]': affinity(-number) for number in (3, 1, 2)}
        store.save({**others, COOLING: cooldown(60), A: True})
        self.clock.advance(1.0)
        self.assertEqual(list(self.kept()), [COOLING, A, *sorted(others, reverse=True)])

    def test_deletes(self) -> None:
        """What is no more does not come back."""
        store = self.store()
        store.save({A: True, B: True})
        self.clock.advance(1.0)
        store.save({A: None})
        self.clock.advance(1.0)
        self.assertEqual(self.kept(), {B: True})

    def test_within_a_second(self) -> None:
        """A change is on its way to the disk within a second, together with those that followed it: one write."""
        self.thread.at_once = False
        store = self.store()
        for until in range(100):
            store.save({COOLING: cooldown(until)})
            self.clock.advance(0.004)
        self.assertEqual(len(self.thread.given), 0)
        self.clock.advance(0.5)
        self.assertEqual(len(self.thread.given), 1)
        self.thread.run()
        self.thread.at_once = True
        self.assertEqual(self.kept(), {COOLING: cooldown(99)})

    def test_at_once(self) -> None:
        """A refresh token that takes the place of one that is spent waits for nothing, nor does what waits already."""
        self.thread.at_once = False
        store = self.store()
        store.save({COOLING: cooldown(60)})
        store.save({GRANT: grant(1)})
        self.clock.advance(0)
        self.assertEqual(len(self.thread.given), 1)
        store.save({GRANT: grant(2)})
        self.thread.run()
        self.clock.advance(0)
        self.thread.run()
        self.thread.at_once = True
        self.assertEqual(self.kept(), {COOLING: cooldown(60), GRANT: grant(2)})
        store.save({A: True})
        self.clock.advance(0)
        self.assertNotIn(A, self.kept())

    def test_at_once_to_a_disk_that_is_full(self) -> None:
        """One that cannot be written is tried again no sooner than all else."""
        store = self.store()
        self.patch(store._database, "write", lambda changes: (_ for _ in ()).throw(OSError("full")))
        store.save({GRANT: grant(1)})
        self.clock.advance(0)
        store.save({GRANT: grant(2)})
        self.clock.advance(RETRY_DELAY - 0.1)
        self.assertEqual(len(store._waiting), 1)
        self.assertEqual(len(self.warnings), 1)

    def test_one_at_a_time(self) -> None:
        """While the disk is slow nothing more is given to a thread; what changes then follows in one batch."""
        self.thread.at_once = False
        store = self.store()
        store.save({A: True})
        self.clock.advance(0.5)
        for number in range(50):
            store.save({B: True, f'["disabled","p","{number}"]': True})
            self.clock.advance(1.0)
        self.assertEqual(len(self.thread.given), 1)
        self.thread.run()
        self.clock.advance(0.5)
        self.thread.run()
        self.assertEqual(self.thread.given, [])
        self.thread.at_once = True
        self.assertEqual(len(self.kept()), 52)

    def test_changes_before_the_load(self) -> None:
        """What changed while the old state was being read is newer than what was read."""
        first = self.store()
        first.save({A: True, B: True})
        self.clock.advance(1.0)
        self.thread.at_once = False
        store = self.store()
        loading = store.load()
        store.save({A: None})
        self.thread.run()
        self.assertEqual(self.successResultOf(loading), {B: True})
        self.clock.advance(0.5)
        self.thread.run()
        self.thread.at_once = True
        self.assertEqual(self.kept(), {B: True})

    def test_stale(self) -> None:
        """What is long over is not brought back, and swept from the file."""
        store = self.store()
        store.save({COOLING: cooldown(60), HOME: affinity(0), A: True})
        self.clock.advance(1.0)
        self.now += 86_459.0
        self.assertEqual(self.kept(), {COOLING: cooldown(60), A: True})
        self.now += 2.0
        self.assertEqual(self.kept(), {A: True})
        store.save({B: True})
        self.clock.advance(1.0)
        with sqlite3.connect(self.path) as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM state").fetchone(), (2,))
        connection.close()

    def test_modes(self) -> None:
        """Nobody else may read the file, its companions or its folder, whatever the umask."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        store = self.store()
        store.save({A: True})
        self.clock.advance(1.0)
        folder = Path(self.path).parent
        self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        self.assertEqual(
            {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()},
            dict.fromkeys(("state.db", "state.db-wal", "state.db-shm"), 0o600),
        )

    def test_two_daemons(self) -> None:
        """A new daemon may start on the file while the old one drains: both write, neither loses the other's."""
        old, new = self.store(), self.store()
        self.successResultOf(old.load())
        self.successResultOf(new.load())
        old.save({A: True})
        new.save({B: True})
        self.clock.advance(1.0)
        self.assertEqual(self.kept(), {A: True, B: True})
        self.assertEqual(self.warnings, [])

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.none() | st.booleans() | st.text() | st.integers())))
    def test_any_changes(self, history: list[dict[str, Any]]) -> None:
        """Whatever changes come, the file ends up with the last of each key."""
        self.path = os.path.join(self.mktemp(), "state.db")
        store = self.store()
        kept: dict[str, Any] = {}
        for changes in history:
            store.save(changes)
            kept.update(changes)
            self.clock.advance(0.3)
        self.successResultOf(store.close())
        self.assertEqual(self.kept(), {key: value for key, value in kept.items() if value is not None})


class ClosingTests(SQLiteTestCase):
    """The end."""

    def test_writes_what_waits(self) -> None:
        """A stop loses nothing, and leaves no timer and no companion file behind."""
        store = self.store()
        store.save({A: True})
        self.successResultOf(store.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["state.db"])
        self.assertEqual(self.kept(), {A: True})

    def test_while_it_writes(self) -> None:
        """A stop in the midst of a write waits for it, and for what changed since."""
        self.thread.at_once = False
        store = self.store()
        store.save({A: True})
        self.clock.advance(0.5)
        store.save({B: True})
        closed = store.close()
        self.thread.run()
        self.assertNoResult(closed)
        self.thread.run()
        self.thread.run()
        self.successResultOf(closed)
        self.thread.at_once = True
        self.assertEqual(self.kept(), {A: True, B: True})

    def test_on_a_full_disk(self) -> None:
        """A stop ends although the last changes cannot be written."""
        store = self.store()
        self.patch(store._database, "write", _full)
        store.save({A: True})
        self.successResultOf(store.close())
        store.save({B: True})
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TroubleTests(SQLiteTestCase):
    """What may be wrong with the file."""

    def aside(self) -> list[Path]:
        """The files that were set aside."""
        return sorted(file for file in Path(self.path).parent.iterdir() if re.fullmatch(r"state\.db\.\w+", file.name))

    def spoil(self, data: bytes) -> None:
        """Put *data* in the file's place."""
        os.makedirs(os.path.dirname(self.path))
        Path(self.path).write_bytes(data)

    def test_garbage(self) -> None:
        """A file that is no database is set aside, as it was, with one warning; the daemon starts and keeps state."""
        self.spoil(b"garbage " * 1000)
        store = self.store()
        self.assertEqual(self.successResultOf(store.load()), {})
        (aside,) = self.aside()
        self.assertEqual(aside.name, "state.db.20231114T221320")
        self.assertEqual(aside.read_bytes(), b"garbage " * 1000)
        self.assertEqual(len(self.warnings), 1)
        self.assertIn(aside.name, self.warnings[0])
        store.save({A: True})
        self.clock.advance(1.0)
        self.assertEqual(self.kept(), {A: True})

    def test_companions(self) -> None:
        """A log of changes that belongs to the file goes along with it, and into no other."""
        self.successResultOf(self.store().load())
        other = sqlite3.connect(self.path)
        self.addCleanup(other.close)
        other.execute("PRAGMA user_version = 9")
        log = Path(self.path + "-wal").read_bytes()
        self.assertEqual(self.kept(), {})
        (aside,) = self.aside()
        self.assertEqual(Path(f"{aside}-wal").read_bytes(), log)

    def test_torn(self) -> None:
        """A file that lost a part, or had one overwritten, does not keep the daemon from starting, wherever it is."""
        store = self.store()
        store.save({f'["disabled","p","{number}"]': True for number in range(500)})
        self.successResultOf(store.close())
        whole = Path(self.path).read_bytes()
        for spoilt in (
            whole[: len(whole) // 2],
            whole[:4096],
            whole[:100],
            whole[:5000] + bytes(4096) + whole[9096:],
            whole[:8192] + b"\xff" * (len(whole) - 8192),
        ):
            Path(self.path).write_bytes(spoilt)
            store = self.store()
            self.successResultOf(store.load())
            store.save({A: True})
            self.successResultOf(store.close())
            self.assertIn(A, self.kept())
            self.now += 1.0
        self.assertEqual(len(self.aside()), 5)

    def test_taken_away(self) -> None:
        """A file that is deleted, or replaced by another, is written anew, with all that there is to keep."""
        store = self.store({A: True, HOME: affinity(0)})
        self.successResultOf(store.load())
        for number, take_away in enumerate((self._delete, self._replace), 1):
            take_away()
            store.save({COOLING: cooldown(60)})
            self.clock.advance(1.0)
            self.clock.advance(1.0)
            self.assertLessEqual({A, HOME, COOLING}, set(self.kept()))
            self.assertEqual(len(self.warnings), number)
            self.assertIn("another file", self.warnings[-1])
            self.assertEqual(self.aside(), [])

    def _delete(self) -> None:
        for companion in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path + companion)

    def _replace(self) -> None:
        self._delete()
        other = Database(self.path, lambda: self.now)
        other.write({B: (0.0, True)})
        other.close()

    def test_of_somebody_else(self) -> None:
        """Another program's database is neither written to nor renamed; nothing is kept, and the daemon hears why."""
        for statement in ("CREATE TABLE songs (name)", "PRAGMA application_id = 7; CREATE TABLE state (key)"):
            self.path = os.path.join(self.mktemp(), "state.db")
            os.makedirs(os.path.dirname(self.path))
            connection = sqlite3.connect(self.path)
            connection.executescript(statement)
            connection.close()
            before = Path(self.path).read_bytes()
            store = self.store()
            self.failureResultOf(store.load(), Foreign)
            store.save({A: True})
            self.clock.pump([1.0, 5.0, 5.0])
            self.assertEqual(Path(self.path).read_bytes(), before)
            self.assertEqual(os.listdir(os.path.dirname(self.path)), ["state.db"])
        self.assertEqual(len(self.warnings), 2)

    def later_version(self) -> None:
        """Have the file be of a version of the daemon that is yet to come."""
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA user_version = 2")
        connection.close()

    def test_of_another_version(self) -> None:
        """State of a later version is not written to; who was disabled stays so, and it is said who."""
        store = self.store()
        store.save({A: True, B: True, COOLING: cooldown(60)})
        self.successResultOf(store.close())
        self.later_version()
        before = Path(self.path).read_bytes()
        for _ in range(2):
            self.assertEqual(self.kept(), {A: True, B: True})
        (aside,) = self.aside()
        self.assertEqual(aside.read_bytes()[100:], before[100:])
        (warning,) = self.warnings
        self.assertIn("p/a, p/b stay disabled", warning)

    def test_damaged_and_disabled(self) -> None:
        """Of a file that is damaged it is said who may have been disabled in it, as far as it goes: nobody is taken
        out of service by what may be long over."""
        for damage, said in (
            (lambda whole: whole[:4096] + b"\xff" * 8 + whole[4104:], "p/a, p/b may have been disabled"),
            (lambda whole: b"garbage " * 100, "whether credentials were disabled in it cannot be read"),
        ):
            self.path = os.path.join(self.mktemp(), "state.db")
            store = self.store()
            store.save({A: True, B: True})
            self.successResultOf(store.close())
            Path(self.path).write_bytes(damage(Path(self.path).read_bytes()))
            self.assertEqual(self.kept(), {})
            self.assertIn(said, self.warnings.pop())

    def test_written_anew(self) -> None:
        """A file that had to be replaced while the daemon runs holds all that the daemon knows, and not just news."""
        store = SQLiteStore(Database(self.path, lambda: self.now), self.clock, self.thread, lambda: iter([{A: True}]))
        self.addCleanup(self._end, store)
        self.successResultOf(store.load())
        store.save({A: True})
        self.clock.advance(1.0)
        store._database.close()
        Path(self.path).write_bytes(b"garbage " * 1000)
        store.save({B: True})
        self.clock.pump([1.0, 1.0])
        self.assertEqual(self.kept(), {A: True, B: True})

    def test_much_written_anew(self) -> None:
        """So it does where there is more than a turn's worth, and where the daemon ends meanwhile."""
        much = {f'["affinity","{number}","m"]': affinity(0) for number in range(3 * KEYS_AT_ONCE)}
        for ends in (False, True):
            self.path = os.path.join(self.mktemp(), "state.db")
            database = Database(self.path, lambda: self.now)
            store = SQLiteStore(
                database, self.clock, self.thread, lambda: (dict(part) for part in batches(much.items()))
            )
            self.successResultOf(store.load())
            database.close()
            Path(self.path).write_bytes(b"garbage " * 1000)
            store.save({B: True})
            self.thread.at_once = False
            self.clock.advance(1.0)
            self.thread.run()
            self.thread.at_once = True
            if not ends:
                self.clock.pump([0, 1.0])
                self.assertEqual(self.kept(), {**much, B: True})
            self.successResultOf(store.close())
            self.assertEqual(self.kept(), {**much, B: True})

    def test_not_to_be_read(self) -> None:
        """A file that belongs to somebody else is set aside where the folder allows it."""
        self.spoil(b"")
        really_open = os.open

        def open_once(*args: Any) -> int:
            self.patch(os, "open", really_open)
            raise PermissionError(13, "Permission denied")

        self.patch(os, "open", open_once)
        self.assertEqual(self.kept(), {})
        self.assertEqual(len(self.aside()), 1)

    def test_folder_in_its_place(self) -> None:
        """What is no file is left alone; nothing is kept, and the daemon hears why."""
        os.makedirs(self.path)
        store = self.store()
        self.failureResultOf(store.load(), OSError)
        store.save({A: True})
        self.clock.advance(5.0)
        self.assertEqual(len(self.warnings), 1)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["state.db"])

    def test_locked(self) -> None:
        """A file that another process holds is left where it is; once it is free, changes are written again."""
        self.patch(database, "LOCK_TIMEOUT", 0.0)
        first = self.store()
        self.successResultOf(first.load())
        self.successResultOf(first.close())
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        store = self.store()
        self.failureResultOf(store.load(), Locked)
        store.save({A: True})
        self.clock.advance(0.5)
        store.save({B: True})
        for _ in range(3):
            self.clock.advance(5.0)
        self.assertEqual(len(self.warnings), 1)
        other.execute("COMMIT")
        self.clock.advance(5.0)
        self.assertEqual(self.kept(), {A: True, B: True})
        self.assertEqual(self.aside(), [])

    def test_full_disk(self) -> None:
        """While the disk is full changes wait, the last of each key; they are written when there is room."""
        store = self.store()
        self.successResultOf(store.load())
        really_write = store._database.write
        self.patch(store._database, "write", _full)
        store.save({A: True, B: True})
        self.clock.advance(0.5)
        store.save({A: None})
        self.clock.advance(5.0)
        self.assertEqual(len(self.warnings), 1)
        tries: list[Any] = []
        self.patch(store._database, "write", lambda changes: tries.append(changes) or _full(changes))
        for _ in range(200):
            self.clock.advance(0.1)
        self.assertIn(len(tries), (3, 4))
        self.patch(store._database, "write", really_write)
        self.clock.advance(5.0)
        self.assertEqual(self.kept(), {B: True})

    def test_fails_late(self) -> None:
        """What changed while a write was failing is newer than what was to be written."""
        self.thread.at_once = False
        store = self.store()
        really_write = store._database.write
        self.patch(store._database, "write", _full)
        store.save({A: True})
        self.clock.advance(0.5)
        store.save({A: None, B: True})
        self.thread.run()
        self.patch(store._database, "write", really_write)
        self.thread.at_once = True
        self.clock.advance(5.0)
        self.assertEqual(self.kept(), {B: True})

    def test_disk_full_is_not_the_files_fault(self) -> None:
        """A healthy file is not set aside because the disk is full."""
        store = self.store()
        self.successResultOf(store.load())
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        with self.assertRaises(sqlite3.OperationalError):
            store._database._set_aside(error)
        self.assertEqual(self.aside(), [])

    def test_damaged_while_it_runs(self) -> None:
        """A file that is damaged under the daemon's hands is set aside too, and a fresh one takes what follows."""
        store = self.store()
        store.save({A: True})
        self.clock.advance(1.0)
        store._database.close()
        Path(self.path).write_bytes(b"garbage " * 1000)
        store.save({B: True})
        self.clock.advance(1.0)
        self.assertEqual(self.kept(), {B: True})
        self.assertEqual(len(self.aside()), 1)

    def test_damaged_texts(self) -> None:
        """Damage to the names in the file is damage: Python tells it in a way of its own, as text that is no UTF-8."""
        store = self.store()
        store.save({A: True})
        self.clock.advance(1.0)
        store._database.close()
        data = Path(self.path).read_bytes()
        Path(self.path).write_bytes(data.replace(b"CREATE TABLE state", b"CREATE \x80ABLE state"))
        store.save({B: True})
        self.clock.advance(1.0)
        self.assertEqual(self.kept(), {B: True})
        self.assertEqual(len(self.aside()), 1)

    def test_values_that_are_none(self) -> None:
        """A value that does not parse is passed over, and the others are not."""
        store = self.store()
        store.save({A: True, B: True})
        self.clock.advance(1.0)
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute("UPDATE state SET value = x'7b' WHERE key = ?", (A,))
        connection.close()
        self.assertEqual(self.kept(), {B: True})

    def test_too_much(self) -> None:
        """More than can wait is dropped and counted; what waits already still changes."""
        self.patch(write_behind, "MAX_PENDING_KEYS", 2)
        self.thread.at_once = False
        store = self.store()
        store.save({"a": True, "b": True})
        store.save({"c": True})
        store.save({"d": True})
        store.save({"a": None})
        metrics = Metrics()
        store.register(metrics)
        text = metrics.render().decode()
        self.assertIn("claudeproxyd_state_waiting{} 2.0", text)
        self.assertIn("claudeproxyd_state_dropped_total{} 2.0", text)
        self.assertEqual(len(self.warnings), 1)
        self.thread.at_once = True
        self.clock.advance(1.0)
        self.assertEqual(self.kept(), {"b": True})


def _full(changes: Any) -> None:
    raise sqlite3.OperationalError("database or disk is full")
