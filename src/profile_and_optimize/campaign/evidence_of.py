"""Reads the evidence of a run back: plan, admissions, trials, failures. What is damaged is named, what is good is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from profile_and_optimize.campaign.selection import Judged, judge
from profile_and_optimize.core.context import context_from_json
from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.core.plan import Plan, plan_from_json
from profile_and_optimize.engines.prometheus import server_tpot
from profile_and_optimize.evidence.folder import JOURNAL, read_json
from profile_and_optimize.evidence.journal import Event, read_journal
from profile_and_optimize.evidence.manifest import evidence_root
from profile_and_optimize.evidence.trialfile import decode, is_trial_path, trial_path


@dataclass(frozen=True)
class Evidence:
    """Everything a decision is computed from. `damaged` lists files that could not be read, with why."""

    run: Path
    plan: Plan
    trials: tuple[Judged, ...]
    admissions: Mapping[str, Mapping[str, Any]]
    accuracy: Mapping[str, Mapping[str, Any]]
    commands: Mapping[str, Mapping[str, Any]]
    failed_arms: Mapping[str, str]
    given_up: Mapping[int, str]
    stamp: float
    root: str
    damaged: tuple[str, ...] = ()
    events: tuple[Event, ...] = field(default=(), repr=False)


def load_evidence(run: Path) -> Evidence:
    """The evidence of a run folder. Raises WrongUse when it has no plan yet."""
    events = read_journal(run / JOURNAL).events
    if not (run / "plan.json").exists():
        raise WrongUse("this run has no plan yet", where=str(run), next="pao campaign_run " + str(run))
    paths = sorted({e.data["path"] for e in events if e.kind == "wrote"})
    trials, damaged = _trials(run, [p for p in paths if is_trial_path(p)])
    return Evidence(
        run=run, plan=read_plan(run / "plan.json"), trials=trials,
        admissions=_by_cell(run, paths, "admission.json"), accuracy=_by_cell(run, paths, "raw/accuracy.json"),
        commands=_by_cell(run, paths, "commands/serve.json"),
        failed_arms=failed_arms(events), given_up=given_up(events),
        stamp=events[-1].at if events else 0.0, root=evidence_root(events), damaged=damaged, events=events,
    )  # fmt: skip


def failed_arms(events: Iterable[Event]) -> dict[str, str]:
    return {e.data["arm"]: e.data["reason"] for e in events if e.kind == "arm_failed"}


def given_up(events: Iterable[Event]) -> dict[int, str]:
    return {e.data["block"]: e.data["reason"] for e in events if e.kind == "block_given_up"}


def load_trial(path: Path) -> Judged:
    """One trial file with its judgement. Raises Corrupted naming it, whatever is wrong in it."""
    file = decode(read_json(path), str(path))
    if trial_path(file.key) != "/".join(path.parts[-4:]):
        raise Corrupted(f"it says it is {trial_path(file.key)}", where=str(path), next="pao verify RUN")
    try:
        context_from_json(file.context)
        return judge(file, server_tpot(dict(file.counters)))
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as e:
        raise Corrupted(f"not a trial: {type(e).__name__} {e}", where=str(path), next="pao verify RUN") from e


def read_plan(path: Path) -> Plan:
    """A plan file. Raises Corrupted naming it when it holds anything else."""
    try:
        return plan_from_json(read_json(path))
    except (TypeError, ValueError, KeyError, AttributeError, WrongUse) as e:
        raise Corrupted(f"not a plan: {e}", where=str(path), next="restore it, or begin a new campaign") from e


def _trials(run: Path, paths: list[str]) -> tuple[tuple[Judged, ...], tuple[str, ...]]:
    good, damaged = [], []
    for path in paths:
        try:
            good.append(load_trial(run / path))
        except Corrupted as e:
            damaged.append(f"{path}: {e.message}")
    return tuple(sorted(good, key=lambda t: t.key)), tuple(damaged)


def _by_cell(run: Path, paths: list[str], name: str) -> dict[str, Any]:
    return {p.split("/")[1]: read_json(run / p) for p in paths if p.startswith("cells/") and p.split("/", 2)[2] == name}
