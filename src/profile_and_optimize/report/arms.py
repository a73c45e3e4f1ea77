"""What is shown of each arm: its call on the primary endpoint, why, its prediction's score, its paired blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from profile_and_optimize.analysis.atlas import cell_status
from profile_and_optimize.analysis.decide import Decision, prediction_json
from profile_and_optimize.campaign.endpoint import Table, primary_table
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.core.verdict import Effect
from profile_and_optimize.report.words import UNKNOWN, coverage, effect_words, percent, plain

FAILED = "FAILED"
BASELINE = "BASELINE"
PASSES = "PASSES"
VETO = "VETO"
RACED = "RACED OUT"
TWIN = "TWIN"


@dataclass(frozen=True)
class PairedBlock:
    """One block: the arm over the baseline on the primary endpoint, as a log ratio turned so that more is better."""

    block: int
    log_ratio: float
    text: str


@dataclass(frozen=True)
class ArmView:
    """One row of the arms table. `state` is the call, or BASELINE, FAILED, and PASSES or VETO for the A/A arm."""

    id: str
    role: str
    engine: str
    lever: str
    flags: str
    state: str
    effect_text: str
    coverage: str
    blocks: int
    reason: str
    log: str
    blocks_needed: str
    predicts: str
    predicted: str
    scored: str
    is_pick: bool
    cell_status: str
    effect: Effect | None
    predicted_range: tuple[float, float] | None
    paired: tuple[PairedBlock, ...]


def arm_views(ev: Evidence, d: Decision) -> tuple[ArmView, ...]:
    paired = paired_blocks(ev, d)
    return tuple(_arm_view(ev, d, a, paired.get(a.id, ())) for a in ev.plan.all_arms)


def _arm_view(ev: Evidence, d: Decision, arm: Arm, paired: tuple[PairedBlock, ...]) -> ArmView:
    effect = effect_of(d, arm.id)
    failed = arm.id in d.failed
    score = prediction_json(arm.predicted, effect)
    return ArmView(
        id=arm.id, role=arm.role.value, engine=arm.engine, lever=_lever(arm), flags=_flags(arm),
        state=_state(d, arm, effect), effect_text="" if arm.role is Role.BASELINE else effect_words(effect),
        coverage=coverage(effect), blocks=_blocks(d, arm, effect), reason=_reason(d, arm, effect),
        log=log_path(ev, arm.id) if failed else "", blocks_needed=_needed(effect, failed or arm.role is Role.AA),
        predicts=plain(arm.predicts),
        predicted=_predicted(score), scored=score["scored"] if score else "", is_pick=arm.id == d.pick,
        cell_status="failed" if failed else _status(d, arm.id), effect=effect, predicted_range=arm.predicted, paired=paired,
    )  # fmt: skip


def effect_of(d: Decision, arm_id: str) -> Effect | None:
    return d.aa if d.aa is not None and d.aa.arm == arm_id else d.effects.get(arm_id)


def _state(d: Decision, arm: Arm, effect: Effect | None) -> str:
    if arm.id in d.failed:
        return FAILED
    if arm.role is Role.BASELINE:
        return BASELINE
    # The A/A arm is not called: its interval needs to include 0, not to lie inside the margin.
    if arm.role is Role.AA:
        known = effect is not None and effect.lower is not None
        return "UNKNOWN" if not known else VETO if d.vetoed else PASSES
    if arm.role is Role.PICK_TWIN:
        return TWIN
    if effect is None and arm.id in d.raced:
        return RACED
    return effect.call.value if effect else "UNKNOWN"


def _reason(d: Decision, arm: Arm, effect: Effect | None) -> str:
    if arm.id in d.failed:
        return plain(d.failed[arm.id])
    if arm.role is Role.BASELINE:
        return "what every other arm is measured against"
    if arm.role is Role.AA and effect is not None and effect.lower is not None:
        word = "excludes 0: every BETTER becomes UNKNOWN" if d.vetoed else "includes 0"
        return f"the baseline against itself; the interval {word}"
    if arm.role is Role.PICK_TWIN:
        return "the candidate served a second time in every block, for its proof; it is not called by itself"
    if effect is None and arm.id in d.raced:
        return _race_reason(d.raced[arm.id])
    if effect is not None and arm.id in d.decided_at:
        return f"{plain(effect.reason)}; called at the look after block {d.decided_at[arm.id]}"
    return plain(effect.reason) if effect else "not measured"


def _race_reason(estimate: float | None) -> str:
    """The race's estimate is shown without an interval on purpose: it chose, it did not measure."""
    if estimate is None:
        return "left before the race had a value of it"
    return f"left in the race at about {percent(estimate)} (exploratory, no call)"


