"""pao ab: two endpoints that already run, interleaved, one verdict with an interval."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from profile_and_optimize.analysis.decide import Decision, decision_json
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.accuracy import NO_SHIP
from profile_and_optimize.campaign.timing import restarted
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import BrokeMidway, GateRefused, PaoError, WrongUse
from profile_and_optimize.core.near import unknown
from profile_and_optimize.core.opens import MODEL, OUT, PATH, RUN, URL
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.verdict import Call, Effect
from profile_and_optimize.core.workload import Point
from profile_and_optimize.engines.endpoint import served_model
from profile_and_optimize.engines.urls import checked_url
from profile_and_optimize.evals.exact_match import questions_file
from profile_and_optimize.evidence.folder import find_run, workspace
from profile_and_optimize.ops.ab_text import failed_lines, text_of
from profile_and_optimize.ops.acts import LONGEST_S, Act, Acts, long_if
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.campaigns import create, evidence_and_decision, opened, plan_at, resumable, source_text
from profile_and_optimize.ops.closing import closed
from profile_and_optimize.ops.config import SloConfig, fresh_seed
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.started import by_fields
from profile_and_optimize.ops.worlds import auth_headers, make_world
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.report.pages.source import Options
from profile_and_optimize.workloads.suites import points_of_suite

# Of 1500 noisy but steady series, MSER-5 could not tell in 22% with 32 requests, in 7% with 64.
LEAST_REQUESTS = 64
# What --fail-if names, and the calls that it means.
FAILS = {
    "worse": {Call.WORSE}, "not-better": {Call.WORSE, Call.SAME, Call.UNKNOWN}, "unknown": {Call.UNKNOWN},
}  # fmt: skip
WITH_RESUME = {"resume", "extend", "fail_if", "campaigns_dir"}


class AbRequest(Request):
    url_a: Annotated[str | None, URL] = Field(
        default=None, description="root URL of the server to compare with (A), without /v1"
    )
    url_b: Annotated[str | None, URL] = Field(default=None, description="root URL of the other server (B), without /v1")
    name_a: str = Field(default="a", description="name of server A on every page")
    name_b: str = Field(default="b", description="name of server B on every page")
    served_model: str | None = Field(default=None, description=says("served_model"))
    workload: str = Field(default="random-128-64", description=says("workload"))
    concurrency: str = Field(default="8", description=says("concurrency", "several loads separated by commas: 1,8,64"))
    requests: int | None = Field(
        default=None, description=says("requests", f"default: 4 times the concurrency, at least {LEAST_REQUESTS}")
    )
    focus: Literal["throughput", "latency", "mixed"] = Field(default="throughput", description=says("focus"))
    slo_ttft_ms: float | None = Field(default=None, gt=0, description=says("slo_ttft_ms"))
    slo_tpot_ms: float | None = Field(default=None, gt=0, description=says("slo_tpot_ms"))
    questions: Annotated[str | None, PATH] = Field(
        default=None, description=says("questions", "default: no accuracy gate")
    )
    budget_minutes: float = Field(default=5.0, gt=0, le=1e6, description=says("budget_minutes"))
    blocks: int | None = Field(default=None, ge=2, description=says("blocks"))
    tokenizer: Annotated[str | None, MODEL] = Field(default=None, description=says("tokenizer"))
    seed: int | None = Field(default=None, description=says("seed"))
    resume: Annotated[str | None, RUN] = Field(default=None, description=says("resume"))
    extend: int = Field(default=0, ge=0, le=100, description=says("extend"))
    fail_if: str | None = Field(
        default=None,
        description=says("fail_if", "of B: worse, not-better or unknown, separated by commas; then exit 1"),
    )
    campaigns_dir: Annotated[str | None, OUT] = Field(default=None, description=says("campaigns_dir"))

    @field_validator("concurrency", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def acts(req: AbRequest) -> Acts:
    minutes = req.budget_minutes * 60 > LONGEST_S
    sized = req.blocks is not None or req.requests is not None
    more = req.resume is not None or req.questions is not None
    return long_if(minutes or sized or more, Act.WRITES, Act.SENDS)


def run(req: AbRequest, say: Say) -> Result:
    fails = fails_of(req)
    path = _resumed(req) if req.resume else _begun(req)
    with resumable(path, f"pao ab --resume {shlex.quote(str(path))}"):
        world = make_world({"endpoint"}, say)
        with opened(path) as folder:
            plan = conduct.admit(folder, world)
            if req.extend:
                conduct.extend(folder, plan, req.extend)
            conduct.run(folder, plan, world)
        return outcome(path, fails)


def _begun(req: AbRequest) -> Path:
    if req.extend:
        raise WrongUse("only a run that ended can be extended", where="--extend", next="pao ab --resume RUN --extend 4")
    plan = plan_of(req)
    return create(plan, workspace(req.campaigns_dir), source_text(plan, "ab"))


def _resumed(req: AbRequest) -> Path:
    """Raises WrongUse for options that the run's own plan has fixed, and for a run of servers that pao starts."""
    path = find_run(req.resume or "", workspace(req.campaigns_dir))
    fixed = sorted(req.model_fields_set - WITH_RESUME)
    if fixed:
        raise WrongUse(
            "a run that is resumed keeps its plan", where="--" + fixed[0].replace("_", "-"),
            next=f"pao ab --resume {shlex.quote(str(path))}",
        )  # fmt: skip
    plan = plan_at(path)
    if restarted(plan) or len(plan.candidates) + len(plan.failed) != 1:
        raise WrongUse(
            "this run does not compare two endpoints", where=str(path),
            next=f"pao campaign_run {shlex.quote(str(path))}",
        )  # fmt: skip
    if req.extend and not (path / conduct.PLAN).exists():
        raise WrongUse("its number of blocks is not fixed yet", where="--extend", next=f"pao ab --resume {path}")
    return path


