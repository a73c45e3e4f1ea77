"""pao mock: the deterministic server, in the foreground."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.engines.process import require_free
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say


class MockRequest(Request):
    port: int = 8000
    ttft_ms: float = 50.0
    itl_ms: float = 10.0
    osl: int = 64
    tokens_per_chunk: int = 1
    role_chunk: Literal["none", "first", "zero"] = "none"
    error_every: int = 0
    cut_every: int = 0
    noise: float = 0.0
    seed: int = 0
    stall_at: float = 0.0
    stall_for: float = 0.0
    model: str = "mock"
    slots: int = 0
    drift: float = 0.0
    no_usage: bool = False
    garbage: bool = False
    answers: str | None = None


def argv_of(req: MockRequest) -> list[str]:
    """The server's own command line."""
    argv = [sys.executable, "-m", "profile_and_optimize.engines.mock.server"]
    for name, value in req.model_dump().items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            argv += [flag] if value else []
        elif value is not None:
            argv += [flag, str(value)]
    return argv


def run(req: MockRequest, say: Say) -> Result:
    require_free(req.port)
    say(f"mock server on http://127.0.0.1:{req.port} (Ctrl-C stops it)")
    with subprocess.Popen(argv_of(req), stdin=subprocess.DEVNULL) as server:
        try:
            code = server.wait()
        except KeyboardInterrupt:
            server.terminate()
            code = 0
        finally:
            server.terminate()
    if code not in (0, -15):
        raise BrokeMidway(f"the mock server ended with {code}", where=f"port {req.port}", next="choose another --port")
    return Result({"port": req.port}, "mock server stopped")


OP = Op(
    "mock", "A deterministic OpenAI server: known first-token and inter-token times, faults on request.", Safety.WRITES_ARTIFACTS,
    MockRequest, run, mcp_name="perf_tune_report_mock", examples=("pao mock --port 8000 --ttft-ms 50 --itl-ms 10 --osl 64",),
)  # fmt: skip
