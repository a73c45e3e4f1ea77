"""The one table of metrics: name, unit, better direction, formula, and when it has no value."""

from __future__ import annotations

from dataclasses import dataclass

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.near import unknown


@dataclass(frozen=True, slots=True)
class Metric:
    """`scale` turns the inside unit (seconds, tokens/s) into the printed one; `printed` is the stored name."""

    name: str
    printed: str
    unit: str
    scale: float
    better: str
    formula: str
    undefined: str

    def __post_init__(self) -> None:
        if self.better not in ("lower", "higher"):
            raise ValueError(f"{self.name}: better is lower or higher, not {self.better!r}")


TTFT = Metric(
    "ttft",
    "ttft_ms",
    "ms",
    1e3,
    "lower",
    "t(first non-empty chunk) - t(sent); open loop: - t(intended)",
    "the request failed, or its first chunk is not later than its start",
)
TPOT = Metric(
    "tpot",
    "tpot_ms",
    "ms",
    1e3,
    "lower",
    "(t_last - t_first) / (osl - 1), osl from the server's usage",
    "fewer than 2 output tokens, no usage that can be believed, or all chunks at one moment",
)
ITL = Metric(
    "itl",
    "itl_ms",
    "ms",
    1e3,
    "lower",
    "gaps between content chunks that came one after the other, pooled over requests; those of one read have none",
    "fewer than 2 chunks, or all at one moment",
)
E2E = Metric(
    "e2e_latency",
    "e2e_latency_ms",
    "ms",
    1e3,
    "lower",
    "t(done) - t(sent); open loop: - t(intended)",
    "the request failed, or ended at its start",
)
REQ_RATE = Metric(
    "request_throughput",
    "request_throughput_req_s",
    "req/s",
    1.0,
    "higher",
    "completed requests / run time",
    "no request completed",
)
OUT_RATE = Metric(
    "output_throughput",
    "output_throughput_tok_s",
    "tok/s",
    1.0,
    "higher",
    "output tokens that arrived inside the window / window length; the window is named beside it",
    "no usage that can be believed of one request or more, or no token inside the window",
)

METRICS: dict[str, Metric] = {m.name: m for m in (TTFT, TPOT, ITL, E2E, REQ_RATE, OUT_RATE)}
DISTRIBUTIONS = (TTFT, TPOT, ITL, E2E)


def metric(name: str) -> Metric:
    """The metric of that name or printed name. Raises WrongUse naming what there is."""
    for m in METRICS.values():
        if name in (m.name, m.printed):
            return m
    raise WrongUse(unknown("metric", name, METRICS), next="pao explain RUN")
