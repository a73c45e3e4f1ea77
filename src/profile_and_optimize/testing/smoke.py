"""A synthetic campaign that fills every page of the report: 40 cells of which 38 are full, one is partial and one failed; 232
points that can be plotted; 20 MTP context cells that were evicted. Its numbers come from formulas and mean nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.core.context import context
from profile_and_optimize.core.metrics import DISTRIBUTIONS, METRICS, OUT_RATE, REQ_RATE
from profile_and_optimize.core.names import digest
from profile_and_optimize.report.pages.champion import Champion
from profile_and_optimize.report.pages.measured import EVICTED, FAILED, FULL, PARTIAL
from profile_and_optimize.report.pages.model import ChampionRow, Omitted, Stamp
from profile_and_optimize.report.pages.source import Options, Source

RUN_ID = "20260101T000000Z-smoke-synthetic"
STAMP = 1_767_225_600.0
BATCHED = (1024, 2048, 4096, 8192, 16384)
LOADS = (1, 4, 8, 16, 32, 64)
BLOCKS = 3
ISL, OSL = 1024, 256
PARTIAL_LOADS = (1, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Kind:
    """One variant: what it runs on and how fast, as milliseconds of one user's decode step and tokens prefilled in a ms."""

    hardware: str
    quant: str
    tp: int
    ep: bool
    mtp: bool
    step_ms: float
    prefill_per_ms: float

    @property
    def name(self) -> str:
        words = (self.hardware, self.quant, f"tp{self.tp}", "ep" if self.ep else "tp", *(["mtp"] if self.mtp else []))
        return "-".join(words).lower()


KINDS = (
    Kind("H100", "FP8", 16, True, False, 11.0, 34.0), Kind("H100", "FP8", 16, False, False, 12.5, 30.0),
    Kind("B200", "NVFP4", 8, True, False, 7.6, 62.0), Kind("B200", "NVFP4", 8, False, False, 8.3, 56.0),
    Kind("B200", "NVFP4", 8, True, True, 4.9, 60.0), Kind("GB300", "NVFP4", 4, True, False, 8.1, 48.0),
    Kind("GB300", "NVFP4", 4, False, False, 8.8, 44.0), Kind("GB300", "NVFP4", 4, True, True, 5.2, 46.0),
)  # fmt: skip
EVICTED_KINDS = (
    Kind("H100", "FP8", 16, True, True, 7.0, 33.0), Kind("H100", "FP8", 16, False, True, 7.9, 29.0),
    Kind("B200", "NVFP4", 8, False, True, 5.3, 55.0), Kind("GB300", "NVFP4", 4, False, True, 5.6, 43.0),
)  # fmt: skip
FAILED_CELL = "h100-fp8-tp16-tp-mbt16384"
PARTIAL_CELL = "gb300-nvfp4-tp4-ep-mtp-mbt1024"


def smoke_source(options: Options | None = None, *, copies: int = 1) -> Source:
    """`copies` above 1 repeats every cell under other names, for a bench of larger campaigns."""
    rows = [r for copy in range(copies) for r in smoke_rows("" if not copy else f"-c{copy:03d}")]
    return Source(
        stamp=Stamp(
            campaign=RUN_ID, rendered=STAMP, window=(STAMP - 7200.0, STAMP - 300.0), evidence_root=digest(b"synthetic"),
            kicker=f"{RUN_ID} · SYNTHETIC · focus throughput", verify="", overlay="", synthetic=True,
        ),
        model="synthetic-moe", rows=rows, primary=("output_throughput",),
        data_line=f"Data source: none, these numbers were made by a formula | ISL {ISL} | OSL {OSL}",
        missing=("everything: no engine ran and nothing was measured",), omitted=OMITTED, champion=_champion(),
        options=options or Options(),
    )  # fmt: skip


