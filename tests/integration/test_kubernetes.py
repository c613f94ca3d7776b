"""What is in ``deploy/`` for Kubernetes and for compose: right by schema, right by each other, right by the daemon."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.integration.support import wire
from tests.integration.support.clients import KUBERNETES, need
from tests.integration.support.daemon import ROOT, TWISTD, environment, free_port
from tests.integration.support.needs import needs
from tests.integration.support.process import Child, run
from tests.integration.support.ready import until_ready

DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes"
PROGRAM = Path(__file__).parent / "programs/kubernetes.py"
SECRETS = "/run/secrets/claudeproxyd"
TO_SPARE = 10.0
"""Seconds for the end itself, of those that whoever stops the daemon gives it."""
#: The files of the overlay, which are told by their first lines.
_BLOCK = re.compile(r"```yaml\n# (\S+)\n(.*?)```", re.DOTALL)


def kubectl() -> None:
    """Skips without it; no package index brings it."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")


def schemas() -> None:
    """See :func:`~tests.integration.support.needs.needs`."""
    need(KUBERNETES)


pytestmark = needs(schemas)


def read(*paths: Path) -> dict[Path, list[Any]]:
    """The objects of files, all of which must be right. Blocks for some seconds."""
    told = subprocess.run([need(KUBERNETES), PROGRAM, *paths], capture_output=True, text=True, check=True)
    found = json.loads(told.stdout)
    assert found["mistakes"] == []
    return {Path(path): objects for path, objects in found["files"].items()}


@pytest.fixture(scope="module")
def files() -> dict[Path, list[Any]]:
    """What is there, by file."""
    return read(DEPLOY / "compose.yaml", *BASE.rglob("*.yaml"))


@pytest.fixture
def service(files: dict[Path, list[Any]]) -> Any:
    """The service of the compose file."""
    (file,) = files[DEPLOY / "compose.yaml"]
    return file["services"]["claudeproxyd"]


@pytest.fixture
def pod(files: dict[Path, list[Any]]) -> Any:
    """What the Deployment says of a pod."""
    (deployment,) = files[BASE / "deployment.yaml"]
    return deployment["spec"]["template"]["spec"]


def secrets() -> set[str]:
    """The names of the secrets in the configuration."""
    return set(re.findall(rf'"{SECRETS}/(\w+)"', (BASE / "claudeproxyd.toml").read_text()))


def test_objects(files: dict[Path, list[Any]]) -> None:
    """Each file is right as it lies there."""
    kinds = [each["kind"] for path, objects in files.items() if path.is_relative_to(BASE) for each in objects]
    assert sorted(kinds) == [
        "Component",
        "Deployment",
        "Kustomization",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    ]


