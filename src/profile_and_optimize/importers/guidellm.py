"""Results of `guidellm run --output kind=json` (and of its older `guidellm benchmark`): one run per entry of `benchmarks`.

Formulas (0.8): time_to_first_token_ms ends at the first chunk with a token, ours; `inter_token_latency_ms` is
(last token - first token) / (output tokens - 1) per request: OUR TPOT, but its percentiles weigh each request by its
tokens; `time_per_output_token_ms` is request_latency / output tokens and none of our metrics, kept in `aside`;
request_latency is in SECONDS. It has no gaps, so no ITL. `request_dispatch_delay` is from when a request was due (in a
closed loop: when its slot came free) to when it was sent.

What the file cannot tell: the time of any chunk between the first and the last, so there are no records, and how many
requests a duration cut off of those it had started beyond `incomplete`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from profile_and_optimize.importers.base import Imported, LoadKind, RequestSeen, Stat, counted, without_empty
from profile_and_optimize.importers.loads import LoadSaid
from profile_and_optimize.importers.reading import Looked, digest_of_text, each, short_error
from profile_and_optimize.importers.settle import settled

TOOL = "guidellm"
FIELDS = {
    "ttft": ("time_to_first_token_ms", 1e-3), "tpot": ("inter_token_latency_ms", 1e-3), "e2e_latency": ("request_latency", 1.0),
}  # fmt: skip
ASIDE = "time_per_output_token_ms"
GROUPS = ("successful", "errored", "incomplete")


def claims(data: Any) -> bool:
    """Whether an object of a file is one of these reports."""
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        return False
    return all(isinstance(b, dict) and ("metrics" in b or "requests" in b) for b in data["benchmarks"])


def of(data: Any, path: str) -> tuple[Imported, ...]:
    """One value per benchmark of the report; none where it holds none. A value of a wrong type is unknown and unread."""
    d = Looked(data, path)
    entries = d.list("benchmarks")
    names = [path if len(entries) == 1 else f"{path}#{i + 1}" for i in range(len(entries))]
    return tuple(_one(d, b, name) for b, name in zip(entries, names, strict=True))


def _one(report: Any, entry: Any, path: str) -> Imported:
    b = Looked(entry, path)
    d = Looked(report.data, path, b.unread)
    metrics = b.inside("metrics")
    totals = metrics.inside("request_totals") if "request_totals" in metrics else b.inside("run_stats", "requests_made")
    getters = {
        ours: _getter(metrics, field, scale) for ours, (field, scale) in (FIELDS | {ASIDE: (ASIDE, 1e-3)}).items()
    }
    stats, garbled = each(b, getters, Stat())
    aside = without_empty({ASIDE: stats.pop(ASIDE)})
    requests, why = _requests(b)
    load = _load(b)
    run = Imported(
        tool=TOOL, version=d.inside("metadata").text("guidellm_version"), path=path, started=_started(b), load=load.kind,
        concurrency=load.cap, request_rate=load.rate, asked=totals.positive("total"),
        completed=totals.whole("successful"), failed=totals.whole("errored"), incomplete=totals.whole("incomplete"),
        duration_s=b.number("duration") or None, metrics=stats,
        request_throughput=_mean(metrics, "requests_per_second"), output_throughput=_mean(metrics, "output_tokens_per_second"),
        input_tokens=_sum(metrics, "prompt_token_count"), output_tokens=_sum(metrics, "output_token_count"),
        delivered_concurrency=_mean(metrics, "request_concurrency"), requests=requests,
        send_lag_s=tuple(r.lag_s for r in requests if r.lag_s is not None), errors=(), prompts=_prompts(b),
        named={ours: field for ours, (field, _) in FIELDS.items()}, aside=aside, facts=_facts(d, b, metrics),
        unlisted=why or _sampled(d, b, requests, totals), unread=tuple(b.unread),
    )  # fmt: skip
    run = settled(run, listed=[n for n in ("ttft", "e2e_latency") if n not in garbled], rates=False, fills=False)
    return replace(run, errors=_errors(run, totals))


def _sampled(d: Looked, b: Looked, requests: tuple[RequestSeen, ...], totals: Looked) -> str:
    """A `sample_size` keeps a random part of the requests, for every group of its own."""
    size = b.inside("config").data.get("sample_size", d.inside("config", "spec", "metrics").data.get("sample_size"))
    listed, there = len(requests), totals.whole("total")
    if not requests or listed == there or (size is None and there is not None):
        return ""
    of = "an unknown number" if there is None else str(there)
    return f"every request: the file lists {listed} of {of}" + (f" (sample_size {size})" if size is not None else "")


def _getter(metrics: Looked, field: str, scale: float) -> Callable[[], Stat]:
    def stat() -> Stat:
        good = metrics.inside(field, "successful")
        count = good.whole("count")
        if not count:
            return Stat()
        p = good.inside("percentiles")
        p90, p99 = p.number("p90", scale=scale), p.number("p99", scale=scale)
        return Stat(good.number("median", scale=scale), p90, p99, good.number("mean", scale=scale), count)

    return stat


def _mean(metrics: Looked, field: str) -> float | None:
    good = metrics.inside(field, "successful")
    return good.number("mean") if good.number("count") else None


def _sum(metrics: Looked, field: str) -> int | None:
    found = metrics.inside(field, "successful").number("total_sum")
    return None if found is None else round(found)


def _strategy(b: Looked) -> Looked:
    """How load was made: `config.strategy` (0.4 on), or `args.strategy` and `scheduler.strategy` of older versions."""
    for parent in ("config", "args", "scheduler"):
        if isinstance(b.inside(parent).data.get("strategy"), dict):
            return b.inside(parent, "strategy")
    return Looked({}, b.where, b.unread)


def _load(b: Looked) -> LoadSaid:
    """By the type of its strategy. The cap of an open loop is the profile's: the strategy's own is a bound of the tool."""
    strategy = _strategy(b)
    kind, cap = strategy.text("type_"), b.inside("config", "profile").positive("max_concurrency")
    if kind == "synchronous":
        return LoadSaid(LoadKind.CLOSED, None, 1)
    if kind == "concurrent":
        streams = strategy.positive("streams")
        return LoadSaid(LoadKind.CLOSED if streams else LoadKind.UNKNOWN, None, streams)
    if kind == "throughput":
        return LoadSaid(LoadKind.BURST, None, cap)
    if kind in ("constant", "poisson", "async"):
        rate = strategy.number("rate")
        if strategy.number("rampup_duration"):
            return LoadSaid(LoadKind.CHANGING, None, cap)
        return LoadSaid(LoadKind.OPEN if rate else LoadKind.UNKNOWN, rate or None, cap)
    return (
        LoadSaid(LoadKind.TRACE, None, cap) if kind in ("trace", "replay") else LoadSaid(LoadKind.UNKNOWN, None, None)
    )


def _started(b: Looked) -> str | None:
    found = b.number("start_time")
    return None if found is None or found > 1e11 else datetime.fromtimestamp(found, UTC).isoformat()


def _requests(b: Looked) -> tuple[tuple[RequestSeen, ...], str]:
    """(requests, why the list cannot be used)."""
    groups, before = b.inside("requests"), len(b.unread)
    found = [_seen(r, name) for name in GROUPS for r in groups.entries(name)]
    if len(b.unread) > before:
        return (), f"a whole list of requests: {b.unread[before]}"
    known = [r.sent_s for r in found if r.sent_s is not None]
    if not known or len(known) < len(found):
        return tuple(replace(r, sent_s=None) for r in found), ""
    return tuple(replace(r, sent_s=(r.sent_s or 0.0) - min(known)) for r in found), ""


def _seen(r: Looked, group: str) -> RequestSeen:
    isl, osl = r.whole("prompt_tokens"), r.whole("output_tokens")
    lag = r.number("request_dispatch_delay")
    sent = r.number("request_start_time")
    if group != "successful":
        error = r.inside("info").text("error")
        return RequestSeen(input_tokens=isl, error=short_error(error) if error else group, lag_s=lag, sent_s=sent)
    ttft = r.number("time_to_first_token_ms", scale=1e-3)
    return RequestSeen(ttft or None, None, r.number("request_latency"), isl, osl, None, lag, sent)


def _errors(run: Imported, totals: Looked) -> tuple[tuple[str, int], ...]:
    """Reasons with their counts where every request is listed; else the counts alone. What still ran is no error."""
    listed = counted(r.error for r in run.requests if r.error is not None and r.error != "incomplete")
    errored = totals.whole("errored")
    return listed or ((("errored", errored),) if errored else ())


def _prompts(b: Looked) -> tuple[str, ...]:
    """A digest of each good request's prompt; empty where one cannot be read."""
    digests = [_prompt_of(r) for r in b.inside("requests").list("successful")]
    return tuple(p for p in digests if p is not None) if None not in digests else ()


