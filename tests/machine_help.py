"""What this machine can do and what runs on it, for tests that start real processes and engines."""

from __future__ import annotations

import subprocess
from pathlib import Path

_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # the last as Arm says it


def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Has it instructions for bfloat16? Without, an engine emulates them, which takes many times as long."""
    return bool(_BF16 & set(cpuinfo.read_text(errors="replace").split())) if cpuinfo.exists() else False


DTYPE = "bfloat16" if has_bf16() else "float32"
DTYPE_FLAGS = ("--dtype", DTYPE)


def commands() -> list[str]:
    """The command line of every process, whole: without -ww, ps cuts at the 80 columns that pytest's readline sets."""
    argv = ["ps", "-e", "-ww", "-o", "args"]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()[1:]
