"""What goes with several workers, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.cores import cores_within, usable_cores
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
        self.assertEqual(self.load(self.server('workers = "auto"')).config.server.processes, usable_cores())
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


class CoresTests(SynchronousTestCase):
    """What "auto" stands for."""

    def within(self, groups: str, files: Mapping[str, str]) -> int:
        """Of eight cores, in these control groups, which have these files."""
        root = Path(self.mktemp())
        for name, text in {"proc/self/cgroup": groups, **files}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return cores_within(8, root)

    def test_quotas(self) -> None:
        """A container sees all cores of its machine, and may use what its quota says, or that of a group above it."""
        for quota, cores in (("50000 100000", 1), ("150000 100000", 2), ("max 100000", 8), ("6400000 100000", 8)):
            self.assertEqual(self.within("0::/\n", {"sys/fs/cgroup/cpu.max": f"{quota}\n"}), cores, quota)
        nested = {"sys/fs/cgroup/a/cpu.max": "200000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}
        self.assertEqual(self.within("0::/a/b\n", nested), 2)

    def test_quotas_of_the_first_version(self) -> None:
        """The same where each controller has a tree of its own; the group's path may be one of the machine's."""
        groups = "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n0::/\n"
        for quota, cores in (("50000", 1), ("300000", 3), ("-1", 8), ("0", 8)):
            group = "sys/fs/cgroup/cpu,cpuacct"
            files = {f"{group}/cpu.cfs_quota_us": quota, f"{group}/cpu.cfs_period_us": "100000"}
            self.assertEqual(self.within(groups, files), cores, quota)

    def test_none(self) -> None:
        """Without control groups, or with what cannot be read, it is the cores."""
        self.assertEqual(cores_within(8, Path(self.mktemp())), 8)
        self.assertEqual(self.within("0::/\n", {"sys/fs/cgroup/cpu.max": "nonsense\n"}), 8)
