"""The facts about this machine that decide whether a tool environment can be built here. Gathered once, then a value."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from profile_and_optimize.core.errors import WrongUse

# `ensurepip` is what Debian's python3.X-venv adds: without it `python -m venv` makes an environment without pip.
_PROBE = (
    "import importlib.util as u, json, sys; find = u.find_spec; "
    "print(json.dumps({'version': sys.version_info[:3], 'tag': 'cp%d%d' % sys.version_info[:2] + sys.abiflags, "
    "'venv': bool(find('venv') and find('ensurepip'))}))"
)


@dataclass(frozen=True, slots=True)
class World:
    """`system` is Linux, Darwin, ...; `glibc` is None on another C library. `python*` speak of the Python that the
    environment would be made with. Bytes are what is free now, within the container's limit where there is one."""

    system: str
    machine: str
    glibc: tuple[int, int] | None
    python: Path
    python_version: tuple[int, int, int]
    python_tag: str
    has_venv: bool
    cpu_flags: frozenset[str]
    has_libnuma: bool
    compiler: str | None
    target: Path
    disk_free_bytes: int
    memory_free_bytes: int | None
    cores: int


@dataclass(frozen=True, slots=True)
class _Python:
    version: tuple[int, int, int]
    tag: str
    has_venv: bool


def observe(*, target: Path, python: Path) -> World:
    """Look at this machine. `target` is the folder that would hold the environment; it need not exist yet.

    Raises WrongUse when `python` is not a Python that runs.
    """
    probed = _probe(python)
    return World(
        system=platform.system(),
        machine=platform.machine(),
        glibc=_glibc(),
        python=python,
        python_version=probed.version,
        python_tag=probed.tag,
        has_venv=probed.has_venv,
        cpu_flags=_cpu_flags(Path("/proc/cpuinfo")),
        has_libnuma=_loads("libnuma.so.1"),
        compiler=shutil.which("g++") or shutil.which("c++"),
        target=target,
        disk_free_bytes=shutil.disk_usage(_existing(target)).free,
        memory_free_bytes=_memory_free(),
        cores=_cores(),
    )


def _probe(python: Path) -> _Python:
    try:
        done = subprocess.run([str(python), "-I", "-c", _PROBE], capture_output=True, text=True, timeout=30, check=True)
        seen = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise WrongUse(f"{python} is not a Python that runs: {error}", next="pass --python PATH") from error
    return _Python(tuple(seen["version"]), seen["tag"], seen["venv"])


def _glibc() -> tuple[int, int] | None:
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split(" ")
        major, minor = version.split(".")[:2]
        return (int(major), int(minor)) if name == "glibc" else None
    except (ValueError, OSError, AttributeError):
        return None


def _cpu_flags(cpuinfo: Path) -> frozenset[str]:
    if not cpuinfo.exists():
        return frozenset()
    lines = (line.partition(":") for line in cpuinfo.read_text(errors="replace").splitlines())
    # x86 says "flags", Arm says "Features"; one core stands for all.
    return next((frozenset(v.split()) for k, _, v in lines if k.strip() in ("flags", "Features")), frozenset())


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())


def _memory_free() -> int | None:
    """Bytes: MemAvailable, or less under a control group's limit (cgroup v2). None where Linux does not tell."""
    free = None
    with contextlib.suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
        free = left if free is None else min(free, left)
    return free


def _cores() -> int:
    """Cores that we may run on: the affinity mask, or less under a control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = max(1, min(cores, int(quota) // int(period)))
    return cores
