"""What operators see of all workers: one pool, and one list of clients. The parent gathers it when it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from claudeproxyd.interfaces import ICredentialPool, ILease
from claudeproxyd.observe.activity import ClientActivity, RecentAnswer
from claudeproxyd.workers.figures import combined_state

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from claudeproxyd.config.schema import Pool as Settings
    from claudeproxyd.dispatch.served_models import ServedModels
    from claudeproxyd.leases import Credential, Exhausted, LeaseRequest, Route

#: Credentials of one part of an answer: half a millisecond's work.
ENTRIES_AT_ONCE = 50

Entry = dict[str, Any]
"""Of a snapshot; see :class:`claudeproxyd.pool.snapshot.Snapshot`."""


def pool_parts(pool: ICredentialPool, models: ServedModels) -> Iterator[object]:
    """Yield what a worker tells of its pool: sizes, who waits, what nobody serves, and then its credentials."""
    snapshot = pool.snapshot()
    yield [pool.gauges(), pool.queued(), models.unserved()]
    for start in range(0, len(snapshot), ENTRIES_AT_ONCE):
        yield snapshot[start : start + ENTRIES_AT_ONCE]


@implementer(ICredentialPool)
class PoolOfAll:
    """The pool of the parent, for the admin listener: with what all workers have under way in it."""

    def __init__(self, own: ICredentialPool, tell: Callable[[str, object], None]) -> None:
        """*own* is the parent's, from which nothing is leased; *tell* tells all workers."""
        self._own = own
        self._tell = tell
        self._gauges: Mapping[str, int] = {}
        self._queued: Sequence[Entry] = ()
        self._entries: Mapping[tuple[str, str], Sequence[Entry]] = {}
        self._unserved: Sequence[Entry] = ()

    def gathered(self, answers: Iterable[list[Any]]) -> None:
        """Take what each worker has answered, which are the parts of :func:`pool_parts`."""
        gauges: dict[str, int] = {}
        queued: list[Entry] = []
        entries: dict[tuple[str, str], list[Entry]] = {}
        unserved: list[Entry] = []
        for (sizes, waiting, models), *parts in answers:
            unserved += models
            for name, size in sizes.items():
                gauges[name] = _size(name, gauges.get(name, 0), size)
            queued += waiting
            for entry in (entry for part in parts for entry in part):
                entries.setdefault((entry["provider"], entry["credential"]), []).append(entry)
        self._gauges, self._queued, self._entries = gauges, _joined(queued), entries
        self._unserved = unserved

    def unserved(self) -> list[dict[str, object]]:
        """Return what there is to say of each model that nobody serves, by some worker."""
        found: dict[str, Entry] = {}
        for entry in self._unserved:
            known = found.setdefault(entry["model"], {**entry, "refused": 0, "seconds": 0.0})
            known["refused"] += entry["refused"]
            known["seconds"] = max(known["seconds"], entry["seconds"])
        return list(found.values())

    def outage(self, routes: Sequence[Route]) -> Exhausted | None:
        """See the interface."""
        return self._own.outage(routes)

    def snapshot(self) -> Sequence[Entry]:
        """See the interface."""
        own = [dict(each) for each in self._own.snapshot()]
        all_of = [_combined(each, self._entries.get((each["provider"], each["credential"]), ())) for each in own]
        return sorted(all_of, key=lambda entry: not entry["trouble"])

    def queued(self) -> Sequence[Entry]:
        """See the interface."""
        return self._queued

    def gauges(self) -> Mapping[str, int]:
        """See the interface."""
        return self._gauges or self._own.gauges()

    def clear(self, provider: str | None, credential: str | None, model: str | None) -> int:
        """See the interface. How many there were is as far as the parent knows: gates are the workers' own."""
        self._tell("clear", (provider, credential, model))
        return self._own.clear(provider, credential, model)

    def is_enabled(self, provider: str, credential: str) -> bool | None:
        """See the interface."""
        return self._own.is_enabled(provider, credential)

    def set_enabled(self, provider: str, credential: str, enabled: bool) -> bool:
        """See the interface. The workers hear of it as of any change of state."""
        return self._own.set_enabled(provider, credential, enabled)

    def lease(self, request: LeaseRequest) -> Deferred[ILease]:
        """See the interface."""
        return self._own.lease(request)

    def ready_in(self, request: LeaseRequest) -> float | None:
        """See the interface."""
        return self._own.ready_in(request)

    def reload(
        self, credentials: Sequence[Credential], settings: Settings, provider_limits: Mapping[str, int] | None = None
    ) -> None:
        """See the interface."""
        self._own.reload(credentials, settings, provider_limits)


