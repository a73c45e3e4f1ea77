"""The other numbers of a report: right answers, the race, what it took, and what the plan fixed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from profile_and_optimize.analysis.decide import percent
from profile_and_optimize.campaign.accuracy import accuracy_of, clusters, known_answers, pairs, right_answers
from profile_and_optimize.campaign.race import Race
from profile_and_optimize.campaign.selection import first_usable
from profile_and_optimize.core.names import slug
from profile_and_optimize.core.trial import Stage
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.report.accuracy import AccuracyRow
from profile_and_optimize.report.cost import Fact
from profile_and_optimize.report.explain.number import Case, Number, Place, Rest, Story, Table, Value, left_out, shown
from profile_and_optimize.report.words import plain
from profile_and_optimize.stats.accuracy import score
from profile_and_optimize.stats.race import DRAWS

CHOICE = "champion_select.json"
MOST_WRONG = 5


def accuracy(case: Case) -> Iterator[Number]:
    for row in case.view.accuracy:
        lower, _, upper = row.interval.partition(" to ")
        name, tell = f"accuracy.{row.arm}", partial(_accuracy_story, case, row)
        yield Number(name, row.share, f"share of right answers of {row.arm}", tell, marks=(row.arm,))
        yield Number(f"{name}.right", row.right, f"right answers of {row.arm}", tell, marks=(row.arm,))
        if row.interval:
            yield Number(f"{name}.lower", lower, "its lower end (95%)", tell, marks=(row.arm,))
            yield Number(f"{name}.upper", upper, "its upper end (95%)", tell, marks=(row.arm,))
        yield Number(
            f"{name}.loss",
            row.loss,
            f"net loss against {case.view.baseline}",
            partial(_loss_story, case, row),
            marks=(row.arm,),
        )


def _accuracy_story(case: Case, row: AccuracyRow) -> Story:
    found = case.ev.accuracy[row.arm]
    own = score(right_answers(found))
    if own is None:
        return Story(("unknown: nothing was asked",), files=(row.source,), arms=(row.arm,))
    k, n = own.right, own.n
    return Story(
        formula=(
            "right = the answer equals the expected one, white space at both ends apart",
            f"share = right / asked = {k} / {n} = {shown(own.share)}",
            f"lower = 2.5% quantile of Beta({k}, {n - k + 1}) = {shown(own.lower)} (Clopper and Pearson 1934; 0 where none is right)",
            f"upper = 97.5% quantile of Beta({k + 1}, {n - k}) = {shown(own.upper)} (1 where all are right)",
        ),
        values=(Value("right", k, "questions"), Value("asked", n, "questions")), tables=_wrong(found), files=(row.source,),
        arms=(row.arm,), see=(f"accuracy.{row.arm}.loss", "gate.accuracy"),
    )  # fmt: skip


def _wrong(found: Mapping[str, Any]) -> tuple[Table, ...]:
    """The first wrong answers; what a model said is data, whatever it says."""
    told = zip(found["answers"], known_answers(found), strict=True)
    rows = [
        (i, plain(a["expected"])[:60], plain(a["said"])[:60])
        for i, (a, right) in enumerate(told, start=1)
        if right is False
    ]
    title = f"Wrong answers ({len(rows)}), the first ones, as the model gave them"
    return (Table(title, ("question", "expected", "said"), tuple(rows[:MOST_WRONG])),) if rows else ()


def _loss_story(case: Case, row: AccuracyRow) -> Story:
    plan, base, mine = case.ev.frozen, case.ev.accuracy.get(case.view.baseline), case.ev.accuracy[row.arm]
    told = accuracy_of(plan, case.ev.accuracy, row.arm)
    if row.arm == case.view.baseline or base is None or told is None:
        other = "baseline and arm did not answer the same questions"
        why = "it is the baseline" if row.arm == case.view.baseline else other
        return Story((f"there is no loss to bound: {why}",), files=(row.source,), arms=(row.arm,))
    both = pairs(base, mine)
    lost, won = (sum(sign * (p.base - p.candidate) > 0 for p in both) for sign in (1, -1))
    return Story(
        formula=(
            f"lost = {lost} questions that only {case.view.baseline} got right, won = {won} that only {row.arm} did",
            f"loss = (lost - won) / asked, kind by kind and weighed by their questions: {row.loss}",
            f"the unit is the cluster, weighed by its questions; {clusters(base).assumption}",
            f"its ends bound it at every look together; the looks are at {', '.join(map(str, told.look_at))} questions",
            f"tolerance {100 * plan.accuracy_margin:g} points: {told.call}, {told.reason}",
        ),
        values=(Value("lost", lost, "questions"), Value("won", won, "questions"), Value("asked", told.n, "questions")),
        tables=_wrong(mine), files=(row.source, f"cells/{case.view.baseline}/raw/accuracy.json"),
        arms=(row.arm, case.view.baseline), see=("gate.accuracy",),
    )  # fmt: skip


def race(case: Case) -> Iterator[Number]:
    found = case.ev.race
    last = found.last if found else None
    if found is None or last is None:
        return
    for arm in sorted(last.estimates):
        estimate, tell = last.estimates[arm], partial(_race_story, case, found, arm)
        best = last.p_best.get(arm, 0.0)
        at: tuple[Any, ...] = ("arms", ("cell", arm), "race")
        yield Number(f"race.{arm}", percent(estimate), f"{arm} in the race: exploratory, no call", tell,
                     (Place(CHOICE, (*at, "estimate"), math.expm1(estimate)),), (arm,))  # fmt: skip
        yield Number(f"race.{arm}.p_best", f"{best:.4g}", f"how probably {arm} is the best, after the last round", tell,
                     (Place(CHOICE, (*at, "p_best"), best),), fine=True)  # fmt: skip


def _race_story(case: Case, found: Race, arm: str) -> Story:
    plan, last = case.ev.frozen, found.last
    assert last is not None
    blocks = {b: row for r in found.rounds for b, row in r.values.items()}
    rows = tuple((b, a, y) for b, row in sorted(blocks.items()) for a, y in sorted(row.items()))
    standings = tuple((r.number, r.standing.estimates.get(arm), r.standing.p_best.get(arm), arm in r.standing.survivors)
                      for r in found.rounds if r.standing)  # fmt: skip
    out, taken = sorted(case.d.failed), _race_trials(case, blocks)
    effect, best = last.estimates[arm], last.p_best.get(arm, 0.0)
    return Story(
        formula=(
            "y(a, b) = effect(a) + level(b) + noise, by least squares over the blocks that hold the baseline, whose effect is 0",
            f"arms that failed are left out of it: {', '.join(out) or 'none did'}",
            f"estimate = exp(effect) - 1 = exp({shown(effect)}) - 1 = {percent(effect)}, without an interval on purpose",
            f"p best = share of {DRAWS} draws of all effects in which it is the best = {shown(best)}",
            f"the finalists: {', '.join(last.finalists) or 'none'}; the race chose, it did not measure",
        ),
        values=(Value("effect", last.estimates[arm], "log ratio"), Value("race sd", plan.race_sd, "noise assumed before (plan.json)")),
        tables=(Table("Round by round", ("round", "effect", "p best", "still in"), standings),
                Table("y, the primary endpoint of every arm in every race block", ("block", "arm", "y"), rows)),
        trials=tuple(Rest(p, f"race block {b}") for p, b in taken.items()), unused=_not_raced(case, taken), files=("plan.json",),
        arms=(arm, plan.baseline.id), see=(f"effect.{arm}",),
    )  # fmt: skip


def _race_trials(case: Case, blocks: Mapping[int, Mapping[str, float]]) -> dict[str, int]:
    """Trial files that the race took its values from, with their blocks: every arm's, since blocks share their level."""
    out: dict[str, int] = {}
    for number, row in sorted(blocks.items()):
        members = [t for t in case.ev.trials if t.key.stage is Stage.RACE and t.key.block == number]
        chosen = first_usable(case.ev.plan, members)
        out |= {trial_path(t.key): number for arm in row for t in chosen.get(arm, {}).values()}
    return out


