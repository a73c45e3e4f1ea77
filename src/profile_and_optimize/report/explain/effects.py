"""The effects of a campaign as numbers: of every arm on the primary endpoint, of the A/A arm, of the champion."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from profile_and_optimize.analysis.decide import percent
from profile_and_optimize.campaign.endpoint import primary_table
from profile_and_optimize.campaign.looks import Step, aa_effects
from profile_and_optimize.core.cell import Role
from profile_and_optimize.core.metrics import DISTRIBUTIONS, METRICS
from profile_and_optimize.core.verdict import Call, Effect
from profile_and_optimize.report.arms import ArmView
from profile_and_optimize.report.explain import paired
from profile_and_optimize.report.explain.number import Case, Number, Place, Rest, Story, Value, left_out, shown
from profile_and_optimize.report.explain.records import first_records
from profile_and_optimize.report.words import UNKNOWN, coverage, effect_words, stamp_words
from profile_and_optimize.report.words import percent as printed_percent
from profile_and_optimize.stats.paired import contrasts

CHOICE = "champion_select.json"
AA = "aa.effect"


def numbers(case: Case) -> Iterator[Number]:
    for arm in case.view.arms:
        if arm.role == Role.AA.value:
            yield from family(case, arm, AA)
            yield from (_again(n, f"effect.{arm.id}", AA) for n in family(case, arm, AA))
        else:
            yield from family(case, arm, f"effect.{arm.id}")


def _again(n: Number, name: str, of: str) -> Number:
    return replace(n, name=name + n.name.removeprefix(of), same_as=n.name, fine=True)


def family(case: Case, arm: ArmView, name: str) -> Iterator[Number]:
    """The effect of one arm with everything that is printed beside it."""
    known = arm.effect is not None and arm.effect.estimate is not None
    yield from _effect(case, arm, name) if known else _no_effect(case, arm, name)
    tell = partial(partial, story, case, arm)
    n = arm.effect.blocks if arm.effect else None
    fine = arm.role == Role.BASELINE.value
    yield Number(
        f"{name}.blocks",
        str(arm.blocks),
        "blocks that it rests on (n)",
        tell("blocks"),
        _stored(arm.id, "blocks", n),
        fine=fine,
    )
    if arm.blocks_needed and arm.effect:
        needed = _stored(arm.id, "blocks_needed", arm.effect.blocks_needed)
        yield Number(f"{name}.needed", arm.blocks_needed, "blocks that would tell", tell("needed"), needed)
    if arm.predicted:
        yield _prediction(case, arm, name)
    for b in arm.paired:
        meaning, of_block = f"{_what(case, arm)} in block {b.block}", partial(block_story, case, arm, b.block)
        yield Number(f"{name}.block.{b.block}", b.text, meaning, of_block, (), (arm.id,))


def _prediction(case: Case, arm: ArmView, name: str) -> Number:
    at = ("arms", ("cell", arm.id), "predicted")
    ends = zip(("low", "high"), arm.predicted_range or (), strict=False)
    stored = (*(Place(CHOICE, (*at, k), v) for k, v in ends), Place(CHOICE, (*at, "scored"), arm.scored))
    text, meaning = f"{arm.predicted}: {arm.scored}", "range written before measuring, and its score"
    return Number(f"{name}.predicted", text, meaning, partial(predicted, case, arm), stored)


def _what(case: Case, arm: ArmView) -> str:
    return "the baseline against itself" if arm.role == Role.AA.value else f"{arm.id} against {case.view.baseline}"


def _effect(case: Case, arm: ArmView, name: str) -> Iterator[Number]:
    e = arm.effect
    assert e is not None and e.estimate is not None and e.lower is not None and e.upper is not None
    tell, what = partial(partial, story, case, arm), f"{_what(case, arm)}, primary endpoint"
    ends = (("", "estimate", e.estimate), (".lower", "lower", e.lower), (".upper", "upper", e.upper))
    for ending, part, log_ratio in ends:
        meaning = f"its {part} end" if ending else what
        stored = _stored(arm.id, part, math.expm1(log_ratio))
        yield Number(name + ending, percent(log_ratio), meaning, tell(part), stored, (arm.id,))
    error = _stored(arm.id, "error_one_sided", e.error)
    yield Number(
        f"{name}.coverage", coverage(e), "two-sided coverage of its interval", tell("coverage"), error, (arm.id,)
    )


def _no_effect(case: Case, arm: ArmView, name: str) -> Iterator[Number]:
    reference = arm.role == Role.BASELINE.value
    text, what = "the reference" if reference else UNKNOWN, f"{_what(case, arm)}, primary endpoint"
    yield Number(name, text, what, partial(nothing, case, arm), _stored(arm.id, "estimate", None), fine=reference)


def _stored(arm: str, part: str, value: float | int | None) -> tuple[Place, ...]:
    return (Place(CHOICE, ("arms", ("cell", arm), "effect", part), value),)


def story(case: Case, arm: ArmView, part: str) -> Story:
    test = test_of(case, arm)
    if test is None:
        return nothing(case, arm)
    said = (*_kinds(case, arm), *paired.held_back(test), f"{arm.state}: {arm.reason}", *_vetoed(case, arm))
    tables = (paired.block_table(test.pair), paired.measured_table(test.pair, case.d.selection.blocks))
    return replace(
        of_pair(case, test.pair), formula=(*paired.formula(test, part), *said), values=paired.values(test),
        tables=(*tables, *paired.looks_table(test)), see=(*_see(arm), *_cells(test.pair)),
    )  # fmt: skip


def _kinds(case: Case, arm: ArmView) -> Iterator[str]:
    kinds = len(case.ev.plan.groups)
    if arm.role == Role.AA.value and kinds > 1:
        yield f"the A/A arm is in {kinds} kinds of block; this is the one where its interval lies farthest from 0"


def of_pair(case: Case, pair: paired.Pair) -> Story:
    """What any comparison of the two arms rests on."""
    blocks, metrics = case.d.selection.blocks, tuple(METRICS[m] for m in pair.metrics)
    mine = pair.used(blocks)
    samples = [first_records(next(t for t in mine if t.key.arm == a), metrics, 1) for a in (pair.arm, pair.base)]
    return Story(
        (), trials=paired.used_rows(pair, blocks), records=tuple(r for rs in samples for r in rs), files=("plan.json",),
        unused=left_out(case, lambda t: t.key.arm in (pair.arm, pair.base) and t.key.point in pair.points),
        arms=(pair.arm, pair.base), points=pair.points,
    )  # fmt: skip


def _vetoed(case: Case, arm: ArmView) -> Iterator[str]:
    if case.d.vetoed and arm.role == Role.CANDIDATE.value:
        yield f"veto: the baseline differed from itself by {effect_words(case.d.aa)}, so no BETTER is given"


def _see(arm: ArmView) -> tuple[str, ...]:
    return ("gate.a-a-arm",) if arm.role == Role.AA.value else ("aa.effect", "gate.primary-test")


def _cells(pair: paired.Pair) -> tuple[str, ...]:
    return tuple(
        f"cells.{a}.{p}.{_series(m)}" for a in (pair.arm, pair.base) for p in pair.points for m in pair.metrics
    )


def _series(metric: str) -> str:
    m = METRICS[metric]
    return m.printed + (".p50" if m in DISTRIBUTIONS else "")


def test_of(case: Case, arm: ArmView) -> paired.Tested | None:
    """The test behind the arm's effect; None where there is no effect to show."""
    e = arm.effect
    if e is None or e.estimate is None:
        return None
    return _twin(case, arm, e) if arm.role == Role.AA.value else _candidate(case, arm, e)


