"""Which trials count. One pure rule, used while running, when deciding and by verify."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from profile_and_optimize.core.errors import ODD
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.core.trial import Stage, TrialKey, TrialState, Validity
from profile_and_optimize.evidence.trialfile import TrialFile
from profile_and_optimize.stats.client_error import ClientError
from profile_and_optimize.stats.columns import Records
from profile_and_optimize.stats.foreign import OURS, as_told, assess_client
from profile_and_optimize.stats.honesty import Honesty, unknown_honesty
from profile_and_optimize.stats.steady import Steady, common_drop
from profile_and_optimize.stats.summary import TrialSummary, leaving_out, summarize

# Why a whole block does not count that nobody had planned or added.
BEYOND = "beyond the planned number of blocks"


@dataclass(frozen=True, slots=True)
class Judged:
    """A trial with everything that follows from its records."""

    file: TrialFile
    summary: TrialSummary
    honesty: Honesty

    @property
    def key(self) -> TrialKey:
        return self.file.key

    def usable(self, primary: Sequence[str]) -> bool:
        """May it enter the comparison? An unknown primary value counts like an invalid run, never like a missing block."""
        sound = self.honesty.validity is not Validity.INVALID and self.summary.state is not TrialState.FAILED
        return sound and all(self.summary.value(name) is not None for name in primary)

    def why_unusable(self, primary: Sequence[str]) -> str:
        """In words; "" for one that is usable."""
        found = [*self.honesty.reasons] if self.honesty.validity is Validity.INVALID else []
        if self.summary.state is TrialState.FAILED:
            found.append(self.summary.reason)
        lacking = [name for name in primary if self.summary.value(name) is None]
        if lacking:
            counts = "; ".join(f"{n} x {why}" for why, n in self.summary.unknown_why)
            found.append(f"{' and '.join(lacking)} unknown" + (f" ({counts})" if counts else ""))
        return "; ".join(found)

    def silence(self, primary: Sequence[str]) -> str:
        """Why nothing that is compared can be learnt from its answers, client and machine apart; "" where it can."""
        if self.summary.completed == 0:
            return "no request of a trial completed"
        sound = self.honesty.validity is not Validity.INVALID and self.summary.state is not TrialState.FAILED
        return self.why_unusable(primary) if sound and not self.usable(primary) else ""

    def without(self, drop: int) -> Judged:
        """The trial as it counts when its `drop` first requests are left out."""
        if self.summary.dropped == drop:
            return self
        run = self.file.run
        found = leaving_out(
            self.summary, run.records, concurrency=run.concurrency, from_intended=run.open_loop, drop=drop
        )
        return replace(self, summary=as_told(run, found))

    @property
    def start_up(self) -> int:
        """First requests that are its own start-up."""
        return start_up(self.file.run, self.summary.steady)


def start_up(run: ClientRun, steady: Steady) -> int:
    """First requests to leave out. An open loop has none: what came first is part of the load."""
    return 0 if run.open_loop else common_drop([steady])


def start_up_of(file: TrialFile) -> int:
    """As `Judged.start_up`, before there is a summary; 0 where none can be made."""
    try:
        return start_up(file.run, Records.of(file.run.records).steady)
    except ODD:
        return 0


def judge(file: TrialFile, server_tpot_s: float | None, calibrations: Sequence[ClientError] = ()) -> Judged:
    """`server_tpot_s` is the engine's own mean time per output token over the trial, None where it keeps none.

    `calibrations` are the run's own (`campaign.client_errors`): a foreign client is worth nothing without one.
    """
    return Judged(file, summary_of(file), honesty_of(file, server_tpot_s, calibrations))


def honesty_of(file: TrialFile, server_tpot_s: float | None, calibrations: Sequence[ClientError] = ()) -> Honesty:
    """Of a run that no arithmetic can describe: invalid, with that reason."""
    try:
        return assess_client(
            file.run, client=_observed(file, "client", OURS), version=_observed(file, "client_version", ""), calibrations=calibrations,
            requests_asked=file.requests_asked, server_tpot_mean_s=server_tpot_s,
        )  # fmt: skip
    except ODD as e:
        return unknown_honesty(f"the client's run cannot be judged: {type(e).__name__} {e}", file.run.probe.scheduler)


def _observed(file: TrialFile, field: str, default: str) -> str:
    return str(file.context.get(field, {}).get("observed", default))


def summary_of(file: TrialFile, drop: int | None = None) -> TrialSummary:
    """The trial's metrics without its `drop` first requests; None leaves that to the trial itself."""
    run = file.run
    if run.open_loop:  # what came first is part of the load; a stall must not be taken for a start-up
        drop = 0
    summary = summarize(
        run.records, asked=file.requests_asked, concurrency=run.concurrency, from_intended=run.open_loop, drop=drop
    )
    return as_told(run, summary)


