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

from collections.abc import Callable
from typing import Any

from profile_and_optimize.importers.base import Imported, RequestSeen, Stat, counted
from profile_and_optimize.importers.loads import load_said
from profile_and_optimize.importers.reading import Looked, digest_of_text, each, scalars, short_error, uneven
from profile_and_optimize.importers.settle import settled

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
    return isinstance(data, dict) and sum(k in data for k in needed) >= len(needed) - 1 and "num_prompts" not in data


def of(data: Any, path: str) -> Imported:
    """One run. A value of a wrong type is unknown and listed as unread."""
    d = Looked(data, path)
    load = load_said(d, trace=d.data.get("dataset_name") == "mooncake" and d.data.get("backend") == "sglang")
    completed = d.whole("completed")
    stats, garbled = each(d, {ours: _getter(d, field, completed) for ours, field in FIELDS.items()}, Stat())
    if _gaps_split(d):
        stats["itl"] = Stat()
    requests, why = _requests(d)
    run = Imported(
        tool=TOOL, version=None, path=path, load=load.kind, concurrency=load.cap, request_rate=load.rate,
        asked=len(requests) or None, completed=completed, failed=_failed(d, requests),
        duration_s=d.number("duration") or None, metrics=stats,
        request_throughput=d.number("request_throughput"), output_throughput=d.number("output_throughput"),
        input_tokens=d.whole("total_input_tokens"), output_tokens=d.whole("total_output_tokens"),
        delivered_concurrency=d.number("concurrency") if completed else None, requests=requests,
        errors=counted(r.error for r in requests if r.error is not None),
        texts=tuple(digest_of_text(t) for t in d.list("generated_texts")),
        named={ours: f"*_{field}_ms" for ours, field in FIELDS.items()}, facts=_facts(d), unlisted=why, unread=tuple(d.unread),
    )  # fmt: skip
    return settled(run, listed=[n for n in ("ttft", "itl") if n not in garbled], counted=("asked", "failed", "errors"))


def _getter(d: Looked, field: str, completed: int | None) -> Callable[[], Stat]:
    def stat() -> Stat:
        if not completed:  # numpy made zeros and NaN of nothing
            return Stat()
        p50, p90, p99, mean = (d.number(f"{k}_{field}_ms", scale=1e-3) for k in ("median", "p90", "p99", "mean"))
        return Stat(p50, p90, p99, mean)

    return stat


def _gaps_split(d: Looked) -> bool:
    """Whether its ITL may be gaps divided among the tokens of a chunk: on the OpenAI backends with speculative decoding.
    A file without `accept_length` does not say."""
    if d.data.get("backend") == "sglang":
        return False
    return "accept_length" not in d.data or d.data["accept_length"] is not None


def _failed(d: Looked, requests: tuple[RequestSeen, ...]) -> int | None:
    return sum(not r.ok for r in requests) if requests and d.list("errors") else None


def _requests(d: Looked) -> tuple[tuple[RequestSeen, ...], str]:
    """(requests, why the list cannot be used). e2e here is ttft plus all gaps: to the last chunk, as the file does not
    list its own e2e per request."""
    lists = {name: d.list(name) for name in PER_REQUEST}
    if not lists["ttfts"]:
        return (), ""
    if why := uneven(lists):
        return (), f"one list of requests: {why}"
    before = len(d.unread)
    ttfts, ins, outs = (d.numbers(k) or [] for k in ("ttfts", "input_lens", "output_lens"))
    gaps = [d.checked(g, f"itls[{i}]") or [] for i, g in enumerate(lists["itls"])]
    d.texts_or_none("errors")
    if len(d.unread) > before:
        return (), f"a whole list of requests: {d.unread[before]}"
    errors = lists["errors"] or [""] * len(ttfts)
    return tuple(
        _request(ttft, gaps[i] if gaps else None, ins[i] if ins else None, outs[i] if outs else None, errors[i])
        for i, ttft in enumerate(ttfts)
    ), ""


def _request(ttft: float, gaps: list[float] | None, isl: float | None, osl: float | None, error: Any) -> RequestSeen:
    """A request without an error text is one that the tool counted as completed, with or without a first token."""
    tokens_in = None if isl is None else int(isl)
    if error:
        return RequestSeen(ttft or None, tuple(gaps or ()) or None, None, tokens_in, None, short_error(error))
    e2e = None if gaps is None or not ttft else ttft + sum(gaps)
    tokens_out = None if osl is None else int(osl)
    return RequestSeen(ttft or None, None if gaps is None else tuple(gaps), e2e, tokens_in, tokens_out)


def _facts(d: Looked) -> dict[str, str]:
    known = {"backend": d.text("backend"), "dataset": d.text("dataset_name")}
    server = d.inside("server_info")
    known |= {"model": server.text("model_path"), "engine_version": server.text("version")}
    cache = d.inside("cache_report").number("cache_hit_rate_pct")
    known["cache_hit_rate_pct"] = None if cache is None else f"{cache:g}"
    printed = frozenset(k for k in d.data if k.endswith("_ms"))
    return {**scalars(d.data, OURS | printed), **{k: v for k, v in known.items() if v}}