def _prompt_of(request: Any) -> str | None:
    args = request.get("request_args") if isinstance(request, dict) else None
    try:
        body = json.loads(args)["body"] if isinstance(args, str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    prompt = body.get("messages", body.get("prompt"))
    return None if prompt is None else digest_of_text(prompt)


def _facts(d: Looked, b: Looked, metrics: Looked) -> dict[str, str]:
    strategy = _strategy(b)
    spec = d.inside("config", "spec")
    data = next((v for v in spec.list("data") if isinstance(v, dict)), {})
    source = Looked(data, d.where, d.unread, "data")
    seed = spec.inside("seed").text("value") if isinstance(spec.data.get("seed"), dict) else spec.text("seed")
    iterations, tokens = _mean(metrics, "request_streaming_iterations_count"), _mean(metrics, "output_token_count")
    known = {
        "model": spec.inside("backend").text("model"), "backend": spec.inside("backend").text("kind"),
        "tokenizer": spec.inside("tokenizer").text("model"), "dataset": source.text("kind"), "seed": seed,
        "isl_asked": source.text("prompt_tokens"), "osl_asked": source.text("output_tokens"),
        "strategy": strategy.text("type_"), "rampup_duration_s": strategy.text("rampup_duration"),
        "iterations_per_request": None if iterations is None else f"{iterations:g}",
        "tokens_per_request": None if tokens is None else f"{tokens:g}",
        "warnings": ", ".join(str(w.get("code")) for w in b.list("warnings") if isinstance(w, dict)),
    }  # fmt: skip
    return {k: v for k, v in known.items() if v}