_BEST = (0.112, 0.133, 0.154)
_COUNTERS = "capture hardware counters over the trials (L3 or better)"
OMITTED = (
    Omitted("kernel time shares", "no profile was captured in a window of its own", "capture one on the pick's arm"),
    Omitted("hardware counters", "no counters were read over the trials", _COUNTERS),
    Omitted("speed of light (roofline)", "nothing is grounded (sol_rigor none)", _COUNTERS),
)  # fmt: skip


def smoke_rows(suffix: str = "") -> Iterator[dict[str, Any]]:
    """Atlas rows of the 40 cells, and of the 20 that were evicted."""
    for kind in (*KINDS, *EVICTED_KINDS):
        for mbt in BATCHED:
            cell = f"{kind.name}-mbt{mbt}{suffix}"
            status, reason = _status(kind, cell.removesuffix(suffix) if suffix else cell)
            for load in LOADS:
                measured = status == FULL or (status == PARTIAL and load in PARTIAL_LOADS)
                yield _row(
                    kind, mbt, load, cell, status if not measured else FULL, "" if measured else reason, measured
                )


def _status(kind: Kind, cell: str) -> tuple[str, str]:
    if kind in EVICTED_KINDS:
        return EVICTED, "synthetic: the context run was evicted before its first block"
    if cell == FAILED_CELL:
        return FAILED, "synthetic: out of memory while the KV cache was laid out"
    if cell == PARTIAL_CELL:
        return PARTIAL, "synthetic: the server stopped answering at the higher loads"
    return FULL, ""


def _row(kind: Kind, mbt: int, load: int, cell: str, status: str, reason: str, measured: bool) -> dict[str, Any]:
    seen = {
        "hardware": f"gpu:{kind.hardware}", "quantization": kind.quant, "tp": kind.tp, "pp": 1, "dp": 1, "ep": str(kind.ep),
        "max_num_batched_tokens": mbt, "engine_version": "synthetic", "delivery": "synthetic", "node": "synthetic",
    }  # fmt: skip
    flags = "--speculative-config mtp" if kind.mtp else "engine defaults"
    found = context({"engine": "vllm", "flags": flags}, seen)
    return {
        "schema": 1, "campaign": RUN_ID, "cell": cell, "role": "candidate", "engine": "vllm", "workload": "synthetic-chat", "isl": ISL,
        "osl": OSL, "concurrency": load, "request_rate": None, "requests": 8 * load, "status": status, "reason": reason,
        "blocks": list(range(1, BLOCKS + 1)) if measured else [], "metrics": _metrics(kind, mbt, load, cell) if measured else _nothing(),
        "window": ["synthetic"], "requests_failed": 0, "client": ["unknown"], "context": found.to_json(), "unknown": list(found.gaps()),
        "sources": [],
    }  # fmt: skip


def _metrics(kind: Kind, mbt: int, load: int, cell: str) -> dict[str, Any]:
    """Prefill that waits its turn in steps of so many batched tokens; decode steps that grow with the load and with prefill."""
    jitter = random.Random(f"{cell}/{load}")
    wave = math.ceil(load * ISL / mbt)
    ttft = (ISL / kind.prefill_per_ms) * (1 + 0.45 * (wave - 1) ** 0.8) + 14.0 + mbt / 900
    tpot = kind.step_ms * (1 + (load / (30 if kind.ep else 22)) ** 0.85) * (
        1 + 0.05 * math.log2(mbt / 1024)
    ) + 0.2 * math.log2(1 + load)
    ttft, tpot = (v * math.exp(jitter.gauss(0, 0.02)) for v in (ttft, tpot))
    e2e = ttft + tpot * (OSL - 1)
    rate = load / e2e * 1e3
    half = 0.006 + 0.02 * jitter.random()
    values = {"ttft": ttft, "tpot": tpot, "itl": tpot, "e2e_latency": e2e}
    out: dict[str, Any] = {m.printed: _spread(values[m.name], half, load) for m in DISTRIBUTIONS}
    return out | {REQ_RATE.printed: _over(rate, half), OUT_RATE.printed: _over(rate * OSL, half)}


