"""The loop over blocks. What is finished is read from the folder, so a killed campaign goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from profile_and_optimize.campaign.admit import prompt_maker
from profile_and_optimize.campaign.book import Book
from profile_and_optimize.campaign.evidence_of import failed_arms
from profile_and_optimize.campaign.looks import looks
from profile_and_optimize.campaign.order import session_order
from profile_and_optimize.campaign.proof import proof_of, wanted
from profile_and_optimize.campaign.recover import note_interrupted
from profile_and_optimize.campaign.selection import Selection
from profile_and_optimize.campaign.session import Seat, run_points, serving
from profile_and_optimize.campaign.starts import STARTS, given_out, label_of, own_up, starts_left, unanswered
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.cell import Role
from profile_and_optimize.core.errors import BrokeMidway, Unreachable, WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.engines.base import EngineFailed
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.trialfile import trial_path

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

    def ran(self, arm: str, seconds: float) -> None:
        self.done_s += seconds
        self.planned_s += self.expected.get(arm, 0.0)


def run_blocks(
    folder: RunFolder, plan: Plan, world: World, session_s: Mapping[str, float], stage: Stage = Stage.CONFIRM
) -> Selection:
    """Run until every group is answered or has all its blocks; with the plan of a proof and its stage, until the proof
    stands, cannot stand any more, or has all its blocks. Raises BrokeMidway when blocks keep being lost."""
    seat = Seat(folder, plan, world, prompt_maker(folder, plan), Book(folder))
    note_interrupted(folder)
    give_up_broken(seat, stage)
    progress = Progress(session_s)
    while (block := next_block(plan, selection := selection_at(seat, stage))) is not None:
        if block > (selection.limit + SPARE_ROUNDS) * len(plan.groups):
            raise BrokeMidway(
                f"too many blocks were lost{_last_lost(seat)}", where=str(folder.path), next=f"pao verify {folder.path}"
            )
        _run_block(seat, block, progress, stage)
        _say_look(seat, stage)
    return selection_at(seat, stage)


def selection_at(seat: Seat, stage: Stage) -> Selection:
    """Which trials of a stage count, as the folder stands."""
    return seat.book.proof_selection(seat.plan) if stage is Stage.PROVE else seat.book.selection(seat.plan)


def _last_lost(seat: Seat) -> str:
    """Why the last trial that could not be used could not."""
    trials = [t for t in seat.book.trials() if not t.usable(seat.plan.primary)]
    return f": {trials[-1].key.arm}: {trials[-1].why_unusable(seat.plan.primary)}" if trials else ""


def next_block(plan: Plan, selection: Selection) -> int | None:
    """The lowest block still to be finished or started; None when no group wants another."""
    tried = set(selection.blocks) | set(selection.excluded)
    numbers = []
    for i, group in enumerate(plan.groups):
        if wanted(plan, selection, group):
            number = i + 1
            while number in tried:
                number += len(plan.groups)
            numbers.append(number)
    return min(numbers, default=None)


def _run_block(seat: Seat, block: int, progress: Progress, stage: Stage) -> None:
    out = failed_arms(seat.folder.journal.events)
    order = tuple(a for a in session_order(seat.plan, block, stage) if a not in out)
    seat.folder.event("block", block=block, order=list(order), stage=stage)
    most = selection_at(seat, stage).limit * len(seat.plan.groups)
    kind = "proof block" if stage is Stage.PROVE else "block"
    for i, arm_id in enumerate(order, start=1):
        if not lacking(seat, block, arm_id, stage):
            continue
        rest = list(order[i - 1 :]) + _later(seat, block, most, out)
        left = f"at most {progress.left(rest)}"
        seat.say(f"{kind} {block}, at most {most}, session {i}/{len(order)} {arm_id} · {left}")
        began = seat.world.now()
        run_session(seat, block, arm_id, stage)
        progress.ran(arm_id, seat.world.now() - began)
    _give_up_if_unusable(seat, block, stage)


def run_session(seat: Seat, block: int, arm_id: str, stage: Stage) -> None:
    """Start the arm (twice at most) and run what the block lacks; an arm that cannot start is out, with its reason."""
    arm = seat.plan.arm(arm_id)
    label = label_of(stage, block, arm_id)
    client = seat.world.client.name
    silent = [trial_path(t.key) for t in seat.book.of(stage, block, arm_id) if unanswered(t.file.run, client)]
    own_up(seat.folder, arm_id, stage, block, silent)
    if reason := given_out(seat.folder.journal.events, arm, label):
        return drop_arm(seat, arm_id, reason, stage, block)
    for start in starts_left(seat.folder.journal.events, arm, label):
        before = seat.book.of(stage, block, arm_id)
        try:
            with serving(seat, arm, label, stage, block) as server:
                run_points(seat, server, arm, block, before, stage)
            return
        except (EngineFailed, Unreachable) as e:
            seat.say(f"  {arm_id}: {e.message}")
            if not lacking(seat, block, arm_id, stage):
                return  # it died when all was measured: that counts, and needs no further start
            if start % STARTS == 0:
                if arm.role is Role.BASELINE:
                    raise BrokeMidway(
                        f"the baseline stopped serving: {e.message}",
                        where=f"cell {arm_id}",
                        next="--resume when mended",
                    ) from e
                drop_arm(seat, arm_id, e.message, stage, block)


def drop_arm(seat: Seat, arm_id: str, reason: str, stage: Stage, block: int) -> None:
    seat.folder.event(
        "arm_failed", arm=arm_id, reason=seat.hide(reason), phase=f"{stage} block {block}", stage=stage, block=block
    )


def _say_look(seat: Seat, stage: Stage) -> None:
    """What the look after this block leaves open. Everybody may watch: the levels of the looks pay for it, and signs may be
    counted at any time."""
    selection = selection_at(seat, stage)
    found = looks(seat.plan, selection) if stage is Stage.CONFIRM else None
    if found is not None and found.decided_at:
        fallen = [f"{a} {found.effects[a].call} (block {n})" for a, n in sorted(found.decided_at.items())]
        seat.say(f"  look: {', '.join(fallen)}")
    if seat.plan.pick_twin is not None and selection.proof_limit and selection.blocks:
        s = proof_of(seat.plan, selection).signs
        seat.say(f"  proof: {s.wins} of {s.blocks} blocks above the margin{': proven' if s.proven else ''}")


def _give_up_if_unusable(seat: Seat, block: int, stage: Stage) -> None:
    """A block that is still open after all its sessions lost a trial for good: it is dropped for all arms."""
    reason = selection_at(seat, stage).open.get(block)
    if reason is None:
        return
    drop_silent(seat, block, stage)
    if selection_at(seat, stage).open.get(block):
        seat.folder.event("block_given_up", block=block, reason=f"no usable trial: {reason}", stage=stage)
        seat.say(f"  block {block} dropped for all arms: {reason}")


def drop_silent(seat: Seat, block: int, stage: Stage) -> None:
    """Arms of a block that answered no request at all, or whose answers never tell what is compared, are out, the baseline
    excepted."""
    mine = seat.book.of(stage, block)
    usable = {t.key.arm for t in mine if t.usable(seat.plan.primary)}
    silent = {t.key.arm: why for t in mine if t.key.arm not in usable and (why := t.silence(seat.plan.primary))}
    if seat.plan.baseline.id not in usable:  # then what the others do not tell may be the workload's doing
        silent = {a: why for a, why in silent.items() if all(t.summary.completed == 0 for t in mine if t.key.arm == a)}
    for arm_id in sorted(silent.keys() - {seat.plan.baseline.id, *failed_arms(seat.folder.journal.events)}):
        drop_arm(seat, arm_id, silent[arm_id], stage, block)


def give_up_broken(seat: Seat, stage: Stage = Stage.CONFIRM) -> None:
    """On resume: an open block whose last trial lies further back than the plan allows cannot be completed in pairs."""
    for block, reason in selection_at(seat, stage).open.items():
        last = max(t.file.ended_at for t in seat.book.of(stage, block))
        gap = seat.world.now() - last
        if gap > seat.plan.gap_limit_s:
            why = f"broken by a gap of {gap:.0f} s ({reason})"
            seat.folder.event("block_given_up", block=block, reason=why, stage=stage)


def lacking(seat: Seat, block: int, arm_id: str, stage: Stage) -> bool:
    mine = seat.book.of(stage, block, arm_id)
    have = {t.key.point for t in mine if t.usable(seat.plan.primary)}
    return any(p.key not in have for p in seat.plan.points)


def _later(seat: Seat, block: int, most: int, out: Mapping[str, str]) -> list[str]:
    return [a for b in range(block + 1, most + 1) for a in seat.plan.group_of_block(b) if a not in out]


def run_one_session(folder: RunFolder, plan: Plan, world: World, arm_id: str, stage: Stage = Stage.CONFIRM) -> int:
    """One session of one arm, in the lowest unfinished block of its group that lacks it; the block's number. With the plan of
    a proof and its stage, one of the proof's.

    Raises WrongUse when the arm failed or has all its sessions. Blocks whose sessions were not started in the drawn
    order are found by a gate later.
    """
    seat = Seat(folder, plan, world, prompt_maker(folder, plan), Book(folder))
    note_interrupted(folder)
    give_up_broken(seat, stage)
    if arm_id in failed_arms(folder.journal.events):
        raise WrongUse(
            f"cell {arm_id!r} failed and is out", where=str(folder.path), next="read its log, and start a new campaign"
        )
    selection = selection_at(seat, stage)
    for block in range(1, (selection.limit + SPARE_ROUNDS) * len(plan.groups) + 1):
        group = plan.group_of_block(block)
        takes_part = arm_id in group and block not in selection.excluded and wanted(plan, selection, group)
        if takes_part and lacking(seat, block, arm_id, stage):
            run_session(seat, block, arm_id, stage)
            if arm_id in failed_arms(folder.journal.events):
                raise BrokeMidway(
                    f"cell {arm_id!r} could not serve and is out", where=str(folder.path), next="read its log"
                )
            return block
    raise WrongUse(
        f"cell {arm_id!r} has all its sessions", where=str(folder.path), next=f"pao champion_select {folder.path}"
    )
