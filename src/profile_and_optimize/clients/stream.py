"""Our client: a streaming closed or open loop in a process of its own, whose hot path only notes times and bytes.

Why not another tool's: docs/decisions/0001-our-own-client.md, and `bench/client_honesty.py` measures how far they misreport.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from profile_and_optimize.clients import wire
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.said import clean
from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.core.records import ClientRun

WORKER = "profile_and_optimize.clients.stream_worker"
GRACE_S = 300.0  # connecting and parsing, beyond the requests' own timeouts


class StreamClient:
    """See `Client`. The worker's process keeps the caller's garbage collector, threads and prints out of the timing."""

    name = "stream"

    def __init__(self) -> None:
        self.version = version("profile-and-optimize")

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        """Leaves nothing in `workdir` on success; on failure the load (without header values) stays for a look."""
        workdir.mkdir(parents=True, exist_ok=True)
        load_path, result_path = workdir / "load.json", workdir / "client-run.json"
        result_path.unlink(missing_ok=True)
        headers = wire.write_load(load_path, load)
        self._work(load_path, result_path, headers, _longest_s(load))
        run = wire.read_run(result_path)
        for path in (load_path, result_path):
            path.unlink()
        return run

    def _work(self, load_path: Path, result_path: Path, headers: bytes, limit_s: float) -> None:
        # -P: the directory we happen to be in must not be able to replace a module of the worker.
        command = [sys.executable, "-P", "-m", WORKER, str(load_path), str(result_path)]
        errors = load_path.with_name("client-stderr.txt")
        with (
            errors.open("wb") as stderr,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr) as worker,
        ):
            try:
                _hand_over(worker, headers)
                code = worker.wait(limit_s)
            except subprocess.TimeoutExpired:
                raise BrokeMidway(f"the client did not end within {limit_s:.0f} s", where=str(errors)) from None
            finally:
                worker.kill()
        if code != 0 or not result_path.exists():
            lines = errors.read_bytes().strip().splitlines()
            why = clean(lines[-1]) if lines else "no message"
            raise BrokeMidway(f"the client process ended with {code}: {why}", where=str(errors))
        errors.unlink()


def _hand_over(worker: subprocess.Popen[bytes], headers: bytes) -> None:
    """The pipe stays open afterwards: its end tells the worker that we are gone."""
    assert worker.stdin is not None
    try:
        worker.stdin.write(headers)
        worker.stdin.flush()
    except BrokenPipeError:
        pass  # it died at once; its exit code and stderr say why


def _longest_s(load: LoadRequest) -> float:
    if load.schedule is not None:
        thinking_s = sum(load.schedule.think_ns) / 1e9
        return load.schedule.span_s + thinking_s + load.schedule.longest_chain * 2 * load.timeout_s + GRACE_S
    waves = -(-len(load.prompts) // load.concurrency)
    return waves * load.timeout_s + GRACE_S
