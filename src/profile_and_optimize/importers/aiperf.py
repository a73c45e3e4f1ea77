"""Results of `aiperf profile`: an artifact folder, or its profile_export_aiperf.json alone.

Formulas (0.13): time_to_first_token ends at the first chunk with content or reasoning, ours; its `inter_token_latency`
is (request_latency - ttft) / (output tokens - 1): OUR TPOT; its `inter_chunk_latency` is the gaps: OUR ITL;
request_latency ends at the last chunk. `credit_issued_ns` is when a request was due, `request_start_ns` when it was sent.
profile_export.jsonl holds every request; inputs.json the prompts.

What the folder cannot tell: how many tokens a chunk held. `osl` is the server's count where `usage_completion_tokens`
is there, else the client's tokenizer; the fact `token_counts` says which.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.importers.base import Imported, RequestSeen, Stat, counted, whole_ns, without_empty
from profile_and_optimize.importers.reading import (
    UNITS,
    Looked,
    checked_number,
    checked_numbers,
    digest_of_text,
    read_values,
    short_error,
)  # fmt: skip

TOOL = "aiperf"
SUMMARY, RECORDS, INPUTS = "profile_export_aiperf.json", "profile_export.jsonl", "inputs.json"
FIELDS = {
    "ttft": "time_to_first_token", "tpot": "inter_token_latency", "itl": "inter_chunk_latency", "e2e_latency": "request_latency",
}  # fmt: skip


def claims(data: Any) -> bool:
    """Whether an object of a file is one of these runs."""
    return (
        isinstance(data, dict) and "input_config" in data and ("request_count" in data or "error_request_count" in data)
    )


def of(data: Any, path: str, folder: Path | None = None) -> Imported:
    """One run; with its folder, the requests and prompts beside it. Raises WrongUse for values of a wrong type or unit."""
    d = Looked(data, path)
    lines = _lines(folder)
    requests = _placed(tuple(_seen(line) for line in lines), lines)
    completed, failed = _count(d, "request_count"), _count(d, "error_request_count")
    load = _load(d)
    return Imported(
        tool=TOOL, version=d.text("aiperf_version"), path=path, started=d.text("start_time"),
        concurrency=load.whole("concurrency"), request_rate=_rate(load),
        asked=load.whole("requests") or load.whole("request_count"), completed=completed or 0,
        failed=failed if failed is not None else 0 if completed else None, duration_s=_value(d, "benchmark_duration"),
        metrics=without_empty({ours: _stat(d, field) for ours, field in FIELDS.items()}),
        request_throughput=_value(d, "request_throughput"), output_throughput=_value(d, "output_token_throughput"),
        input_tokens=_count(d, "total_isl"), output_tokens=_count(d, "total_osl") or _count(d, "total_output_tokens"),
        records=_records(lines, requests), requests=requests,
        send_lag_s=tuple(r.lag_s for r in requests if r.lag_s is not None),
        errors=_errors(d, requests), prompts=_prompts(folder, lines), named=FIELDS, facts=_facts(d, lines),
    )  # fmt: skip


def _stat(d: Looked, field: str) -> Stat:
    """In seconds by the unit that stands beside the numbers."""
    if field not in d:
        return Stat()
    m = d.inside(field)
    scale = _scale(m)
    p50, p90, p99, mean = (m.number(k, scale=scale) for k in ("p50", "p90", "p99", "avg"))
    return Stat(p50, p90, p99, mean, m.whole("count"))


def _scale(m: Looked) -> float:
    unit = m.data.get("unit")
    if not isinstance(unit, str) or unit not in UNITS:
        raise WrongUse(f"unit {unit!r} is none of {', '.join(UNITS)}", where=m.where)
    return UNITS[unit]


def _value(d: Looked, field: str) -> float | None:
    return d.inside(field).number("avg") if field in d else None


def _count(d: Looked, field: str) -> int | None:
    found = _value(d, field)
    return None if found is None else round(found)


def _load(d: Looked) -> Looked:
    """What was asked: the profiling phase (schema 1.4), or `loadgen` of older versions."""
    phases = d.inside("input_config").list("phases")
    for phase in phases:
        if isinstance(phase, dict) and phase.get("kind", "profiling") == "profiling":
            return Looked(phase, f"{d.where}.phases")
    return d.inside("input_config", "loadgen")


def _rate(load: Looked) -> float | None:
    return load.number("rate") if "rate" in load else load.number("request_rate")


def _lines(folder: Path | None) -> list[Looked]:
    """The timed requests of the folder, warm-up left out."""
    file = folder / RECORDS if folder else None
    if file is None or not file.is_file() or not file.stat().st_size:
        return []
    found = [Looked(v, f"{file}:{i + 1}") for i, v in enumerate(read_values(file))]
    return [line for line in found if line.inside("metadata").text("benchmark_phase") in (None, "profiling")]


def _seen(line: Looked) -> RequestSeen:
    meta, metrics = line.inside("metadata"), line.inside("metrics")
    lag = _lag(meta)
    isl, osl = _tokens(metrics, "usage_prompt_tokens", "input_sequence_length"), _tokens(
        metrics, "usage_completion_tokens", "output_sequence_length"
    )  # fmt: skip
    error = line.data.get("error") or ("cancelled" if meta.data.get("was_cancelled") else None)
    if error:
        reason = error.get("message") or error.get("type") if isinstance(error, dict) else error
        return RequestSeen(input_tokens=isl, error=short_error(reason), lag_s=lag)
    return RequestSeen(
        _seconds(metrics, "time_to_first_token"),
        _gaps(metrics),
        _seconds(metrics, "request_latency"),
        isl,
        osl,
        None,
        lag,
    )


def _lag(meta: Looked) -> float | None:
    due, sent = _integer(meta, "credit_issued_ns"), _integer(meta, "request_start_ns")
    return None if due is None or sent is None else max(0, sent - due) * 1e-9


def _tokens(metrics: Looked, *names: str) -> int | None:
    found = next((metrics.inside(n).whole("value") for n in names if n in metrics), None)
    return found


def _seconds(metrics: Looked, name: str) -> float | None:
    if name not in metrics:
        return None
    m = metrics.inside(name)
    return m.number("value", scale=_scale(m))


def _gaps(metrics: Looked) -> tuple[float, ...] | None:
    """None where the export holds no list: a stream of one chunk, or a coarser export level."""
    if "inter_chunk_latency" not in metrics:
        return None
    m = metrics.inside("inter_chunk_latency")
    value, scale = m.data.get("value"), _scale(m)
    if not isinstance(value, list):
        return (checked_number(value, m.where) * scale,)
    return tuple(v * scale for v in checked_numbers(value, m.where))


def _placed(requests: tuple[RequestSeen, ...], lines: list[Looked]) -> tuple[RequestSeen, ...]:
    """The same with `sent_s`, where every line has its clock."""
    clocks = _clocks(lines)
    return tuple(replace(r, sent_s=c[1] * 1e-9) for r, c in zip(requests, clocks, strict=True)) if clocks else requests


def _records(lines: list[Looked], requests: tuple[RequestSeen, ...]) -> tuple[RequestRecord, ...]:
    """On the wall clock of the client, nanoseconds since the first request was due. Empty where a good one has no chunks."""
    clocks = _clocks(lines)
    if not clocks or any(r.ok and r.ttft_s is None for r in requests):
        return ()
    return tuple(_record(i, c, r) for i, (c, r) in enumerate(zip(clocks, requests, strict=True)))


def _clocks(lines: list[Looked]) -> list[tuple[int, int, int]]:
    """(due, sent, ended) of every line in nanoseconds since the first was due; empty where one lacks them.

    Raises ValueError where they are further apart than a run is long.
    """
    found = [_clock(line.inside("metadata")) for line in lines]
    known = [c for c in found if c is not None]
    if not known or len(known) < len(found):
        return []
    t0 = min(c[0] for c in known)
    whole_ns((max(max(c) for c in known) - t0) * 1e-9)
    return [(due - t0, sent - t0, ended - t0) for due, sent, ended in known]


def _clock(meta: Looked) -> tuple[int, int, int] | None:
    """(due, sent, ended) as integers: a float would lose the nanoseconds of a wall clock."""
    due, sent, ended = (_integer(meta, k) for k in ("credit_issued_ns", "request_start_ns", "request_end_ns"))
    sent = due if sent is None else sent
    if sent is None:
        return None
    due = sent if due is None else min(due, sent)
    return due, sent, sent if ended is None else ended


def _integer(meta: Looked, key: str) -> int | None:
    found = meta.data.get(key)
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**62 else None


def _record(index: int, clock: tuple[int, int, int], r: RequestSeen) -> RequestRecord:
    due, sent, ended = clock
    chunks, at = [], 0.0
    if r.ok and r.ttft_s is not None:
        chunks = [at := at + gap for gap in (r.ttft_s, *(r.gaps_s or ()))]
    chunk_ns = tuple(sent + whole_ns(t) for t in chunks)
    return RequestRecord(
        index=index, intended_ns=due, sent_ns=sent, done_ns=max(sent, ended, *chunk_ns), chunk_ns=chunk_ns,
        prompt_tokens=r.input_tokens, completion_tokens=r.output_tokens, error=r.error,
    )  # fmt: skip


def _errors(d: Looked, requests: tuple[RequestSeen, ...]) -> tuple[tuple[str, int], ...]:
    if requests:
        return counted(r.error for r in requests if r.error is not None)
    found = []
    for i, entry in enumerate(d.list("error_summary")):
        e = Looked(entry, f"{d.where}.error_summary[{i}]")
        details = e.inside("error_details") if isinstance(e.data.get("error_details"), dict) else e
        found.append((short_error(details.text("message") or details.text("type") or "unnamed"), e.whole("count") or 1))
    return tuple(found)


def _prompts(folder: Path | None, lines: list[Looked]) -> tuple[str, ...]:
    """A digest of each timed request's prompt, in order; empty where a request cannot be matched to its prompt."""
    file = folder / INPUTS if folder else None
    if file is None or not file.is_file() or not lines:
        return ()
    by_session: dict[str, list[Any]] = {}
    for i, entry in enumerate(Looked(read_values(file)[0], str(file)).list("data")):
        session = Looked(entry, f"{file}.data[{i}]")
        by_session[session.text("session_id") or ""] = session.list("payloads")
    digests = [_prompt_of(by_session, line.inside("metadata")) for line in lines]
    return tuple(p for p in digests if p is not None) if None not in digests else ()


