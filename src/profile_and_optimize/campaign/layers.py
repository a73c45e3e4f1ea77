"""What each arm was to serve with, written down at admission, and the kernels that the logs of its servers name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.engines.formats import format_of
from profile_and_optimize.engines.kernels import Asked, Layers, Log, layers_of
from profile_and_optimize.evidence.reading import read_bytes

SERVES = "serves"


@dataclass(frozen=True)
class Served:
    """One arm: what was asked of its engine, and every group of layers as its logs have it."""

    asked: Asked
    layers: tuple[Layers, ...]


def log_of(arm: str, label: str) -> str:
    """Where the log of one session of an arm lies in its run."""
    return f"cells/{arm}/raw/log-{label}.txt"


def serves(plan: Plan, arm: Arm, version: Mapping[str, str]) -> dict[str, Any]:
    """What `verify` cannot look up later, for a campaign that compares checkpoints: in which format the weights of an arm
    are, and which release serves them."""
    if not _compares_checkpoints(plan):
        return {}
    return {SERVES: {"format": format_of(plan.model_of(arm)), "engine_version": version.get("engine_version", "")}}


def _compares_checkpoints(plan: Plan) -> bool:
    return any(a.checkpoint for a in plan.all_arms)


def served_of(
    run: Path, plan: Plan, paths: Iterable[str], admissions: Mapping[str, Mapping[str, Any]]
) -> dict[str, Served]:
    """Of the arms of a campaign that compares checkpoints; none where admission did not write down what they serve."""
    if not _compares_checkpoints(plan):
        return {}
    paths = tuple(paths)
    out = {}
    for arm in plan.all_arms:
        told = admissions.get(arm.id, {}).get(SERVES)
        if isinstance(told, dict):
            asked = Asked(
                arm.engine, str(told["engine_version"]), str(told["format"]), (*plan.common_flags, *arm.flags)
            )
            out[arm.id] = read_served(
                run, asked, [p for p in paths if p.startswith(log_of(arm.id, "")[: -len(".txt")])]
            )
    return out


def read_served(run: Path, asked: Asked, logs: Iterable[str]) -> Served:
    """`logs` are paths in the run."""
    return Served(asked, layers_of(asked, [Log(p, read_bytes(run / p).decode(errors="replace")) for p in sorted(logs)]))
