"""pao bench_all_workloads: every workload of a suite against one endpoint, a result file each, and a list of those that ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from profile_and_optimize.core.errors import GateRefused, PaoError, Unreachable, WrongUse
from profile_and_optimize.core.opens import MODEL, OUT, URL
from profile_and_optimize.core.trial import TrialState
from profile_and_optimize.core.workload import Point
from profile_and_optimize.engines.calls import get
from profile_and_optimize.engines.endpoint import served_model
from profile_and_optimize.engines.urls import checked_url
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.ops.acts import Act, long_if
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.bench import BenchRequest, bench
from profile_and_optimize.ops.fits import require_fit
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import by_fields
from profile_and_optimize.ops.worlds import auth_headers
from profile_and_optimize.workloads.data import FILES, given_files
from profile_and_optimize.workloads.suites import chosen_points, found_points, suite_points

LISTED = "workloads.txt"


class BenchAllWorkloadsRequest(Request):
    endpoint_url: Annotated[str, URL] = Field(description=says("endpoint_url"))
    out: Annotated[str, OUT] = Field(
        description=says("out", "a new or empty folder: one folder for each point, and workloads.txt")
    )
    suite: str = Field(default="demo", description=says("suite"))
    workloads: str | None = Field(
        default=None, description="workloads of the suite to run, separated by commas; default: all"
    )
    concurrency: int | None = Field(
        default=None, ge=1, le=20000, description=says("concurrency", "default: that of each workload")
    )
    requests: int | None = Field(default=None, ge=1, description=says("requests", "default: those of each workload"))
    data: Annotated[str | None, FILES] = Field(default=None, description=says("data", "in place of a workload's data"))
    client: Literal["stream", "vllm-bench", "aiperf", "guidellm"] = Field(default="stream", description=says("client"))
    served_model: Annotated[str | None, MODEL] = Field(default=None, description=says("served_model"))
    tokenizer: Annotated[str | None, MODEL] = Field(default=None, description=says("tokenizer"))
    seed: int | None = Field(default=None, description=says("seed"))
    timeout_s: float = Field(default=600.0, gt=0, le=1e6, description=says("timeout_s"))


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of one point; `why` is "" where every request completed and the client's run is valid."""

    point: Point
    result: Mapping[str, Any]
    why: str


def run(req: BenchAllWorkloadsRequest, say: Say) -> Result:
    url, out = checked_url(req.endpoint_url), Path(req.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WrongUse("there is something already", where=f"--out {out}", next="give a new folder")
    model = served_model(url, auth_headers(), req.served_model)
    bare = points_of(req)
    require_fit(bare, served_length(url, model), f"{model} at {url}", take="--workloads")
    points = found_points(bare, say)
    found = [_one(req, model, p, out, say) for p in points]
    return _answer(url, model, out, found)


def points_of(req: BenchAllWorkloadsRequest) -> tuple[Point, ...]:
    """Those asked for, with the user's own files. Raises WrongUse naming what the suite has not."""
    bare = suite_points(req.suite, req.concurrency, req.requests)
    wanted = [n.strip() for n in (req.workloads or "").split(",") if n.strip()]
    known = [p.workload.name for p in bare]
    lacking = [n for n in wanted if n not in known]
    if lacking:
        raise WrongUse(
            f"suite {req.suite} has no {', '.join(lacking)}; it has {', '.join(known)}",
            where="--workloads",
            next="pao workloads",
        )
    taken = tuple(p for p in bare if not wanted or p.workload.name in wanted)
    return chosen_points(taken, given_files(req.data))


def served_length(url: str, model: str) -> int | None:
    """Tokens of prompt and answer together, as vLLM and SGLang list it with the model; None where it is not told."""
    try:
        listed = get(f"{url}/v1/models", auth_headers()).json()["data"]
        found = next(m.get("max_model_len") for m in listed if m["id"] == model)
    except (Unreachable, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def _one(req: BenchAllWorkloadsRequest, model: str, p: Point, out: Path, say: Say) -> Ran:
    """One point. What goes wrong with it is told, and the next one is tried all the same."""
    same = {k: v for k in ("client", "tokenizer", "seed", "timeout_s") if (v := getattr(req, k)) is not None}
    one = BenchRequest(
        url=req.endpoint_url, served_model=model, workload=p.workload.name, concurrency=p.concurrency, requests=p.requests,
        out=str(out / p.key), **same,
    )  # fmt: skip
    try:
        done = bench(one, p.workload, say)
    except PaoError as e:
        return Ran(p, {}, e.message)
    data = done.data
    counts = data["requests"]
    why = done.refusal.message if done.refusal else ""
    if not why and data["status"] != TrialState.FULL.value:
        why = f"{counts['failed']} of {counts['asked']} requests failed"
    return Ran(p, data, why)


def _answer(url: str, model: str, out: Path, found: list[Ran]) -> Result:
    failed = [r for r in found if r.why]
    lost = {r.point.workload.name for r in failed}
    names = tuple(dict.fromkeys(r.point.workload.name for r in found))
    complete = [n for n in names if n not in lost]
    write_atomic(out / LISTED, "".join(f"{n}\n" for n in complete).encode())
    data = {
        "url": url, "model": model, "out": str(out), "complete": complete, "failed": {r.point.key: r.why for r in failed},
        "points": {r.point.key: dict(r.result) for r in found if r.result},
    }  # fmt: skip
    refusal = None
    if failed:
        why = "; ".join(f"{r.point.key}: {r.why}" for r in failed)
        refusal = GateRefused(why, where=str(out), next=f"pao bench {url} --workload {failed[0].point.workload.name}")
    warnings = tuple(f"{r.point.key}: {r.why}" for r in failed)
    return Result(data, "\n".join(text_of(found, out)), warnings, refusal)


def text_of(found: Iterable[Ran], out: Path) -> list[str]:
    lines = [f"{'':22}{'TTFT p50 ms':>12}{'TPOT p50 ms':>12}{'output tok/s':>13}{'ISL':>9}{'OSL':>8}  client"]
    lines += [_row(r) for r in found]
    return [*lines, f"complete workloads in {out / LISTED}"]


def _row(r: Ran) -> str:
    if not r.result:
        return f"{r.point.key:22}FAILED: {r.why}"
    metrics, honesty = r.result["metrics"], r.result["honesty"]
    cells = [_p50(metrics, "ttft_ms"), _p50(metrics, "tpot_ms"), r.result["output_throughput_tok_s"]]
    cells += [r.result["isl_observed_mean"], r.result["osl_observed_mean"]]
    shown = "".join(f"{_num(v):>{w}}" for v, w in zip(cells, (12, 12, 13, 9, 8), strict=True))
    return f"{r.point.key:22}{shown}  {honesty['validity']}" + (f"  FAILED: {r.why}" if r.why else "")


def _p50(metrics: Mapping[str, Any], name: str) -> float | None:
    return metrics[name]["p50"] if metrics[name] else None


def _num(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"


OP = Op(
    "bench_all_workloads", "Time an endpoint that already runs on every workload of a suite.", Safety.SUBMITS_JOBS,
    BenchAllWorkloadsRequest, run, mcp_name="perf_tune_report_bench_all_workloads",
    acts=lambda _: long_if(True, Act.WRITES, Act.SENDS), started=by_fields,
    examples=(
        "pao bench_all_workloads --endpoint-url http://127.0.0.1:8000 --suite demo --out suite/",
        "pao bench_all_workloads --endpoint-url http://127.0.0.1:8000 --suite canonical --data sharegpt=chats.json --out suite/",
    ),
)  # fmt: skip
