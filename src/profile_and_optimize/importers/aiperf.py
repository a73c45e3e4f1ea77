"""Results of `aiperf profile`: an artifact folder, or its profile_export_aiperf.json alone.

Formulas (0.13): time_to_first_token ends at the first chunk with content or reasoning, ours; its `inter_token_latency`
is (request_latency - ttft) / (output tokens - 1): OUR TPOT; its `inter_chunk_latency` is the gaps: OUR ITL;
request_latency ends at the last chunk. `credit_issued_ns` is when a request was due, `request_start_ns` when it was sent.
profile_export.jsonl holds every request; inputs.json the prompts.

What the folder cannot tell: how many tokens a chunk held. `osl` is the server's count where `usage_completion_tokens`
is there, else the client's tokenizer; the fact `token_counts` says which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.importers.base import Imported, LoadKind, RequestSeen, Stat, counted, whole_ns
from profile_and_optimize.importers.loads import LoadSaid
from profile_and_optimize.importers.reading import UNITS, Looked, digest_of_text, each, read_lines, short_error
from profile_and_optimize.importers.settle import settled

TOOL = "aiperf"
SUMMARY, RECORDS, INPUTS = "profile_export_aiperf.json", "profile_export.jsonl", "inputs.json"
FIELDS = {
    "ttft": "time_to_first_token", "tpot": "inter_token_latency", "itl": "inter_chunk_latency", "e2e_latency": "request_latency",
}  # fmt: skip


PER_S = {"requests": ("requests/sec",), "tokens": ("tokens/sec",)}
ARRIVALS = ("poisson", "gamma", "constant")


def claims(data: Any) -> bool:
    """Whether an object of a file is one of these runs; genai-perf's export has a `perf_analyzer` inside."""
    if not isinstance(data, dict) or not isinstance(data.get("input_config"), dict):
        return False
    if "perf_analyzer" in data["input_config"]:
        return False
    return "aiperf_version" in data or "request_count" in data or "error_request_count" in data


def of(data: Any, path: str, folder: Path | None = None) -> Imported:
    """One run; with its folder, the requests and prompts beside it. A value of a wrong type or unit is unknown and unread."""
    run, garbled = _read(data, path, folder)
    return settled(run, listed=[n for n in ("ttft", "itl", "e2e_latency") if n not in garbled], beside=True)


def as_told(data: Any, path: str, folder: Path) -> Imported:
    """One run as its files tell it, held against nothing: for whoever started the tool and joins its requests himself."""
    return _read(data, path, folder)[0]


def _read(data: Any, path: str, folder: Path | None) -> tuple[Imported, set[str]]:
    d = Looked(data, path)
    stats, garbled = each(d, {ours: stat_in_unit(d, field) for ours, field in FIELDS.items()}, Stat())
    lines, why = _lines(folder)
    requests = _placed(tuple(_seen(line) for line in lines), lines)
    bad = [u for line in lines for u in line.unread]
    completed, failed = _count(d, "request_count"), _failed(d)
    load, phase = _load(d)
    asked = phase.positive("requests") or phase.positive("request_count")
    run = Imported(
        tool=TOOL, version=d.text("aiperf_version"), path=path, started=d.text("start_time"),
        load=load.kind, concurrency=load.cap, request_rate=load.rate, asked=asked,
        completed=0 if completed is None and failed is not None and failed == asked else completed, failed=failed,
        duration_s=_duration(d), metrics=stats, request_throughput=unit_per_s(d, "request_throughput", "requests"),
        output_throughput=unit_per_s(d, "output_token_throughput", "tokens"), input_tokens=_count(d, "total_isl"),
        output_tokens=_count(d, "total_osl"), records=() if bad else _records(lines, requests), requests=requests,
        send_lag_s=tuple(r.lag_s for r in requests if r.lag_s is not None),
        errors=_errors(d, requests), prompts=_prompts(folder, lines), named=FIELDS, facts=_facts(d, lines),
        unlisted=why or (f"a whole list of requests: {bad[0]}" if bad else ""), unread=tuple(d.unread),
    )  # fmt: skip
    return run, garbled


