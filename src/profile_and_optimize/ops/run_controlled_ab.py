"""pao run_controlled_ab: one change against the baseline for a claim on latency, judged by the median TPOT."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

from pydantic import Field

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.opens import FLAGS
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.drafting import TuneRequest, measures
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.run_variant_ab import variants
from profile_and_optimize.ops.started import Started


class ControlledRequest(TuneRequest):
    focus: Literal["latency"] = Field(
        default="latency", description=says("focus", "latency alone: output tok/s is not evidence for it")
    )
    engine: str = Field(default="vllm", description=says("engine", "of both variants"))
    flags: Annotated[str, FLAGS] = Field(default="", description="flags that the candidate adds, written as in a shell")
    env: Annotated[str, FLAGS] = Field(
        default="", description="environment settings that the candidate adds: NAME=VALUE"
    )
    engine_flags: Annotated[str, FLAGS] = Field(default="", description=says("engine_flags", "of both variants"))
    lever: str = Field(default="", description="what is changed, in words")


def run(req: ControlledRequest, say: Say) -> Result:
    return variants(req, arms_of(req), "run_controlled_ab", say)


def arms_of(req: ControlledRequest) -> tuple[Arm, ...]:
    """Baseline, A/A arm and the candidate. Raises WrongUse when it changes nothing."""
    try:
        base, more, env = (tuple(shlex.split(text)) for text in (req.engine_flags, req.flags, req.env))
    except ValueError as e:
        raise WrongUse(f"not written as in a shell: {e}", where="--flags", next="close the quotes") from e
    nameless = [text for text in env if "=" not in text]
    if nameless:
        raise WrongUse(f"{nameless[0][:40]!r} is not NAME=VALUE", where="--env", next="--env 'NAME=VALUE'")
    settings = tuple(sorted((name, value) for name, _, value in (s.partition("=") for s in env)))
    if not (more or settings):
        raise WrongUse("the candidate changes nothing", where="--flags", next="--flags '--no-async-scheduling'")
    says = req.lever or " ".join((*more, *env))
    return (
        Arm("baseline", req.engine, Role.BASELINE, base),
        Arm("baseline-again", req.engine, Role.AA, base),
        Arm("candidate", req.engine, Role.CANDIDATE, (*base, *more), settings, lever=says),
    )


OP = Op(
    "run_controlled_ab", "One change against the baseline on this node, for a claim on latency: median TPOT over restarted blocks.",
    Safety.SUBMITS_JOBS, ControlledRequest, run, mcp_name="run_controlled_ab", acts=measures,
    started=lambda req: Started(arms_of(req)),
    examples=("pao run_controlled_ab --model ./my-model --engine vllm --flags '--enforce-eager'",),
)  # fmt: skip
