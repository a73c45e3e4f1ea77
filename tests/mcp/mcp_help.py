"""What the tests of the server share beside fixtures."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

LONGEST_S = 90.0
CAMPAIGN = """
name: two-mocks
model: mock
engine: mock
blocks: 2
proof_blocks: 0
workloads: [{name: w, isl: 16, osl: 4}]
concurrencies: [2]
requests: 8
cells:
  - {cell_id: base, role: baseline, flags: {ttft-ms: 2, itl-ms: 1}}
  - {cell_id: again, role: aa, flags: {ttft-ms: 2, itl-ms: 1}}
  - {cell_id: quick, flags: {ttft-ms: 1, itl-ms: 0.5}}
"""


def policy_file(work: Path, text: str) -> Path:
    """A policy beside the workspace, as its owner would keep it."""
    folder = work.parent / "owner"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / "mcp-policy.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def in_time(main: Callable[[], Awaitable[Any]]) -> Any:
    """Runs it, for at most a minute and a half."""

    async def bounded() -> Any:
        with anyio.fail_after(LONGEST_S):
            return await main()

    return anyio.run(bounded)


def gone(pids: set[int]) -> bool:
    """Within a minute; the reaper gives engines their time."""
    until = time.monotonic() + 60
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    return not [pid for pid in pids if alive(pid)]
