"""Results of `vllm bench serve --save-result`, with or without --save-detailed, and of `vllm bench sweep`.

Formulas, from its source (0.32): ttft ends at the FIRST chunk that has a choice, an empty role chunk included;
itl are gaps between such chunks; tpot = (latency - ttft) / (output_len - 1), ours, where latency ends at the last such
chunk; e2el is that latency. A failed request has latency 0 and, when refused at once, ttft 0. `queue_times` (0.32 on)
are from when a request was due to when it was sent: with a request rate that is how late the client was, without one all
are due at once and the wait for a slot is the closed loop itself, so it is no lag here.

What the file cannot tell: how many tokens a chunk held, whether the first chunk was empty, whether output_lens are the
server's usage or a count of its own tokenizer (which it takes when usage is missing), and when a failed request ended:
its record ends at its last known chunk. The client's version, seed and the asked lengths are not in the file either.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.importers.base import Imported, RequestSeen, Stat, counted, whole_ns, without_empty
from profile_and_optimize.importers.reading import (
    Looked,
    checked_numbers,
    digest_of_text,
    same_lengths,
    scalars,
    short_error,
)  # fmt: skip

TOOL = "vllm"
FIELDS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e_latency": "e2el"}
PER_REQUEST = ("input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times", "errors")
OURS = frozenset({
    "date", "request_rate", "max_concurrency", "num_prompts", "completed", "failed", "duration", "total_input_tokens",
    "total_output_tokens", "request_throughput", "output_throughput", "model_id", "tokenizer_id", "backend", "endpoint_type",
})  # fmt: skip


def claims(data: Any) -> bool:
    """Whether an object of a file is one of these runs."""
    needed = ("num_prompts", "duration", "completed", "total_input_tokens", "request_throughput")
    return isinstance(data, dict) and all(key in data for key in needed)


def of(data: Any, path: str) -> Imported:
    """One run. Raises WrongUse for values of a wrong type or lists of different lengths."""
    d = Looked(data, path)
    rate = _rate(d)
    lags = d.numbers("queue_times") if rate is not None else []
    requests = _requests(d, open_loop=rate is not None)
    completed = d.whole("completed")
    stats = {ours: _stat(d, field, completed) for ours, field in FIELDS.items()}
    return Imported(
        tool=TOOL, version=None, path=path, started=d.text("date"), concurrency=d.whole("max_concurrency"),
        request_rate=rate, asked=d.whole("num_prompts"), completed=completed,
        failed=d.whole("failed") if "failed" in d else _failed(requests), duration_s=d.number("duration"),
        metrics=without_empty(_with_e2e(stats, d, requests)), request_throughput=d.number("request_throughput"),
        output_throughput=d.number("output_throughput"), input_tokens=d.whole("total_input_tokens"),
        output_tokens=d.whole("total_output_tokens"), records=_records(requests), requests=requests,
        send_lag_s=tuple(lags), errors=counted(r.error for r in requests if r.error is not None),
        texts=tuple(digest_of_text(t) for t in d.list("generated_texts")),
        named={ours: f"*_{field}_ms" for ours, field in FIELDS.items()}, facts=_facts(d),
    )  # fmt: skip


def failure_of(names: list[str]) -> dict[str, str]:
    """A sweep leaves X.failure.json for a run that died: a fact of the runs that stayed."""
    dead = [n for n in names if n.endswith("failure.json")]
    return {"sweep_failures": ", ".join(dead)} if dead else {}


def _stat(d: Looked, field: str, completed: int | None) -> Stat:
    if completed == 0:  # numpy gave it a zero for "nothing completed"
        return Stat()
    keys = ("median", "p90", "p99", "mean")
    p50, p90, p99, mean = (d.number(f"{k}_{field}_ms", scale=1e-3) for k in keys)
    return Stat(p50, p90, p99, mean)


def _with_e2e(stats: dict[str, Stat], d: Looked, requests: tuple[RequestSeen, ...]) -> dict[str, Stat]:
    """What the file lists per request fills what it did not print, and says how many observations there were."""
    good = [r for r in requests if r.ok]
    latencies = [r.e2e_s for r in good] if good else [v for v in d.numbers("latencies") if v > 0]
    seen = {
        "ttft": Stat.of([r.ttft_s for r in good if r.ttft_s is not None]),
        "itl": Stat.of([g for r in good for g in r.gaps_s or ()]),
        "e2e_latency": Stat.of([v for v in latencies if v is not None]),
    }
    return {name: stat.filled(seen.get(name, Stat())) for name, stat in stats.items()}


def _rate(d: Looked) -> float | None:
    """Requests per second asked for; None for "inf", which is no arrival process."""
    found = d.data.get("request_rate")
    if found in ("inf", None) or (isinstance(found, float) and math.isinf(found)):
        return None
    return d.number("request_rate")


def _requests(d: Looked, *, open_loop: bool) -> tuple[RequestSeen, ...]:
    lists = {name: d.list(name) for name in PER_REQUEST}
    if not lists["ttfts"]:
        return ()
    n = same_lengths(lists, d.where)
    ttfts, latencies, lags = d.numbers("ttfts"), d.numbers("latencies"), d.numbers("queue_times")
    ins, outs = d.numbers("input_lens"), d.numbers("output_lens")
    found = tuple(
        _request(
            d, ttfts[i], checked_numbers(lists["itls"][i], f"{d.where}.itls[{i}]") if lists["itls"] else None,
            latencies[i] if latencies else None, ins[i] if ins else None, outs[i] if outs else None,
            lists["errors"][i] if lists["errors"] else "", lags[i] if lags and open_loop else None,
        )
        for i in range(n)
    )  # fmt: skip
    return _placed(found, d.numbers("start_times"))


def _request(
    d: Looked, ttft: float, gaps: list[float] | None, latency: float | None, isl: float | None, osl: float | None,
    error: Any, lag: float | None,
) -> RequestSeen:  # fmt: skip
    if error or not ttft:
        reason = short_error(error) if error else "no first token"
        return RequestSeen(ttft or None, tuple(gaps or ()) or None, None, _int(isl), None, reason, lag)
    e2e = latency or (ttft + sum(gaps) if gaps is not None else None)
    return RequestSeen(ttft, None if gaps is None else tuple(gaps), e2e, _int(isl), _int(osl), None, lag)


def _int(value: float | None) -> int | None:
    return None if value is None else int(value)


def _failed(requests: tuple[RequestSeen, ...]) -> int | None:
    return sum(not r.ok for r in requests) if requests else None


def _placed(requests: tuple[RequestSeen, ...], starts: list[float]) -> tuple[RequestSeen, ...]:
    """The same with `sent_s`. Older versions wrote no start_times: unknown then."""
    if not starts:
        return requests
    t0 = min(s - (r.lag_s or 0.0) for s, r in zip(starts, requests, strict=True))
    return tuple(replace(r, sent_s=s - t0) for s, r in zip(starts, requests, strict=True))


def _records(requests: tuple[RequestSeen, ...]) -> tuple[RequestRecord, ...]:
    """On the client's clock, nanoseconds since the first request was due; none where the file has no clock or no gaps."""
    if any(r.sent_s is None or (r.ok and r.gaps_s is None) for r in requests):
        return ()
    return tuple(_record(i, r.sent_s or 0.0, r) for i, r in enumerate(requests))


def _record(index: int, sent_s: float, r: RequestSeen) -> RequestRecord:
    chunks, at = [], sent_s + (r.ttft_s or 0.0)
    if r.ttft_s is not None:
        chunks = [at := at + gap for gap in (0.0, *(r.gaps_s or ()))]
    sent = whole_ns(sent_s)
    chunk_ns = tuple(max(sent, whole_ns(t)) for t in chunks)
    done = max(sent, whole_ns(sent_s + (r.e2e_s or 0.0)), *chunk_ns)
    return RequestRecord(
        index=index, intended_ns=min(sent, max(0, whole_ns(sent_s - (r.lag_s or 0.0)))), sent_ns=sent, done_ns=done,
        chunk_ns=chunk_ns, prompt_tokens=r.input_tokens, completion_tokens=r.output_tokens, error=r.error,
    )  # fmt: skip


def _facts(d: Looked) -> dict[str, str]:
    named = {"model": "model_id", "tokenizer": "tokenizer_id", "backend": "backend"}
    known = {ours: text for ours, theirs in named.items() if (text := d.text(theirs))}
    printed = {k for k in d.data if k.endswith("_ms")}
    return {**scalars(d.data, OURS | printed), **known}