def _blocks(d: Decision, arm: Arm, effect: Effect | None) -> int:
    """n of the effect; without one, the whole blocks the arm is in."""
    if effect is not None and effect.blocks:
        return effect.blocks
    return sum(arm.id in arms for arms in d.selection.blocks.values())


def _needed(effect: Effect | None, not_asked: bool) -> str:
    if not_asked or effect is None or effect.call.value != "UNKNOWN":
        return ""
    if effect.blocks_needed is not None:
        return f"about {effect.blocks_needed}"
    return "more than 200" if "more than" in effect.reason else "more alone would not help"


def _predicted(score: dict[str, Any] | None) -> str:
    return "" if score is None else f"{percent(math.log(score['low']))} to {percent(math.log(score['high']))}"


def _lever(arm: Arm) -> str:
    if arm.role is Role.BASELINE:
        return "the incumbent"
    if arm.role is Role.PICK_TWIN:
        return "the same as the candidate"
    return "the same as the baseline" if arm.role is Role.AA else plain(arm.lever) or "not named"


def _flags(arm: Arm) -> str:
    words = [*arm.flags, *(f"{k}={v}" for k, v in arm.env)]
    if words and arm.checkpoint:
        words.append(f"on the checkpoint {PurePath(arm.checkpoint).name}")
    return plain(" ".join(words)) or "none of its own"


def _status(d: Decision, arm_id: str) -> str:
    return cell_status([t for arms in d.selection.blocks.values() for t in arms.get(arm_id, {}).values()])


def log_path(ev: Evidence, arm_id: str) -> str:
    """The kept log of the start that failed, as a path in the run folder; "" where the engine wrote none."""
    wrote = {e.data["path"] for e in ev.events if e.kind == "wrote"}
    fell = [e.data for e in ev.events if e.kind == "arm_failed" and e.data["arm"] == arm_id]
    labels = [_label(str(f.get("phase", "")), arm_id) for f in fell]
    paths = [f"cells/{arm_id}/raw/log-{label}.txt" for label in labels]
    return next((p for p in paths if p in wrote), "")


def _label(phase: str, arm_id: str) -> str:
    """The label of the session named by a phase ("race block 3", "confirm block 1"); admission has no block."""
    stage, _, number = phase.partition(" block ")
    letter = Stage(stage).letter if stage in set(Stage) else ""
    return f"{letter}{int(number):03d}-{arm_id}" if number.isdigit() else "admission"


def paired_blocks(ev: Evidence, d: Decision) -> dict[str, tuple[PairedBlock, ...]]:
    """Per arm, its difference to the baseline inside every block: the very values the paired test averages.

    The A/A arm sits in every group; as in the test, the group with the most blocks is the one that counts.
    """
    out: dict[str, tuple[PairedBlock, ...]] = {}
    for group in ev.plan.groups:
        table = primary_table(ev.plan, d.selection, group)
        for arm in sorted(set(group) - {ev.plan.baseline.id}):
            found = _paired(table, arm, ev.plan.baseline.id)
            if len(found) > len(out.get(arm, ())):
                out[arm] = found
    return out


def _paired(table: Table, arm: str, base: str) -> tuple[PairedBlock, ...]:
    diffs = [(b, row[arm] - row[base]) for b, row in sorted(table.items()) if arm in row]
    return tuple(PairedBlock(b, y, percent(y)) for b, y in diffs)


def failures(arms: Iterable[ArmView]) -> tuple[ArmView, ...]:
    return tuple(a for a in arms if a.state == FAILED)


def next_levers(arms: Iterable[ArmView]) -> tuple[ArmView, ...]:
    """UNKNOWN candidates, the cheapest answer first; where equal, the one that could gain most."""
    open_arms = [a for a in arms if a.state == UNKNOWN.upper() and a.role == Role.CANDIDATE.value]
    return tuple(sorted(open_arms, key=_rank))


def _rank(a: ArmView) -> tuple[float, float, str]:
    needed = a.effect.blocks_needed if a.effect and a.effect.blocks_needed is not None else math.inf
    upper = a.effect.upper if a.effect and a.effect.upper is not None else -math.inf
    return needed, -upper, a.id