def _prompt_of(by_session: dict[str, list[Any]], meta: Looked) -> str | None:
    payloads = by_session.get(meta.text("conversation_id") or "", [])
    turn = meta.whole("turn_index") or 0
    payload = payloads[turn] if turn < len(payloads) else None
    if not isinstance(payload, dict):
        return None
    prompt = payload.get("messages", payload.get("prompt"))
    return None if prompt is None else digest_of_text(prompt)


def _facts(d: Looked, lines: list[Looked]) -> dict[str, str]:
    config = d.inside("input_config")
    asked = _asked(config)
    run = d.inside("run_info") if isinstance(d.data.get("run_info"), dict) else Looked({}, d.where)
    cancelled = d.data.get("was_cancelled") is True or d.data.get("is_complete") is False
    usage = bool(lines) and all(
        "usage_completion_tokens" in line.inside("metrics") for line in lines if "error" not in line
    )
    known = {
        **asked, "seed": run.text("random_seed"), "command": run.text("cli_command") or d.inside("input_config").text("cli_command"),
        "cancelled": "yes" if cancelled else None, "token_counts": "server" if usage else "client tokenizer" if lines else None,
    }  # fmt: skip
    return {k: v for k, v in known.items() if v}


def _asked(config: Looked) -> dict[str, str | None]:
    """Model, endpoint and lengths: `models.items` and `datasets` (schema 1.4), or the flat keys of older versions."""
    models = [
        Looked(m, config.where).text("name") for m in config.inside("models").list("items") if isinstance(m, dict)
    ]
    endpoint = config.inside("endpoint")
    older = [str(m)[:200] for m in endpoint.list("model_names")]
    datasets = [v for v in config.list("datasets") if isinstance(v, dict)]
    data = Looked(datasets[0] if datasets else config.data.get("input") or {}, f"{config.where}.datasets")
    prompts = data.inside("prompts") if "prompts" in data else data.inside("prompt")
    lengths = [("isl", "isl", "input_tokens"), ("osl", "osl", "output_tokens")]
    means = {
        f"{ours}_asked": (prompts.inside(new) if new in prompts else prompts.inside(old)).text("mean")
        for ours, new, old in lengths
    }
    return {
        "model": next((m for m in models + older if m), None), "backend": endpoint.text("type"), "dataset": data.text("type"),
        "dataset_entries": data.text("entries"), "tokenizer": config.inside("tokenizer").text("name"), **means,
    }  # fmt: skip
