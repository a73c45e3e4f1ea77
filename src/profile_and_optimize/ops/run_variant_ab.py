"""pao run_variant_ab: the arms of a table, vLLM and SGLang alike, measured by one client in shared blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.opens import ARMS
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.drafting import TuneRequest, checked, draft, measure, measures
from profile_and_optimize.ops.model import check_model
from profile_and_optimize.ops.started import Started
from profile_and_optimize.ops.worlds import checked_engines, make_world
from profile_and_optimize.optimize.arms_tsv import MOST_BYTES, parse_arms, several_levers


class VariantRequest(TuneRequest):
    arms: Annotated[str, ARMS] = Field(
        description="arms.tsv: arm, engine, flags, env, lever; the first row per engine is its baseline"
    )


def run(req: VariantRequest, say: Say) -> Result:
    path, arms = Path(req.arms), arms_in(req)
    notes = tuple(several_levers(arms))
    for note in notes:
        say(note)
    found = variants(req, arms, f"run_variant_ab {path.name}", say)
    return Result(found.data, found.text, (*found.warnings, *notes), found.refusal)


def arms_in(req: VariantRequest) -> tuple[Arm, ...]:
    path = Path(req.arms)
    return parse_arms(read_given(path, MOST_BYTES), path.name)


def variants(req: TuneRequest, arms: tuple[Arm, ...], how: str, say: Say) -> Result:
    engines = checked_engines(",".join(a.engine for a in arms))
    model = checked(req.model, engines)
    arms = tuple(replace(a, checkpoint=check_model(a.checkpoint)) if a.checkpoint else a for a in arms)
    world = make_world(engines, say, req.engine_python, allowed=req.allowance)
    return measure(req, draft(req, model, arms, world), world, how)


OP = Op(
    "run_variant_ab", "Measure the arms of an arms.tsv, across engines too: one client, one champion.", Safety.SUBMITS_JOBS,
    VariantRequest, run, positional=("arms",), mcp_name="run_variant_ab", acts=measures,
    started=lambda req: Started(arms_in(req)),
    examples=("pao run_variant_ab arms.tsv --model ./my-model --budget-minutes 60",),
)  # fmt: skip