@needs(kubectl)
@ensureDeferred
async def test_overlay(tmp_path: Path) -> None:
    """The overlay of the documentation renders to objects that are right, and that find each other."""
    shutil.copytree(BASE, tmp_path / "kubernetes")
    overlay = tmp_path / "production"
    (overlay / "keys").mkdir(parents=True)
    for name, text in _BLOCK.findall((ROOT / "docs/deploy.md").read_text()):
        (overlay / name).write_text(text)
    for name in secrets():
        (overlay / "keys" / name).write_text("a secret")
    shutil.copy(BASE / "claudeproxyd.toml", overlay)
    rendered = await run(["kubectl", "kustomize", overlay])
    assert rendered.code == 0, rendered.err
    path = tmp_path / "rendered.yaml"
    path.write_text(rendered.out)
    (found,) = read(path).values()
    objects = {each["kind"]: each for each in found}
    services = {each["metadata"]["name"]: each for each in found if each["kind"] == "Service"}

    assert {each["metadata"].get("namespace") for each in objects.values()} == {"claudeproxyd", None}
    pod = objects["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    labels, ports = pod["metadata"]["labels"].items(), {port["name"] for port in container["ports"]}
    assert container["image"] == "registry.example.com/claudeproxyd:0.1.0"
    assert objects["Secret"]["data"].keys() == secrets()
    assert objects["ConfigMap"]["metadata"]["name"].startswith("claudeproxyd-")
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    assert volumes["secrets"]["secret"]["secretName"] == objects["Secret"]["metadata"]["name"]
    for selector in (
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(service["spec"]["selector"] for service in services.values()),
    ):
        assert selector.items() <= labels
    for service in services.values():
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    let_in = [port["port"] for rule in objects["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    assert set(let_in) == ports

    monitor = objects["ServiceMonitor"]["spec"]
    chosen = [
        service
        for service in services.values()
        if monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ]
    assert [service["metadata"]["name"] for service in chosen] == ["claudeproxyd-admin"]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in chosen[0]["spec"]["ports"]}
    credentials = endpoint["authorization"]["credentials"]
    assert credentials["name"] == objects["Secret"]["metadata"]["name"]
    assert credentials["key"] in objects["Secret"]["data"]


def test_nothing_that_is_not_needed(pod: Any, service: Any) -> None:
    """By the Pod Security Standards it is restricted, and it writes to its volume alone; so it is with compose."""
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [volume.partition(":")[2] for volume in service["volumes"] if not volume.endswith(":ro")] == writable
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert writable == re.findall(r"^VOLUME (.*)$", dockerfile, re.MULTILINE)
    assert [str(pod["securityContext"]["runAsUser"])] == re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE)


def test_time_to_end(pod: Any, service: Any) -> None:
    """Nobody who stops the daemon is done with waiting before it is."""
    server = tomllib.loads((BASE / "claudeproxyd.toml").read_text())["server"]
    least = server["lame_duck"] + server["drain"] + TO_SPARE
    assert pod["terminationGracePeriodSeconds"] >= least
    assert float(service["stop_grace_period"].removesuffix("s")) >= least
    for unit in ("claudeproxyd.service", "claudeproxyd@.service"):
        (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "systemd" / unit).read_text(), re.MULTILINE)
        assert float(stop) >= least


@ensureDeferred
async def test_probes_and_scrapes(tmp_path: Path, pod: Any, service: Any) -> None:
    """The daemon, with that configuration, answers whoever asks as kubelet, Prometheus and compose do."""
    keys = {name: f"the-secret-that-is-for-{name}" for name in secrets()}
    for name, key in keys.items():
        (tmp_path / name).write_text(key)
    text = (BASE / "claudeproxyd.toml").read_text().replace(SECRETS, str(tmp_path))
    ports = {8765: free_port(), 8766: free_port()}
    for port, free in ports.items():
        text = text.replace(f"tcp:{port}:interface=0.0.0.0", f"tcp:{free}:interface=127.0.0.1")
    path = tmp_path / "claudeproxyd.toml"
    path.write_text(text.replace("lame_duck = 10 ", "lame_duck = 0 "))
    child = Child([TWISTD, "-n", "--pidfile=", "claudeproxyd", "--config", path], environment(path))
    _, *check = [each.replace("8766", str(ports[8766])) for each in service["healthcheck"]["test"]]
    try:
        await until_ready(child, ports[8766], "/readyz")
        (container,) = pod["containers"]
        listening = {port["name"]: ports[port["containerPort"]] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            answer = await wire.get(listening[asked["port"]], asked["path"], {"host": "10.1.2.3:8766"})
            assert answer.status == 200, probe
        monitor = {"authorization": f"Bearer {keys['prometheus']}"}
        for asked, headers, status in (
            ("/metrics", monitor, 200),
            ("/metrics", {}, 401),
            ("/admin/v1/pool", monitor, 403),
            ("/admin/v1/pool", {"authorization": f"Bearer {keys['admin']}"}, 200),
        ):
            assert (await wire.get(ports[8766], asked, headers)).status == status
        assert (await wire.get(ports[8765], "/v1/models", {"x-api-key": keys["team"]})).status == 200
        assert (await run(check)).code == 0
    finally:
        child.signal("TERM")
        await child.ended(60)
    assert (await run(check)).code != 0
