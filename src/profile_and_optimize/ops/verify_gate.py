"""What verify looks at in a run of `pao accuracy_gate`: the gate follows from the copies of the evaluations beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.evidence.reading import read_bytes, strict_json
from profile_and_optimize.ops.evaluation.keep import ANSWERS, EVALUATION, SAMPLES
from profile_and_optimize.ops.gating.document import SCHEMA, Terms, encoded, gate_document, terms_of
from profile_and_optimize.ops.gating.earlier import GATE
from profile_and_optimize.ops.gating.sides import Side, read_side, require_comparable
from profile_and_optimize.ops.verify_evaluation import look as look_at_evaluation
from profile_and_optimize.ops.verifying.meaning import same_to_nine_digits

# Everything in such a run is evidence.
DERIVED: dict[str, str] = {}


def look(run: Path) -> tuple[list[str], dict[str, Any]]:
    """Problems as lines, and what was checked. Raises Corrupted for what cannot be read."""
    there = read_bytes(run / GATE)
    terms, schema = _terms(there)
    sides = {
        name: _side(run, name) for name in ("base", "candidate", "floor") if name != "floor" or "floor" in terms.runs
    }
    base, candidate, floor = sides["base"], sides["candidate"], sides.get("floor")
    problems = [f"{name}: {line}" for name in sides for line in look_at_evaluation(run / name)[0]]
    try:
        require_comparable(base, candidate, floor)
    except WrongUse as e:
        problems.append(f"{GATE}: {e.message}")
        return problems, {}
    if any(side.told["schema"] > schema for side in sides.values()):
        problems.append(f"{GATE}: of schema {schema}, over evaluations that record more than it looked at")
    again = gate_document(terms, base, candidate, floor, schema)
    if there != encoded(again) and not same_to_nine_digits(GATE, there, encoded(again)):
        problems.append(f"{GATE}: not what the samples give")
    return problems, {
        "call": again["call"],
        "tier": again["tier"],
        "questions": len(base.samples),
        "tasks": len(base.tasks),
        "assumes": again["clusters"]["assumes"] if schema != 1 else "",
    }


def words(facts: dict[str, Any]) -> list[str]:
    told = (
        f"an accuracy gate: {facts['questions']} questions of {facts['tasks']} tasks, computed again from the samples"
    )
    assumed = facts["assumes"] or "of a format from before clusters: every question counts as independent of all others"
    return [told, f"{facts['call']}, {facts['tier']}", assumed]


def _terms(there: bytes) -> tuple[Terms, int]:
    try:
        told = strict_json(there)
        if type(told["schema"]) is not int or not 1 <= told["schema"] <= SCHEMA:
            raise ValueError(f"schema {told['schema']!r} is not 1 to {SCHEMA}")
        return terms_of(told["asked"]), told["schema"]
    except (ValueError, TypeError, KeyError) as e:
        raise Corrupted(f"not a gate: {e}", where=GATE, next="pao accuracy_gate again") from e


def _side(run: Path, name: str) -> Side:
    return read_side(run / name / EVALUATION, run / name / SAMPLES, run / name / ANSWERS)
