"""The file of one trial: its records as columns of integers, what the client saw of itself, the server's counters.

docs/verify.md describes the format and reads it in ten lines. Kept response bytes stand in a second file as text in
which every byte is one character (latin-1), credentials overwritten.
"""

from __future__ import annotations

import binascii
import math
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.core.finish import GOOD_REASONS, bad_reason, not_finished
from profile_and_optimize.core.names import canonical
from profile_and_optimize.core.records import ClientProbe, ClientRun, RawResponse
from profile_and_optimize.core.trial import Stage, TrialKey
from profile_and_optimize.evidence.redact import redact, starred
from profile_and_optimize.stats.columns import MISSING, NUMBERS, SMALL, TEXTS, Records, column

SCHEMA = 3
# What version 2 did not have: what was asked of every request. Its readers stay.
OLD_SCHEMA, NEW_COLUMNS = 2, frozenset({"max_tokens"})
_TRIAL = re.compile(r"cells/[^/]+/raw/[bpr]\d{3,}-(?!.*\.raw\.json$)[^/]+\.json")
_COUNTED = (*NUMBERS, "chunks", "first_chunk_ns")
# Gaps fit 32 bits unless a stream paused for more than four seconds.
_LAYOUTS: dict[str, np.dtype[Any]] = {"uint32 little-endian": SMALL, "int64 little-endian": np.dtype("<i8")}


