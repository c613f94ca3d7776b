"""Which models nobody serves: told once when that begins and once when it is over, and read by metrics and operators.

Theory of operation. Whether a credential for a model is ready is the pool's to say, and is asked when somebody wants to
know. But ready is not served: behind a cooldown that is over for a moment, or a probe that is under way, the next
request is refused again. So an *outage* of a model begins when a request for it is refused, or waits in vain, while the
pool has nothing for it; and is over when a request for it is answered, or, where none comes, when the pool has had
something for a while. Requests that are served cost two look-ups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from claudeproxyd.globs import is_glob
from claudeproxyd.happenings import Happening
from claudeproxyd.leases import Exhaustion
from claudeproxyd.observe.metrics import model_label
from claudeproxyd.observe.transitions import Transitions

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from claudeproxyd.leases import Exhausted
    from claudeproxyd.observe.exposition import Registry

#: Models that nobody named, and that are known by having been served once.
MAX_SERVED = 100
#: Models that neither somebody named nor anybody served: clients may have made them up.
MAX_UNKNOWN = 20
#: Seconds between two looks at what changes without a request.
LOOK_EVERY = 10.0
#: Seconds without a refusal, while there is something to serve with, after which an outage is over.
QUIET_SECONDS = 60.0


class Outage:
    """Nobody serves a model. Times are on the reactor's clock."""

    __slots__ = ("last", "refused", "since")

    def __init__(self, now: float) -> None:
        self.since = now
        self.last = now
        """When the pool last had nothing for it."""
        self.refused = 0
        """Requests."""


class ServedModels:
    """See the module. Lives as long as the process; told of requests by dispatch, of configurations by the daemon."""

    def __init__(
        self,
        clock: IReactorTime,
        outage: Callable[[str], Exhausted | None],
        transitions: Transitions | None = None,
    ) -> None:
        """*outage* returns why nobody serves a model that clients ask for: see ``ICredentialPool.outage``.

        *transitions* is told of the beginning and the end of each outage, which whoever hears of it there logs: several
        processes of a daemon find out about the same one.
        """
        self._clock = clock
        self._transitions = transitions or Transitions(clock.seconds)
        self._why = outage
        self._named: dict[str, None] = {}
        self.served: set[str] = set()
        """Those that were, once; read on the data path."""
        self.outages: dict[str, Outage] = {}
        """By model; read on the data path."""
        self._missing: set[str] = set()
        """What the pool had nothing for at the last look, and nobody was refused."""

    def register(self, metrics: Registry) -> None:
        """Add the gauge."""
        metrics.gauge(
            "claudeproxyd_model_ready",
            "Whether somebody serves a model that clients ask for.",
            self._ready,
            ("model",),
        )

    def name_models(self, names: Iterable[str]) -> None:
        """Take what a configuration calls models, in its order; globs are none."""
        self._named = {name: None for name in names if not is_glob(name)}

    # -- the data path

    def answered(self, model: str, asked: float) -> None:
        """Note that the answer of an attempt has begun, which was sent at *asked*, on the reactor's clock.

        Need not be called where the model is in :attr:`served` and has no outage.
        """
        outage = self.outages.get(model)
        if outage is not None and asked >= outage.since:  # else it was on its way, and says nothing of the next
            del self.outages[model]
            self._over(model, outage, "")
        if model in self._named or len(self.served) < MAX_SERVED:
            self.served.add(model)

    def refused(self, model: str) -> None:
        """Note that a request found no credential. What others for the same model may have is none of its outage."""
        outage = self.outages.get(model)
        why = self._why(model)
        if outage is None:
            if why is None or why.reason is Exhaustion.NONE or not self._may_begin(model):
                return
            outage = self._begin(model, why)
        outage.refused += 1
        outage.last = self._clock.seconds()

    def _may_begin(self, model: str) -> bool:
        known = model in self.served or model in self._named
        return known or len(self.outages.keys() - self.served - self._named.keys()) < MAX_UNKNOWN

    def _begin(self, model: str, why: Exhausted) -> Outage:
        outage = self.outages[model] = Outage(self._clock.seconds())
        self._transitions.tell(Happening.MODEL_UNSERVED, f"Nobody serves {model}: {in_words(why)}.", model=model)
        return outage

    def _over(self, model: str, outage: Outage, so_far: str) -> None:
        seconds = self._clock.seconds() - outage.since
        after = f"after {seconds:.0f} s and {outage.refused} refused requests"
        self._transitions.tell(Happening.MODEL_SERVED, f"{model} is served again{so_far}, {after}.", model=model)

    # -- time

    def look(self) -> None:
        """Begin and end outages that no request tells of. Called every :data:`LOOK_EVERY` seconds."""
        now = self._clock.seconds()
        missing = set()
        for model, why in self._watched():
            outage = self.outages.get(model)
            if why is not None and outage is not None:
                outage.last = now
            elif why is not None:
                missing.add(model)
                if model in self._missing:
                    self._begin(model, why)
            elif outage is not None and now - outage.last >= QUIET_SECONDS:
                del self.outages[model]
                self._over(model, outage, ", should somebody ask")
        self._missing = missing

    def _watched(self) -> Iterator[tuple[str, Exhausted | None]]:
        """Yield the models that there are credentials for, those that the operator named first, and why nobody serves
        them; None: somebody does."""
        for model in {**self._named, **dict.fromkeys([*sorted(self.served), *self.outages])}:
            why = self._why(model)
            if why is None or why.reason is not Exhaustion.NONE:
                yield model, why
            else:
                self.outages.pop(model, None)  # it is configured no more

    # -- for metrics and people

    def _ready(self) -> dict[tuple[str, ...], float]:
        rows: dict[tuple[str, ...], float] = {}
        for model, why in self._watched():
            key = (model_label(model),)
            rows[key] = min(rows.get(key, 1), int(why is None and model not in self.outages))
        return rows

    def unserved(self) -> list[dict[str, object]]:
        """Return what there is to say of each model that nobody serves."""
        now = self._clock.seconds()
        found: list[dict[str, object]] = []
        for model, why in self._watched():
            outage = self.outages.get(model)
            if outage is None and why is None:
                continue
            ready_in = None if why is None else why.ready_in
            found.append(
                {
                    "model": model,
                    "reason": "" if why is None else why.reason.value,
                    "ready_in": None if ready_in is None else round(ready_in, 3),
                    "seconds": 0.0 if outage is None else round(now - outage.since, 3),
                    "refused": 0 if outage is None else outage.refused,
                }
            )
        return found


def in_words(why: Exhausted) -> str:
    """Return why nobody serves a model, and for how long."""
    ready = "" if why.ready_in is None else f", next try in {why.ready_in:.0f} s"
    return f"{why.reason.value.replace('_', ' ')}{ready}"
