"""Runs a job in its own process tree, passes its progress on, and leaves nothing of it behind when it is cancelled."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from profile_and_optimize.core.errors import BrokeMidway, Corrupted
from profile_and_optimize.engines.base import Command
from profile_and_optimize.engines.process import Managed
from profile_and_optimize.evidence.reading import read_bytes
from profile_and_optimize.mcp.job import PID, PROGRESS, REQUEST, RESULT
from profile_and_optimize.ops.base import envelope
from profile_and_optimize.report.words import plain

TOKEN_NAME = "PAO_MCP_TOKEN"
POLL_S = 0.05
HEARTBEAT_S = 15.0
# A vLLM server takes a few seconds to leave the device; the reaper asks again and kills after this.
GENTLE_S = 20.0
MOST_LINES_AT_ONCE = 20
MOST_RESULT_BYTES = 256 << 20
LOG_TAIL = 2000

Report = Callable[[str], Awaitable[None]]


class Job:
    """One op, started. Its folder is private and goes when it is closed."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.verb = str(asked["verb"])
        self.folder = Path(tempfile.mkdtemp(prefix="pao-mcp-"))
        (self.folder / REQUEST).write_text(json.dumps(dict(asked)))
        argv = (sys.executable, "-P", "-m", "profile_and_optimize.mcp.job", str(self.folder))
        env = {k: v for k, v in os.environ.items() if k != TOKEN_NAME}
        self.managed = Managed(Command(argv, tuple(env.items())), self.folder / "log")
        self._read = 0

    def lines(self) -> list[str]:
        """What was said since the last call; a line that is still being written waits."""
        try:
            with open(self.folder / PROGRESS, "rb") as f:
                f.seek(self._read)
                data = f.read(1 << 20)
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return [str(json.loads(line)) for line in whole.splitlines()]

    def result(self) -> tuple[dict[str, Any], str]:
        """(envelope, text). A process that ended without one is an answer too."""
        try:
            # A number that is none is unknown; the child's JSON writes NaN and Infinity.
            found = json.loads(read_bytes(self.folder / RESULT, MOST_RESULT_BYTES), parse_constant=lambda _: None)
            return found["envelope"], found["text"]
        except (Corrupted, ValueError) as e:
            why = self.log_tail() or getattr(e, "message", None) or str(e)
            error = BrokeMidway(
                f"the process gave no answer: {why}", where=self.verb, next="look into the run's folder, then resume"
            )
            return envelope(self.verb, None, error), ""

    def log_tail(self) -> str:
        try:
            return plain((self.folder / "log").read_bytes()[-LOG_TAIL:].decode(errors="replace"))
        except OSError:
            return ""

    def stop(self) -> None:
        """Ctrl-C first, so that the op stops its engines and closes its run; then the reaper's SIGTERM and SIGKILL."""
        with contextlib.suppress(OSError, ValueError):
            if not self.managed.ended:
                os.kill(int((self.folder / PID).read_text()), signal.SIGINT)
                self._await_end(GENTLE_S)
        self.managed.stop()

    def _await_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.managed.ended and time.monotonic() < deadline:
            time.sleep(0.02)

    def close(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


async def run_job(asked: Mapping[str, Any], report: Report, most_s: float) -> tuple[dict[str, Any], str]:
    """(envelope, text) of an op, with each line of progress handed to `report`. Cancelled, it stops the whole tree first."""
    job = Job(asked)
    try:
        with anyio.move_on_after(most_s) as limit:
            await _watch(job, report)
        if limit.cancelled_caught:
            return envelope(job.verb, None, _too_long(most_s)), ""
        return await anyio.to_thread.run_sync(job.result)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(job.close)


def _too_long(most_s: float) -> BrokeMidway:
    return BrokeMidway(
        f"stopped after {most_s / 60:g} minutes, the most that a call may take (one that nobody was asked about: a minute and "
        "a half); what is finished is kept",
        next="resume the run in another call; the owner can set call_minutes, or put the verb under ask or allow",
    )  # fmt: skip


async def _watch(job: Job, report: Report) -> None:
    """Until the job's process is gone. A client that hears nothing gives up, so silence is filled."""
    began = heard = time.monotonic()
    while not job.managed.ended:
        if await _pass_on(job.lines(), report):
            heard = time.monotonic()
        elif time.monotonic() - heard > HEARTBEAT_S:
            heard = time.monotonic()
            await report(f"still running, {heard - began:.0f} s")
        await anyio.sleep(POLL_S)
    await _pass_on(job.lines(), report)


async def _pass_on(lines: list[str], report: Report) -> bool:
    for line in lines[:MOST_LINES_AT_ONCE]:
        await report(line)
    if len(lines) > MOST_LINES_AT_ONCE:
        await report(f"and {len(lines) - MOST_LINES_AT_ONCE} more lines")
    return bool(lines)
