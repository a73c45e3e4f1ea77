"""What other tools measured of this campaign's cells, as words. It stands apart on every page: nothing rests on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.analysis.imported import imported_rows
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.metrics import DISTRIBUTIONS, OUT_RATE, REQ_RATE
from profile_and_optimize.report.words import UNKNOWN, decimals_for, number, plain

COLUMNS = (*DISTRIBUTIONS, REQ_RATE, OUT_RATE)


@dataclass(frozen=True)
class ImportedRow:
    """One run of a tool, or a load that never came. `values` are its own figures, medians where they are distributions;
    `server` says whose it was, `notes` are its flags and what it lacks; `title` says under which names the tool has them."""

    cell: str
    tool: str
    server: str
    workload: str
    load: str
    status: str
    values: tuple[str, ...]
    requests: str
    notes: str
    source: str
    unknown: int
    title: str


def imported_views(ev: Evidence) -> tuple[ImportedRow, ...]:
    rows = imported_rows(ev.imported, ev.run.name)
    places = {m.name: decimals_for([_estimate(r, m.printed) for r in rows]) for m in COLUMNS}
    return tuple(_row(r, places) for r in rows)


def _row(r: Mapping[str, Any], places: Mapping[str, int]) -> ImportedRow:
    values = tuple(number(_estimate(r, m.printed), places[m.name]) for m in COLUMNS)
    load = UNKNOWN if r["concurrency"] is None else f"concurrency {r['concurrency']}"
    load = load if r["request_rate"] is None else f"{r['request_rate']:g} req/s"
    asked = UNKNOWN if r["requests"] is None else str(r["requests"])
    names = "; ".join(f"{ours} is its {theirs}" for ours, theirs in r["formulas"].items())
    return ImportedRow(
        cell=r["cell"], tool=plain(f"{r['tool']} {r['tool_version']}"),
        server=plain(_server(r)), workload=plain(r["workload"]), load=load, status=r["status"],
        values=values, requests=f"{_count(r['requests_failed'])} of {asked}",
        notes=plain("; ".join(x for x in (*r["flags"], r["reason"]) if x)),
        source=r["sources"][0].split("#")[0] if r["sources"] else "", unknown=len(r["unknown"]), title=plain(names),
    )  # fmt: skip


def _server(row: Mapping[str, Any]) -> str:
    """A running endpoint by its address, else the engine that was started for the cell; a bundle does not say."""
    url, version = (row["context"].get(name, {}) for name in ("url", "engine_version"))
    told = [value for field in (url, version) for value in (field.get("asked"), field.get("observed")) if value]
    known = [value for value in told if value != UNKNOWN]
    if known and "://" in known[0]:
        return f"on {known[0]}"
    return f"{row['engine']} {known[0]} started for it" if known else f"{row['engine']}, server unknown"


def _count(n: int | None) -> str:
    return UNKNOWN if n is None else str(n)


def _estimate(row: Mapping[str, Any], printed: str) -> float | None:
    """The median of a distribution, or the rate; None where the tool did not say."""
    found = row["metrics"][printed]
    if found is not None and "estimate" not in found:
        found = found["p50"]
    return None if found is None else found["estimate"]
