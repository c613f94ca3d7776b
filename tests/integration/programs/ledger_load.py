"""A ledger beside a reactor that gets a thousand records a second: for how long is the reactor held?

``python ledger_load.py DATABASE FOLDER``: the database as in ``accounts.database``, and the folder of what waits. It
prints the longest times that the reactor was held, in seconds, and how many records were written and are in the ledger.

It is held for as long as a turn takes, and for as long as a poll takes beyond its time: there the reactor waits until
the ledger's threads let go of the interpreter. For how long other programs had the processor is in neither; and what
holds it while these threads have nothing to do, as the machine that this one is a guest of, is not told.
"""

import json
import os
import sys
import time
from contextlib import suppress

from twisted.internet import epollreactor

from claudeproxyd.accounts.ledger import Ledger
from claudeproxyd.accounts.opening import openers_of
from claudeproxyd.config.accounts import place_of
from claudeproxyd.config.schema import Accounts
from claudeproxyd.memory import freeze_gc
from claudeproxyd.messages.ids import Ids
from claudeproxyd.observe.usage import UsageRecord
from claudeproxyd.reloads import SHARE
from claudeproxyd.threads import thread_of_its_own

RECORDS = 7000
CONNECTED = 2.0
"""Seconds until the database is open: what that takes belongs to the daemon's start."""
A_SECOND = 1000
AT_ONCE = 25
EVERY = 0.01
RESOLUTION = 0.001
"""Of a poll's time."""


def delays() -> float:
    """Seconds that threads of this process were ready to run, and another program ran."""
    seconds = 0.0
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError), open(f"/proc/self/task/{task}/schedstat") as file:
            seconds += int(file.read().split()[1]) / 1e9
    return seconds


class Timed:
    """A thread that notes when it is at work."""

    def __init__(self, in_thread) -> None:
        self._in_thread = in_thread
        self.periods = []

    def __call__(self, work, *arguments):
        return self._in_thread(self._timed, work, *arguments)

    def _timed(self, work, *arguments):
        begun = time.monotonic()
        try:
            return work(*arguments)
        finally:
            self.periods.append((begun, time.monotonic()))


class Poller:
    """An epoll object that looks at the time."""

    def __init__(self, poller) -> None:
        self._poller = poller
        self.held = []
        self.begin()

    def begin(self) -> None:
        """Forget what was."""
        self.held.clear()
        self._since = time.monotonic(), delays()

    def __getattr__(self, name):
        return getattr(self._poller, name)

    def poll(self, timeout, *args):
        self._note(0.0)
        events = self._poller.poll(timeout, *args)
        if not events and timeout > 0:
            self._note(timeout + RESOLUTION)
        self._since = time.monotonic(), delays()
        return events

    def _note(self, due: float) -> None:
        since, delayed = self._since
        held = time.monotonic() - since - due
        self._since = time.monotonic(), delays()
        if held > 0.001:
            self.held.append((since, since + due + held, held - max(0.0, self._since[1] - delayed)))


def main() -> None:
    """Write, and tell."""
    database, folder = sys.argv[1:]
    sys.setswitchinterval(SHARE)
    reactor = epollreactor.EPollReactor()
    poller = reactor._poller = Poller(reactor._poller)
    place = place_of(Accounts(database=database, waiting=folder))
    assert place is not None
    threads = [Timed(thread_of_its_own(reactor, name)) for name in ("enter", "answer")]
    ledger = Ledger(place.where, 90, reactor, time.time, *threads, openers_of(place, "").ledger, place.waiting)
    ids = Ids()
    began = 0.0
    written = 0

    def write() -> None:
        nonlocal written
        now = time.time()
        due = int((time.monotonic() - began) * A_SECOND) - written
        for _ in range(min(due, AT_ONCE)):
            record = UsageRecord(
                time=now,
                request_id=ids.request(now),
                client=f"client-{written % 200}",
                labels={"team": "ads"},
                model_asked=f"model-{written % 7}",
                provider="p",
                credential="c",
                outcome="ok",
                input_tokens=10,
                output_tokens=20,
                nano_usd=1000,
            )
            ledger.begun(record)
            ledger.record(record)
            written += 1
        if written < RECORDS:
            reactor.callLater(EVERY, write)
        else:
            ledger.stopService().addCallback(lambda _: reactor.stop())

    def start() -> None:
        nonlocal began
        began = time.monotonic()
        ledger.startService()
        reactor.callLater(CONNECTED, poller.begin)
        write()

    reactor.callWhenRunning(start)
    freeze_gc()
    reactor.run()
    asked = openers_of(place, "").ledger()
    entered = asked.used(0.0, time.time() + 1)
    counted = sum(amounts.requests for _, amounts, _ in entered)
    periods = [period for thread in threads for period in thread.periods]
    held = sorted(
        for_so_long
        for begun, ended, for_so_long in poller.held
        if any(begun < at_rest and at_work < ended for at_work, at_rest in periods)
    )
    print(json.dumps({"held": held[-10:], "written": written, "entered": counted}))


main()