def stat_in_unit(d: Looked, field: str) -> Callable[[], Stat]:
    """In seconds by the unit that stands beside the numbers."""

    def stat() -> Stat:
        if field not in d:
            return Stat()
        m = d.inside(field)
        scale = unit_of(m)
        if scale is None:
            return Stat()
        p50, p90, p99, mean = (m.number(k, scale=scale) for k in ("p50", "p90", "p99", "avg"))
        return Stat(p50, p90, p99, mean, m.whole("count"))

    return stat


def unit_of(m: Looked) -> float | None:
    """Seconds in the unit of a metric; None, and noted, for one that is not a time."""
    unit = m.data.get("unit")
    if isinstance(unit, str) and unit in UNITS:
        return UNITS[unit]
    m.note("unit", f"{str(unit)[:40]!r} is not one of {', '.join(UNITS)}")
    return None


def _duration(d: Looked) -> float | None:
    if "benchmark_duration" not in d:
        return None
    m = d.inside("benchmark_duration")
    scale = unit_of(m)
    return None if scale is None else m.number("avg", scale=scale) or None


def unit_per_s(d: Looked, field: str, of: str) -> float | None:
    """A rate in its own unit of counts per second."""
    if field not in d:
        return None
    m = d.inside(field)
    if m.data.get("unit") not in PER_S[of]:
        m.note("unit", f"{str(m.data.get('unit'))[:40]!r} is not {PER_S[of][0]}")
        return None
    return m.number("avg")


def _count(d: Looked, field: str) -> int | None:
    return d.inside(field).whole("avg") if field in d else None


def _failed(d: Looked) -> int | None:
    """Without failures the counter is left out: then the empty list of errors says so, and nothing else does."""
    if "error_request_count" in d:
        return _count(d, "error_request_count")
    if not isinstance(d.data.get("error_summary"), list):
        return None
    counts = [e.whole("count") for e in d.entries("error_summary")]
    return None if None in counts else sum(c or 0 for c in counts)


def _load(d: Looked) -> tuple[LoadSaid, Looked]:
    """(the load, where the file names it): the profiling phase (schema 1.4), or `loadgen` of older versions."""
    config = d.inside("input_config")
    phases = [p for p in config.entries("phases") if p.data.get("kind", "profiling") == "profiling"]
    if not phases:
        loadgen = config.inside("loadgen")
        return _older_load(config, loadgen), loadgen
    if len(phases) > 1:
        return LoadSaid(LoadKind.UNKNOWN, None, None), Looked({}, d.where, d.unread)
    return _phase_load(phases[0]), phases[0]


def _phase_load(phase: Looked) -> LoadSaid:
    kind, rate, cap = phase.text("type"), phase.number("rate"), phase.positive("concurrency")
    ramps = any(phase.data.get(k) not in (None, 0) for k in ("concurrency_ramp", "rate_ramp", "rate_series"))
    if kind == "fixed_schedule":
        return LoadSaid(LoadKind.TRACE, None, cap)
    if kind in ARRIVALS and ramps:
        return LoadSaid(LoadKind.CHANGING, None, cap)
    if kind in ARRIVALS and rate:
        return LoadSaid(LoadKind.OPEN, rate, cap)
    if kind == "concurrency" and cap and not ramps:
        return LoadSaid(LoadKind.CLOSED, None, cap)
    return LoadSaid(LoadKind.UNKNOWN, rate or None, cap)


