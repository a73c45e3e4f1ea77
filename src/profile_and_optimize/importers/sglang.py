"""Results of SGLang's serving benchmark (`bench_serving`, now `sglang.benchmark.serving`): one JSON line per run, appended.

Formulas, from its source (0.5.23): ttft ends at the first chunk with content; itl are gaps between such chunks; e2e ends
when the last line of the response was read, and tpot = (e2e - ttft) / (output_len - 1), so the wait for the closing
"[DONE]" is in it. With speculative decoding its itl is divided among the tokens of a chunk and is not ours.

What the file cannot tell: the model, its version, the date, how many requests were asked for (only the detailed lists
show it), when each was sent (so there are no records), and how late. On backends other than `sglang` the stream is asked
for no usage: output_lens are then what was ASKED for, not what came, unless the server volunteers it;
`total_output_tokens_retokenized` is the tool's own count of what came.
"""

from __future__ import annotations

import math
from typing import Any

from profile_and_optimize.importers.base import Imported, RequestSeen, Stat, counted, without_empty
from profile_and_optimize.importers.reading import (
    Looked,
    checked_numbers,
    digest_of_text,
    same_lengths,
    scalars,
    short_error,
)  # fmt: skip

TOOL = "sglang"
FIELDS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e_latency": "e2e_latency"}
PER_REQUEST = ("input_lens", "output_lens", "ttfts", "itls", "errors")
OURS = frozenset({
    "request_rate", "max_concurrency", "completed", "duration", "total_input_tokens", "total_output_tokens", "request_throughput",
    "output_throughput", "backend", "dataset_name", "concurrency",
})  # fmt: skip


def claims(data: Any) -> bool:
    """Whether an object of a file is one of these runs. `num_prompts` is vLLM's alone."""
    needed = ("duration", "completed", "total_output_tokens", "random_range_ratio", "median_e2e_latency_ms")
    return isinstance(data, dict) and all(key in data for key in needed) and "num_prompts" not in data


def of(data: Any, path: str) -> Imported:
    """One run. Raises WrongUse for values of a wrong type or lists of different lengths."""
    d = Looked(data, path)
    requests = _requests(d)
    completed = d.whole("completed")
    stats = {ours: _stat(d, field, completed) for ours, field in FIELDS.items()}
    return Imported(
        tool=TOOL, version=None, path=path, concurrency=d.whole("max_concurrency"), request_rate=_rate(d),
        asked=len(requests) or None, completed=completed, failed=sum(not r.ok for r in requests) if requests else None,
        duration_s=d.number("duration"), metrics=without_empty(_counted(stats, requests, d)),
        request_throughput=d.number("request_throughput"), output_throughput=d.number("output_throughput"),
        input_tokens=d.whole("total_input_tokens"), output_tokens=d.whole("total_output_tokens"),
        delivered_concurrency=d.number("concurrency") if completed else None, requests=requests,
        errors=counted(r.error for r in requests if r.error is not None),
        texts=tuple(digest_of_text(t) for t in d.list("generated_texts")),
        named={ours: f"*_{field}_ms" for ours, field in FIELDS.items()}, facts=_facts(d),
    )  # fmt: skip


def _stat(d: Looked, field: str, completed: int | None) -> Stat:
    if not completed:  # numpy made zeros and NaN of nothing
        return Stat()
    p50, p90, p99, mean = (d.number(f"{k}_{field}_ms", scale=1e-3) for k in ("median", "p90", "p99", "mean"))
    return Stat(p50, p90, p99, mean)


def _counted(stats: dict[str, Stat], requests: tuple[RequestSeen, ...], d: Looked) -> dict[str, Stat]:
    """How many observations there were, where the file tells. Split gaps of speculative decoding are not our itl."""
    good = [r for r in requests if r.ok]
    seen = {
        "ttft": Stat.of([r.ttft_s for r in good if r.ttft_s is not None]),
        "itl": Stat.of([g for r in good for g in r.gaps_s or ()]),
    }
    if d.number("accept_length"):
        stats = {**stats, "itl": Stat()}
    return {name: stat.filled(seen.get(name, Stat())) for name, stat in stats.items()}


def _rate(d: Looked) -> float | None:
    """Requests per second asked for; None for Infinity (all at once) and for "trace"."""
    found = d.data.get("request_rate")
    if isinstance(found, str) or (isinstance(found, float) and math.isinf(found)):
        return None
    return d.number("request_rate")


def _requests(d: Looked) -> tuple[RequestSeen, ...]:
    """e2e here is ttft plus all gaps: to the last chunk, as the file does not list its own e2e per request."""
    lists = {name: d.list(name) for name in PER_REQUEST}
    if not lists["ttfts"]:
        return ()
    n = same_lengths(lists, d.where)
    ttfts, ins, outs = d.numbers("ttfts"), d.numbers("input_lens"), d.numbers("output_lens")
    gaps = [checked_numbers(g, f"{d.where}.itls[{i}]") for i, g in enumerate(lists["itls"])]
    errors = lists["errors"] or [""] * n
    return tuple(
        _request(ttfts[i], gaps[i] if gaps else None, ins[i] if ins else None, outs[i] if outs else None, errors[i])
        for i in range(n)
    )


def _request(ttft: float, gaps: list[float] | None, isl: float | None, osl: float | None, error: Any) -> RequestSeen:
    tokens_in = None if isl is None else int(isl)
    if error or not ttft:
        reason = short_error(error) if error else "no first token"
        return RequestSeen(ttft or None, tuple(gaps or ()) or None, None, tokens_in, None, reason)
    e2e = None if gaps is None else ttft + sum(gaps)
    return RequestSeen(ttft, None if gaps is None else tuple(gaps), e2e, tokens_in, None if osl is None else int(osl))


def _facts(d: Looked) -> dict[str, str]:
    known = {"backend": d.text("backend"), "dataset": d.text("dataset_name")}
    server = d.inside("server_info") if isinstance(d.data.get("server_info"), dict) else Looked({}, d.where)
    known |= {"model": server.text("model_path"), "engine_version": server.text("version")}
    cache = d.inside("cache_report").number("cache_hit_rate_pct")
    known["cache_hit_rate_pct"] = None if cache is None else f"{cache:g}"
    printed = frozenset(k for k in d.data if k.endswith("_ms"))
    return {**scalars(d.data, OURS | printed), **{k: v for k, v in known.items() if v}}
