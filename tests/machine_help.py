"""What this machine can do and what runs on it, for tests that start real processes and engines."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from profile_and_optimize.engines.reaper import descendants

_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # the last as Arm says it


def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Has it instructions for bfloat16? Without, an engine emulates them, which takes many times as long."""
    return bool(_BF16 & set(cpuinfo.read_text(errors="replace").split())) if cpuinfo.exists() else False


DTYPE = "bfloat16" if has_bf16() else "float32"
DTYPE_FLAGS = ("--dtype", DTYPE)


def commands(*, below: int | None = None) -> list[str]:
    """The command line of every process, or of all below this one. Whole: without -ww, ps cuts at the 80 columns that
    pytest's readline sets."""
    argv = ["ps", "-e", "-ww", "-o", "pid=,args="]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    wanted = None if below is None else set(descendants(below))
    found = (line.strip().partition(" ") for line in listed)
    return [args for pid, _, args in found if wanted is None or int(pid) in wanted]


def bench_ended_well(code: int, envelope: dict[str, Any]) -> bool:
    """`pao bench` ends with 0, or with 1 where the machine kept the client from being in time: this machine is shared."""
    return code == (envelope["result"]["honesty"]["validity"] == "invalid")
