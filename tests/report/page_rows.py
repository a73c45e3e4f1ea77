"""Atlas-shaped rows by hand, for pages whose every number can be checked on paper."""

from __future__ import annotations

from typing import Any

from profile_and_optimize.core.context import context
from profile_and_optimize.core.names import digest
from profile_and_optimize.report.pages.model import Stamp
from profile_and_optimize.report.pages.source import Options, Source

GPU = {"hardware": "gpu:B200", "tp": "4", "pp": "1", "dp": "1", "ep": "False", "max_num_batched_tokens": "2048"}
CPU = {"hardware": "cpu:EPYC", "max_num_batched_tokens": "2048"}


def estimate(value: float | None, n: int = 3) -> dict[str, Any] | None:
    """With an interval of 10% to either side; a single block has none."""
    if value is None:
        return None
    return {"estimate": value, "lower": value / 1.1 if n > 1 else None, "upper": value * 1.1 if n > 1 else None, "n": n}


def row(
    cell: str, seen: dict[str, str], *, load: int | None = 8, rate: float | None = None, output: float | None = 800.0,
    ttft: float | None = 100.0, tpot: float | None = 20.0, requests: float | None = 4.0, status: str = "full", engine: str = "vllm",
    flags: str = "engine defaults", workload: str = "chat", n: int = 3, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    dist = {"p50": estimate(tpot, n), "p90": None, "p99": None, "mean": estimate(ttft, n), "n": 1}
    return {
        "cell": cell, "role": "candidate", "engine": engine, "workload": workload, "isl": 32, "osl": 16, "concurrency": load,
        "request_rate": rate, "status": status, "reason": "", "source": "trials",
        "metrics": {"ttft_ms": dist, "tpot_ms": dist, "itl_ms": dist, "e2e_latency_ms": dist,
                    "request_throughput_req_s": estimate(requests, n), "output_throughput_tok_s": estimate(output, n)},
        "context": context({"flags": flags}, seen).to_json(), **more,
    }  # fmt: skip


def source(
    *rows: dict[str, Any], name: str = "20261121T090000Z-hand", model: str = "m", options: Options | None = None
) -> Source:
    stamp = Stamp(
        name,
        1_790_000_000.0,
        (1_789_999_000.0, 1_789_999_900.0),
        digest(b"root"),
        f"{name} · hand",
        "pao verify x",
        "",
        False,
    )
    return Source(
        stamp, model, rows, ("output_throughput",), "Data source: by hand", (), (), None, options or Options()
    )
