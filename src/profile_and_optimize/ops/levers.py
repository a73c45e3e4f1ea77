"""pao levers: what optimize would try here, and what it would not and why."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from profile_and_optimize.core.opens import MODEL
from profile_and_optimize.ops.acts import reads
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.node import facts
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.worlds import ENGINE_PYTHON, checked_engines, make_world
from profile_and_optimize.optimize.levers import Found, Lever, find_levers


class LeversRequest(Request):
    engines: str = Field(default="vllm", description=says("engines"))
    model: Annotated[str | None, MODEL] = Field(
        default=None, description=says("model", "without it nothing is known of its experts")
    )
    engine_python: Annotated[str | None, ENGINE_PYTHON] = Field(default=None, description=says("engine_python"))


def run(req: LeversRequest, say: Say) -> Result:
    engines = checked_engines(req.engines)
    world = make_world(engines, say, req.engine_python)
    found = {
        e: find_levers(e, facts(world, e, req.model or ""), world.engine(e).flags()) for e in engines
    }  # fmt: skip
    data = {e: {"here": [_json(lv) for lv in f.here], "skipped": dict(f.skipped)} for e, f in found.items()}
    return Result({"engines": data}, "\n".join(line for e, f in found.items() for line in _lines(e, f)))


def _json(lever: Lever) -> dict[str, Any]:
    return {
        "lever": lever.id, "says": lever.says, "predicts": lever.predicts, "flags": list(lever.flags), "env": dict(lever.env),
        "predicted": {focus: list(span) for focus, span in lever.predicted}, "needs": list(lever.needs),
    }  # fmt: skip


def _lines(engine: str, found: Found) -> list[str]:
    here = [f"  {lv.id:<24} {lv.says}" for lv in found.here] or ["  none"]
    skipped = [f"  {name:<24} skipped: {why}" for name, why in found.skipped]
    return [f"{engine}:", *here, *skipped]


OP = Op(
    "levers", "List the levers per engine: those that exist here, and the others with the reason.", Safety.READ_ONLY, LeversRequest, run,
    mcp_name="levers", acts=reads, examples=("pao levers --engines vllm",),
)  # fmt: skip
