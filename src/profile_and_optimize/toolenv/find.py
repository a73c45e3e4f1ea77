"""Finding a tool environment: one that we built, or the user's own Python."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.toolenv.lock import same_name, shipped_digests
from profile_and_optimize.toolenv.marker import read as read_marker
from profile_and_optimize.toolenv.overlay import pieces
from profile_and_optimize.toolenv.specs import SPECS, Spec, spec_of

SOURCES = ("lock", "resolved", "user")
_PROBE = (
    "import importlib.metadata as m, json, platform; "
    "print(json.dumps([['python', platform.python_version()]] + "
    "sorted({d.metadata['Name']: d.version for d in m.distributions()}.items())))"
)


@dataclass(frozen=True, slots=True)
class ToolEnv:
    """A Python that has the tool. `versions` are (distribution, version) pairs, with ("python", ...) among them.

    `source` is "lock" (ours, every hash enforced), "resolved" (ours, versions chosen on the day) or "user" (theirs:
    no digest is known). `laid_over` names what makes it no plain release: code of ours, and versions that the tool does
    not declare.
    """

    tool: str
    python: Path
    versions: tuple[tuple[str, str], ...]
    lock_digest: str | None
    torch_wheel_sha256: str | None
    source: str
    laid_over: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source {self.source!r}: one of {', '.join(SOURCES)}")

    @property
    def folder(self) -> Path | None:
        """The environment's folder when it is ours."""
        return None if self.source == "user" else self.python.parent.parent

    @property
    def bin_dir(self) -> Path:
        """The folder to put first on PATH: the tool's commands lie there."""
        return self.python.parent

    @property
    def delivery(self) -> str:
        """How it came here, for the context of a number."""
        told = {"lock": f"lock {self.lock_digest}", "resolved": f"no lock, resolved as {self.lock_digest}"}
        return told.get(self.source, "user's own Python, no lock")

    @property
    def is_cpu(self) -> bool:
        """Is its torch the build for CPUs?"""
        return "+cpu" in (self.version("torch") or "")

    def version(self, name: str) -> str | None:
        """The version of a distribution; None when it is not installed."""
        return next((v for n, v in self.versions if same_name(n) == same_name(name)), None)


def default_root(environ: Mapping[str, str] = os.environ) -> Path:
    """PAO_TOOLS_DIR, or profile-and-optimize/tools under XDG_DATA_HOME (default ~/.local/share)."""
    if chosen := environ.get("PAO_TOOLS_DIR"):
        return Path(chosen).expanduser().absolute()
    return data_dir(environ) / "tools"


def data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where this user's own things lie that no run holds: tool environments, calibrations."""
    data = environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "profile-and-optimize"


def find(tool: str, root: Path | None = None) -> ToolEnv | None:
    """The finished environment of the versions that this package names: a locked one before a resolved one.

    None when there is none; one that was left half built does not count. Raises WrongUse for an unknown tool.
    """
    spec = spec_of(tool)
    folders = sorted((root or default_root()).glob(f"{spec.name}-{spec.variant}-*/"))
    envs = [env for folder in folders if (env := read(folder, spec)) is not None]
    return min(envs, key=lambda env: env.source != "lock", default=None)


def find_all(root: Path | None = None) -> dict[str, ToolEnv | None]:
    """Every tool that we know how to install, with its environment where there is one."""
    return {tool: find(tool, root) for tool in SPECS}


def read(folder: Path, spec: Spec) -> ToolEnv | None:
    """The environment in `folder`; None when it is half built, was moved, or is of other versions than `spec`."""
    marker = read_marker(folder)
    python = folder / "bin" / "python"
    if marker is None or marker.folder != str(folder.absolute()) or not os.access(python, os.X_OK):
        return None
    accepted = shipped_digests(spec) if marker.source == "lock" else {spec.digest}
    wheel = marker.torch
    if marker.lock_digest not in accepted:
        return None
    laid_over = (*(f"{piece} (ours)" for piece in pieces(spec.overlay)), *spec.apart)
    return ToolEnv(
        spec.name, python, marker.versions, marker.lock_digest, wheel.sha256 if wheel else None, marker.source, laid_over
    )  # fmt: skip


def from_python(python: Path, tool: str = "vllm") -> ToolEnv:
    """The user's own environment, as it is: nothing is installed or changed.

    Raises WrongUse when `python` is no executable file, does not answer, or lacks the tool.
    """
    spec = spec_of(tool)
    path = python.expanduser().absolute()  # not resolved: an environment's python is a link that must stay one
    if str(python).startswith("-") or not path.is_file() or not os.access(path, os.X_OK):
        raise WrongUse(f"--python {python}: not an executable file", next="give the bin/python of an environment")
    env = ToolEnv(tool, path, probe_versions(path), None, None, "user")
    names = {spec.distribution, *(spec.stub or ())[:1]}
    if not any(env.version(name) for name in names):
        raise WrongUse(f"--python {python}: {tool} is not installed there", next=f"pao tools install {tool}")
    return env


def probe_versions(python: Path) -> tuple[tuple[str, str], ...]:
    """Every distribution of that Python, without importing any. Raises WrongUse when it does not answer."""
    try:
        # -I: our own PYTHONPATH and working directory must not show up as its packages.
        argv = [str(python), "-I", "-c", _PROBE]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
        return tuple((str(name), str(version)) for name, version in json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise WrongUse(f"{python} is not a Python that runs: {error}", next="pass --python PATH") from error
