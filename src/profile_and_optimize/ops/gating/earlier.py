"""Gates of the same pair that are in the workspace already: who plans again after every look has more than one chance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.evidence.folder import is_run
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.ops.gating.document import Terms
from profile_and_optimize.ops.gating.sides import Side, pair_id

GATE = "gate.json"


def gates_in(space: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(run, document) of every gate there, oldest first. What cannot be read is no gate."""
    runs = sorted(p for p in space.iterdir() if is_run(p)) if space.is_dir() else []
    for run in runs:
        try:
            found = read_json(run / GATE) if (run / GATE).is_file() else None
        except Corrupted:
            continue
        if isinstance(found, dict) and found.get("schema") in (1, 2, 3):
            yield run.name, found


def earlier_gates(space: Path, terms: Terms, base: Side, candidate: Side) -> tuple[dict[str, Any], ...]:
    """Other plans or other answers of this pair at this tolerance. The same runs under the same plan are the same chance."""
    mine, told = pair_id(base, candidate), _chance(terms.to_json())
    found = []
    for run, gate in gates_in(space):
        asked = gate.get("asked")
        if gate.get("pair") != mine or not isinstance(asked, dict) or asked.get("tolerance") != terms.tolerance:
            continue
        if _chance(asked) != told:
            found.append({"run": run, "call": gate.get("call"), "planned": asked.get("planned")})
    return tuple(found)


def _chance(asked: dict[str, Any]) -> list[Any]:
    """What a gate's error is spent on. The floor is not among it."""
    runs = asked.get("runs")
    sides = [runs.get(name) for name in ("base", "candidate")] if isinstance(runs, dict) else []
    return [asked.get("planned"), asked.get("alpha"), sides]


def gate_of_other_mode(space: Path, base: Side, candidate: Side) -> str:
    """A gate of the same weights asked with the other form of prompt; "" where there is none."""
    for run, gate in gates_in(space):
        sides = gate.get("sides")
        if isinstance(sides, dict) and _other_mode(sides, base, candidate):
            return run
    return ""


def _other_mode(sides: dict[str, Any], base: Side, candidate: Side) -> bool:
    for name, side in (("base", base), ("candidate", candidate)):
        there = sides.get(name)
        if not isinstance(there, dict) or there.get("model_digest") != side.told.get("model_digest") or not side.known:
            return False
    return bool(sides["base"].get("chat") is (not base.told.get("chat")))
