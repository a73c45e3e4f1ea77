"""A server process held through its reaper; and the cores that engine and client get."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.engines.base import Command, EngineFailed

# A server is lost when so many health checks in a row failed; each may take so long.
LOST_AFTER = 4
HEALTH_S = 10.0
FIRST_SIGNAL_CODE = 192
REAPER = Path(__file__).with_name("reaper.py")
# What a server process may see of our environment; arms add their own settings on top.
PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "HF_HOME", "HF_TOKEN",
          "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "VLLM_CACHE_ROOT", "VIRTUAL_ENV")  # fmt: skip


def server_env(command: Command, base: Mapping[str, str]) -> dict[str, str]:
    """The whole environment that a server process gets."""
    return {k: base[k] for k in PASSED if k in base} | dict(command.env)


class Managed:
    """One running command. Closing the pipe (or dying) makes the reaper stop the whole tree."""

    def __init__(
        self, command: Command, log: Path, cores: tuple[int, ...] = (), base_env: Mapping[str, str] | None = None
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        env = server_env(command, os.environ if base_env is None else base_env)
        read_end, self._write_end = os.pipe()
        argv = [
            sys.executable,
            "-I",
            str(REAPER),
            str(read_end),
            str(log),
            ",".join(map(str, cores)),
            "--",
            *command.argv,
        ]
        self._reaper = subprocess.Popen(
            argv, pass_fds=(read_end,), env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        os.close(read_end)

    @property
    def pid(self) -> int:
        """The root of the tree: the reaper, which is the parent of all that the command starts."""
        return self._reaper.pid

    @property
    def ended(self) -> bool:
        return self._reaper.poll() is not None

    @property
    def exit_code(self) -> int | None:
        return self._reaper.poll()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Stop the tree and wait until it is gone."""
        with contextlib.suppress(OSError):
            os.close(self._write_end)
        try:
            self._reaper.wait(timeout_s)
        except subprocess.TimeoutExpired as e:
            raise EngineFailed(
                f"the reaper {self._reaper.pid} did not finish in {timeout_s:.0f} s", next="look with ps, and kill it"
            ) from e


def wait_ready(
    managed: Managed, url: str, log: Path, timeout_s: float, poll: Callable[[], None] = lambda: time.sleep(0.1)
) -> float:
    """Seconds until GET url answers 200. Raises EngineFailed with the log's own error; stops the process then."""
    began = time.monotonic()
    with httpx.Client(trust_env=False, timeout=2.0) as http:
        while time.monotonic() - began < timeout_s:
            if managed.ended:
                managed.stop()
                raise EngineFailed(
                    real_error(log) or f"exited with code {managed.exit_code} before it was ready", where=str(log)
                )
            with contextlib.suppress(httpx.HTTPError):
                if http.get(url).status_code == 200:
                    return time.monotonic() - began
            poll()
    managed.stop()
    raise EngineFailed(real_error(log) or f"not ready after {timeout_s:.0f} s", where=str(log), next=f"read {log}")


def why_lost(managed: Managed, url: str, log: Path | None, poll: Callable[[], None] = lambda: time.sleep(1.0)) -> str:
    """Why a server that was ready serves no longer: its process ended, or GET url fails time after time; "" while it serves."""
    said = ""
    with httpx.Client(trust_env=False, timeout=HEALTH_S) as http:
        for _ in range(LOST_AFTER):
            try:
                status = http.get(url).status_code
                if status == 200:
                    return ""
                said = f"answered {status}"
            except httpx.HTTPError as e:
                said = f"failed ({type(e).__name__})"
            if managed.ended:
                return (real_error(log) if log else "") or f"the server {ending(managed.exit_code)}"
            poll()
    return f"GET {httpx.URL(url).path} {said}, {LOST_AFTER} times"


def ending(code: int | None) -> str:
    """In words how a process ended. The reaper, itself a process, passes a child's signal n on as 256 - n."""
    number = 0 if code is None else -code if code < 0 else 256 - code if code > FIRST_SIGNAL_CODE else 0
    memory = ", as the kernel does when memory runs out" if number == signal.SIGKILL else ""
    return f"was killed by signal {number}{memory}" if number else f"ended with code {code}"


_ERROR_LINE = re.compile(
    r"(?:^|\s)((?:[A-Za-z_]+\.)*[A-Z][A-Za-z]*(?:Error|Exception|Interrupt)(?::\s.*)|.*\berror: .*)$"
)
_WRAPPERS = ("Engine core initialization failed", "WorkerProc initialization failed", "Failed core proc", "cancelled")


def real_error(log: Path) -> str:
    """The root cause in an engine's log: the first error line that is not a wrapper's; "" when there is none."""
    if not log.exists():
        return ""
    found = []
    for line in log.read_text(errors="replace").splitlines()[-4000:]:
        clean = re.sub(r"\x1b\[[0-9;]*m", "", line)
        clean = re.sub(r"^\([A-Za-z_0-9]+ pid=\d+\)\s*", "", clean)
        clean = re.sub(r"^(ERROR|WARNING|INFO) [\d-]+ [\d:]+ (\[[^\]]*\])?\s*", "", clean).strip()
        hit = _ERROR_LINE.search(clean)
        if hit and not any(w in clean for w in _WRAPPERS):
            found.append(hit.group(1).strip())
    return found[0][:400] if found else ""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def require_free(port: int) -> None:
    """Raise WrongUse when something already listens on 127.0.0.1:port."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError as e:
            raise WrongUse(
                f"port {port} is in use",
                where="127.0.0.1",
                next="choose another with --port, or stop what listens there",
            ) from e


def split_cores(available: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(engine cores, client cores). From four cores up the client gets the last one to itself; below, both share all."""
    if len(available) >= 4:
        return available[:-1], available[-1:]
    return available, available


def available_cores() -> tuple[int, ...]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
