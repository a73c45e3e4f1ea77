"""Results of genai-perf: `profile_export_genai_perf.json`, close to aiperf's export and not the same.

The load stands in `input_config.perf_analyzer.stimulus` (older: flat in `input_config`). Nothing counts failures, so they are
unknown, and the file names neither its version nor when it ran. perf_analyzer's `measurement` is the size of a window of which
it takes several, not the number of requests asked for.

`inter_token_latency` is (request_latency - ttft) / (output tokens - 1), OUR TPOT, in its later versions (which
one the file does not say); earlier ones averaged the gaps between responses. It has no gaps, so no ITL.
"""

from __future__ import annotations

from typing import Any

from profile_and_optimize.importers.aiperf import stat_in_unit, unit_per_s
from profile_and_optimize.importers.base import Imported, LoadKind, Stat
from profile_and_optimize.importers.loads import LoadSaid
from profile_and_optimize.importers.reading import Looked, each
from profile_and_optimize.importers.settle import settled

TOOL = "genai-perf"
FIELDS = {"ttft": "time_to_first_token", "tpot": "inter_token_latency", "e2e_latency": "request_latency"}


def claims(data: Any) -> bool:
    """Whether an object of a file is one of these runs."""
    config = data.get("input_config") if isinstance(data, dict) else None
    if not isinstance(config, dict) or "aiperf_version" in data:
        return False
    return "request_latency" in data and ("perf_analyzer" in config or "service_kind" in config)


def of(data: Any, path: str) -> Imported:
    """One run. A value of a wrong type or unit is unknown and listed as unread."""
    d = Looked(data, path)
    stats, _ = each(d, {ours: stat_in_unit(d, field) for ours, field in FIELDS.items()}, Stat())
    completed = d.inside("request_count").whole("avg")
    load = _load(d.inside("input_config"))
    run = Imported(
        tool=TOOL, version=d.text("genai_perf_version"), path=path, load=load.kind, concurrency=load.cap,
        request_rate=load.rate, completed=completed, failed=None, metrics=stats,
        request_throughput=unit_per_s(d, "request_throughput", "requests"),
        output_throughput=unit_per_s(d, "output_token_throughput", "tokens"),
        input_tokens=_total(d, "input_sequence_length", completed), output_tokens=_total(d, "output_sequence_length", completed),
        named=FIELDS, facts=_facts(d), unread=tuple(d.unread),
    )  # fmt: skip
    return settled(run, rates=False)


def _total(d: Looked, field: str, completed: int | None) -> int | None:
    """Tokens over all requests, from the mean of one."""
    mean = d.inside(field).number("avg")
    return None if mean is None or completed is None else round(mean * completed)


def _load(config: Looked) -> LoadSaid:
    stimulus = config.inside("perf_analyzer", "stimulus") if "perf_analyzer" in config else config
    cap, rate = stimulus.positive("concurrency"), stimulus.number("request_rate")
    if rate and not cap:
        return LoadSaid(LoadKind.OPEN, rate, None)
    return LoadSaid(LoadKind.CLOSED if cap and not rate else LoadKind.UNKNOWN, None, cap)


def _facts(d: Looked) -> dict[str, str]:
    config = d.inside("input_config")
    endpoint, given = config.inside("endpoint"), config.inside("input")
    models = config.data.get("model_names", config.data.get("model"))
    known = {
        "model": str(models[0])[:200] if isinstance(models, list) and models else None,
        "backend": endpoint.text("type") or config.text("endpoint_type"),
        "dataset": given.text("prompt_source") or config.text("prompt_source"),
        "dataset_entries": given.text("num_dataset_entries"), "tokenizer": config.inside("tokenizer").text("name"),
        "isl_asked": given.inside("synthetic_tokens").text("mean"), "osl_asked": given.inside("output_tokens").text("mean"),
        "seed": given.text("random_seed"),
    }  # fmt: skip
    return {k: v for k, v in known.items() if v}
