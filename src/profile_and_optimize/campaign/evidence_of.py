"""Reads the evidence of a run back: plan, admissions, trials, failures. What is damaged is named, what is good is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profile_and_optimize.campaign.accuracy import FIRST, MORE, joined
from profile_and_optimize.campaign.checkpoints import JOBS, KEPT
from profile_and_optimize.campaign.earlier import Earlier, read_earlier
from profile_and_optimize.campaign.history import History, read_history
from profile_and_optimize.campaign.imported import ImportedCell, load_imported
from profile_and_optimize.campaign.layers import Served, served_of
from profile_and_optimize.campaign.loading import Look, Remark, load_trials
from profile_and_optimize.campaign.loading import load_trial as load_trial  # the runner reads its own trials back
from profile_and_optimize.campaign.proof import Proof, added_proof, began, proof_of
from profile_and_optimize.campaign.race import Race, replay
from profile_and_optimize.campaign.selection import Judged, Selection, select
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.core.plan import Plan, plan_from_json
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.evidence.folder import JOURNAL, read_json
from profile_and_optimize.evidence.journal import Event, Reading, read_journal
from profile_and_optimize.evidence.manifest import evidence_root
from profile_and_optimize.evidence.trialfile import is_trial_path

FINALISTS, DRAFT, CALIBRATION = "finalists.json", "draft.json", "calibration.json"


@dataclass(frozen=True)
class Evidence:
    """Everything a decision is computed from. `damaged` lists files that could not be read, with why.

    `frozen` is the plan as it was fixed before block 1; `plan` is the one of the confirmation, which differs from it
    when a race chose the finalists. `proving` is whose proof was begun on blocks of its own. `added` is the number of
    blocks added to the planned ones. `remarks` are what a look at every trial found, `marks` what it knows each by.
    `draft` is the plan before admission, `calibration` how prompts were cut to length, `earlier` the campaigns of the
    same variants before it, `checkpoints` what arms serve in the model's place, `jobs` how those of ours were asked
    for, `served` the kernels that their servers name. `imported` are other tools' results, which no decision rests on; a
    run of nothing else has its draft for a plan."""

    run: Path
    plan: Plan
    frozen: Plan
    trials: tuple[Judged, ...]
    admissions: Mapping[str, Mapping[str, Any]]
    accuracy: Mapping[str, Mapping[str, Any]]
    checkpoints: Mapping[str, Mapping[str, Any]]
    jobs: Mapping[str, Mapping[str, Any]]
    commands: Mapping[str, Mapping[str, Any]]
    failed_arms: Mapping[str, str]
    given_up: Mapping[int, str]
    stamp: float
    root: str
    race: Race | None = None
    finalists: tuple[str, ...] | None = None
    history: History | None = None
    earlier: Earlier | None = None
    draft: Plan | None = None
    imported: tuple[ImportedCell, ...] = ()
    calibration: Mapping[str, Any] | None = None
    added: int = 0
    proving: str | None = None
    damaged: tuple[str, ...] = ()
    served: Mapping[str, Served] = field(default_factory=dict, repr=False)
    events: tuple[Event, ...] = field(default=(), repr=False)
    remarks: tuple[Remark, ...] = field(default=(), repr=False)
    marks: Mapping[str, object] = field(default_factory=dict, repr=False)


def load_evidence(run: Path, *, journal: Reading | None = None, look: Look | None = None) -> Evidence:
    """The evidence of a run folder; `journal` if it was read already. Raises WrongUse when it has no plan yet."""
    events = (journal or read_journal(run / JOURNAL)).events
    paths = sorted({e.data["path"] for e in events if e.kind == "wrote"})
    imported, unreadable = load_imported(run, paths)
    planned = (run / "plan.json").exists()
    if not planned and not imported and not unreadable:
        raise WrongUse("this run has no plan yet", where=str(run), next="pao campaign_run " + str(run))
    loaded = load_trials(run, [p for p in paths if is_trial_path(p)], look)
    trials = tuple(sorted((x.trial for x in loaded if x.trial), key=lambda t: t.key))
    frozen = read_plan(run / ("plan.json" if planned else DRAFT))
    race = race_of(frozen, trials, events)
    plan = frozen.confirming(race.finalists) if race and race.finalists else frozen
    admissions = _by_cell(run, paths, "admission.json")
    return Evidence(
        run=run, plan=plan, frozen=frozen, race=race, added=added_blocks(events), proving=began(events), trials=trials,
        finalists=_finalists(run, paths), history=read_history(run), earlier=read_earlier(run),
        draft=read_plan(run / DRAFT) if DRAFT in paths else None,
        calibration=read_json(run / CALIBRATION) if CALIBRATION in paths else None,
        admissions=admissions, served=served_of(run, plan, paths, admissions), accuracy=_answers(run, paths),
        checkpoints=_by_cell(run, paths, KEPT), jobs=_jobs(run, paths), commands=_by_cell(run, paths, "commands/serve.json"),
        failed_arms=failed_arms(events), given_up=given_up(events),
        stamp=events[-1].at if events else 0.0, root=evidence_root(events), events=events,
        damaged=(*(f"{x.path}: {x.damage}" for x in loaded if x.damage), *unreadable), imported=imported,
        remarks=tuple(r for x in loaded for r in x.remarks), marks={x.path: x.marks for x in loaded if x.marks is not None},
    )  # fmt: skip


def selection_of(ev: Evidence) -> Selection:
    """Which trials of the exploration count."""
    return selected(ev.plan, ev.trials, ev.events)


def twins(ev: Evidence) -> tuple[Arm, ...]:
    """The pick's twin, where it has one."""
    plan = ev.plan.proving(ev.proving) if ev.proving is not None else ev.plan
    return (plan.pick_twin,) if plan.pick_twin is not None else ()


