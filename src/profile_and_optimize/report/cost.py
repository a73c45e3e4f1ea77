"""What the campaign took: blocks, sessions, trials, minutes; and which of its trials do not count, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.campaign.history import history_words
from profile_and_optimize.campaign.selection import Judged
from profile_and_optimize.campaign.timing import restarted
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.report.words import UNKNOWN, plain


@dataclass(frozen=True)
class Fact:
    name: str
    value: str
    title: str


@dataclass(frozen=True)
class Unused:
    source: str
    reason: str


def cost_facts(ev: Evidence, d: Decision) -> tuple[Fact, ...]:
    plan, used = ev.plan, d.counted
    starts = {(t.key.stage, t.key.block, t.key.arm, t.file.start_s): t.file.start_s for t in ev.trials}
    timed = sum(t.summary.wall_s for t in ev.trials)
    requests = sum(t.summary.completed for t in ev.trials)
    return (
        Fact("Blocks", f"{len(d.selection.blocks)} whole of at most {d.selection.limit * len(plan.groups)}",
             "a block is one server session of each of its arms, in random order; it ends when every arm is answered"),
        *_proof_facts(d),
        *_race_facts(ev),
        *_history_facts(ev),
        Fact("Sessions", f"{len(starts)} run", "lives of a server that gave at least one trial"),
        Fact("Trials", f"{len(ev.trials)} run, {len(used)} count", "timed runs of one workload inside a session"),
        Fact("Requests", f"{requests} completed", "in all trials, warm-ups not counted"),
        Fact("Timed load", minutes(timed), "sum over trials, from the first send to the last answer"),
        *([Fact("Server starts", minutes(sum(starts.values())), "sum over sessions, from launch to ready")] if restarted(plan) else []),
        Fact("Elapsed", _elapsed(ev), "from the start of the first trial to the end of the last, by the wall clock"),
        Fact("Budget", minutes(plan.budget_s) if plan.budget_s else "none was given", "fixed the number of blocks"),
    )  # fmt: skip


def _proof_facts(d: Decision) -> tuple[Fact, ...]:
    if d.proof is None:
        return ()
    return (
        Fact("Proof blocks", f"{d.proof.signs.blocks} whole of at most {d.proof.limit}",
             "blocks of baseline, A/A arm, the pick and its twin, whose signs are counted"),
    )  # fmt: skip


def _race_facts(ev: Evidence) -> tuple[Fact, ...]:
    if ev.race is None:
        return ()
    blocks = sum(len(r.blocks) for r in ev.race.rounds if r.standing)
    entered = len(ev.frozen.candidates)
    return (
        Fact("Race", f"{entered} candidates, {len(ev.race.rounds)} rounds, {blocks} blocks",
             "exploratory: it chose who is confirmed on fresh blocks; none of its trials enters a comparison"),
    )  # fmt: skip


def _history_facts(ev: Evidence) -> tuple[Fact, ...]:
    if ev.history is None:
        return ()
    return (
        Fact(
            "A/A on this node", plain(history_words(ev.history)), "read when the campaign started, and kept in the run"
        ),
    )


def minutes(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"


def _elapsed(ev: Evidence) -> str:
    if not ev.trials:
        return UNKNOWN
    return minutes(max(t.file.ended_at for t in ev.trials) - min(t.file.started_at for t in ev.trials))


def unused_trials(ev: Evidence, d: Decision) -> tuple[Unused, ...]:
    """Trials on disk that no number rests on."""
    counted = {t.key for t in d.counted}
    return tuple(Unused(trial_path(t.key), _why(t, ev, d)) for t in ev.trials if t.key not in counted)


def _why(t: Judged, ev: Evidence, d: Decision) -> str:
    if t.key.arm in d.failed:
        return f"its arm failed: {plain(d.failed[t.key.arm])}"
    if t.key.stage is Stage.RACE:
        return "run in the race, which only chose the finalists"
    if not t.usable(ev.plan.primary):
        return f"not usable: {plain('; '.join((*t.honesty.reasons, t.summary.reason)).strip('; '))}"
    if t.key.stage is Stage.PROVE and d.proof is not None:
        lost = d.proof.selection.excluded.get(t.key.block) or d.proof.selection.open.get(t.key.block)
        return f"proof block {t.key.block}: {plain(lost)}" if lost else "an earlier attempt counts already"
    gone = d.selection.excluded.get(t.key.block) or d.selection.open.get(t.key.block)
    return f"block {t.key.block}: {plain(gone)}" if gone else "an earlier attempt counts already"