def fails_of(req: AbRequest) -> tuple[str, ...]:
    """The words of --fail-if. Raises WrongUse for one that is not known."""
    words = tuple(dict.fromkeys(w.strip() for w in (req.fail_if or "").split(",") if w.strip()))
    for word in words:
        if word not in FAILS:
            raise WrongUse(unknown("result", word, list(FAILS)), where="--fail-if", next="--fail-if worse,unknown")
    return words


def plan_of(req: AbRequest) -> Plan:
    """A is the baseline and its own A/A control, B the candidate. What is wrong with the request is said before anything is sent;
    both endpoints must answer before anything is written."""
    if req.url_a is None or req.url_b is None:
        raise WrongUse("two URLs are needed", next="pao ab http://127.0.0.1:8000 http://127.0.0.1:8001")
    a, b = checked_url(req.url_a), checked_url(req.url_b)
    arms = (
        Arm(req.name_a, "endpoint", Role.BASELINE, url=a),
        Arm(f"{req.name_a}-again", "endpoint", Role.AA, url=a),
        Arm(req.name_b, "endpoint", Role.CANDIDATE, lever=f"{b} against {a}", url=b),
    )
    points, questions = points_of(req), _questions(req)
    names = [served_model(url, auth_headers(), req.served_model) for url in (a, b)]
    return Plan(
        slug="ab", model=names[0] if names[0] == names[1] else "", focus=req.focus, arms=arms, points=points,
        blocks=req.blocks or 0, seed=req.seed if req.seed is not None else fresh_seed(time.time()), suite=req.workload,
        budget_s=req.budget_minutes * 60, tokenizer=req.tokenizer or "", retries=1, questions=questions,
        slo=SloConfig(ttft_ms=req.slo_ttft_ms, tpot_ms=req.slo_tpot_ms).limits(),
    )  # fmt: skip