@dataclass(frozen=True, slots=True)
class Selection:
    """`blocks[block][arm][point]` of whole blocks; `excluded` and `open` name the others with the reason.

    `limit` is the most blocks a group may have: those planned and those added. `failed` arms take no part. `looked` is the
    most blocks that the looks of the exploration see, where others follow that are the proof's alone; `proof_limit` the most
    that count for the proof. `stage` is that of the trials."""

    blocks: Mapping[int, Mapping[str, Mapping[str, Judged]]]
    excluded: Mapping[int, str]
    open: Mapping[int, str]
    limit: int
    failed: frozenset[str] = frozenset()
    looked: int | None = None
    proof_limit: int = 0
    stage: Stage = Stage.CONFIRM

    def of_group(self, plan: Plan, group: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(b for b in sorted(self.blocks) if plan.group_of_block(b) == group)


def select(
    plan: Plan,
    trials: Iterable[Judged],
    failed_arms: Iterable[str],
    given_up: Mapping[int, str],
    *,
    limit: int,
    looked: int | None = None,
    proof_limit: int = 0,
    stage: Stage = Stage.CONFIRM,
) -> Selection:
    """The first usable attempt of every point, in the first `limit` blocks of each group that are whole for all arms. Trials
    of another stage take no part.

    A block with a gap longer than the plan allows between two trials, or given up by the runner, is excluded for
    all its arms. An arm that failed for good takes no part, and does not take its blocks with it.
    """
    out = frozenset(failed_arms)
    by_block: dict[int, list[Judged]] = {}
    for t in trials:
        if t.key.arm not in out and t.key.stage is stage:
            by_block.setdefault(t.key.block, []).append(t)
    blocks: dict[int, dict[str, dict[str, Judged]]] = {}
    excluded, unfinished = dict(given_up), {}
    for number, members in sorted(by_block.items()):
        if number in excluded:
            continue
        chosen = first_usable(plan, members)
        gap = _longest_gap(members)
        missing = _missing(plan, number, chosen, out)
        if gap > plan.gap_limit_s:
            excluded[number] = f"broken by a gap of {gap:.0f} s (limit {plan.gap_limit_s:.0f} s)"
        elif missing:
            unfinished[number] = f"lacks {', '.join(missing)}"
        else:
            blocks[number] = one_start_up(chosen)
    beyond = _beyond(plan, blocks, limit)
    excluded |= dict.fromkeys(beyond, BEYOND)
    return Selection(
        {b: v for b, v in blocks.items() if b not in beyond},
        excluded,
        unfinished,
        limit,
        out,
        looked,
        proof_limit,
        stage,
    )


def first_usable(plan: Plan, members: Iterable[Judged]) -> dict[str, dict[str, Judged]]:
    """[arm][point]: the first attempt that may enter a comparison."""
    chosen: dict[str, dict[str, Judged]] = {}
    for t in sorted(members, key=lambda t: t.key.attempt):
        if t.usable(plan.primary):
            chosen.setdefault(t.key.arm, {}).setdefault(t.key.point, t)
    return chosen


def one_start_up(chosen: Mapping[str, Mapping[str, Judged]]) -> dict[str, dict[str, Judged]]:
    """All arms of a block leave out as many first requests as the arm that took longest to get steady, point by point."""
    drops: dict[str, int] = {}
    for points in chosen.values():
        for point, t in points.items():
            drops[point] = max(drops.get(point, 0), t.start_up)
    return {arm: {p: t.without(drops[p]) for p, t in points.items()} for arm, points in chosen.items()}


def _beyond(plan: Plan, blocks: Mapping[int, object], limit: int) -> set[int]:
    """Whole blocks past those planned and added: what nobody declared may not change the answer."""
    out: set[int] = set()
    for i in range(len(plan.groups)):
        mine = sorted(b for b in blocks if (b - 1) % len(plan.groups) == i)
        out |= set(mine[limit:])
    return out


def _missing(plan: Plan, block: int, chosen: Mapping[str, Mapping[str, Judged]], out: frozenset[str]) -> list[str]:
    wanted = [(a, p.key) for a in plan.group_of_block(block) if a not in out for p in plan.points]
    return [f"{a} {p}" for a, p in wanted if p not in chosen.get(a, {})]


def _longest_gap(members: list[Judged]) -> float:
    spans = sorted((t.file.started_at, t.file.ended_at) for t in members)
    return max((b[0] - a[1] for a, b in pairwise(spans)), default=0.0)
