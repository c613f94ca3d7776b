"""docs/behind-a-proxy.md, as far as it is not run: the blocks of nginx and HAProxy are, by tests/integration."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.config.schema import Server
from claudeproxyd.web.channel import KEEP_ALIVE_TIMEOUT
from claudeproxyd.web.public import PublicRoot
from claudeproxyd.web.root import endpoint_at

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/behind-a-proxy.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    """What the page has under a heading."""
    return PAGE.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]


def block(text: str, language: str) -> str:
    """Its block in that language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(found)


def numbers(text: str, name: str) -> list[float]:
    """What a setting of that name has, wherever it stands."""
    return [float(each) for each in re.findall(rf"{name}[ :]+(\d+)", text)]


class Page(SynchronousTestCase):
    """Its figures agree with the daemon's, and with each other."""

    def lame_duck(self, text: str) -> float:
        """What its block of configuration says."""
        told: Any = tomllib.loads(block(text, "toml"))
        return float(told["server"]["lame_duck"])

    def test_haproxy(self) -> None:
        """It looks often enough within the lame duck's time, and closes idle connections before the daemon does."""
        text = section("HAProxy")
        (inter,), (fall,) = numbers(text, "inter"), numbers(text, "fall")
        self.assertGreater(self.lame_duck(text), inter * fall)
        self.assertLess(numbers(text, "http-keep-alive")[0], KEEP_ALIVE_TIMEOUT)

    def test_kubernetes(self) -> None:
        """The same of Kubernetes, which also gives the drain its time; all of it is in the manifests."""
        text = section("Kubernetes")
        manifest = (ROOT / "deploy/kubernetes/deployment.yaml").read_text(encoding="utf-8").splitlines()
        self.assertEqual([line for line in block(text, "yaml").splitlines() if line not in manifest], [])
        (grace,) = numbers(text, "terminationGracePeriodSeconds")
        self.assertGreater(grace, self.lame_duck(text) + Server().drain)
        (_, every), (_, failures) = numbers(text, "periodSeconds"), numbers(text, "failureThreshold")
        self.assertGreater(self.lame_duck(text), every * failures)
        paths = re.findall(r"path: (\S+)", text)
        self.assertEqual(paths, ["/healthz", "/readyz"])
        self.assertTrue(all(endpoint_at(PublicRoot(), path.encode()).is_probe for path in paths))

    def test_nginx(self) -> None:
        """Each server has the word without which two restarts in turn leave nobody."""
        servers = re.findall(r"server 127.*", section("nginx"))
        self.assertEqual([each.endswith(" max_fails=0;") for each in servers], [True, True])
