"""What goes with several workers, and what does not."""

from __future__ import annotations

import os

from claudeproxyd.config.reload import difference, put_in_force
from claudeproxyd.config.report import report
from tests.config.support import SANDBOX, ConfigTestCase


class WorkersTests(ConfigTestCase):
    """``server.workers``."""

    def server(self, *lines: str) -> str:
        return "\n".join(["[server]", *lines, SANDBOX])

    def test_numbers(self) -> None:
        """A number, or as many as there are cores."""
        self.assertEqual(self.load(SANDBOX).config.server.processes, 1)
        self.assertEqual(self.load(self.server("workers = 3")).config.server.processes, 3)
        cores = len(os.sched_getaffinity(0))
        self.assertEqual(self.load(self.server('workers = "auto"')).config.server.processes, cores)
        for wrong, why in (("0", "must be at least 1"), ('"all"', "must be one of auto"), ("300", "at most 256")):
            self.assertIn(why, self.problem(self.server(f"workers = {wrong}")).message)

    def test_report(self) -> None:
        """--check says so."""
        loaded = self.load(self.server("workers = 3"))
        self.assertIn("\nserves by 3 workers\n", report(loaded, loaded.makers))
        loaded = self.load(SANDBOX)
        self.assertNotIn("serves by", report(loaded, loaded.makers))

    def test_listeners(self) -> None:
        """What can be shared is shared; an endpoint of another kind is a mistake."""
        listen = [r"tcp:1:interface=127.0.0.1", "unix:/s", "systemd:domain=INET:index=0", "haproxy:tcp:2"]
        text = self.server("workers = 2", f"listen = {listen}", "open = true")
        problem = self.problem(text)
        self.assertEqual((problem.path, problem.message), ("server.listen[3]", "cannot be shared by workers"))
        self.load(text.replace("workers = 2", ""))

    def test_no_administration(self) -> None:
        """Without an admin listener nobody sees the workers: it is allowed, and warned of."""
        (warning,) = self.load(self.server("workers = 2", 'admin = ""')).warnings
        self.assertIn("nothing tells how the workers fare", str(warning))
        self.assertEqual(self.load(self.server('admin = ""')).warnings, [])

    def test_connections(self) -> None:
        """Each worker needs a connection to each provider."""
        text = self.server("workers = 3") + "max_connections = 2\n"
        self.assertEqual(self.problem(text).path, "providers[0].max_connections")
        self.load(text.replace("= 2", "= 3"))

    def test_reload(self) -> None:
        """Another number needs a restart."""
        one, three = (self.load(self.server(f"workers = {number}")) for number in (1, 3))
        changes = difference(one.config, three.config, one.makers)
        self.assertEqual((changes.restart, changes.settings), (("server.workers",), ()))
        self.assertEqual(put_in_force(one.config, three.config).server.processes, 1)
