"""Files that look like a result that is known and are not: named, so that nobody reads half of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_OTHER_UNIT = re.compile(r"(mean|median|std|p\d+)_(ttft|tpot|itl|e2el|e2e_latency)(_s|_sec|_secs|_seconds|_us|_ns)?")
_MS = re.compile(r"(mean|median|std|p\d+)_(ttft|tpot|itl|e2el|e2e_latency)_ms")


def _has(*keys: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda d: all(k in d for k in keys)


def _another_unit(d: Mapping[str, Any]) -> bool:
    """vLLM's and SGLang's keys without their milliseconds."""
    return "completed" in d and any(_OTHER_UNIT.fullmatch(k) for k in d) and not any(_MS.fullmatch(k) for k in d)


def _old_guidellm(d: Mapping[str, Any]) -> bool:
    entries = d.get("benchmarks")
    return (
        isinstance(entries, list) and bool(entries) and not any(isinstance(b, dict) and "metrics" in b for b in entries)
    )


def _stages(d: Mapping[str, Any]) -> bool:
    return "load_summary" in d and ("successes" in d or "failures" in d)


RELATIVES: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "a fork of vLLM's or SGLang's serving benchmark whose latencies are not in milliseconds": _another_unit,
    "genai-bench": _has("aggregated_metrics"),
    "inference-perf": _stages,
    "guidellm before 0.2": _old_guidellm,
    "perf_analyzer, the raw export of genai-perf (give profile_export_genai_perf.json)": _has("experiments", "service_kind"),
    "aiperf's time slices (give profile_export_aiperf.json)": _has("timeslices"),
    "aiperf's aggregate of several runs (give the runs)": lambda d: "aggregation_type" in d or "num_profile_runs" in d
    or (isinstance(d.get("metadata"), dict) and "aggregation_type" in d["metadata"]),
    "vllm bench throughput, which serves nothing": _has("elapsed_time", "num_requests", "tokens_per_second"),
    "vllm bench latency, which serves nothing": _has("avg_latency", "latencies", "percentiles"),
    "vllm bench serve of an embedding model, which has no tokens to time": _has("total_input_sequences", "input_sequence_throughput"),
    "trtllm-bench": _has("performance", "request_info"),
    "llmperf": lambda d: any(k.startswith("results_ttft_s") for k in d),
}  # fmt: skip


def relative_of(data: Any) -> str | None:
    """What a stranger's object is by its keys; None where nothing is known of it."""
    if not isinstance(data, dict):
        return None
    return next((name for name, test in RELATIVES.items() if test(data)), None)