def _candidate(case: Case, arm: ArmView, e: Effect) -> paired.Tested:
    plan, step = case.ev.plan, step_of(case, arm.id)
    c, share = step.contrasts[arm.id], step.shares[arm.id]
    group = next(g for g in plan.groups if arm.id in g)
    return _test(case, arm, e, group, c.blocks, holm=e.stated, share=share)


def step_of(case: Case, arm: str) -> Step:
    """The look that called the arm; the last one while it is open."""
    steps = [s for s in case.looks.steps if arm in s.contrasts]
    return next((s for s in steps if s.alone[arm].call is not Call.UNKNOWN), steps[-1])


def _twin(case: Case, arm: ArmView, e: Effect) -> paired.Tested:
    """The A/A arm is in every group of blocks; the one farthest from zero is shown."""
    plan = case.ev.plan
    group = plan.groups[aa_effects(plan, case.d.selection).index(e)]
    return _test(case, arm, e, group, e.blocks, holm=None, share=None)


def _test(
    case: Case, arm: ArmView, e: Effect, group: tuple[str, ...], blocks: int, *, holm: float | None, share: float | None
) -> paired.Tested:
    plan = case.ev.plan
    pair = pair_of(case, arm.id, group, blocks)
    c = contrasts(pair.y, pair.base)[arm.id]
    steps = case.looks.steps if share is not None else ()
    return paired.Tested(pair, c, e, plan.alpha, plan.margin, "a BETTER must lie beyond it", holm, share, steps)


