"""Results of our own `pao bench --out FOLDER`: result.json, with the records beside it where they are.

Everything in it is ours already; the client's own verdict on itself travels as the facts `honesty` and `honesty_reasons`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.core.metrics import DISTRIBUTIONS
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.evidence.trialfile import TrialFile, decode
from profile_and_optimize.importers.base import Imported, LoadKind, RequestSeen, Stat, counted, without_empty
from profile_and_optimize.importers.reading import Looked, read_values
from profile_and_optimize.importers.settle import settled

TOOL = "pao"
RECORDS = "records.json"


def claims(data: Any) -> bool:
    """Whether an object of a file is one of these runs."""
    return isinstance(data, dict) and all(
        key in data for key in ("honesty", "client", "requests", "metrics", "cache_mode")
    )


def of(data: Any, path: str, folder: Path | None = None) -> Imported:
    """One run. Raises WrongUse for values of a wrong type, or records that are damaged."""
    d = Looked(data, path)
    counts, metrics = d.inside("requests"), d.inside("metrics")
    trial = _trial(folder)
    requests = tuple(_seen(r) for r in trial.run.records) if trial else ()
    asked = counts.whole("asked")
    run = Imported(
        tool=TOOL, version=d.inside("client").text("version"), path=path, load=_load(d), concurrency=d.whole("concurrency"),
        request_rate=None if "replay" in d else d.number("request_rate"), asked=asked,
        completed=counts.whole("completed"), failed=counts.whole("failed"),
        duration_s=d.number("wall_s"), metrics=without_empty({m.name: _stat(metrics, m.printed) for m in DISTRIBUTIONS}),
        request_throughput=d.number("request_throughput_req_s"), output_throughput=d.number("output_throughput_tok_s"),
        input_tokens=_total(requests, "input_tokens"), output_tokens=_total(requests, "output_tokens"),
        delivered_concurrency=d.number("delivered_concurrency"), records=tuple(trial.run.records) if trial else (), requests=requests,
        send_lag_s=tuple(r.lag_s for r in requests if r.lag_s is not None),
        errors=_errors(d, requests), prompts=trial.prompt_ids if trial else (),
        named={m.name: m.printed for m in DISTRIBUTIONS}, facts=_facts(d), unread=tuple(d.unread),
    )  # fmt: skip
    return settled(run, rates=False)


def _load(d: Looked) -> LoadKind:
    if "replay" in d:
        return LoadKind.TRACE
    if "arrival" in d:
        return LoadKind.OPEN if d.number("request_rate") else LoadKind.UNKNOWN
    return LoadKind.CLOSED if d.whole("concurrency") and "request_rate" not in d else LoadKind.UNKNOWN


def _stat(metrics: Looked, printed: str) -> Stat:
    if printed not in metrics:
        return Stat()
    m = metrics.inside(printed)
    p50, p90, p99, mean = (m.number(k, scale=1e-3) for k in ("p50", "p90", "p99", "mean"))
    return Stat(p50, p90, p99, mean, m.whole("n"))


def _trial(folder: Path | None) -> TrialFile | None:
    file = folder / RECORDS if folder else None
    if file is None or not file.is_file():
        return None
    try:
        return decode(read_values(file)[0], str(file))
    except Corrupted as e:
        raise WrongUse(e.message, where=e.where, next="run pao bench again") from None


def _seen(r: RequestRecord) -> RequestSeen:
    lag = (r.sent_ns - r.intended_ns) * 1e-9
    if not r.ok:
        return RequestSeen(input_tokens=r.prompt_tokens, error=r.error, lag_s=lag, sent_s=r.sent_ns * 1e-9)
    gaps = tuple((b - a) * 1e-9 for a, b in zip(r.chunk_ns, r.chunk_ns[1:], strict=False))
    return RequestSeen(
        (r.chunk_ns[0] - r.sent_ns) * 1e-9,
        gaps,
        (r.done_ns - r.sent_ns) * 1e-9,
        r.prompt_tokens,
        r.completion_tokens,
        None,
        lag,
    )


def _total(requests: tuple[RequestSeen, ...], name: str) -> int | None:
    found = [getattr(r, name) for r in requests if r.ok]
    return None if not found or None in found else sum(found)


def _errors(d: Looked, requests: tuple[RequestSeen, ...]) -> tuple[tuple[str, int], ...]:
    if requests:
        return counted(r.error for r in requests if r.error is not None)
    errors = d.inside("errors")
    return tuple((str(name)[:160], errors.whole(name) or 0) for name in errors.data)


def _facts(d: Looked) -> dict[str, str]:
    plain = (
        "model",
        "dataset",
        "api",
        "seed",
        "cache_mode",
        "isl_asked",
        "osl_asked",
        "url",
        "prompts_exact",
        "tokens_per_chunk",
        "arrival",
        "burstiness",
    )
    honesty = d.inside("honesty")
    known = {name: d.text(name) for name in plain} | {
        "token_counts": "server", "client": d.inside("client").text("name"), "honesty": honesty.text("validity"),
        "honesty_reasons": "; ".join(str(r)[:160] for r in honesty.list("reasons")),
    }  # fmt: skip
    return {k: v for k, v in known.items() if v}
