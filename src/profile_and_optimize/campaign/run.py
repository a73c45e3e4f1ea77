"""The loop over blocks. What is finished is read from the folder, so a killed campaign goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from profile_and_optimize.campaign.admit import prompt_maker
from profile_and_optimize.campaign.evidence_of import failed_arms, given_up, load_trial
from profile_and_optimize.campaign.order import session_order
from profile_and_optimize.campaign.selection import Judged, Selection, select
from profile_and_optimize.campaign.session import Seat, run_points, serving
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.cell import Role
from profile_and_optimize.core.errors import BrokeMidway, Unreachable, WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.engines.base import EngineFailed
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.trialfile import is_trial_path

STARTS = 2
SPARE_ROUNDS = 3


@dataclass
class Progress:
    """Sessions done and left, for the time-left line."""

    expected: Mapping[str, float]
    done_s: float = 0.0
    planned_s: float = 0.0

    def left(self, remaining: list[str]) -> str:
        pace = self.done_s / self.planned_s if self.planned_s > 0 else 1.0
        seconds = sum(self.expected.get(a, 0.0) for a in remaining) * pace
        return f"{seconds / 60:.1f} min left"


def run_blocks(folder: RunFolder, plan: Plan, world: World, session_s: Mapping[str, float]) -> Selection:
    """Run until every group has its number of whole blocks. Raises BrokeMidway when blocks keep being lost."""
    _give_up_broken(folder, plan, world)
    seat = Seat(folder, plan, world, prompt_maker(folder, plan))
    progress = Progress(session_s)
    while (block := next_block(plan, _selection(folder, plan))) is not None:
        if block > (plan.blocks + SPARE_ROUNDS) * len(plan.groups):
            raise BrokeMidway("too many blocks were lost", where=str(folder.path), next=f"pao verify {folder.path}")
        _run_block(seat, block, progress)
    return _selection(folder, plan)


def next_block(plan: Plan, selection: Selection) -> int | None:
    """The lowest block still to be finished or started; None when every group has enough whole ones."""
    tried = set(selection.blocks) | set(selection.excluded)
    wanted = []
    for i, group in enumerate(plan.groups):
        if len(selection.of_group(plan, group)) < plan.blocks:
            number = i + 1
            while number in tried:
                number += len(plan.groups)
            wanted.append(number)
    return min(wanted, default=None)


def _run_block(seat: Seat, block: int, progress: Progress) -> None:
    out = failed_arms(seat.folder.journal.events)
    order = tuple(a for a in session_order(seat.plan, block) if a not in out)
    seat.folder.event("block", block=block, order=list(order))
    for i, arm_id in enumerate(order, start=1):
        lacking = _lacking(seat, block, arm_id)
        if not lacking:
            continue
        rest = list(order[i - 1 :]) + _later(seat.plan, block, out)
        seat.say(f"block {block}/{seat.plan.total_blocks} session {i}/{len(order)} {arm_id} · {progress.left(rest)}")
        began = seat.world.now()
        _run_session(seat, block, arm_id)
        progress.done_s += seat.world.now() - began
        progress.planned_s += progress.expected.get(arm_id, 0.0)
    _give_up_if_unusable(seat, block)


def _run_session(seat: Seat, block: int, arm_id: str) -> None:
    """Start the arm (twice at most) and run what the block lacks; an arm that cannot start is out, with its reason."""
    arm = seat.plan.arm(arm_id)
    for start in range(1, STARTS + 1):
        before = [t for t in _trials(seat.folder) if (t.key.block, t.key.arm) == (block, arm_id)]
        try:
            with serving(seat, arm, f"b{block:03d}-{arm_id}") as server:
                run_points(seat, server, arm, block, before)
            return
        except (EngineFailed, Unreachable) as e:
            seat.folder.event("session_failed", block=block, arm=arm_id, reason=e.message)
            seat.say(f"  {arm_id}: {e.message}")
            if start == STARTS:
                if arm.role is Role.BASELINE:
                    raise BrokeMidway(
                        f"the baseline stopped serving: {e.message}",
                        where=f"cell {arm_id}",
                        next="--resume when mended",
                    ) from e
                seat.folder.event("arm_failed", arm=arm_id, reason=e.message, phase=f"block {block}")


def _give_up_if_unusable(seat: Seat, block: int) -> None:
    """A block that is still open after all its sessions lost a trial for good: it is dropped for all arms."""
    reason = _selection(seat.folder, seat.plan).open.get(block)
    if reason is None:
        return
    mine = [t for t in _trials(seat.folder) if t.key.block == block]
    usable = {t.key.arm for t in mine if t.usable(seat.plan.primary)}
    silent = {t.key.arm for t in mine if t.summary.completed == 0} - usable
    for arm_id in sorted(silent - {seat.plan.baseline.id}):
        seat.folder.event("arm_failed", arm=arm_id, reason="no request of a trial completed", phase=f"block {block}")
    if _selection(seat.folder, seat.plan).open.get(block):
        seat.folder.event("block_given_up", block=block, reason=f"no usable trial: {reason}")
        seat.say(f"  block {block} dropped for all arms: {reason}")


def _give_up_broken(folder: RunFolder, plan: Plan, world: World) -> None:
    """On resume: an open block whose last trial lies further back than the plan allows cannot be completed in pairs."""
    trials = _trials(folder)
    for block, reason in _selection(folder, plan).open.items():
        last = max(t.file.ended_at for t in trials if t.key.block == block)
        gap = world.now() - last
        if gap > plan.gap_limit_s:
            folder.event("block_given_up", block=block, reason=f"broken by a gap of {gap:.0f} s ({reason})")


def _lacking(seat: Seat, block: int, arm_id: str) -> bool:
    have = {
        t.key.point
        for t in _trials(seat.folder)
        if t.key.block == block and t.key.arm == arm_id and t.usable(seat.plan.primary)
    }
    return any(p.key not in have for p in seat.plan.points)


def _later(plan: Plan, block: int, out: Mapping[str, str]) -> list[str]:
    return [a for b in range(block + 1, plan.total_blocks + 1) for a in plan.group_of_block(b) if a not in out]


def _selection(folder: RunFolder, plan: Plan) -> Selection:
    events = folder.journal.events
    return select(plan, _trials(folder), failed_arms(events), given_up(events))


def _trials(folder: RunFolder) -> list[Judged]:
    wrote = {e.data["path"] for e in folder.journal.events if e.kind == "wrote"}
    return [load_trial(folder.path / p) for p in sorted(wrote) if is_trial_path(p)]


def run_one_session(folder: RunFolder, plan: Plan, world: World, arm_id: str) -> int:
    """One session of one arm, in the lowest unfinished block of its group that lacks it; the block's number.

    Raises WrongUse when the arm failed or has all its sessions. Blocks whose sessions were not started in the drawn
    order are found by a gate later.
    """
    _give_up_broken(folder, plan, world)
    if arm_id in failed_arms(folder.journal.events):
        raise WrongUse(
            f"cell {arm_id!r} failed and is out", where=str(folder.path), next="read its log, and start a new campaign"
        )
    seat = Seat(folder, plan, world, prompt_maker(folder, plan))
    selection = _selection(folder, plan)
    for block in range(1, plan.total_blocks + SPARE_ROUNDS * len(plan.groups) + 1):
        group = plan.group_of_block(block)
        done = len(selection.of_group(plan, group)) >= plan.blocks
        takes_part = arm_id in group and block not in selection.excluded and not done
        if takes_part and _lacking(seat, block, arm_id):
            _run_session(seat, block, arm_id)
            if arm_id in failed_arms(folder.journal.events):
                raise BrokeMidway(
                    f"cell {arm_id!r} could not serve and is out", where=str(folder.path), next="read its log"
                )
            return block
    raise WrongUse(
        f"cell {arm_id!r} has all its sessions", where=str(folder.path), next=f"pao champion_select {folder.path}"
    )
