"""Results of `vllm bench serve --save-result`, with or without --save-detailed, and of `vllm bench sweep`.

Formulas, from its source (0.32): ttft ends at the FIRST chunk that has a choice, an empty role chunk included;
itl are gaps between such chunks; tpot = (latency - ttft) / (output_len - 1), ours, where latency ends at the last such
chunk; e2el is that latency. A failed request has latency 0 and, when refused at once, ttft 0. `queue_times` (0.32 on)
are from when a request was due to when it was sent: with a request rate that is how late the client was, without one all
are due at once and the wait for a slot is the closed loop itself, so it is no lag here.

What the file cannot tell: how many tokens a chunk held, whether the first chunk was empty, whether output_lens are the
server's usage or a count of its own tokenizer (which it takes when usage is missing), and when a failed request ended:
its record ends at its last known chunk. The client's version, seed and the asked lengths are not in the file either.
With a ramp-up (`ramp_up_strategy`, `rps_change_events`) `request_rate` is written as "inf" all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.importers.base import Imported, LoadKind, RequestSeen, Stat, counted, whole_ns
from profile_and_optimize.importers.loads import load_said
from profile_and_optimize.importers.reading import Looked, digest_of_text, each, scalars, short_error, uneven
from profile_and_optimize.importers.settle import settled

TOOL = "vllm"
FIELDS = {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e_latency": "e2el"}
RAMP = ("ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps", "rps_change_events")
PER_REQUEST = ("input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times", "errors")
OURS = frozenset({
    "date", "request_rate", "max_concurrency", "num_prompts", "completed", "failed", "duration", "total_input_tokens",
    "total_output_tokens", "request_throughput", "output_throughput", "model_id", "tokenizer_id", "backend", "endpoint_type",
})  # fmt: skip


def claims(data: Any) -> bool:
    """Whether an object of a file is one of these runs."""
    needed = ("num_prompts", "duration", "completed", "total_input_tokens", "request_throughput")
    return isinstance(data, dict) and sum(key in data for key in needed) >= len(needed) - 1 and "num_prompts" in data


def of(data: Any, path: str) -> Imported:
    """One run. A value of a wrong type is unknown and listed as unread."""
    run, garbled = _read(data, path)
    counted_here = ("errors",) if "failed" in data else ("errors", "failed")
    return settled(run, listed=[n for n in ("ttft", "itl", "e2e_latency") if n not in garbled], counted=counted_here)


def as_told(data: Any, path: str) -> Imported:
    """One run as the file tells it, held against nothing: for whoever started the tool and joins its requests himself."""
    return _read(data, path)[0]


def _read(data: Any, path: str) -> tuple[Imported, set[str]]:
    d = Looked(data, path)
    load = load_said(d, changing=any(d.data.get(k) is not None for k in RAMP))
    open_loop = load.kind in (LoadKind.OPEN, LoadKind.CHANGING)
    completed = d.whole("completed")
    stats, garbled = each(d, {ours: _getter(d, field, completed) for ours, field in FIELDS.items()}, Stat())
    requests, why = _requests(d, open_loop=open_loop)
    lags = tuple(r.lag_s for r in requests if r.lag_s is not None)
    run = Imported(
        tool=TOOL, version=None, path=path, started=d.text("date"), load=load.kind, concurrency=load.cap,
        request_rate=load.rate, asked=d.positive("num_prompts"), completed=completed,
        failed=d.whole("failed") if "failed" in d else _failed(d, requests), duration_s=d.number("duration") or None,
        metrics=_with_e2e(stats, d, requests, garbled), request_throughput=d.number("request_throughput"),
        output_throughput=d.number("output_throughput"), input_tokens=d.whole("total_input_tokens"),
        output_tokens=d.whole("total_output_tokens"), records=_records(requests), requests=requests,
        send_lag_s=lags, errors=counted(r.error for r in requests if r.error is not None),
        texts=tuple(digest_of_text(t) for t in d.list("generated_texts")),
        named={ours: f"*_{field}_ms" for ours, field in FIELDS.items()}, facts=_facts(d), unlisted=why, unread=tuple(d.unread),
    )  # fmt: skip
    return run, garbled


def failure_of(names: list[str]) -> dict[str, str]:
    """A sweep leaves X.failure.json for a run that died: a fact of the runs that stayed."""
    dead = [n for n in names if n.endswith("failure.json")]
    return {"sweep_failures": ", ".join(dead)} if dead else {}


def _getter(d: Looked, field: str, completed: int | None) -> Callable[[], Stat]:
    def stat() -> Stat:
        if completed == 0:  # numpy gave it a zero for "nothing completed"
            return Stat()
        keys = ("median", "p90", "p99", "mean")
        p50, p90, p99, mean = (d.number(f"{k}_{field}_ms", scale=1e-3) for k in keys)
        return Stat(p50, p90, p99, mean)

    return stat


def _with_e2e(
    stats: dict[str, Stat], d: Looked, requests: tuple[RequestSeen, ...], garbled: set[str]
) -> dict[str, Stat]:
    """`latencies` stay in a file without the other lists: they fill E2E where they are one for each completed request."""
    if requests or "e2e_latency" in garbled or d.list("ttfts"):
        return stats
    latencies = [v for v in d.numbers("latencies") or [] if v > 0]
    if not latencies or len(latencies) != d.data.get("completed"):
        return stats
    return stats | {"e2e_latency": stats["e2e_latency"].filled(Stat.of(latencies))}


def _requests(d: Looked, *, open_loop: bool) -> tuple[tuple[RequestSeen, ...], str]:
    """(requests, why the list cannot be used): a list with a hole, or of another length, tells of no request for sure."""
    lists = {name: d.list(name) for name in PER_REQUEST}
    if not lists["ttfts"]:
        return (), ""
    if why := uneven(lists):
        return (), f"one list of requests: {why}"
    before = len(d.unread)
    numbers = {
        name: d.numbers(name) or []
        for name in ("ttfts", "latencies", "queue_times", "input_lens", "output_lens", "start_times")
    }
    gaps = [d.checked(g, f"itls[{i}]") for i, g in enumerate(lists["itls"])]
    d.texts_or_none("errors")
    if len(d.unread) > before:
        return (), f"a whole list of requests: {d.unread[before]}"
    row = [_Row(d, numbers, gaps, lists["errors"], i, open_loop=open_loop).seen() for i in range(len(lists["ttfts"]))]
    return _placed(tuple(row), numbers["start_times"]), ""


class _Row:
    """The values of one request over the lists."""

    def __init__(
        self, d: Looked, numbers: dict[str, list[float]], gaps: list[list[float] | None], errors: list[Any], i: int, *,
        open_loop: bool,
    ) -> None:  # fmt: skip
        self.ttft = numbers["ttfts"][i]
        self.gaps = gaps[i] if gaps else None
        self.latency = _at(numbers["latencies"], i)
        self.isl, self.osl = (_int(_at(numbers[k], i)) for k in ("input_lens", "output_lens"))
        self.lag = _at(numbers["queue_times"], i) if open_loop else None
        self.error = errors[i] if errors else None

    def seen(self) -> RequestSeen:
        """Without an error text, a request with a latency was completed, whether or not a first token was seen."""
        gaps = None if self.gaps is None else tuple(self.gaps)
        if self.error or not (self.ttft or self.latency):
            reason = short_error(self.error) if self.error else "no first token"
            return RequestSeen(self.ttft or None, gaps or None, None, self.isl, None, reason, self.lag)
        e2e = self.latency or (self.ttft + sum(gaps) if gaps is not None else None)
        return RequestSeen(self.ttft or None, gaps, e2e, self.isl, self.osl, None, self.lag)


def _at(values: list[float], i: int) -> float | None:
    return values[i] if values else None


def _int(value: float | None) -> int | None:
    return None if value is None else int(value)


def _failed(d: Looked, requests: tuple[RequestSeen, ...]) -> int | None:
    """Older versions count none: known from the errors that are listed for every request that was asked for."""
    if not d.list("errors") or len(requests) != d.data.get("num_prompts"):
        return None
    return sum(not r.ok for r in requests)


def _placed(requests: tuple[RequestSeen, ...], starts: list[float]) -> tuple[RequestSeen, ...]:
    """The same with `sent_s`. Older versions wrote no start_times: unknown then."""
    if not starts:
        return requests
    t0 = min(s - (r.lag_s or 0.0) for s, r in zip(starts, requests, strict=True))
    return tuple(replace(r, sent_s=s - t0) for s, r in zip(starts, requests, strict=True))


def _records(requests: tuple[RequestSeen, ...]) -> tuple[RequestRecord, ...]:
    """On the client's clock, nanoseconds since the first request was due; none where the file has no clock or no gaps."""
    if any(r.sent_s is None or (r.ok and (r.gaps_s is None or r.ttft_s is None)) for r in requests):
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