def points_of(req: AbRequest) -> tuple[Point, ...]:
    """A point per workload and load. With few slots there are enough requests to judge the steady window of a trial."""
    loads = loads_of(req.concurrency)
    if req.requests is not None and req.requests < 2 * max(loads):
        raise WrongUse(
            f"{req.requests} requests at concurrency {max(loads)}: each slot needs at least 2, or ramp-up and drain dominate",
            where="--requests", next=f"--requests {4 * max(loads)}, or a lower --concurrency",
        )  # fmt: skip
    return tuple(p for n in loads for p in points_of_suite(req.workload, n, req.requests or max(LEAST_REQUESTS, 4 * n)))


def loads_of(text: str) -> tuple[int, ...]:
    """The loads of --concurrency, each once. Raises WrongUse."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) <= 20000 for part in parts):
        raise WrongUse(
            f"{text!r} is not a list of numbers from 1 to 20000", where="--concurrency", next="--concurrency 1,8,64"
        )
    return tuple(dict.fromkeys(map(int, parts)))


def _questions(req: AbRequest) -> str:
    if req.questions is None:
        return ""
    if not Path(req.questions).is_file():
        raise WrongUse(
            "no such file", where=f"--questions {req.questions}", next='a line is {"question": "...", "answer": "..."}'
        )  # fmt: skip
    return questions_file(Path(req.questions))


def outcome(path: Path, fails: tuple[str, ...] = ()) -> Result:
    ev, d = evidence_and_decision(path)
    publish(ev, d, Options())
    a, b = ev.plan.baseline.id, compared(ev.frozen)
    effect = d.effects.get(b)
    failed = failed_lines(ev.trials, {a: (a, f"{a}-again"), b: (b,)})
    data: dict[str, Any] = {
        **decision_json(ev, d),
        "path": str(path),
        "report": str(path / "report.html"),
        "pdf": str(path / "report.pdf"),
        "call": effect.call.value if effect else Call.UNKNOWN.value,
        "failed_requests": failed,
    }
    refusal = _lost(d, (b, f"{a}-again"), path) or refused(fails, b, effect, d.failed.get(b, ""), path)
    return closed(Result(data, text_of(ev, d, b, failed), ev.damaged, refusal), path)


def compared(plan: Plan) -> str:
    """The name of B; it may have been lost at admission."""
    return next(arm.id for arm in plan.all_arms if arm.role is Role.CANDIDATE)


def _lost(d: Decision, arms: tuple[str, ...], path: Path) -> PaoError | None:
    """The refusal of a run that lost an endpoint. A candidate that lost right answers is a result."""
    lost = [d.failed[arm] for arm in arms if arm in d.failed and not d.failed[arm].startswith(NO_SHIP)]
    if not lost:
        return None
    return BrokeMidway(f"an endpoint was lost: {lost[0]}", where=str(path), next="start it, and repeat the command")


def refused(fails: tuple[str, ...], b: str, effect: Effect | None, failed: str, path: Path) -> PaoError | None:
    """What --fail-if makes of a call: exit code 1. A candidate that was shown to lose right answers is worse."""
    call = Call.WORSE if failed else effect.call if effect else Call.UNKNOWN
    word = next((w for w in fails if call in FAILS[w]), None)
    if word is None:
        return None
    why = failed or (effect.reason if effect else "")
    said = f"{b} is {call.value}" if call is not Call.UNKNOWN else f"whether {b} is better is UNKNOWN"
    return GateRefused(
        f"{said} (--fail-if {word}): {why}", where=str(path), next=f"pao explain {shlex.quote(str(path))}"
    )


OP = Op(
    "ab", "Compare two endpoints that already run: interleaved, one verdict with an interval.", Safety.SUBMITS_JOBS, AbRequest, run,
    positional=("url_a", "url_b"), mcp_name="perf_tune_report_ab", acts=acts, started=by_fields,
    examples=(
        "pao ab http://127.0.0.1:8000 http://127.0.0.1:8001 --budget-minutes 5",
        "pao ab http://127.0.0.1:8000 http://127.0.0.1:8001 --name-a old --name-b new --concurrency 1,8 --fail-if worse",
    ),
)  # fmt: skip
