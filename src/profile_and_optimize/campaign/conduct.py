"""A campaign from draft plan to finished blocks: admit, fix the number of blocks, run. Safe to call again after a kill."""

from __future__ import annotations

from profile_and_optimize.campaign import PRODUCER, checkpoints, client_errors
from profile_and_optimize.campaign.admit import admit_all, session_seconds
from profile_and_optimize.campaign.book import Book
from profile_and_optimize.campaign.evidence_of import failed_arms, load_evidence, read_plan
from profile_and_optimize.campaign.history import read_history, session_sd
from profile_and_optimize.campaign.looks import looks, rival_name, wants_more
from profile_and_optimize.campaign.recover import adopt_orphans
from profile_and_optimize.campaign.run import run_blocks
from profile_and_optimize.campaign.run_race import run_race
from profile_and_optimize.campaign.selection import Selection
from profile_and_optimize.campaign.timing import Cost, freeze
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.code_settings import refuse_start
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.engines.base import refuse_unknown_flags
from profile_and_optimize.evidence.folder import RunFolder

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
    world.say(f"cost: {cost.words(plan.blocks)}")
    kinds = "a race, then at most" if plan.race_rounds else f"{len(plan.groups)} kind(s) of block, at most"
    world.say(f"plan: {kinds} {plan.blocks} blocks each; a look after every block from the third")
    folder.write_json(PLAN, plan.to_json(), producer=PRODUCER, inputs=(DRAFT, "calibration.json"))
    return plan


def _frozen(folder: RunFolder, draft: Plan) -> tuple[Plan, Cost]:
    failed = failed_arms(folder.journal.events)
    alive = [a.id for a in draft.arms if a.id not in failed]
    admissions = {a: folder.read_json(f"cells/{a}/admission.json") for a in alive}
    history = read_history(folder.path)
    kept = {a.id: folder.read_json(checkpoints.place(a.id)) for a in draft.arms if checkpoints.is_kept(folder, a)}
    return freeze(draft, failed, admissions, session_sd(history) if history else None, kept)


def run(folder: RunFolder, plan: Plan, world: World) -> Selection:
    """The race, where the plan has one, then the blocks; stops as soon as every arm is answered."""
    refuse_start(plan, world.allow_code)
    for arm in plan.arms:
        checkpoints.require_same(folder, arm)
    seconds = session_seconds(folder, plan)
    return run_blocks(folder, confirmed(folder, plan, world), world, seconds)


def confirmed(folder: RunFolder, plan: Plan, world: World) -> Plan:
    """The plan of the confirmation; runs what the race still lacks."""
    raced = plan.race_rounds and plan.candidates
    return run_race(folder, plan, world, session_seconds(folder, plan)) if raced else plan


def extend(folder: RunFolder, plan: Plan, blocks: int) -> None:
    """Allow every group so many blocks more, at the levels kept back for that. Raises WrongUse before the planned ones ran."""
    ev = load_evidence(folder.path)
    selection = Book(folder).selection(ev.plan)
    if any(wants_more(ev.plan, selection, group) for group in ev.plan.groups):
        raise WrongUse(
            "blocks of the plan are still to be run", where=str(folder.path), next=f"pao campaign_run {folder.path}"
        )
    alive = [a.id for a in ev.plan.candidates if a.id not in selection.failed]
    alive += [rival_name(*p) for p in ev.plan.rivals if set(p) <= {*alive}]
    if not looks(ev.plan, selection).undecided(alive):
        raise WrongUse("every arm has its answer; more blocks would change none", where=str(folder.path))
    folder.event("extended", blocks=blocks, after=selection.limit)