@dataclass(frozen=True, slots=True)
class TrialFile:
    """One timed run as it lies on disk. `counters` is the server's own change over the run; `context` asked and observed.

    `prompt_ids` are short digests of the trial's prompts (warm-up first, then the timed ones); `machine` is what else the
    machine did meanwhile (see `campaign.guard`). Numbers that are not finite are refused at birth.
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

    def __post_init__(self) -> None:
        _numbers("time", (self.started_at, self.ended_at, self.start_s, self.requests_asked, self.run.t0_unix_s))
        _numbers("counter", self.counters.values())
        _numbers("machine measure", (v for v in self.machine.values() if v is not None))
        texts = chain((self.prompts_digest,), self.prompt_ids, *(f.values() for f in self.context.values()))
        if not set(map(type, texts)) <= {str}:
            raise ValueError("a digest or a context field is not text")


def trial_path(key: TrialKey) -> str:
    return f"cells/{key.arm}/raw/{key.name}.json"


def raw_path(key: TrialKey) -> str:
    """Where the kept response bytes of a trial lie, if any were kept."""
    return f"cells/{key.arm}/raw/{key.name}.raw.json"


def is_trial_path(path: str) -> bool:
    """Is this run-relative path the file of a trial (of any stage), not its kept bytes, a log or an answer?"""
    return _TRIAL.fullmatch(path) is not None


def encode(trial: TrialFile, secrets: Sequence[str] = ()) -> bytes:
    """One line of canonical JSON, without `secrets` in its errors."""
    run, rows = trial.run, Records.of(trial.run.records)
    doc = {
        "schema": SCHEMA,
        "kind": "trial",
        "key": asdict(trial.key),
        "requests_asked": trial.requests_asked,
        "started_at": trial.started_at,
        "ended_at": trial.ended_at,
        "start_s": trial.start_s,
        "t0_unix_s": run.t0_unix_s,
        "t0_monotonic_ns": run.t0_monotonic_ns,
        "concurrency": run.concurrency,
        "arrival": run.arrival,
        "request_rate": run.request_rate,
        "ignore_eos": run.ignore_eos,
        "prompts_digest": trial.prompts_digest,
        "prompt_ids": list(trial.prompt_ids),
        "machine": dict(trial.machine),
        "probe": asdict(run.probe),
        "counters": dict(trial.counters),
        "context": {k: dict(v) for k, v in trial.context.items()},
        "columns": _columns(rows, secrets),
        "gaps_ns": _packed(rows.gaps_ns),
    }
    return canonical(doc) + b"\n"


def decode(doc: Mapping[str, Any], where: str) -> TrialFile:
    """The inverse of `encode`. Raises Corrupted naming the file and what is wrong in it."""
    try:
        doc = _of_today(doc)
        if doc["schema"] != SCHEMA or doc["kind"] != "trial":
            raise ValueError(f"schema {doc['schema']!r}, kind {doc['kind']!r}")
        if not (doc["ignore_eos"] is None or isinstance(doc["ignore_eos"], bool)):
            raise ValueError(f"ignore_eos {doc['ignore_eos']!r} is not true, false or null")
        probe = {
            **doc["probe"],
            "loop_lag_ns": tuple(doc["probe"]["loop_lag_ns"]),
            "cores": tuple(doc["probe"]["cores"]),
        }
        run = ClientRun(
            doc["t0_unix_s"], doc["concurrency"], _records(doc["columns"], doc["gaps_ns"]), _probe(probe),
            t0_monotonic_ns=doc["t0_monotonic_ns"], arrival=doc["arrival"], request_rate=doc["request_rate"],
            ignore_eos=doc["ignore_eos"],
        )  # fmt: skip
        key = TrialKey(**{**doc["key"], "stage": Stage(doc["key"]["stage"])})
        return TrialFile(
            key, run, doc["requests_asked"], doc["started_at"], doc["ended_at"], doc["counters"], doc["context"],
            doc["prompts_digest"], doc["start_s"], tuple(doc["prompt_ids"]), doc["machine"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise Corrupted(f"not a trial: {_said(e)}", where=where, next="pao verify RUN") from e


def _of_today(doc: Mapping[str, Any]) -> Mapping[str, Any]:
    """A file of version 2 as one of today: what was asked is unknown, and an answer that did not finish well, which counted
    as completed then, failed."""
    if doc["schema"] != OLD_SCHEMA:
        return doc
    columns = dict(doc["columns"])
    if NEW_COLUMNS & columns.keys() or "ignore_eos" in doc:
        raise ValueError(f"schema {OLD_SCHEMA} with columns of schema {SCHEMA}")
    columns |= {name: [None] * len(columns["index"]) for name in NEW_COLUMNS}
    said = zip(*(columns[n] for n in ("error", "finish_reason", "completion_tokens", "status")), strict=True)
    columns["error"] = [_finished(*of) if of[0] is None else of[0] for of in said]
    return {**doc, "schema": SCHEMA, "ignore_eos": None, "columns": columns}


def _finished(_: None, reason: object, tokens: object, status: object) -> str | None:
    """Why an answer of version 2 failed by the rule of today. Whether [DONE] came was not kept; other clients kept nothing."""
    given = reason if isinstance(reason, str) else None
    return bad_reason(given) if status is None else not_finished([given], usage=bool(tokens), done=True)


def encode_raw(raw: tuple[RawResponse, ...], secrets: Sequence[str] = ()) -> bytes:
    kept = [{"index": r.index, "reads": list(_without_credentials(r, secrets))} for r in raw]
    return canonical({"schema": 1, "kind": "raw", "responses": kept}) + b"\n"


def _without_credentials(r: RawResponse, secrets: Sequence[str]) -> Iterator[list[Any]]:
    """The reads as text; a credential may stand in two of them. Every length stays, and so does the framing."""
    text, end = starred(b"".join(data for _, data in r.reads).decode("latin-1"), secrets), 0
    for at, data in r.reads:
        yield [at, text[end : (end := end + len(data))]]


def decode_raw(doc: Mapping[str, Any]) -> tuple[RawResponse, ...]:
    return tuple(
        RawResponse(r["index"], tuple((at, text.encode("latin-1")) for at, text in r["reads"]))
        for r in doc["responses"]
    )


def _columns(rows: Records, secrets: Sequence[str]) -> dict[str, list[Any]]:
    numbers = {**rows.numbers, "chunks": rows.chunks, "first_chunk_ns": rows.first_ns}
    columns: dict[str, list[Any]] = {
        name: [None if v == MISSING else v for v in numbers[name].tolist()] for name in _COUNTED
    }
    return columns | {
        "finish_reason": [r if r is None or r in GOOD_REASONS else redact(r, secrets) for r in rows.finish_reason],
        "error": [None if e is None else redact(e, secrets) for e in rows.error],
    }


def _records(columns: Mapping[str, list[Any]], gaps: Mapping[str, Any]) -> Records:
    sizes = {len(columns[name]) for name in (*_COUNTED, *TEXTS)}
    if len(sizes) > 1 or set(columns) != {*_COUNTED, *TEXTS}:
        raise ValueError("columns of unequal length, or others than there are")
    # One list for all: a small array each would cost more than everything else here.
    table = column(chain.from_iterable(columns[n] for n in _COUNTED)).reshape(len(_COUNTED), sizes.pop())
    numbers = dict(zip(_COUNTED, table, strict=True))
    if not set(map(type, chain.from_iterable(columns[n] for n in TEXTS))) <= {str, type(None)}:
        raise ValueError("an error or a finish reason is not text")
    return Records(
        {name: numbers[name] for name in NUMBERS}, {name: columns[name] for name in TEXTS},
        chunks=numbers["chunks"], first_ns=numbers["first_chunk_ns"], gaps_ns=_unpacked(gaps),
    )  # fmt: skip


def _packed(gaps: np.ndarray) -> dict[str, Any]:
    small = not len(gaps) or int(gaps.max()) < 2**32
    layout = "uint32 little-endian" if small else "int64 little-endian"
    data = b64encode(gaps.astype(_LAYOUTS[layout]).tobytes()).decode()
    return {"count": len(gaps), "layout": layout, "base64": data}


def _unpacked(gaps: Mapping[str, Any]) -> np.ndarray:
    if gaps["layout"] not in _LAYOUTS:
        raise ValueError(f"gaps in an unknown layout {gaps['layout']!r}")
    found = np.frombuffer(binascii.a2b_base64(gaps["base64"], strict_mode=True), _LAYOUTS[gaps["layout"]])
    if len(found) != gaps["count"]:
        raise ValueError(f"{len(found)} gaps, {gaps['count']} are announced")
    return found


def _probe(values: Mapping[str, Any]) -> ClientProbe:
    probe = ClientProbe(**values)
    told = (probe.wall_s, probe.cpu_s, probe.parse_cpu_s, probe.run_queue_wait_s, probe.in_flight_s)
    _numbers("probe", (v for v in told if v is not None))
    counts = (probe.reads, probe.coalesced_reads, probe.connections, probe.reconnects, probe.waited_for_connection)
    if not {type(v) for v in counts} <= {int, type(None)} or not set(map(type, probe.loop_lag_ns)) <= {int}:
        raise ValueError("a count of the client's probe is not an integer")
    return probe


def _numbers(what: str, values: Iterable[Any]) -> None:
    wrong = [v for v in values if isinstance(v, bool) or not isinstance(v, (int, float)) or not math.isfinite(v)]
    if wrong:
        raise ValueError(f"{what} {wrong[0]!r} is not a finite number")


def _said(e: Exception) -> str:
    return f"{e.args[0]!r} is missing" if isinstance(e, KeyError) else str(e)
