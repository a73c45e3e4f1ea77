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


def checkpoint_gate(pick: str, plan: Plan, kept: Mapping[str, Kept], jobs: Mapping[str, Kept]) -> Gate:
    """Passes for the model itself, and for a checkpoint made of it, by the job that this run kept where it kept one, whose
    checks all passed on these very weights. One of a vendor leaves it open: nothing of ours saw it made."""
    arm = plan.arm(pick)
    if not arm.checkpoint:
        return Gate(NAME, True, "the pick serves the model itself")
    found = kept.get(pick)
    if found is None:
        return Gate(NAME, None, f"no record of {arm.checkpoint} was kept")
    wrong = _contradictions(plan, found, next((jobs[a] for a in plan.sharing(arm) if a in jobs), None))
    if wrong:
        return Gate(NAME, False, "; ".join(wrong))
    open_ = _open(plan, found)
    if open_:
        return Gate(NAME, None, "; ".join(open_))
    return Gate(NAME, True, f"made of this model; coverage and round trip passed ({kl_words(found)})")


def _contradictions(plan: Plan, found: Kept, job: Kept | None) -> list[str]:
    base, told = base_digest(found), []
    if UNKNOWN not in (base, plan.model_digest) and base != plan.model_digest:
        told.append(f"made of another model ({base[:19]}..., not {plan.model_digest[:19]}...)")
    if job is not None and job.get("job_digest") != _job(found).get("job_digest"):
        told.append("not made by the job that this run asked for")
    read = record(found, "roundtrip.json").get("weights_sha256")
    if read is not None and read != found.get("weights_sha256"):
        told.append("its round trip read other weights than those that were served")
    seen, there = record(found, "coverage.json").get("files"), found.get("files")
    if isinstance(seen, dict) and isinstance(there, dict):
        odd = sorted(n for n in {*seen, *there} - {"coverage.json"} if seen.get(n) != there.get(n))
        told += [f"its checks saw another {odd[0]} than was admitted ({len(odd)} files in all)"] if odd else []
    return told + [f"its {name} did not pass" for name in ("coverage", "roundtrip") if passed(found, name) is False]


def _open(plan: Plan, found: Kept) -> list[str]:
    told = ["it does not say what it was made of" if base_digest(found) == UNKNOWN else ""]
    told += ["what the campaign's own model holds is unknown" if plan.model_digest == UNKNOWN else ""]
    told += [f"no {name} was recorded" if passed(found, name) is None else "" for name in ("coverage", "roundtrip")]
    told += [
        "which files its checks saw is unknown"
        if "files" in found and not record(found, "coverage.json").get("files")
        else ""
    ]
    told += [
        "which weights its round trip read is unknown"
        if not record(found, "roundtrip.json").get("weights_sha256")
        else ""
    ]
    return [t for t in told if t]


def base_digest(found: Kept) -> str:
    """Of the model that the checkpoint was made of; "unknown" where its maker left no record."""
    return str(_job(found).get("base_digest") or UNKNOWN)


def _job(found: Kept) -> Mapping[str, Any]:
    job = record(found, "quantize.json").get("job")
    return job if isinstance(job, dict) else {}


def passed(found: Kept, name: str) -> bool | None:
    """By every single check where the record lists them: the word above them is theirs to bear out."""
    told = record(found, f"{name}.json")
    value, checks = told.get("passed"), told.get("checks")
    if name == "coverage" and value is True:
        every = (
            isinstance(checks, list) and checks and all(isinstance(c, dict) and c.get("passed") is True for c in checks)
        )
        return bool(every)
    return value if isinstance(value, bool) else None


def record(found: Kept, name: str) -> Mapping[str, Any]:
    value = found.get("records", {}).get(name)
    return value if isinstance(value, dict) else {}


def kl_words(found: Kept) -> str:
    """How far the reloaded checkpoint's answers are from the base model's."""
    kl = kl_base(found).get("reloaded")
    return f"KL to the base {kl:.2g}" if isinstance(kl, int | float) else "KL to the base unknown"


def kl_base(found: Kept) -> Mapping[str, Any]:
    """Of the very weights that were served: a round trip of others, beside a vendor's checkpoint or after a change, says nothing
    of these. Records from before `weights_sha256` was kept name no weights at all."""
    trip = record(found, "roundtrip.json")
    value, own = trip.get("kl_base"), found.get("weights_sha256")
    return value if isinstance(value, dict) and own in (None, trip.get("weights_sha256")) else {}


def format_words(found: Kept) -> str:
    """What engines take it for: its method with the algorithm or format."""
    told = found.get("checkpoint", {})
    method, algo = str(told.get("quant_method") or UNKNOWN), str(told.get("algo") or UNKNOWN)
    return method if algo == UNKNOWN else f"{method} {algo}"
