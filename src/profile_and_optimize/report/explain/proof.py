"""The proof of the pick taken apart: what each block gave, and how the signs were counted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from profile_and_optimize.analysis.decide import used_trials
from profile_and_optimize.campaign.proof import Proof
from profile_and_optimize.evidence.trialfile import trial_path
from profile_and_optimize.report.explain.number import Case, Number, Place, Rest, Story, Table, Value
from profile_and_optimize.report.words import percent
from profile_and_optimize.stats.proof import LOSS, WIN

CHOICE = "champion_select.json"


def proof(case: Case) -> Iterator[Number]:
    found = case.d.proof
    if found is None:
        return
    tell, s = partial(_story, case, found), found.signs
    yield Number("proof.above_margin", f"{s.wins} of {s.blocks}", f"blocks of {found.pick}'s proof above the margin", tell,
                 _stored("above_margin", s.wins))  # fmt: skip
    yield Number(
        "proof.e_value",
        f"{s.e_value:.3g}",
        "what betting on every block has made of 1",
        tell,
        _stored("e_value", s.e_value),
    )
    for name, value in (("estimate", s.mean), ("lower", s.lower), ("upper", s.upper)):
        if value is not None:
            yield Number(f"proof.{name}", percent(value), f"{name} of {found.pick} over the proof's blocks", tell,
                         _stored(name, math.expm1(value)))  # fmt: skip
    for block, d in sorted(found.differences.items()):
        yield Number(f"proof.block.{block}", percent(d), f"block {block} of the proof", tell,
                     (Place(CHOICE, ("proof", "by_block", str(block)), math.expm1(d)),), fine=True)  # fmt: skip


def _stored(key: str, value: Any) -> tuple[Place, ...]:
    return (Place(CHOICE, ("proof", key), value),)


def _story(case: Case, found: Proof) -> Story:
    s, plan = found.signs, found.plan
    twin, aa = plan.pick_twin, plan.twin
    names = tuple(a.id for a in (plan.baseline, aa, plan.arm(found.pick), twin) if a is not None)
    rows = tuple(
        (b, d, d - s.edge, *(v for (block, _), v in sorted(found.sessions.items()) if block == b))
        for b, d in sorted(found.differences.items())
    )
    half = None if s.lower is None or s.mean is None else s.mean - s.lower
    return Story(
        formula=(
            f"d = mean of {found.pick} and its twin - mean of baseline and A/A arm, of the primary endpoint, block by block",
            f"a block counts as above when d - log(1 + margin) is above 0 by more than the metric's resolution: {s.wins} of {s.blocks}",
            f"e = {WIN:g}^{s.wins} * {LOSS:g}^{s.losses} = {s.e_value:.6g}; it proves the median from {s.enough:g} on",
            f"interval: mean of d -+ t({s.measured - 1}, {s.level:g}) * sd / sqrt({s.measured}), from above the margin on",
        ),
        values=(
            Value("mean", s.mean, "log ratio"), Value("half", half, "half width, log ratio"),
            Value("edge", s.edge, "log(1 + margin)"), Value("e", s.e_value, f"at least {s.enough:g} proves it"),
        ),
        tables=(Table("Blocks of the proof, log ratios", ("block", "d", "d - edge", "pick", "twin"), rows),),
        trials=tuple(Rest(trial_path(t.key), f"block {t.key.block}") for t in used_trials(found.selection)
                     if t.key.block in found.differences and t.key.arm in names),
        files=("plan.json", "journal.jsonl"), arms=names[:1], see=("gate.proof-of-the-pick", f"effect.{found.pick}"),
    )  # fmt: skip