def pair_of(case: Case, arm: str, group: tuple[str, ...], blocks: int) -> paired.Pair:
    """On the primary endpoint, over the first so many blocks of the group."""
    plan, table = case.ev.plan, primary_table(case.ev.plan, case.d.selection, group)
    y = {b: table[b] for b in sorted(table)[:blocks]}
    return paired.Pair(arm, plan.baseline.id, y, tuple(p.key for p in plan.points), plan.primary)


def nothing(case: Case, arm: ArmView) -> Story:
    """Why an arm has no effect: it is the reference, it failed, left in the race, may not be compared, or lacks blocks."""
    reference = arm.role == Role.BASELINE.value
    refused = [f"it may not be compared with {case.view.baseline}: {x}" for x in case.d.mismatches.get(arm.id, ())]
    waiting = [f"block {b} of it is open: {w}" for b, w in sorted(case.d.selection.open.items()) if arm.id in w]
    log = [f"what the engine wrote before it ended: {arm.log}"] if arm.log else []
    used = [p for r in case.rows if r["cell"] == arm.id for p in r["sources"]]
    raced = case.d.raced.get(arm.id) is not None
    first = f"{arm.id}: {arm.reason}" if reference else f"there is no number: {arm.reason}"
    return Story(
        formula=(first, *_fell(case, arm), *log, *refused, *waiting),
        values=(Value("n", arm.blocks, "whole blocks that hold it"),),
        trials=tuple(Rest(p, "counts, but there is no comparison") for p in used),
        unused=left_out(case, lambda t: t.key.arm == arm.id), files=("journal.jsonl", *([arm.log] if arm.log else [])),
        arms=(arm.id,), see=(*([f"race.{arm.id}"] if raced else []), *(f"effect.{arm.id}.block.{b.block}" for b in arm.paired)),
    )  # fmt: skip


def _fell(case: Case, arm: ArmView) -> Iterator[str]:
    """Where the journal says that the arm failed for good."""
    for e in case.ev.events:
        if e.kind == "arm_failed" and e.data.get("arm") == arm.id:
            yield f"journal.jsonl, event {e.seq}: it failed for good in phase {e.data.get('phase', 'unknown')}, at {stamp_words(e.at)}"


def predicted(case: Case, arm: ArmView) -> Story:
    low, high = arm.predicted_range or (None, None)
    e = arm.effect
    ends = [None if v is None else math.exp(v) for v in (e.lower, e.upper)] if e else [None, None]
    return Story(
        formula=(
            "inside when the range contains the whole interval, outside when none of it does, else UNKNOWN",
            f"range {shown(low)} to {shown(high)}, interval {shown(ends[0])} to {shown(ends[1])}, as ratios: {arm.scored}",
        ),
        values=(Value("low", low, "ratio, written in the plan"), Value("high", high, "ratio, written in the plan")),
        files=("plan.json",), arms=(arm.id,), see=(f"effect.{arm.id}",),
    )  # fmt: skip


def block_story(case: Case, arm: ArmView, block: int) -> Story:
    """One block alone: the paired difference that the test averages."""
    whole = pair_of(case, arm.id, case.ev.plan.group_of_block(block), len(case.d.selection.blocks))
    pair = replace(whole, y={block: whole.y[block]})
    d = next(b.log_ratio for b in arm.paired if b.block == block)
    formula = (
        f"d = y({pair.arm}) - y({pair.base}) = {shown(d)}; y = {pair.what}",
        f"ratio = exp(d) - 1 = exp({shown(d)}) - 1 = {shown(math.expm1(d))} = {printed_percent(d)}",
    )
    tables = (paired.block_table(pair), paired.measured_table(pair, case.d.selection.blocks))
    return replace(of_pair(case, pair), formula=formula, tables=tables, see=(f"effect.{arm.id}",))
