"""A campaign from draft plan to finished blocks: admit, fix the number of blocks, run. Safe to call again after a kill."""

from __future__ import annotations

from profile_and_optimize.campaign import PRODUCER, checkpoints, client_errors, earlier
from profile_and_optimize.campaign.admit import admit_all, session_seconds
from profile_and_optimize.campaign.book import Book
from profile_and_optimize.campaign.evidence_of import (
    Evidence,
    failed_arms,
    load_evidence,
    proof_in,
    proof_limit,
    read_plan,
)
from profile_and_optimize.campaign.history import read_history, session_sd
from profile_and_optimize.campaign.looks import looks, rival_name
from profile_and_optimize.campaign.proof import BEGAN, Proof, began, called, pick_to_prove, wanted
from profile_and_optimize.campaign.recover import adopt_orphans
from profile_and_optimize.campaign.run import run_blocks
from profile_and_optimize.campaign.run_race import run_race
from profile_and_optimize.campaign.selection import Selection
from profile_and_optimize.campaign.timing import Cost, freeze, restarted
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.code_settings import refuse_start
from profile_and_optimize.core.context import UNKNOWN
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.engines.base import refuse_unknown_flags
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.redact import redact
from profile_and_optimize.stats.proof import least_more

DRAFT = "draft.json"
PLAN = "plan.json"


def check_flags(plan: Plan, world: World) -> None:
    """Refuse what brings code and nobody allowed, and options that the installed engines lack, before anything starts."""
    refuse_start(plan, world.allow_code)
    for arm in plan.arms:
        refuse_unknown_flags(world.engine(arm.engine), (*plan.common_flags, *arm.flags), f"cell {arm.id}")


def open_draft(folder: RunFolder, draft: Plan) -> Plan:
    """The draft of this run: the one it began with, or `draft` written now."""
    adopt_orphans(folder)
    if not (folder.path / DRAFT).exists():
        folder.write_json(DRAFT, draft.to_json(), producer="campaign_init")
    return read_plan(folder.path / DRAFT)


def admit(folder: RunFolder, world: World) -> Plan:
    """Start every arm once; then freeze the plan. The number of blocks is fixed here and never again."""
    adopt_orphans(folder)
    draft = read_plan(folder.path / DRAFT)
    if (folder.path / PLAN).exists():
        return read_plan(folder.path / PLAN)
    refuse_start(draft, world.allow_code)
    client_errors.keep(folder, draft, world)
    admit_all(folder, draft, world)
    plan, cost = _frozen(folder, draft)
    world.say(f"cost: {cost.words(plan)}")
    kinds = "a race, then at most" if plan.race_rounds else f"{len(plan.groups)} kind(s) of block, at most"
    world.say(f"plan: {kinds} {plan.blocks} blocks each; a look after every block from the third")
    look_for_earlier(folder, plan, world)
    folder.write_json(PLAN, plan.to_json(), producer=PRODUCER, inputs=(DRAFT, "calibration.json"))
    return plan


def look_for_earlier(folder: RunFolder, plan: Plan, world: World) -> None:
    """Write down which campaigns of the same variants there were before, and say it."""
    engines = sorted({a.engine for a in plan.arms})
    builds = {
        e: {k: redact(v, world.secrets) for k, v in earlier.build_of(world.engine(e).version()).items()}
        for e in engines
    }
    earlier.keep(folder, plan, redact(world.host().get("node", UNKNOWN), world.secrets), builds)
    kept = earlier.read_earlier(folder.path)
    for line in earlier.words(kept, [a.id for a in plan.candidates]) if kept and kept.runs else ():
        world.say(line)


def _frozen(folder: RunFolder, draft: Plan) -> tuple[Plan, Cost]:
    failed = failed_arms(folder.journal.events)
    alive = [a.id for a in draft.arms if a.id not in failed]
    admissions = {a: folder.read_json(f"cells/{a}/admission.json") for a in alive}
    history = read_history(folder.path)
    kept = {a.id: folder.read_json(checkpoints.place(a.id)) for a in draft.arms if checkpoints.is_kept(folder, a)}
    return freeze(draft, failed, admissions, session_sd(history) if history else None, kept)


