"""pao workloads: the suites and workloads there are, where the data of each comes from, and what fits a model."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.near import unknown
from profile_and_optimize.core.opens import MODEL
from profile_and_optimize.ops.acts import reads
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.fits import max_length
from profile_and_optimize.ops.options import says
from profile_and_optimize.workloads.data import Place, place_of
from profile_and_optimize.workloads.suites import Entry, Suite, suites


class WorkloadsRequest(Request):
    suite: str | None = Field(default=None, description=says("suite", "default: all"))
    model: Annotated[str | None, MODEL] = Field(
        default=None, description=says("model", "shows which workloads fit into it")
    )
    offline: bool = Field(default=False, description="do not ask the hub whether it has the data")


def run(req: WorkloadsRequest, say: Say) -> Result:
    if req.suite is not None and req.suite not in suites():
        raise WrongUse(unknown("suite", req.suite, suites()), where="--suite", next="pao workloads")
    limit = max_length(req.model) if req.model else None
    if req.model and limit is None:
        raise WrongUse(
            "its length is not in a config.json there", where=f"--model {req.model}", next="give a model folder"
        )
    shown = [s for s in suites().values() if req.suite in (None, s.name)]
    places = {e.workload.name: place_of(e.workload, look=not req.offline) for s in shown for e in s.entries}
    data = {"suites": {s.name: _suite(s, places, limit) for s in shown}, "max_length": limit}
    lines = [line for s in shown for line in _lines(s, places, limit)]
    return Result(data, "\n".join(lines).strip())


def _suite(s: Suite, places: dict[str, Place], limit: int | None) -> dict[str, Any]:
    return {"about": s.about, "workloads": [_workload(e, places[e.workload.name], limit) for e in s.entries]}


def _workload(e: Entry, place: Place, limit: int | None) -> dict[str, Any]:
    w = e.workload
    return {
        "name": w.name, "kind": w.kind, "isl": w.isl, "osl": w.osl, "lengths": w.lengths, "api": w.api, "cache": w.cache_mode,
        "dataset": w.dataset, "data": place.words, "data_here": place.there, "concurrencies": list(e.concurrencies),
        "requests": e.requests, "fits": None if limit is None else w.isl + w.osl <= limit,
    }  # fmt: skip


def _lines(s: Suite, places: dict[str, Place], limit: int | None) -> list[str]:
    rows = [_row(e, places[e.workload.name], limit) for e in s.entries]
    return [f"{s.name}: {s.about}", *rows, ""]


def _row(e: Entry, place: Place, limit: int | None) -> str:
    w = e.workload
    long = limit is not None and w.isl + w.osl > limit
    load = f"c={','.join(map(str, e.concurrencies))} x {e.requests}"
    extra = [*(["prefixes repeat"] if w.prefixes else []), *([f"TOO LONG for {limit} tokens"] if long else [])]
    return f"  {w.name:20}{w.kind:15}{_shape(e):>13}  {load:11}{'; '.join([place.words, *extra])}"


def _shape(e: Entry) -> str:
    w = e.workload
    most = "<=" if not w.one_osl or w.isl_least else ""
    return f"{most}{w.isl}/{w.osl}"


OP = Op(
    "workloads", "List suites and workloads, and where the data of each comes from.", Safety.READ_ONLY, WorkloadsRequest, run,
    mcp_name="perf_tune_report_workloads", acts=reads, examples=("pao workloads", "pao workloads --suite canonical --model ./my-model"),
)  # fmt: skip
