"""pao ab: two endpoints that already run, interleaved, one verdict with an interval."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from profile_and_optimize.analysis.decide import decision_json, ratio_words
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.core.opens import MODEL, OUT, URL
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Effect
from profile_and_optimize.engines.endpoint import served_model
from profile_and_optimize.engines.urls import checked_url
from profile_and_optimize.evidence.folder import workspace
from profile_and_optimize.ops.acts import LONGEST_S, Act, Acts, long_if
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.bench_text import most_first
from profile_and_optimize.ops.campaigns import create, evidence_and_decision, opened, source_text
from profile_and_optimize.ops.closing import closed
from profile_and_optimize.ops.config import fresh_seed
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import by_fields
from profile_and_optimize.ops.worlds import auth_headers, make_world
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.report.pages.source import Options
from profile_and_optimize.stats.summary import TrialSummary
from profile_and_optimize.workloads.suites import points_of_suite

MOST_REASONS = 4


class AbRequest(Request):
    url_a: Annotated[str, URL] = Field(description="root URL of the server to compare with (A), without /v1")
    url_b: Annotated[str, URL] = Field(description="root URL of the other server (B), without /v1")
    served_model: str | None = Field(default=None, description=says("served_model"))
    workload: str = Field(default="random-128-64", description=says("workload"))
    concurrency: int = Field(default=8, ge=1, description=says("concurrency"))
    requests: int | None = Field(default=None, description=says("requests"))
    focus: Literal["throughput", "latency", "mixed"] = Field(default="throughput", description=says("focus"))
    budget_minutes: float = Field(default=5.0, gt=0, le=1e6, description=says("budget_minutes"))
    blocks: int | None = Field(default=None, ge=2, description=says("blocks"))
    tokenizer: Annotated[str | None, MODEL] = Field(default=None, description=says("tokenizer"))
    seed: int | None = Field(default=None, description=says("seed"))
    campaigns_dir: Annotated[str | None, OUT] = Field(default=None, description=says("campaigns_dir"))


def acts(req: AbRequest) -> Acts:
    minutes = req.budget_minutes * 60 > LONGEST_S
    given = req.blocks is not None or req.requests is not None
    return long_if(minutes or given, Act.WRITES, Act.SENDS)


def run(req: AbRequest, say: Say) -> Result:
    plan = plan_of(req)
    world = make_world({"endpoint"}, say)
    path = create(plan, workspace(req.campaigns_dir), source_text(plan, "ab"))
    with opened(path) as folder:
        plan = conduct.admit(folder, world)
        conduct.run(folder, plan, world)
    return outcome(path)


def plan_of(req: AbRequest) -> Plan:
    """A is the baseline and its own twin, B the candidate. Both endpoints must answer before anything is written."""
    a, b = checked_url(req.url_a), checked_url(req.url_b)
    for url in (a, b):
        served_model(url, auth_headers(), req.served_model)
    arms = (
        Arm("a", "endpoint", Role.BASELINE, url=a),
        Arm("a-again", "endpoint", Role.AA, url=a),
        Arm("b", "endpoint", Role.CANDIDATE, lever=f"{b} against {a}", url=b),
    )
    points = points_of_suite(req.workload, req.concurrency, req.requests or 4 * req.concurrency)
    return Plan(
        slug="ab", model=req.served_model or "", focus=req.focus, arms=arms, points=points, blocks=req.blocks or 0,
        seed=req.seed if req.seed is not None else fresh_seed(time.time()), suite=req.workload, budget_s=req.budget_minutes * 60,
        tokenizer=req.tokenizer or "", retries=1,
    )  # fmt: skip


def outcome(path: Path) -> Result:
    ev, d = evidence_and_decision(path)
    publish(ev, d, Options())
    effect = d.effects["b"]
    data: dict[str, Any] = {
        **decision_json(ev, d),
        "path": str(path),
        "report": str(path / "report.html"),
        "pdf": str(path / "report.pdf"),
        "call": effect.call.value,
    }
    lost = d.failed.get("b") or d.failed.get("a-again")
    refusal = (
        BrokeMidway(f"an endpoint was lost: {lost}", where=str(path), next="pao ab again when it serves")
        if lost
        else None
    )
    failed = failed_lines(ev.trials, {"A": ("a", "a-again"), "B": ("b",)})
    data["failed_requests"] = failed
    text = text_of(effect, d.aa, path, " and ".join(ev.plan.primary), failed)
    return closed(Result(data, text, ev.damaged, refusal), path)


def failed_lines(trials: Sequence[Judged], sides: Mapping[str, Sequence[str]]) -> list[str]:
    """Per side: failed of asked requests over all its trials, those that did not count too, and the reasons."""
    lines = []
    for side, arms in sides.items():
        mine = [t.summary for t in trials if t.key.arm in arms]
        reasons: Counter[str] = Counter()
        for s in mine:
            reasons.update(dict(s.errors))
        why = "; ".join(f"{n} x {error}" for error, n in most_first(reasons.items())[:MOST_REASONS])
        count = f"{sum(s.failed for s in mine)} of {sum(s.asked for s in mine)} requests failed"
        unknown = sum(n for s in mine for _, n in s.unknown_why)
        tokens = f"; output tokens unknown of {unknown} answers: {_why_unknown(mine)}" if unknown else ""
        lines.append(f"{side}: {count}" + (f" ({why})" if why else "") + tokens)
    return lines


def _why_unknown(summaries: Sequence[TrialSummary]) -> str:
    return "; ".join(dict.fromkeys(words for s in summaries for words, _ in s.unknown_why))


def text_of(effect: Effect, aa: Effect | None, path: Path, endpoint: str, failed: Sequence[str] = ()) -> str:
    twin = ratio_words(aa) if aa else "not run"
    return "\n".join([
        f"B is {effect.call.value} than A" if effect.call.value in ("BETTER", "WORSE") else f"B against A: {effect.call.value}",
        f"  {endpoint}: {ratio_words(effect)}, {effect.blocks} blocks, one-sided error {effect.error:.2%}",
        f"  {effect.reason}",
        f"  A against itself: {twin}",
        *(f"  {line}" for line in failed),
        "  DRAFT: we did not start these servers, so how much a restart changes them is unknown",
        f"page      {path / 'report.html'}",
        f"check it  pao verify {path}",
    ])  # fmt: skip


OP = Op(
    "ab", "Compare two endpoints that already run: interleaved, one verdict with an interval.", Safety.SUBMITS_JOBS, AbRequest, run,
    positional=("url_a", "url_b"), mcp_name="perf_tune_report_ab", acts=acts, started=by_fields,
    examples=("pao ab http://127.0.0.1:8000 http://127.0.0.1:8001 --budget-minutes 5",),
)  # fmt: skip
