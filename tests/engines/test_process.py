"""Nothing that we start outlives us: a server that forks, ignores signals and leaves its group, and a parent killed with -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.engines.base import Command, EngineFailed
from profile_and_optimize.engines.process import Managed, free_port, real_error, require_free, split_cores, wait_ready

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import os,time; os.setsid(); time.sleep(300)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(300)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, limit_s: float = 30.0) -> bool:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def pids(path: Path) -> list[int]:
    assert wait_for(lambda: path.exists() and len(path.read_text().split()) == 2)
    return [int(p) for p in path.read_text().split()]


@pytest.mark.slow
def test_stop_ends_a_tree_that_ignores_sigterm_and_left_its_session(tmp_path: Path) -> None:
    managed = Managed(Command((sys.executable, "-c", STUBBORN, str(tmp_path / "pids"))), tmp_path / "log")
    found = pids(tmp_path / "pids")
    managed.stop(timeout_s=30)
    assert not any(alive(p) for p in found)


@pytest.mark.slow
def test_a_parent_killed_with_9_leaves_nothing_running(tmp_path: Path) -> None:
    code = (
        "import sys,time;from pathlib import Path\n"
        "from profile_and_optimize.engines.base import Command\nfrom profile_and_optimize.engines.process import Managed\n"
        f"Managed(Command((sys.executable,'-c',{STUBBORN!r},{str(tmp_path / 'pids')!r})), Path({str(tmp_path / 'log')!r}))\n"
        "time.sleep(300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
    found = pids(tmp_path / "pids")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert wait_for(lambda: not any(alive(p) for p in found))


def test_a_server_that_dies_at_once_fails_with_its_own_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    managed = Managed(Command((sys.executable, "-c", "raise ValueError('no such dtype: fp3')")), log)
    with pytest.raises(EngineFailed, match="no such dtype: fp3"):
        wait_ready(managed, f"http://127.0.0.1:{free_port()}/health", log, 30)


def test_a_program_that_does_not_exist_fails_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log"
    managed = Managed(Command(("/no/such/program",)), log)
    with pytest.raises(EngineFailed):
        wait_ready(managed, f"http://127.0.0.1:{free_port()}/health", log, 10)


def test_a_server_that_never_gets_ready_is_stopped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    managed = Managed(Command((sys.executable, "-c", "import time; time.sleep(60)")), log)
    with pytest.raises(EngineFailed, match="not ready after"):
        wait_ready(managed, f"http://127.0.0.1:{free_port()}/health", log, 0.5)
    assert managed.ended


def test_the_workers_error_wins_over_the_wrappers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "(EngineCore pid=7) ERROR 11-21 08:44:10 [core.py:1] Traceback (most recent call last):\n"
        "(EngineCore pid=7) ERROR 11-21 08:44:10 [core.py:1] ValueError: FP8 needs compute capability 8.9\n"
        "(APIServer pid=5) RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    assert real_error(log) == "ValueError: FP8 needs compute capability 8.9"


def test_a_port_in_use_is_named() -> None:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        with pytest.raises(WrongUse, match=str(port)):
            require_free(port)


def test_the_client_gets_a_core_of_its_own_from_four_cores_up() -> None:
    assert split_cores((0, 1, 2, 3)) == ((0, 1, 2), (3,))
    assert split_cores((0, 1)) == ((0, 1), (0, 1))
