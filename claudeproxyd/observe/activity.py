"""What clients do: how many requests each has under way, and what it was answered in the last minutes.

Theory of operation. Answers are counted by minute in a dict each, and a minute is forgotten as a whole. Both what a
client can choose and how many clients there are is bounded: what is beyond is counted together.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from claudeproxyd.observe.access_log import AccessEntry
    from claudeproxyd.observe.exposition import Registry

MINUTE = 60
KEPT_MINUTES = 15
MAX_ANSWERS = 1000
"""Kinds of answers of one minute that are told apart."""
MAX_STRANGERS = 100
"""Of these, of requests that bore no key of a client: they can come from anywhere."""
OTHER = "other"


class Answered(NamedTuple):
    """One kind of answers, to one client."""

    client: str
    """'' where the request bore no key that is known."""
    status: int
    """0 where the client left before."""
    outcome: str
    remote: str = ""
    """The client's address, where it is not known by name; so is the next."""
    error: str = ""


class ClientActivity:
    """Told of each request by whoever writes the access log; asked by the admin listener."""

    def __init__(self, clock: Callable[[], float], running: Mapping[str, int]) -> None:
        """*clock* never goes back; *running*: how many messages each client has under way, now."""
        self.running = running
        self._clock = clock
        self._minutes: deque[tuple[int, Counter[Answered]]] = deque(maxlen=KEPT_MINUTES + 1)
        self._strangers = 0

    def register(self, metrics: Registry) -> None:
        """Add what is under way."""
        metrics.gauge(
            "claudeproxyd_client_in_flight_requests",
            "Messages under way, by client.",
            self._in_flight,
            ("client",),
        )

    def _in_flight(self) -> Mapping[tuple[str, ...], float]:
        return {(client,): count for client, count in self.running.items()}

    def answered(self, entry: AccessEntry) -> None:
        """Count a request that is over, unless it is a probe or an operator's."""
        if not entry.path.startswith("/v1/"):
            return
        minute = int(self._clock() // MINUTE)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, Counter()))
            self._strangers = 0
        answers = self._minutes[-1][1]
        if entry.client:
            kind = Answered(entry.client, entry.status, entry.outcome)
            if kind not in answers and len(answers) >= MAX_ANSWERS:
                kind = Answered(OTHER, entry.status, entry.outcome)
        else:
            kind = self._stranger(answers, entry)
        answers[kind] += 1

    def _stranger(self, answers: Counter[Answered], entry: AccessEntry) -> Answered:
        kind = Answered("", entry.status, entry.outcome, entry.remote, entry.error)
        if kind not in answers:
            if self._strangers >= MAX_STRANGERS:
                return Answered("", entry.status, entry.outcome, OTHER)
            self._strangers += 1
        return kind

    def since(self, minutes: int) -> Counter[Answered]:
        """Return how many answers of each kind there were in the last *minutes*, and in what has passed of this one."""
        first = int(self._clock() // MINUTE) - minutes
        found: Counter[Answered] = Counter()
        for minute, answers in self._minutes:
            if minute >= first:
                found.update(answers)
        return found
