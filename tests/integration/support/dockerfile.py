"""Builds an image's root as its Dockerfile says, without Docker.

Every instruction is carried out, or is one that a root has nothing of; one that is not known here fails. The base image
alone is another: this machine's programs and its Python, seen read-only, and folders that are otherwise empty.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.support.needs import lacking

PYTHON = sys._base_executable
"""Of the environment that runs the tests; the base image's is in its place on PATH."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
"""What a root sees of this machine, where it has it, beside its Python."""
NAMES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/ld.so.cache", "/etc/pip.conf")
"""And what it takes to reach a package index."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
LEFT_OUT = ("__pycache__", "dropin.cache")
"""Made by whoever runs the checkout; ``.dockerignore`` leaves them out too."""


def may_unshare() -> None:
    """Skips where a root cannot be entered; see :func:`~tests.integration.support.needs.needs`."""
    if os.geteuid() != 0:
        lacking("a root is entered by root alone")
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False
    )
    if tried.returncode != 0:
        lacking(f"there may be no namespaces here: {tried.stderr.decode().strip()}")


@dataclass
class Image:
    """What the last stage amounts to."""

    root: Path
    environ: dict[str, str] = field(default_factory=lambda: {"PATH": f"{Path(PYTHON).parent}:/usr/bin:/bin"})
    folder: str = "/"
    user: str = "0"
    volumes: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        """Return where that path of the image is on this machine."""
        return self.root / os.path.join(self.folder, path).lstrip("/")


def build(dockerfile: Path, context: Path, folder: Path) -> Image:
    """Carry out *dockerfile* below *folder*; return its last stage. Blocks, for as long as pip takes."""
    stages: dict[str, Image] = {}
    image: Image | None = None
    for name, rest in instructions(dockerfile.read_text()):
        if name == "ARG":
            assert rest.startswith("PYTHON="), rest  # of the base image
        elif name == "FROM":
            base, *alias = re.split(r"\s+AS\s+", rest)
            assert base.startswith("python:"), base
            image = Image(_fresh(folder / f"stage-{len(stages)}"))
            stages[alias[0] if alias else ""] = image
        else:
            assert image is not None, f"{name} before FROM"
            _carry_out(image, name, rest, stages, context)
    assert image is not None
    return image


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, with what follows their names as one line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def _carry_out(image: Image, name: str, rest: str, stages: dict[str, Image], context: Path) -> None:
    if name == "WORKDIR":
        image.folder = rest
        image.inside("").mkdir(parents=True, exist_ok=True)
    elif name == "COPY":
        *sources, target = rest.split()
        for source in sources:
            _copy(context / source, image.inside(target), into=target.endswith("/"))
    elif name == "RUN":
        _run(image, rest, stages)
    elif name == "ENV":
        key, _, value = rest.partition("=")
        image.environ[key] = value.replace(f"${key}", image.environ.get(key, ""))
    elif name in ("ENTRYPOINT", "CMD"):
        setattr(image, {"ENTRYPOINT": "entry", "CMD": "command"}[name], json.loads(rest))
    elif name == "VOLUME":
        image.volumes += rest.split()
    elif name == "EXPOSE":
        image.ports += map(int, rest.split())
    elif name == "USER":
        image.user = rest
    else:
        assert (name, rest) == ("STOPSIGNAL", "SIGTERM"), f"{name} is not known here: teach it"


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if into:
        target = target / source.name
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    else:
        shutil.copy(source, target)


def _run(image: Image, rest: str, stages: dict[str, Image]) -> None:
    mounts = []
    while found := re.match(r"--mount=type=bind,from=(\w+),source=(\S+),target=(\S+)\s+", rest):
        stage, source, target = found.groups()
        mounts.append((str(stages[stage].root) + source, target))
        rest = rest[found.end() :]
    assert not rest.startswith("--"), rest
    environ = {**image.environ, **{name: value for name, value in os.environ.items() if name.startswith("PIP_")}}
    # The index that pip is told of may be a folder.
    mounts += [(value, value) for name, value in environ.items() if name == "PIP_FIND_LINKS" and Path(value).is_dir()]
    done = subprocess.run(
        entering(image, ["sh", "-euc", rest], mounts=mounts, environ=environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"RUN {rest}\n{done.stdout}{done.stderr}"


def _fresh(root: Path) -> Path:
    for path in ("dev", "etc", "proc", "tmp", "var/lib", "run"):
        (root / path).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    return root


def entering(
    image: Image,
    command: list[str],
    *,
    mounts: list[tuple[str, str]],
    environ: dict[str, str] | None = None,
    user: str = "",
    sealed: bool = False,
) -> list[str]:
    """Return the command line that runs *command* in the image's root, as the first process of a PID namespace.

    *mounts* are (path on this machine, path in there). *user* takes all capabilities away; *sealed* makes the root
    read-only, its volumes excepted.
    """
    root = image.root
    prefix = os.path.realpath(sys.base_prefix)
    steps = ["mount --make-rprivate /", f"mount --bind {root} {root}"]
    for path in SYSTEM:
        if os.path.islink(path):
            steps.append(f"ln -sfn {os.readlink(path)} {root}{path}")
        elif os.path.isdir(path):
            steps += _mounted(path, f"{root}{path}")
    if not any(prefix == path or prefix.startswith(f"{path}/") for path in SYSTEM):
        steps += _mounted(prefix, f"{root}{prefix}")
    for path in (*NAMES, *DEVICES):
        if os.path.exists(path):
            steps += _mounted(os.path.realpath(path), f"{root}{path}", writable=path in DEVICES)
    for source, target in mounts:
        steps += _mounted(source, f"{root}{target}")
    steps.append(f"mount -t proc proc {root}/proc")
    if sealed:
        steps += [f"mount --bind {root}{volume} {root}{volume}" for volume in image.volumes]
        steps.append(f"mount -o remount,bind,ro {root}")
    bare = [f"{name}={value}" for name, value in (environ or image.environ).items()]
    inner = ["env", "-i", "--chdir", image.folder, *bare, *command]
    if user:
        uid, _, gid = user.partition(":")
        dropped = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"]
        inner = ["setpriv", f"--reuid={uid}", f"--regid={gid or 0}", *dropped, *inner]
    steps.append(f"exec chroot {root} {shlex.join(inner)}")
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", "\n".join(steps)]


def _mounted(source: str, target: str, *, writable: bool = False) -> list[str]:
    make = f"mkdir -p {target}" if os.path.isdir(source) else f"mkdir -p $(dirname {target}) && touch {target}"
    steps = [make, f"mount --bind {source} {target}"]
    return steps if writable else [*steps, f"mount -o remount,bind,ro {target}"]