def proof_in(ev: Evidence, selection: Selection | None = None) -> Proof | None:
    """The proof as far as it got; None where none was begun."""
    if ev.plan.pick_twin is not None:
        return proof_of(ev.plan, selection or selection_of(ev))
    if ev.proving is None:
        return None
    plan = ev.plan.proving(ev.proving)
    return proof_of(plan, proof_selected(plan, ev.trials, ev.events))


def _finalists(run: Path, paths: list[str]) -> tuple[str, ...] | None:
    """Who was written down to be confirmed; None before the end of a race, or without one."""
    if FINALISTS not in paths:
        return None
    try:
        return tuple(str(a) for a in read_json(run / FINALISTS)["finalists"])
    except (KeyError, TypeError) as e:
        raise Corrupted(f"not the finalists of a race: {e}", where=str(run / FINALISTS), next="pao verify RUN") from e


def failed_arms(events: Iterable[Event]) -> dict[str, str]:
    return {e.data["arm"]: e.data["reason"] for e in events if e.kind == "arm_failed"}


def race_of(frozen: Plan, trials: Iterable[Judged], events: Iterable[Event]) -> Race | None:
    """The race of a campaign that has one, as far as it got."""
    events = tuple(events)
    if not frozen.race_rounds:
        return None
    lost = {e.data["block"]: e.data["reason"] for e in events if e.kind == "race_block_given_up"}
    fell = {
        e.data["arm"]: e.data["block"] for e in events if e.kind == "arm_failed" and e.data.get("stage") == Stage.RACE
    }
    return replay(frozen, trials, fell, lost)


def added_blocks(events: Iterable[Event]) -> int:
    """Blocks added to every group of the exploration after the planned ones."""
    return sum(e.data["blocks"] for e in events if e.kind == "extended" and e.data.get("stage") != Stage.PROVE)


def given_up(events: Iterable[Event], stage: Stage = Stage.CONFIRM) -> dict[int, str]:
    return {
        e.data["block"]: e.data["reason"]
        for e in events
        if e.kind == "block_given_up" and e.data.get("stage", Stage.CONFIRM) == stage
    }


def proof_limit(frozen: Plan, events: Iterable[Event]) -> int:
    """The most blocks that the proof may have: those of the plan and those added."""
    return frozen.proof_blocks + added_proof(events)


def selected(plan: Plan, trials: Iterable[Judged], events: Iterable[Event]) -> Selection:
    """Which trials of the exploration count. A campaign with one candidate and its twin goes on for the proof, whose further
    blocks the looks do not see."""
    events = tuple(events)
    looked, failed, lost = plan.blocks + added_blocks(events), failed_arms(events), given_up(events)
    if plan.pick_twin is None:
        return select(plan, trials, failed, lost, limit=looked)
    most = proof_limit(plan, events)
    return select(plan, trials, failed, lost, limit=max(looked, most), looked=looked, proof_limit=most)


def proof_selected(plan: Plan, trials: Iterable[Judged], events: Iterable[Event]) -> Selection:
    """Which trials of the stage of its own that a proof has count; `plan` is the proof's."""
    events = tuple(events)
    lost, most = given_up(events, Stage.PROVE), proof_limit(plan, events)
    return select(plan, trials, failed_arms(events), lost, limit=most, proof_limit=most, stage=Stage.PROVE)


def read_plan(path: Path) -> Plan:
    """A plan file. Raises Corrupted naming it when it holds anything else."""
    try:
        return plan_from_json(read_json(path))
    except (TypeError, ValueError, KeyError, AttributeError, WrongUse) as e:
        raise Corrupted(f"not a plan: {e}", where=str(path), next="restore it, or begin a new campaign") from e


def _by_cell(run: Path, paths: list[str], name: str) -> dict[str, Any]:
    found = ((p, p.split("/", 2)) for p in paths if p.startswith("cells/"))
    return {parts[1]: read_json(run / p) for p, parts in found if parts[2:] == [name]}


def _answers(run: Path, paths: list[str]) -> dict[str, Any]:
    more = _by_cell(run, paths, MORE)
    return {cell: joined(found, more.get(cell)) for cell, found in _by_cell(run, paths, FIRST).items()}


def _jobs(run: Path, paths: list[str]) -> dict[str, Any]:
    """By arm."""
    names = [p for p in paths if p.startswith(f"{JOBS}/") and p.endswith(".json")]
    return {p.removeprefix(f"{JOBS}/").removesuffix(".json"): read_json(run / p) for p in names}
