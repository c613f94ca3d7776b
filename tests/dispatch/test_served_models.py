"""Which models nobody serves: said once when it begins and once when it is over."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.dispatch.served_models import LOOK_EVERY, MAX_SERVED, MAX_UNKNOWN, QUIET_SECONDS, ServedModels
from claudeproxyd.leases import Exhausted, Exhaustion
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.observe.transitions import Transition, Transitions
from claudeproxyd.outcomes.types import Kind

QUOTA = Exhausted(Kind.QUOTA, 1800.0)


class ServedModelsTests(SynchronousTestCase):
    """Beside a pool that says what it is told to."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.out: dict[str, Exhausted] = {}
        transitions = Transitions(self.clock.seconds)
        self.told: list[Transition] = []
        transitions.subscribe(self.told.append)
        self.models = ServedModels(self.clock, self.out.get, transitions)  # type: ignore[arg-type]  # in all but its type
        self.metrics = Metrics()
        self.models.register(self.metrics)
        self.seen = 0

    def lines(self) -> list[str]:
        """What was told since the last look."""
        said = [transition.message for transition in self.told[self.seen :]]
        self.seen += len(said)
        return said

    def ready(self) -> dict[str, str]:
        """The metric, by model."""
        rows = [line for line in self.metrics.render().decode().splitlines() if "claudeproxyd_model_ready{" in line]
        return {row.split('"')[1]: row.rpartition(" ")[2] for row in rows}

    def look(self, times: int = 1) -> None:
        """Let the daemon's timer go by."""
        for _ in range(times):
            self.clock.advance(LOOK_EVERY)
            self.models.look()

    def test_one_line_each(self) -> None:
        """However many requests are refused."""
        self.models.answered("opus", self.clock.seconds())
        self.assertEqual(self.lines(), [])
        self.out["opus"] = QUOTA
        for _ in range(40):
            self.models.refused("opus")
            self.clock.advance(1.0)
        self.assertEqual(self.lines(), ["Nobody serves opus: quota, next try in 1800 s."])
        del self.out["opus"]
        self.models.answered("opus", self.clock.seconds())
        self.models.answered("opus", self.clock.seconds())
        self.assertEqual(self.lines(), ["opus is served again, after 40 s and 40 refused requests."])
        self.assertEqual(
            [(each.what.value, each.message, each.subject) for each in self.told],
            [
                ("model.unserved", "Nobody serves opus: quota, next try in 1800 s.", {"model": "opus"}),
                ("model.served", "opus is served again, after 40 s and 40 refused requests.", {"model": "opus"}),
            ],
        )
        self.assertEqual(self.models.unserved(), [])

    def test_answers_of_before(self) -> None:
        """What was on its way when the last credential was used up says nothing of the next request."""
        self.clock.advance(5.0)
        self.out["opus"] = QUOTA
        self.models.refused("opus")
        self.models.answered("opus", 4.0)
        self.models.refused("opus")
        self.assertEqual(len(self.lines()), 1)
        self.assertEqual(self.models.outages["opus"].refused, 2)

    def test_ready_is_not_served(self) -> None:
        """Behind a cooldown that is over for a moment it is still an outage."""
        self.models.name_models(["opus", "claude-*"])
        self.assertEqual(self.ready(), {"opus": "1.0"})
        self.out["opus"] = QUOTA
        self.models.refused("opus")
        self.assertEqual(self.ready(), {"opus": "0.0"})
        del self.out["opus"]
        self.assertEqual(self.ready(), {"opus": "0.0"})
        self.assertEqual([each["model"] for each in self.models.unserved()], ["opus"])
        self.out["opus"] = QUOTA
        self.models.refused("opus")
        self.assertEqual(len(self.lines()), 1)

    def test_over_by_itself(self) -> None:
        """Where nobody asks any more, a while after the pool has something again."""
        self.models.name_models(["opus"])
        self.out["opus"] = QUOTA
        self.models.refused("opus")
        self.look(3)
        del self.out["opus"]
        self.look(int(QUIET_SECONDS / LOOK_EVERY) - 1)
        self.assertEqual(len(self.lines()), 1)
        self.look()
        told = "opus is served again, should somebody ask, after 90 s and 1 refused requests."
        self.assertEqual(self.lines(), [told])
        self.assertEqual(self.ready(), {"opus": "1.0"})

    def test_requests_that_wait(self) -> None:
        """None is refused yet, but the pool has had nothing at two looks."""
        self.models.name_models(["opus"])
        self.out["opus"] = Exhausted(Kind.TRANSIENT, 2.0)
        self.assertEqual(self.ready(), {"opus": "0.0"})
        self.look()
        self.assertEqual(self.lines(), [])
        self.look(3)
        self.assertEqual(self.lines(), ["Nobody serves opus: transient, next try in 2 s."])
        (unserved,) = self.models.unserved()
        self.assertEqual(
            unserved, {"model": "opus", "reason": "transient", "ready_in": 2.0, "seconds": 20.0, "refused": 0}
        )

    def test_refused_while_others_are_served(self) -> None:
        """A request that none of those which are ready can carry is no outage of its model."""
        self.models.refused("opus")
        self.assertEqual((self.lines(), self.ready()), ([], {}))

    def test_names_that_clients_make_up(self) -> None:
        """They are few at a time, and gone when it is over."""
        for number in range(3 * MAX_UNKNOWN):
            self.out[f"m{number}"] = QUOTA
            self.models.refused(f"m{number}")
        self.assertEqual(len(self.models.unserved()), MAX_UNKNOWN)
        self.models.name_models(["opus"])
        self.out["opus"] = QUOTA
        self.models.refused("opus")
        self.assertEqual(self.models.unserved()[0]["model"], "opus")
        self.out.clear()
        self.look(int(QUIET_SECONDS / LOOK_EVERY) + 1)
        self.assertEqual(self.ready(), {"opus": "1.0"})
        for number in range(2 * MAX_SERVED):
            self.models.answered(f"m{number}", self.clock.seconds())
        self.assertEqual(len(self.ready()), MAX_SERVED + 1)

    def test_models_that_nothing_is_configured_for(self) -> None:
        """They are no outage, nor any more when a reload takes them away."""
        self.models.answered("old", 0.0)
        self.out["old"] = QUOTA
        self.models.refused("old")
        self.out["old"] = Exhausted(Exhaustion.NONE, None)
        self.assertEqual((self.ready(), self.models.unserved()), ({}, []))
        self.models.refused("old")
        self.assertEqual(self.models.outages, {})
