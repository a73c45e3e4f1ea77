"""The file of one trial: its records as columns of integers, what the client saw of itself, the server's counters.

Columns keep the file small and quick to load: `chunk_ns` holds, per request, the first chunk's time and then the gaps.
Kept response bytes stand in a second file as text in which every byte is one character (latin-1), redacted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.core.names import canonical
from profile_and_optimize.core.records import ClientProbe, ClientRun, RawResponse, RequestRecord
from profile_and_optimize.core.trial import Stage, TrialKey
from profile_and_optimize.evidence.redact import redact

_TRIAL = re.compile(r"cells/[^/]+/raw/[br]\d{3,}-(?!.*\.raw\.json$)[^/]+\.json")
_PLAIN = (
    "index", "intended_ns", "sent_ns", "done_ns", "first_byte_ns", "prompt_tokens", "completion_tokens", "status", "finish_reason",
    "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrialFile:
    """One timed run as it lies on disk. `counters` is the server's own change over the run; `context` asked and observed.

    `prompt_ids` are short digests of the session's prompts up to here (warm-up first, then the timed ones); `machine`
    is what else the machine did meanwhile (see `campaign.guard`).
    """

    key: TrialKey
    run: ClientRun
    requests_asked: int
    started_at: float
    ended_at: float
    counters: Mapping[str, float]
    context: Mapping[str, Mapping[str, str]]
    prompts_digest: str
    start_s: float
    prompt_ids: tuple[str, ...] = ()
    machine: Mapping[str, float | None] = field(default_factory=dict)


def trial_path(key: TrialKey) -> str:
    return f"cells/{key.arm}/raw/{key.name}.json"


def is_trial_path(path: str) -> bool:
    """Is this run-relative path the file of a trial (of either stage), not its kept bytes, a log or an answer?"""
    return _TRIAL.fullmatch(path) is not None


def encode(trial: TrialFile) -> bytes:
    """One line of canonical JSON."""
    run = trial.run
    columns: dict[str, list[Any]] = {name: [getattr(r, name) for r in run.records] for name in _PLAIN}
    columns["error"] = [None if e is None else redact(e) for e in columns["error"]]
    columns["chunk_ns"] = [_gaps(r.chunk_ns) for r in run.records]
    doc = {
        "schema": 1,
        "kind": "trial",
        "key": asdict(trial.key),
        "requests_asked": trial.requests_asked,
        "started_at": trial.started_at,
        "ended_at": trial.ended_at,
        "start_s": trial.start_s,
        "t0_unix_s": run.t0_unix_s,
        "concurrency": run.concurrency,
        "arrival": run.arrival,
        "request_rate": run.request_rate,
        "prompts_digest": trial.prompts_digest,
        "prompt_ids": list(trial.prompt_ids),
        "machine": dict(trial.machine),
        "probe": asdict(run.probe),
        "counters": dict(trial.counters),
        "context": {k: dict(v) for k, v in trial.context.items()},
        "columns": columns,
    }
    return canonical(doc) + b"\n"


def decode(doc: Mapping[str, Any], where: str) -> TrialFile:
    """The inverse of `encode`. Raises Corrupted naming the file and what is wrong in it."""
    try:
        if doc["schema"] != 1 or doc["kind"] != "trial":
            raise ValueError(f"schema {doc['schema']!r}, kind {doc['kind']!r}")
        probe = {
            **doc["probe"],
            "loop_lag_ns": tuple(doc["probe"]["loop_lag_ns"]),
            "cores": tuple(doc["probe"]["cores"]),
        }
        run = ClientRun(
            doc["t0_unix_s"], doc["concurrency"], _records(doc["columns"]), ClientProbe(**probe),
            arrival=doc["arrival"], request_rate=doc["request_rate"],
        )  # fmt: skip
        key = TrialKey(**{**doc["key"], "stage": Stage(doc["key"]["stage"])})
        return TrialFile(
            key, run, doc["requests_asked"], doc["started_at"], doc["ended_at"], doc["counters"], doc["context"],
            doc["prompts_digest"], doc["start_s"], tuple(doc["prompt_ids"]), doc["machine"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise Corrupted(f"not a trial: {e}", where=where, next="pao verify RUN") from e


def encode_raw(raw: tuple[RawResponse, ...]) -> bytes:
    kept = [{"index": r.index, "reads": [[at, redact(data.decode("latin-1"))] for at, data in r.reads]} for r in raw]
    return canonical({"schema": 1, "kind": "raw", "responses": kept}) + b"\n"


def decode_raw(doc: Mapping[str, Any]) -> tuple[RawResponse, ...]:
    return tuple(
        RawResponse(r["index"], tuple((at, text.encode("latin-1")) for at, text in r["reads"]))
        for r in doc["responses"]
    )


def _records(columns: Mapping[str, list[Any]]) -> tuple[RequestRecord, ...]:
    if len({len(c) for c in columns.values()}) > 1:
        raise ValueError("columns of unequal length")
    rows = zip(*(columns[name] for name in _PLAIN), strict=True)
    return tuple(
        RequestRecord(**dict(zip(_PLAIN, row, strict=True)), chunk_ns=tuple(accumulate(gaps)))
        for row, gaps in zip(rows, columns["chunk_ns"], strict=True)
    )


def _gaps(times: tuple[int, ...]) -> list[int]:
    return [b - a for a, b in zip((0, *times), times, strict=False)]
