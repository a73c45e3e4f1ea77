"""What the kept records of a checkpoint prove: that it is the campaign's model, wholly quantized, and reads back as it was.
Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from profile_and_optimize.analysis.gates import Gate
from profile_and_optimize.core.context import UNKNOWN
from profile_and_optimize.core.plan import Plan

NAME = "checkpoint proven"
Kept = Mapping[str, Any]


def checkpoint_gate(pick: str, plan: Plan, kept: Mapping[str, Kept]) -> Gate:
    """Passes for the model itself, and for a checkpoint made of it whose coverage and round trip passed. One of a vendor
    leaves it open: nothing of ours saw it made."""
    arm = plan.arm(pick)
    if not arm.checkpoint:
        return Gate(NAME, True, "the pick serves the model itself")
    found = kept.get(pick)
    if found is None:
        return Gate(NAME, None, f"no record of {arm.checkpoint} was kept")
    wrong = _contradictions(plan, found)
    if wrong:
        return Gate(NAME, False, "; ".join(wrong))
    open_ = _open(found)
    if open_:
        return Gate(NAME, None, "; ".join(open_))
    return Gate(NAME, True, f"made of this model; coverage and round trip passed ({kl_words(found)})")


def _contradictions(plan: Plan, found: Kept) -> list[str]:
    base = base_digest(found)
    other = base != UNKNOWN and plan.model_digest != "unknown" and base != plan.model_digest
    told = [f"made of another model ({base[:19]}..., not {plan.model_digest[:19]}...)"] if other else []
    return told + [f"its {name} did not pass" for name in ("coverage", "roundtrip") if passed(found, name) is False]


def _open(found: Kept) -> list[str]:
    told = ["it does not say what it was made of" if base_digest(found) == UNKNOWN else ""]
    told += [f"no {name} was recorded" if passed(found, name) is None else "" for name in ("coverage", "roundtrip")]
    return [t for t in told if t]


def base_digest(found: Kept) -> str:
    """Of the model that the checkpoint was made of; "unknown" where its maker left no record."""
    job = record(found, "quantize.json").get("job", {})
    return str(job.get("base_digest") or UNKNOWN)


def passed(found: Kept, name: str) -> bool | None:
    value = record(found, f"{name}.json").get("passed")
    return value if isinstance(value, bool) else None


def record(found: Kept, name: str) -> Mapping[str, Any]:
    value = found.get("records", {}).get(name)
    return value if isinstance(value, dict) else {}


def kl_words(found: Kept) -> str:
    """How far the reloaded checkpoint's answers are from the base model's."""
    kl = record(found, "roundtrip.json").get("kl_base", {}).get("reloaded")
    return f"KL to the base {kl:.2g}" if isinstance(kl, int | float) else "KL to the base unknown"


def format_words(found: Kept) -> str:
    """What engines take it for: its method with the algorithm or format."""
    told = found.get("checkpoint", {})
    method, algo = str(told.get("quant_method") or UNKNOWN), str(told.get("algo") or UNKNOWN)
    return method if algo == UNKNOWN else f"{method} {algo}"