def _size(name: str, one: int, other: int) -> int:
    return one + other if name in ("in_flight", "waiting", "deadlines") else max(one, other)


def _joined(queued: Iterable[Entry]) -> Sequence[Entry]:
    """Return one entry for each client and what it waits for."""
    found: dict[tuple[object, ...], Entry] = {}
    for entry in queued:
        key = (entry["client"], *entry["routes"], entry["count_tokens"])
        known = found.setdefault(key, {**entry, "requests": 0})
        known["requests"] += entry["requests"]
        known["longest"] = max(known["longest"], entry["longest"])
        known["patience"] = min(known["patience"], entry["patience"])
    return list(found.values())


def _combined(own: Entry, others: Sequence[Entry]) -> Entry:
    """Return one credential as all workers have it; as the parent has it where none has answered."""
    if not others:
        return own
    failures = [entry["last_failure"] for entry in others if entry["last_failure"] is not None]
    counts = [entry["count_tokens"] for entry in others]
    outcomes: Counter[str] = Counter()
    for entry in others:
        outcomes.update(entry["outcomes"])
    return {
        **own,
        "state": combined_state(entry["state"] for entry in others),
        "trouble": any(entry["trouble"] for entry in others),
        "in_flight": sum(entry["in_flight"] for entry in others),
        "cooldowns": _of_scopes((entry["cooldowns"] for entry in others), _longer),
        "gates": _of_scopes((entry["gates"] for entry in others), _both),
        "count_tokens": {
            "in_flight": sum(entry["in_flight"] for entry in counts),
            "cooldowns": _of_scopes((entry["cooldowns"] for entry in counts), _longer),
            "gates": _of_scopes((entry["gates"] for entry in counts), _both),
        },
        "outcomes": dict(outcomes),
        "last_failure": min(failures, key=lambda failure: failure["seconds_ago"], default=None),
    }


def _of_scopes(lists: Iterable[Sequence[Entry]], join: Callable[[Entry, Entry], Entry]) -> Sequence[Entry]:
    found: dict[tuple[str, str | None], Entry] = {}
    for entry in (entry for each in lists for entry in each):
        key = (entry["scope"], entry["model"])
        found[key] = join(found[key], entry) if key in found else entry
    return list(found.values())


def _longer(one: Entry, other: Entry) -> Entry:
    return max(one, other, key=lambda entry: (entry["remaining"], entry["level"]))


def _both(one: Entry, other: Entry) -> Entry:
    """Return the gate of two workers: each has learned how much of the whole it can have."""
    worse = max(one, other, key=lambda entry: entry["failing"])
    limits = [entry["limit"] for entry in (one, other)]
    limit = None if None in limits else sum(limits)
    told = f"learned limit {limit} at once" if limit is not None and worse["state"] == "limited" else worse["told"]
    return {**worse, "limit": limit, "in_flight": one["in_flight"] + other["in_flight"], "told": told}


def activity_of(activity: ClientActivity, minutes: int) -> object:
    """Return what a worker tells of its clients: who has requests under way, and what each was answered."""
    return [dict(activity.running), [[list(kind), count] for kind, count in activity.since(minutes).items()]]


_Activity = tuple[dict[str, int], list[tuple[tuple[str, int, str, str, str, str], int]]]
"""As it arrives."""


class ActivityOfAll(ClientActivity):
    """The clients of all workers, for the admin listener."""

    def __init__(self) -> None:
        super().__init__({})
        self._answers: Counter[RecentAnswer] = Counter()

    def gathered(self, answers: Iterable[_Activity]) -> None:
        """Take what each worker has answered, which is what :func:`activity_of` returns."""
        running: Counter[str] = Counter()
        self._answers.clear()
        for under_way, answered in answers:
            running.update(under_way)
            for kind, count in answered:
                self._answers[RecentAnswer(*kind)] += count
        self.running = running

    def since(self, minutes: int) -> Counter[RecentAnswer]:
        """See :meth:`ClientActivity.since`: of as many minutes as were gathered."""
        return self._answers
