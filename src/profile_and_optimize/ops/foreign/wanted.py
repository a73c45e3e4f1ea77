"""What a backend of cell_run was asked for, and everything about it that can be refused before something starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from profile_and_optimize.analysis.imported import UNDERCOUNT, incomplete
from profile_and_optimize.campaign.asked import asked_by_plan
from profile_and_optimize.campaign.imported import Ask, Asked, Attempt, ImportedCell
from profile_and_optimize.clients.vllm_sweep import Endpoint, refuse_unlike
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.code_settings import NOTHING, Allowance
from profile_and_optimize.core.context import context
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import not_an_option
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.workload import Point
from profile_and_optimize.engines.urls import checked_url
from profile_and_optimize.evidence.redact import redact

VLLM, AIPERF = "vllm-sweep", "aiperf"


@dataclass(frozen=True)
class Wanted:
    """`points` are the campaign's. `url` is "" where the cell's own server is started; `levels` above 0: the tool chooses
    so many concurrencies; `runs` of every load. `python` is that of the engine."""

    backend: str
    arm: Arm
    plan: Plan
    points: tuple[Point, ...]
    url: str = ""
    model: str = ""
    tokenizer: str = ""
    levels: int = 0
    runs: int = 1
    python: str | None = None
    allowed: Allowance = NOTHING

    def __post_init__(self) -> None:
        arm = self.arm
        for value, option in ((self.model, "--served-model"), (self.tokenizer, "--tokenizer")):
            if value:
                not_an_option(value, option)
        if self.backend == AIPERF and (self.levels or self.runs > 1):
            raise WrongUse(
                "aiperf takes the campaign's loads once each", next="leave out --workload-iters and --num-runs"
            )
        if self.url and self.levels:
            raise WrongUse(
                "vLLM's sweep chooses loads only for a server that it starts", where="--workload-iters", next="leave it out"
            )  # fmt: skip
        if arm.engine == "endpoint" and not self.url:
            raise WrongUse(f"cell {arm.id} has no url", next="--endpoint-url URL")
        if self.backend == VLLM and self.starts and arm.engine != "vllm":
            raise WrongUse(
                f"vllm bench sweep starts vLLM, and cell {arm.id} is of {arm.engine}",
                next="--endpoint-url URL of a running server",
            )
        if self.backend == VLLM and not self.tokenizer:
            raise WrongUse(
                "vllm bench needs the model's tokenizer", next="--tokenizer FOLDER, or tokenizer: in the campaign file"
            )
        if self.backend == VLLM:
            refuse_unlike(self.points)
        _refuse_short(self.points)

    @property
    def starts(self) -> bool:
        """Is a server started for the cell, by us or by the tool?"""
        return not self.url

    @property
    def by_tool(self) -> bool:
        """Does the tool itself start the server?"""
        return self.starts and self.backend == VLLM


def _refuse_short(points: Sequence[Point]) -> None:
    """Open loops, and too few requests: no plan holds such a closed point, but one of another version might."""
    rated = [p.key for p in points if p.request_rate is not None]
    if rated:
        raise WrongUse(f"{', '.join(rated)}: other tools are driven in a closed loop only", next="--backend pao")
    short = [p.key for p in points if p.requests < 2 * p.concurrency]
    if short:
        raise WrongUse(
            f"{UNDERCOUNT}: fewer than two requests a slot at {', '.join(short)}",
            next="more requests in the campaign file",
        )


def wanted_of(
    backend: str, plan: Plan, arm: Arm, *, url: str | None, model: str | None, tokenizer: str | None, levels: int, runs: int,
    python: str | None, allowed: Allowance = NOTHING,
) -> Wanted:  # fmt: skip
    """Raises WrongUse for what this backend cannot do."""
    return Wanted(
        backend=backend, arm=arm, plan=plan, points=plan.points, url=checked_url(url) if url else arm.url, model=model or "",
        tokenizer=tokenizer or plan.tokenizer, levels=levels, runs=runs, python=python, allowed=allowed,
    )  # fmt: skip


def left(w: Wanted, before: Sequence[Attempt]) -> tuple[Point, ...]:
    """The points that no attempt completed. Raises WrongUse when none is left, or when they went to another server."""
    if not before:
        return w.points
    last = before[-1].ask
    if (w.url, w.levels) != (last.url, last.levels) or (w.model and w.model != last.model):
        of = f"{last.url or 'a server of its own'}, model {last.model}, levels {last.levels}"
        raise WrongUse(
            f"cell {w.arm.id} has results of {w.backend} from {of}",
            next="the same options again; another server is another cell of the campaign",
        )
    open_ = {p.key for p in incomplete(ImportedCell(w.arm.id, w.backend, tuple(before)))}
    points = tuple(p for p in w.points if (p.workload.name if w.levels else p.key) in open_)
    if not points:
        raise WrongUse(f"cell {w.arm.id} has all its results of {w.backend}", next="pao atlas_aggregate RUN")
    return points


def ask_of(w: Wanted, at: Endpoint, points: Sequence[Point], attempt: int, tool: str, version: str) -> Ask:
    """What is written down before the tool starts."""
    asked = tuple(Asked.of(p, _prompts(w)) for p in points)
    if w.levels:
        largest = {p.workload.name: p for p in sorted(points, key=lambda p: p.requests)}
        asked = tuple(
            replace(Asked.of(p, _prompts(w)), key=name, concurrency=None) for name, p in sorted(largest.items())
        )
    told = asked_by_plan(w.plan, w.arm, points[0])
    told = {k: v for k, v in told.items() if k not in ("workload", "load")}
    told |= {"url": w.url, "cache_mode": _cache_mode(w)}
    return Ask(
        cell=w.arm.id, backend=w.backend, attempt=attempt, engine=w.arm.engine, role=w.arm.role.value, tool=tool,
        tool_version=version, url=w.url, model=at.model, points=asked, levels=w.levels, by_usage=w.backend == AIPERF,
        context=context({k: redact(v) for k, v in told.items()}, {}).to_json(),
    )  # fmt: skip


def _prompts(w: Wanted) -> str:
    return "prompts of vllm bench" if w.backend == VLLM else "prompts of ours"


def _cache_mode(w: Wanted) -> str:
    if w.by_tool:
        return "cold (the sweep resets the caches after every run)"
    return "no prompt repeats in these runs" + ("" if w.starts else "; what the server had met before is unknown")
