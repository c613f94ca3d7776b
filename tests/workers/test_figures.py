"""The metrics of several processes as one daemon's."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.exposition import Exemplar, Histogram
from claudeproxyd.observe.metrics import Metrics
from claudeproxyd.workers.figures import ROWS_AT_ONCE, RULES, Figures, combined_state, in_batches, written
from claudeproxyd.workers.parent import MetricsOfAll
from claudeproxyd.workers.supervisor import Worker
from tests.observe.test_metrics import registered


class Process(Metrics):
    """One with a metric of each kind."""

    def __init__(self, number: int) -> None:
        super().__init__()
        sizes = self.noted = Histogram((1.0, 10.0))
        for size in (0.5, 5.0, 50.0)[:number]:
            sizes.observe(size)
        self.counter("t_counts_total", "Counts.", lambda: {("a",): number, (f"only {number}",): 1}, ("who",))
        self.gauge("t_open", "Open.", lambda: number)
        self.gauge("claudeproxyd_credential_level", "Level.", lambda: {("p", "c"): number}, ("provider", "credential"))
        self.histogram("t_sizes", "Sizes.", lambda: {("a",): sizes}, ("who",))


def with_state(metrics: Metrics, state: str) -> Metrics:
    """To which a credential is in that state."""
    labels = ("provider", "credential", "state")
    metrics.gauge("claudeproxyd_credential_state", "State.", lambda: {("p", "c", state): 1}, labels)
    return metrics


def over_the_wire(metrics: Metrics) -> list[object]:
    """What a worker writes down, as it arrives."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(list(in_batches(written(metrics)))))


class FiguresTests(SynchronousTestCase):
    """Sums, and what is no sum."""

    def setUp(self) -> None:
        self.metrics = MetricsOfAll()
        self.workers = [Worker(slot, 0.0, None) for slot in range(2)]  # type: ignore[arg-type]
        for worker in self.workers:
            worker.pid = 1000 + worker.slot

    def told(self) -> Mapping[str, float]:
        """Every sample of the parent's page, by name and labels' values."""
        text = b"".join(self.metrics.pieces()).decode()
        return {
            " ".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def gather(self, *processes: Metrics) -> Mapping[str, float]:
        answers = [(worker, over_the_wire(each)) for worker, each in zip(self.workers, processes, strict=False)]
        self.metrics.gathered(answers)  # type: ignore[arg-type]
        return self.told()

    def test_sums(self) -> None:
        """Counters, histograms and gauges are summed, label by label; of a level the highest counts."""
        told = self.gather(Process(1), Process(2))
        self.assertEqual(told["t_counts_total a"], 3)
        self.assertEqual((told["t_counts_total only 1"], told["t_counts_total only 2"]), (1, 1))
        self.assertEqual(told["t_open"], 3)
        self.assertEqual(told["claudeproxyd_credential_level p c"], 2)
        buckets = [told[f"t_sizes_bucket a {bound}"] for bound in ("1.0", "10.0", "+Inf")]
        self.assertEqual((buckets, told["t_sizes_sum a"], told["t_sizes_count a"]), ([2, 3, 3], 6.0, 3))

    def test_exemplars(self) -> None:
        """Of each bucket the latest is shown, where a scraper asks for them."""
        processes = [Process(1), Process(1)]
        for number, process in enumerate(processes):
            process.noted.note(Exemplar(f"trace-{number}", 0.5, 100.0 - number))
        processes[1].noted.note(Exemplar("another", 5.0, 50.0))
        self.gather(*processes)
        text = b"".join(self.metrics.pieces(open_metrics=True)).decode()
        self.assertIn('# {trace_id="trace-0"} 0.5', text)
        self.assertIn('# {trace_id="another"} 5.0', text)
        self.assertNotIn("trace-1", text)
        self.assertTrue(text.endswith("# EOF\n"))
        self.assertEqual(text.count("# EOF"), 1)

    def test_own(self) -> None:
        """What the parent counts itself is in the sums; what it alone knows is its own."""
        for each in (self.metrics, *(workers := [Process(1), Process(1)])):
            each.gauge("claudeproxyd_build_info", "Versions.", lambda: {("1",): 1}, ("version",))
        self.metrics.gauge("t_open", "Open.", lambda: 5)
        told = self.gather(*workers)
        self.assertEqual((told["t_open"], told["claudeproxyd_build_info 1"]), (7, 1))

    def test_process(self) -> None:
        """The processes' own figures are one's: memory and time are summed, and the start is the first."""
        alone, three = self.gather(), self.gather(Process(1), Process(1))
        self.assertGreater(three["process_resident_memory_bytes"], 2 * alone["process_resident_memory_bytes"])
        self.assertEqual(three["process_start_time_seconds"], alone["process_start_time_seconds"])
        self.assertEqual(three["process_max_fds"], alone["process_max_fds"])
        self.assertEqual(
            {name for name in three if name.startswith("python_info")},
            {name for name in alone if name.startswith("python_info")},
        )

    def test_dead_worker(self) -> None:
        """What a worker has counted stays when it is gone, by what it told last; what it had open does not."""
        self.gather(Process(1), Process(2))
        self.metrics.told(1000, over_the_wire(Process(3)))  # type: ignore[arg-type]
        self.metrics.ended(1000)
        self.metrics.ended(1000)
        self.workers.pop(0)
        told = self.gather(Process(2))
        self.assertEqual((told["t_counts_total a"], told["t_open"], told["t_sizes_count a"]), (5, 2, 5))

    def test_silent_worker(self) -> None:
        """Counters of one that does not answer stay as they were told last: they never go back."""
        self.gather(Process(1), Process(2))
        told = self.gather(Process(1))
        self.assertEqual((told["t_counts_total a"], told["t_open"]), (3, 1))

    def test_states(self) -> None:
        """A credential has one state, by the workers: nobody is served with the parent's."""
        with_state(self.metrics, "cooling")
        told = self.gather(with_state(Process(1), "busy"), with_state(Process(1), "ready"))
        states = {name: value for name, value in told.items() if name.startswith("claudeproxyd_credential_state")}
        self.assertEqual(states, {"claudeproxyd_credential_state p c ready": 1})
        for states_of, state in ((["busy", "busy"], "busy"), (["ready", "cooling"], "cooling"), (["trial"], "trial")):
            self.assertEqual(combined_state(states_of), state)

    def test_parts(self) -> None:
        """Many rows are several parts, so that nobody is held up."""
        metrics = Metrics()
        rows = {(str(number),): number for number in range(2 * ROWS_AT_ONCE + 1)}
        metrics.gauge("t_many", "Many.", lambda: rows, ("number",))
        parts = [part for part in written(metrics) if part[0] == "t_many"]
        self.assertEqual([len(part[-1]) for part in parts], [ROWS_AT_ONCE, ROWS_AT_ONCE, 1])
        batches = list(in_batches(written(metrics)))
        self.assertEqual([part for batch in batches for part in batch if part[0] == "t_many"], parts)
        self.assertLess(len(batches), 6)
        figures = Figures()
        figures.add_written(parts)
        self.assertEqual(figures.value("t_many", ("7",)), 7)

    def test_rules(self) -> None:
        """Each rule is for a metric that there is."""
        known = {name for _, name in registered()}
        self.assertEqual([name for name in RULES if name.startswith("claudeproxyd_") and name not in known], [])
