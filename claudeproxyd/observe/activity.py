"""What clients do: how many requests each has under way, and what it was answered in the last minutes.

Theory of operation. Answers are counted by minute in a dict each, and a minute is forgotten as a whole. Both what a
client can choose and how many clients there are is bounded: what is beyond is counted together.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from claudeproxyd.observe.access_log import API

if TYPE_CHECKING:
    from claudeproxyd.observe.access_log import AccessEntry
    from claudeproxyd.observe.metrics import Metrics

MINUTE = 60.0
"""Seconds."""
KEPT_MINUTES = 15
MAX_ANSWERS = 1000
"""Kinds of answers of one minute that are told apart."""
MAX_STRANGERS = 100
"""Of these, of requests that bore no key of a client: they can come from anywhere."""
OTHER = "other"


class RecentAnswer(NamedTuple):
    """One kind of answers, to one client."""

    client: str
    """'' where the request bore no key that is known."""
    status: int
    """0 where the client left before."""
    outcome: str
    refusal: str = ""
    """Why it was refused, by the name that metrics have."""
    remote: str = ""
    """The client's address, where it is not known by name; so is the next."""
    error: str = ""


Answered = tuple[str, int, str, str] | tuple[str, int, str, str, str, str]
"""The same, as it is counted: without what clients lack."""


class ClientActivity:
    """Told of each request by whoever writes the access log; asked by the admin listener."""

    def __init__(self, running: Mapping[str, int]) -> None:
        """*running*: how many messages each client has under way, now."""
        self.running = running
        self._minutes: deque[dict[Answered, int]] = deque([{}], maxlen=KEPT_MINUTES + 1)
        self._strangers = 0

    def register(self, metrics: Metrics) -> None:
        """Add what is under way."""
        metrics.gauge(
            "claudeproxyd_client_in_flight_requests",
            "Messages under way, by client.",
            lambda: self._in_flight(metrics.client_label),
            ("client",),
        )

    def _in_flight(self, label: Callable[[str], str]) -> Mapping[tuple[str, ...], float]:
        counts: Counter[tuple[str, ...]] = Counter()
        for client, count in self.running.items():
            counts[label(client),] += count
        return counts

    def counting(self, write: Callable[[AccessEntry], None]) -> Callable[[AccessEntry], None]:
        """Return what counts a request that is over, and has *write* write it. Probes and operators are not counted."""

        def tell(entry: AccessEntry) -> None:
            if entry.path[:4] == API:
                answers = self._minutes[-1]
                kind = (entry.client, entry.status, entry.outcome, entry.refusal)
                if kind in answers:  # as nearly always: no call more than the caller's for a request
                    answers[kind] += 1
                else:
                    self._first(answers, entry)
            write(entry)

        return tell

    def _first(self, answers: dict[Answered, int], entry: AccessEntry) -> None:
        """Count an answer of a kind that this minute has not had yet, or one to a stranger."""
        kind: Answered = (entry.client, entry.status, entry.outcome, entry.refusal)
        if not entry.client:
            kind = self._stranger(answers, entry)
        elif len(answers) >= MAX_ANSWERS:
            kind = (OTHER, entry.status, entry.outcome, entry.refusal)
        answers[kind] = answers.get(kind, 0) + 1

    def _stranger(self, answers: dict[Answered, int], entry: AccessEntry) -> Answered:
        kind = ("", entry.status, entry.outcome, entry.refusal, entry.remote, entry.error)
        if kind not in answers:
            if self._strangers >= MAX_STRANGERS:
                return ("", entry.status, entry.outcome, entry.refusal, OTHER, "")
            self._strangers += 1
        return kind

    def turn(self) -> None:
        """Begin another minute. Called by the daemon's timer."""
        self._minutes.append({})
        self._strangers = 0

    def since(self, minutes: int) -> Counter[RecentAnswer]:
        """Return how many answers of each kind there were in the last *minutes*, and in what has passed of this one."""
        found: Counter[RecentAnswer] = Counter()
        for answers in list(self._minutes)[-1 - minutes :]:
            found.update({RecentAnswer(*kind): count for kind, count in answers.items()})
        return found
