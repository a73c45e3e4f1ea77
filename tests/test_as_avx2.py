"""The stand-in for a machine with AVX2 alone: what a program under it sees, and that nothing outside does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SEEN = """
import json, os, pathlib, numpy
from numpy._core._multiarray_umath import __cpu_features__ as features
wide = [f for f in pathlib.Path("/proc/cpuinfo").read_text().split() if f.startswith(("avx512", "amx"))]
print(json.dumps([os.environ["ONEDNN_MAX_CPU_ISA"], os.environ["ATEN_CPU_CAPABILITY"], wide, features.get("X86_V4", False)]))
"""


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc here")
def test_libraries_and_cpuinfo_know_no_avx512_and_the_status_is_the_commands(tmp_path: Path) -> None:
    before = Path("/proc/cpuinfo").read_text().count("avx512")
    argv = [sys.executable, str(ROOT / "bench/as_avx2.py"), sys.executable, "-c", SEEN]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace of its own here: {done.stderr.splitlines()[0]}")
    assert json.loads(done.stdout) == ["AVX2", "avx2", [], False], done.stderr
    assert subprocess.run([*argv[:2], "sh", "-c", "exit 7"], capture_output=True, timeout=120).returncode == 7
    assert Path("/proc/cpuinfo").read_text().count("avx512") == before