def _not_raced(case: Case, taken: Mapping[str, int]) -> tuple[Rest, ...]:
    paths = [trial_path(t.key) for t in case.ev.trials if t.key.stage is Stage.RACE]
    return tuple(Rest(p, "not usable, or its block lacks it") for p in paths if p not in taken)


def cost(case: Case) -> Iterator[Number]:
    for fact in case.view.cost:
        yield Number(
            f"cost.{slug(fact.name)}",
            fact.value,
            fact.name.lower(),
            partial(_cost_story, case, fact),
            marks=(),
        )
    states = tuple((r["cell"], f"{r['workload']}", r["status"]) for r in case.rows)
    tell = partial(
        Story,
        ("cells by what they hold, over the rows of atlas.jsonl",),
        (),
        (Table("Rows", ("arm", "workload", "status"), states),),
    )
    yield Number("coverage", case.view.coverage, "how much of the atlas is there", tell)


def _cost_story(case: Case, fact: Fact) -> Story:
    counted = len(case.ev.trials) - len(case.unused)
    return Story(
        (f"{fact.title}: {fact.value}",),
        values=(Value("trials", len(case.ev.trials), "trial files that could be read"), Value("count", counted, "of them count")),
        unused=left_out(case, lambda t: True), files=("journal.jsonl",),
    )  # fmt: skip


PLANNED = {
    "margin": "a BETTER must lie beyond it", "non_inferiority": "what a pick may lose on one workload",
    "alpha": "one-sided error of the whole campaign", "failure_rate_limit": "most failed requests of an arm",
    "accuracy_margin": "most right answers that a pick may lose",
}  # fmt: skip


def planned(case: Case) -> Iterator[Number]:
    """What was fixed before block 1."""
    for field, meaning in PLANNED.items():
        value = getattr(case.ev.plan, field)
        tell = partial(
            Story, (f"{field} = {value!r}, read from plan.json; it was fixed before block 1",), files=("plan.json",)
        )
        yield Number(f"plan.{field}", f"{100 * value:g}%", meaning, tell, fine=field not in ("margin",))
    blocks = case.ev.frozen.blocks
    tell = partial(
        Story,
        (f"blocks = {blocks}, read from plan.json: the most that a kind of block gets before it is extended",),
        files=("plan.json",),
    )
    yield Number("plan.blocks", str(blocks), "most blocks of a kind, before any are added", tell, fine=True)