def run(folder: RunFolder, plan: Plan, world: World) -> Selection:
    """The race, where the plan has one, then the blocks, then the proof of the pick; every part stops as soon as it is
    answered. The blocks of the exploration are returned."""
    refuse_start(plan, world.allow_code)
    for arm in plan.arms:
        if arm is not plan.pick_twin:  # it serves what the pick serves, whose record is kept
            checkpoints.require_same(folder, arm)
    seconds = session_seconds(folder, plan)
    exploring = confirmed(folder, plan, world)
    selection = run_blocks(folder, exploring, world, seconds)
    proving = begin_proof(folder, exploring, world)
    if proving is not None:
        assert proving.pick_twin is not None
        pick = proving.candidates[0].id
        run_blocks(folder, proving, world, {**seconds, proving.pick_twin.id: seconds[pick]}, Stage.PROVE)
    return selection


def begin_proof(folder: RunFolder, plan: Plan, world: World) -> Plan | None:
    """The plan of the proof on blocks of its own, begun now where the exploration has just ended with a pick; None where
    there is none to prove, or where the blocks of the exploration count for it already."""
    events = folder.journal.events
    if plan.pick_twin is not None or not proof_limit(plan, events):
        return None
    pick = began(events)
    if pick is None:
        pick = pick_to_prove(plan, Book(folder).selection(plan))
        if pick is None:
            return None
        world.say(
            f"  {pick} is called BETTER: a DRAFT. Its proof follows on fresh blocks, at most {proof_limit(plan, events)}"
        )
        folder.event(BEGAN, pick=pick)
    return plan.proving(pick)


def confirmed(folder: RunFolder, plan: Plan, world: World) -> Plan:
    """The plan of the confirmation; runs what the race still lacks."""
    raced = plan.race_rounds and plan.candidates
    return run_race(folder, plan, world, session_seconds(folder, plan)) if raced else plan


def extend(folder: RunFolder, plan: Plan, blocks: int) -> None:
    """Allow every group so many blocks more, at the levels kept back for that, or the proof of the pick, whose signs may be
    counted at any block. Raises WrongUse before the planned ones ran, and when more blocks could change nothing."""
    ev = load_evidence(folder.path)
    selection = Book(folder).selection(ev.plan)
    proof = proof_in(ev, selection)
    unfinished = any(wanted(ev.plan, selection, group) for group in ev.plan.groups)
    if unfinished or (proof is not None and proof.stage is Stage.PROVE and proof.open):
        raise WrongUse(
            "blocks of the plan are still to be run", where=str(folder.path), next=f"pao campaign_run {folder.path}"
        )
    if ev.proving is not None or called(ev.plan, selection) is not None:
        _extend_proof(folder, ev, proof, blocks)
        return
    alive = [a.id for a in ev.plan.candidates if a.id not in selection.failed]
    alive += [rival_name(*p) for p in ev.plan.rivals if set(p) <= {*alive}]
    if not looks(ev.plan, selection).undecided(alive):
        raise WrongUse(
            "every variant has its answer; more blocks would change none", where=str(folder.path),
            next=f"pao report_render {folder.path}",
        )  # fmt: skip
    folder.event("extended", blocks=blocks, after=selection.limit)


def _extend_proof(folder: RunFolder, ev: Evidence, proof: Proof | None, blocks: int) -> None:
    """Raises WrongUse where even so many blocks above the margin could not prove the pick."""
    if not restarted(ev.plan):
        raise WrongUse(
            "servers that pao did not start cannot be proven better; the pick stays a DRAFT",
            where=str(folder.path),
            next=f"pao report_render {folder.path}",
        )
    if proof is not None and proof.signs.proven:
        raise WrongUse(
            f"{proof.pick} is proven; more blocks would change nothing", where=str(folder.path),
            next=f"pao report_render {folder.path}",
        )  # fmt: skip
    limit = proof_limit(ev.frozen, ev.events) + blocks
    wins, losses = (proof.signs.wins, proof.signs.losses) if proof else (0, 0)
    least = least_more(wins, losses, limit - blocks, ev.plan.alpha)
    if blocks < least:
        raise WrongUse(
            f"{blocks} blocks more cannot prove the pick: {wins} of {wins + losses} lie above the margin, and it takes 8 of 8, 11 of 12, "
            "14 of 16 or 17 of 20",
            where=str(folder.path),
            next=f"pao campaign_run {folder.path} --extend {least}",
        )
    folder.event("extended", blocks=blocks, after=limit - blocks, stage=Stage.PROVE)
