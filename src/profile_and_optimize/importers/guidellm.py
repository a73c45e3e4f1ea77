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
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from profile_and_optimize.importers.base import Imported, RequestSeen, Stat, counted, without_empty
from profile_and_optimize.importers.reading import Looked, digest_of_text, short_error

TOOL = "guidellm"
FIELDS = {
    "ttft": ("time_to_first_token_ms", 1e-3), "tpot": ("inter_token_latency_ms", 1e-3), "e2e_latency": ("request_latency", 1.0),
}  # fmt: skip
ASIDE = "time_per_output_token_ms"


def claims(data: Any) -> bool:
    """Whether an object of a file is one of these reports."""
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        return False
    return all(isinstance(b, dict) and "metrics" in b and "requests" in b for b in data["benchmarks"])


def of(data: Any, path: str) -> tuple[Imported, ...]:
    """One value per benchmark of the report; none where it holds none. Raises WrongUse for values of a wrong type."""
    d = Looked(data, path)
    entries = d.list("benchmarks")
    names = [path if len(entries) == 1 else f"{path}#{i + 1}" for i in range(len(entries))]
    return tuple(_one(d, Looked(b, name), name) for b, name in zip(entries, names, strict=True))


def _one(d: Looked, b: Looked, path: str) -> Imported:
    metrics = b.inside("metrics")
    totals = metrics.inside("request_totals") if "request_totals" in metrics else b.inside("run_stats", "requests_made")
    requests = _requests(b)
    strategy = _strategy(b)
    return Imported(
        tool=TOOL, version=d.inside("metadata").text("guidellm_version"), path=path, started=_started(b),
        concurrency=_concurrency(b, strategy), request_rate=strategy.number("rate"), asked=totals.whole("total"),
        completed=totals.whole("successful"), failed=_failed(totals), duration_s=b.number("duration"),
        metrics=without_empty({ours: _stat(metrics, field, scale) for ours, (field, scale) in FIELDS.items()}),
        request_throughput=_mean(metrics, "requests_per_second"), output_throughput=_mean(metrics, "output_tokens_per_second"),
        input_tokens=_sum(metrics, "prompt_token_count"), output_tokens=_sum(metrics, "output_token_count"),
        delivered_concurrency=_mean(metrics, "request_concurrency"), requests=requests,
        send_lag_s=tuple(r.lag_s for r in requests if r.lag_s is not None), errors=_errors(totals, requests), prompts=_prompts(b),
        named={ours: field for ours, (field, _) in FIELDS.items()},
        aside=without_empty({ASIDE: _stat(metrics, ASIDE, 1e-3)}), facts=_facts(d, b, strategy, metrics),
    )  # fmt: skip


def _stat(metrics: Looked, field: str, scale: float) -> Stat:
    good = metrics.inside(field, "successful")
    count = good.whole("count")
    if not count:
        return Stat()
    p = good.inside("percentiles")
    p90, p99 = p.number("p90", scale=scale), p.number("p99", scale=scale)
    return Stat(good.number("median", scale=scale), p90, p99, good.number("mean", scale=scale), count)


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
    return Looked({}, b.where)


def _concurrency(b: Looked, strategy: Looked) -> int | None:
    """The streams of a closed loop, or the cap that was asked for on an open one (the strategy's own is a bound of the tool)."""
    if strategy.text("type_") == "synchronous":
        return 1
    return strategy.whole("streams") or b.inside("config", "profile").whole("max_concurrency")


def _failed(totals: Looked) -> int | None:
    """Errors, and requests that were still running when the tool stopped: neither is in its latencies."""
    errored, incomplete = totals.whole("errored"), totals.whole("incomplete")
    return None if errored is None and incomplete is None else (errored or 0) + (incomplete or 0)


def _started(b: Looked) -> str | None:
    found = b.number("start_time")
    return None if found is None or found > 1e11 else datetime.fromtimestamp(found, UTC).isoformat()


def _requests(b: Looked) -> tuple[RequestSeen, ...]:
    groups = b.inside("requests")
    found = []
    for name in ("successful", "errored", "incomplete"):
        entries = enumerate(groups.list(name))
        found += [_seen(Looked(e, f"{b.where}.requests.{name}[{i}]"), name) for i, e in entries]
    known = [r.sent_s for r in found if r.sent_s is not None]
    if not known or len(known) < len(found):
        return tuple(replace(r, sent_s=None) for r in found)
    return tuple(replace(r, sent_s=(r.sent_s or 0.0) - min(known)) for r in found)


def _seen(r: Looked, group: str) -> RequestSeen:
    isl, osl = r.whole("prompt_tokens"), r.whole("output_tokens")
    lag = r.number("request_dispatch_delay") if "request_dispatch_delay" in r else None
    sent = r.number("request_start_time")
    if group != "successful":
        error = r.inside("info").text("error")
        return RequestSeen(input_tokens=isl, error=short_error(error) if error else group, lag_s=lag, sent_s=sent)
    ttft = r.number("time_to_first_token_ms", scale=1e-3)
    return RequestSeen(ttft, None, r.number("request_latency"), isl, osl, None, lag, sent)


def _errors(totals: Looked, requests: tuple[RequestSeen, ...]) -> tuple[tuple[str, int], ...]:
    listed = counted(r.error for r in requests if r.error is not None)
    unlisted = {name: totals.whole(name) or 0 for name in ("errored", "incomplete")}
    return listed or tuple((name, n) for name, n in unlisted.items() if n)


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


def _facts(d: Looked, b: Looked, strategy: Looked, metrics: Looked) -> dict[str, str]:
    spec = d.inside("config", "spec")
    data = next((v for v in spec.list("data") if isinstance(v, dict)), {})
    source = Looked(data, d.where)
    seed = spec.inside("seed").text("value") if isinstance(spec.data.get("seed"), dict) else spec.text("seed")
    iterations, tokens = _mean(metrics, "request_streaming_iterations_count"), _mean(metrics, "output_token_count")
    known = {
        "model": spec.inside("backend").text("model"), "backend": spec.inside("backend").text("kind"),
        "tokenizer": spec.inside("tokenizer").text("model"), "dataset": source.text("kind"), "seed": seed,
        "isl_asked": source.text("prompt_tokens"), "osl_asked": source.text("output_tokens"),
        "strategy": strategy.text("type_"),
        "iterations_per_request": None if iterations is None else f"{iterations:g}",
        "tokens_per_request": None if tokens is None else f"{tokens:g}",
        "warnings": ", ".join(str(w.get("code")) for w in b.list("warnings") if isinstance(w, dict)),
    }  # fmt: skip
    return {k: v for k, v in known.items() if v}
