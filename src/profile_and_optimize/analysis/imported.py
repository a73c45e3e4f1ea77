"""Rows from results of other tools: the shape of an atlas row, one for every run of the tool, marked as imported.

They are never pooled with trials or with one another, hold no block and no verdict, and enter no comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from profile_and_optimize.campaign.imported import Asked, Attempt, ImportedCell, imported_path
from profile_and_optimize.core.context import UNKNOWN, context_from_json
from profile_and_optimize.core.metrics import DISTRIBUTIONS, ITL, OUT_RATE, REQ_RATE, Metric
from profile_and_optimize.core.trial import TrialState
from profile_and_optimize.core.verdict import Tier
from profile_and_optimize.importers.base import Imported, LoadKind, Stat
from profile_and_optimize.importers.vllm_sweep import SweepRun

FULL, PARTIAL, FAILED = (s.value for s in (TrialState.FULL, TrialState.PARTIAL, TrialState.FAILED))
SOURCE = "imported"
# Fewer than two requests a slot: ramp and drain dominate the window, and a high concurrency's throughput reads 1.6 to 1.8
# times too low.
UNDERCOUNT = "steady_window_undercount"
WINDOW = "the tool's whole run"


def imported_rows(cells: Sequence[ImportedCell], campaign: str) -> list[dict[str, Any]]:
    """Rows of all imported cells of a run, in order of cell, backend, attempt and file."""
    return [row for cell in cells for row in cell_rows(cell, campaign)]


def cell_rows(cell: ImportedCell, campaign: str) -> list[dict[str, Any]]:
    """A row per run, and one without numbers for every load that was asked for and never came."""
    rows = [_row(a, campaign, r) for a in cell.attempts for r in a.runs]
    return rows + [_empty_row(cell, campaign, p) for p in missing(cell)]


def document(cell: ImportedCell, campaign: str) -> dict[str, Any]:
    """What `cells/<id>/imported/<backend>.json` holds."""
    return {
        "schema": 1, "cell": cell.cell, "backend": cell.backend, "tier": Tier.DRAFT.value, "status": status(cell),
        "reason": reason(cell), "requested": [p.key for p in requested(cell)], "missing": [p.key for p in missing(cell)],
        "lost": [f"r{a.ask.attempt}/{x.path}: {x.reason}" for a in cell.attempts for x in a.lost],
        "rows": cell_rows(cell, campaign),
    }  # fmt: skip


def documents(cells: Sequence[ImportedCell], campaign: str) -> dict[str, dict[str, Any]]:
    return {imported_path(c.cell, c.backend): document(c, campaign) for c in cells}


def requested(cell: ImportedCell) -> tuple[Asked, ...]:
    """Every load that any attempt was asked for, in the order in which it was first."""
    return tuple({p.key: p for a in cell.attempts for p in a.ask.points}.values())


def missing(cell: ImportedCell) -> tuple[Asked, ...]:
    """Loads of which no attempt left a run."""
    there = {r.combination.bench for a in cell.attempts for r in a.runs}
    return tuple(p for p in requested(cell) if p.key not in there)


def incomplete(cell: ImportedCell) -> tuple[Asked, ...]:
    """Loads without a run that completed every request, and those whose exploration did not come to its end."""
    whole = {r.combination.bench for a in cell.attempts for r in a.runs if run_status(r.result) == FULL}
    if cell.last.levels:
        whole &= {p.key for a in cell.attempts if a.seen.explored for p in a.ask.points}
    return tuple(p for p in requested(cell) if p.key not in whole)


def status(cell: ImportedCell) -> str:
    """full: every load completed. failed: no request of any did. partial: what lies between."""
    if not incomplete(cell):
        return FULL
    some = any(run_status(r.result) != FAILED for a in cell.attempts for r in a.runs)
    return PARTIAL if some else FAILED


def status_of_cell(cells: Sequence[ImportedCell], cell: str) -> str:
    """Of all backends that measured a cell: theirs where they agree, else partial."""
    found = {status(c) for c in cells if c.cell == cell}
    return found.pop() if len(found) == 1 else PARTIAL


def reason(cell: ImportedCell) -> str:
    """Why it is not full, in the words of the last attempt; "" where it is."""
    left = incomplete(cell)
    if not left:
        return ""
    last = cell.attempts[-1]
    short = [why for r in last.runs if run_status(r.result) != FULL for why in _short(r.result)]
    words = dict.fromkeys([*([last.seen.reason] if last.seen.reason else []), *(x.reason for x in last.lost), *short])
    return f"not complete: {', '.join(p.key for p in left)}" + (f" ({'; '.join(words)})" if words else "")


def run_status(result: Imported) -> str:
    """full where every asked request completed. A file that does not say how many were asked for, or that disproves its own
    figures, is partial at best; one whose completed requests brought no answer has failed."""
    if result.silent:
        return FAILED
    if not result.completed:
        return FAILED if result.completed == 0 else PARTIAL
    complete = result.asked is not None and result.completed >= result.asked
    return FULL if complete and not result.failed and not result.contradicts else PARTIAL


def flags_of(result: Imported) -> list[str]:
    """Slots of a cap on an open loop were never meant to be full."""
    known = result.load is LoadKind.CLOSED and result.asked is not None and result.concurrency is not None
    return [UNDERCOUNT] if known and (result.asked or 0) < 2 * (result.concurrency or 0) else []


def _row(a: Attempt, campaign: str, run: SweepRun) -> dict[str, Any]:
    asked = next((p for p in a.ask.points if p.key == run.combination.bench), None)
    r = run.result
    return {
        **_head(a, campaign, asked, r.concurrency, r.asked),
        "concurrency": r.concurrency, "request_rate": r.request_rate, "requests": r.asked,
        "status": run_status(r),
        "reason": "; ".join([*_reasons(asked, r), *_uncounted(a, r)]), "run": run.number, "metrics": _metrics(r),
        "mean_input_tokens": _mean(r.input_tokens, r.completed), "mean_output_tokens": _mean(r.output_tokens, r.completed),
        "window": [WINDOW], "requests_failed": r.failed, "flags": flags_of(r), "formulas": dict(sorted(r.named.items())),
        "facts": dict(sorted(r.facts.items())), "sources": [f"{a.ask.folder}/{run.path}"],
    }  # fmt: skip


def _empty_row(cell: ImportedCell, campaign: str, asked: Asked) -> dict[str, Any]:
    a = next(a for a in reversed(cell.attempts) if asked in a.ask.points)
    return {
        **_head(a, campaign, asked, asked.concurrency, asked.requests),
        "concurrency": asked.concurrency, "request_rate": None, "requests": asked.requests,
        "status": FAILED, "reason": a.seen.reason or "the tool left no result of it", "run": None, "metrics": _metrics(None),
        "mean_input_tokens": None, "mean_output_tokens": None,
        "window": [], "requests_failed": None, "flags": [], "formulas": {}, "facts": {}, "sources": [],
    }  # fmt: skip


def _head(
    a: Attempt, campaign: str, asked: Asked | None, concurrency: int | None, requests: int | None
) -> dict[str, Any]:
    ask = a.ask
    context = context_from_json(_merged({**ask.context, **_load(asked, concurrency, requests)}, a.seen.context))
    return {
        "schema": 1, "campaign": campaign, "source": SOURCE, "tier": Tier.DRAFT.value, "cell": ask.cell, "role": ask.role,
        "engine": ask.engine, "backend": ask.backend, "tool": ask.tool, "tool_version": ask.tool_version, "attempt": ask.attempt,
        "workload": asked.workload if asked else UNKNOWN, "isl": asked.isl if asked else None,
        "osl": asked.osl if asked else None, "blocks": [], "client": [UNKNOWN], "context": context.to_json(),
        "unknown": list(context.gaps()),
    }  # fmt: skip


def _load(asked: Asked | None, concurrency: int | None, requests: int | None) -> dict[str, dict[str, str]]:
    """The context fields that differ from row to row."""
    if asked is None:
        return {}
    return {
        "workload": {"asked": asked.words or UNKNOWN},
        "load": {"asked": f"closed loop, concurrency {_told(concurrency)}, {_told(requests)} requests"},
    }


def _merged(
    asked: Mapping[str, Mapping[str, str]], seen: Mapping[str, Mapping[str, str]]
) -> dict[str, Mapping[str, str]]:
    """What was asked from the one, what was observed from the other."""
    nothing: Mapping[str, str] = {}
    names = sorted({*asked, *seen})
    return {
        n: {
            "asked": asked.get(n, nothing).get("asked", UNKNOWN),
            "observed": seen.get(n, nothing).get("observed", UNKNOWN),
        }
        for n in names
    }


def _reasons(asked: Asked | None, r: Imported) -> Iterator[str]:
    """What keeps a run from being the one that was asked for, and from being whole."""
    if asked is None:
        yield "it is of no load that was asked for"
    elif None not in (asked.concurrency, r.concurrency) and asked.concurrency != r.concurrency:
        yield f"asked at concurrency {asked.concurrency}, the file reports {r.concurrency}"
    yield from _short(r)


def _uncounted(a: Attempt, r: Imported) -> Iterator[str]:
    if a.ask.by_usage and r.completed and r.facts.get("token_counts") != "server":
        yield "the server counted no tokens, so TPOT and the output rate are unknown"


def _short(r: Imported) -> Iterator[str]:
    yield from ([r.silent] if r.silent else [])
    yield from r.contradicts
    yield from (f"{name} is exactly 0 in {', '.join(k)}: unknown" for name, k in r.zeros.items())
    if run_status(r) != FULL:
        yield f"{_told(r.completed)} of {_told(r.asked)} requests completed"
    yield from (f"{n} x {why}" for why, n in r.errors[:3])


def _mean(total: int | None, count: int | None) -> float | None:
    """Tokens a request, as the tool counted them."""
    return total / count if total and count else None


def _told(n: int | None) -> str:
    return UNKNOWN if n is None else str(n)


def _metrics(r: Imported | None) -> dict[str, Any]:
    """Printed metric name to quantile to the tool's own figure, in printed units. One run has no interval."""
    out: dict[str, Any] = {}
    for m in DISTRIBUTIONS:
        stat = r.stat(m.name) if r else Stat()
        out[m.printed] = {q: _value(getattr(stat, q), m) for q in ("p50", "p90", "p99", "mean")}
        out[m.printed]["n"] = stat.n
    out[REQ_RATE.printed] = _value(r.request_throughput if r else None, REQ_RATE)
    out[OUT_RATE.printed] = _value(r.output_throughput if r else None, OUT_RATE)
    return out


def _value(value: float | None, m: Metric) -> dict[str, float | int | None] | None:
    """None for what the file does not say. A zero is one tool's word for nothing, save for gaps: chunks may come together."""
    if value is None or (value == 0 and m is not ITL):
        return None
    return {"estimate": value * m.scale, "lower": None, "upper": None, "n": 1}