def _older_load(config: Looked, loadgen: Looked) -> LoadSaid:
    """By the tool's own order: a schedule, users, a rate, else slots alone."""
    rate, cap, mode = loadgen.number("request_rate"), loadgen.positive("concurrency"), loadgen.text("request_rate_mode")
    if config.inside("input").data.get("fixed_schedule") is True or loadgen.data.get("fixed_schedule") is True:
        return LoadSaid(LoadKind.TRACE, None, cap)
    if rate:
        return LoadSaid(LoadKind.OPEN, rate, cap)
    told = mode in (None, "concurrency_burst") and "user_centric_rate" not in loadgen
    return LoadSaid(LoadKind.CLOSED if cap and told else LoadKind.UNKNOWN, None, cap)


def _lines(folder: Path | None) -> tuple[list[Looked], str]:
    """(the timed requests of the folder without warm-up, why they cannot be used)."""
    file = folder / RECORDS if folder else None
    if file is None or not file.is_file() or not file.stat().st_size:
        return [], ""
    try:
        values, broken = read_lines(file)
    except WrongUse as e:
        return [], f"every request: {RECORDS}: {e.message}"
    strange = [f"line {i + 1} is not an object" for i, v in enumerate(values) if not isinstance(v, dict)]
    if broken or strange:
        return [], f"every request: {RECORDS} {(broken + strange)[0]}"
    found = [Looked(v, f"{file}:{i + 1}", None, f"{RECORDS} line {i + 1}") for i, v in enumerate(values)]
    return [line for line in found if line.inside("metadata").text("benchmark_phase") in (None, "profiling")], ""


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
    scale = unit_of(m)
    return None if scale is None else m.number("value", scale=scale) or None


def _gaps(metrics: Looked) -> tuple[float, ...] | None:
    """None where the export holds no list: a stream of one chunk, or a coarser export level."""
    if "inter_chunk_latency" not in metrics:
        return None
    m = metrics.inside("inter_chunk_latency")
    value, scale = m.data.get("value"), unit_of(m)
    values = m.checked(value if isinstance(value, list) else [value], "value")
    return None if scale is None or values is None else tuple(v * scale for v in values)


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
    if not d.list("error_summary"):
        return counted(r.error for r in requests if r.error is not None)
    found = []
    for e in d.entries("error_summary"):
        details = e.inside("error_details") if isinstance(e.data.get("error_details"), dict) else e
        found.append((short_error(details.text("message") or details.text("type") or "unnamed"), e.whole("count") or 1))
    return tuple(found)


def _prompts(folder: Path | None, lines: list[Looked]) -> tuple[str, ...]:
    """A digest of each timed request's prompt, in order; empty where a request cannot be matched to its prompt."""
    file = folder / INPUTS if folder else None
    if file is None or not file.is_file() or not lines:
        return ()
    by_session: dict[str, list[Any]] = {}
    try:
        inputs = Looked(read_lines(file)[0][0], str(file))
    except WrongUse:
        return ()
    for session in inputs.entries("data"):
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
    run = d.inside("run_info")
    cancelled = d.data.get("was_cancelled") is True or d.data.get("is_complete") is False
    _, phase = _load(Looked(d.data, d.where))
    usage = bool(lines) and all(
        "usage_completion_tokens" in line.inside("metrics") for line in lines if "error" not in line
    )
    known = {
        **asked, "arrivals": phase.text("type") or phase.text("request_rate_mode"), "seed": run.text("random_seed"),
        "command": run.text("cli_command") or d.inside("input_config").text("cli_command"),
        "cancelled": "yes" if cancelled else None, "token_counts": "server" if usage else "client tokenizer" if lines else None,
    }  # fmt: skip
    return {k: v for k, v in known.items() if v}


def _asked(config: Looked) -> dict[str, str | None]:
    """Model, endpoint and lengths: `models.items` and `datasets` (schema 1.4), or the flat keys of older versions."""
    models = [m.text("name") for m in config.inside("models").entries("items")]
    endpoint = config.inside("endpoint")
    older = [str(m)[:200] for m in endpoint.list("model_names")]
    data = next(iter(config.entries("datasets")), None) or config.inside("input")
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