def _spread(value: float, half: float, load: int) -> dict[str, Any]:
    tails = {"p50": 1.0, "p90": 1.3, "p99": 1.7, "mean": 1.06}
    return {**{q: _over(value * f, half) for q, f in tails.items()}, "n": 8 * load * BLOCKS}


def _over(value: float, half: float) -> dict[str, Any]:
    return {"estimate": value, "lower": value / (1 + half), "upper": value * (1 + half), "n": BLOCKS}


def _nothing() -> dict[str, Any]:
    none: dict[str, Any] = {
        m.printed: {"p50": None, "p90": None, "p99": None, "mean": None, "n": 0} for m in DISTRIBUTIONS
    }
    return none | {METRICS[m.name].printed: None for m in (REQ_RATE, OUT_RATE)}


def _champion() -> Champion:
    return Champion(
        title="Serve b200-nvfp4-tp8-ep-mbt4096", tier="DRAFT", pick="b200-nvfp4-tp8-ep-mbt4096",
        sentence=f"An invented decision, to show where it stands: the pick does better than the baseline by {_words(_BEST)} on "
        f"output_throughput, over n = {BLOCKS} paired blocks.",
        caveat="synthetic numbers decide nothing", endpoint="output_throughput [tok/s, higher is better], over 1 workload (synthetic)",
        baseline="h100-fp8-tp16-ep-mbt4096", margin=0.01,
        rows=(
            _arm("h100-fp8-tp16-ep-mbt4096", "vllm", "BASELINE", None, "the incumbent", "what every other arm is measured against"),
            _arm("h100-again", "vllm", "PASSES", (-0.011, 0.001, 0.013), "the same as the baseline", "the interval includes 0"),
            _arm("b200-nvfp4-tp8-ep-mbt4096", "vllm", "BETTER", _BEST, "B200, NVFP4", "beyond the margin", pick=True),
            _arm("gb300-nvfp4-tp4-ep-mbt4096", "vllm", "UNKNOWN", (-0.02, 0.045, 0.11), "GB300, NVFP4", "reaches across the margin"),
            _arm("b200-sglang-tp8-ep", "sglang", "SAME", (-0.006, 0.001, 0.008), "SGLang, FlashInfer", "all of it inside the margin"),
            _arm("b200-sglang-tp8-tp", "sglang", "WORSE", (-0.09, -0.07, -0.05), "SGLang, tensor parallel", "all of it below the margin"),
            _arm("h100-fp8-tp16-tp-mbt16384", "vllm", "FAILED", None, "tensor parallel", "out of memory while the KV cache was laid out"),
        ),
        gates=(("A/A arm", "pass", ""), ("primary test", "pass", ""), ("grounding", "open", "synthetic: no counters were read"),
               ("accuracy", "open", "synthetic: no questions were asked"), ("records readable", "failed", "synthetic: no records")),
        command=("vllm serve synthetic-moe --tensor-parallel-size 8 --enable-expert-parallel --max-num-batched-tokens 4096 --port PORT",),
        facts=(("Model", "synthetic-moe"), ("Node", "none"), ("Suite", "synthetic-chat at concurrency 1 to 64"),
               ("Measured against", "h100-fp8-tp16-ep-mbt4096"), ("Source under test", "none: no engine ran")),
    )  # fmt: skip


def _arm(
    arm: str, engine: str, state: str, span: tuple[float, float, float] | None, what: str, why: str, *, pick: bool = False
) -> ChampionRow:  # fmt: skip
    words = "the reference" if state == "BASELINE" else "unknown" if span is None else _words(span)
    dots = () if span is None else tuple(span[1] + k * (span[2] - span[0]) / 5 for k in (-1, 0.3, 0.7))
    return ChampionRow(engine, arm, state, words, 0 if state == "FAILED" else BLOCKS, what, why, span, dots, pick)


def _words(span: tuple[float, float, float]) -> str:
    low, mid, high = (f"{100 * math.expm1(v):+.1f}%" for v in span)
    return f"{mid} ({low} to {high})"
