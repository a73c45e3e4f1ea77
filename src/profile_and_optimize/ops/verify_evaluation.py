"""What verify looks at in a run of `pao evaluate`: every number of evaluation.json follows from the samples, every score
that is plain equality from the answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.evals.conversation import conversation_of
from profile_and_optimize.evals.pao_eval.sampling import wrong_pins
from profile_and_optimize.evals.samples import Sample, by_task, read_samples
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.ops.evaluation.keep import (
    ANSWERS,
    CONTROL_SAMPLES,
    EQUAL,
    EVALUATION,
    LM_EVAL,
    SAMPLES,
    SCHEMAS,
    numbers,
)
from profile_and_optimize.ops.gating.texts import read_texts

# Everything in such a run is evidence.
DERIVED: dict[str, str] = {}


def look(run: Path) -> tuple[list[str], dict[str, Any]]:
    """Problems as lines, and what was checked. Raises Corrupted for what cannot be read."""
    told = read_json(run / EVALUATION)
    if not isinstance(told, dict) or type(told.get("schema")) is not int or told["schema"] not in SCHEMAS:
        raise Corrupted("not an evaluation of schema 1, 2 or 3", where=EVALUATION, next="evaluate again")
    read = read_samples(run / SAMPLES)
    samples = by_task(read)
    rows = _rows(told.get("tasks"), EVALUATION)
    read_texts(told, read, run / ANSWERS)
    schema = told["schema"]
    problems = [*_rows_differ(rows, samples, schema, EVALUATION), *_scores_differ(rows, samples)]
    problems += _asked_differs(told, rows, samples) if schema >= 3 else []
    control = told.get("control")
    if isinstance(control, dict) and "tasks" in control:
        again = by_task(read_samples(run / CONTROL_SAMPLES))
        problems += _rows_differ(_rows(control["tasks"], "control"), again, schema, f"{EVALUATION} control")
    return problems, _facts(samples, rows)


def words(facts: dict[str, Any]) -> list[str]:
    told = [
        f"an evaluation: {facts['questions']} questions of {facts['tasks']} tasks, scores computed again from the samples"
    ]
    if facts["by_equality"]:
        told.append(f"scores of {', '.join(facts['by_equality'])} follow from the answers and what was expected")
    if facts["by_lm_eval"]:
        told.append(f"scores of {', '.join(facts['by_lm_eval'])} are lm-eval's word, question by question")
    return told


def _rows(found: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(r, dict) for r in found):
        raise Corrupted("its tasks are not a list of objects", where=where, next="evaluate again")
    return found


def _rows_differ(
    rows: list[dict[str, Any]], samples: dict[str, tuple[Sample, ...]], schema: int, where: str
) -> Iterator[str]:
    names = [r.get("task") for r in rows]
    if names != list(samples):
        yield f"{where}: its tasks are not those of the samples, in their order"
        return
    for row in rows:
        for field, value in numbers(samples[row["task"]], schema).items():
            if not _same(row.get(field), value):
                yield f"{where}: {row['task']}: {field} is {row.get(field)!r}, the samples give {value!r}"


def _same(one: Any, two: Any) -> bool:
    """Numbers to nine digits: another machine's mathematics rounds the last ones differently."""
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=1e-9, abs_tol=1e-15)
    return type(one) is type(two) and bool(one == two)


def _scores_differ(rows: list[dict[str, Any]], samples: dict[str, tuple[Sample, ...]]) -> Iterator[str]:
    for row in rows:
        how, name = row.get("scored_by"), row.get("task")
        if how not in (EQUAL, LM_EVAL):
            yield f"{EVALUATION}: {name}: scored by {how!r}, which is neither {EQUAL} nor {LM_EVAL}"
        if how == EQUAL and isinstance(name, str):
            wrong = [s for s in samples.get(name, ()) if s.scores != tuple(map(float, s.equal))]
            yield from (f"{SAMPLES}: {name} {s.id}: its scores are not what its answers give" for s in wrong)


def _asked_differs(
    told: dict[str, Any], rows: list[dict[str, Any]], samples: dict[str, tuple[Sample, ...]]
) -> Iterator[str]:
    """How the questions were asked: what the record says of it holds together."""
    generated = {r.get("task") for r in rows if r.get("kind") == "generate_until"}
    for task in sorted(str(t) for t in generated & samples.keys()):
        without = sum(not s.finish for s in samples[task])
        if without:
            yield f"{SAMPLES}: {task}: how {without} answers ended is missing"
    for row in rows:
        of, n = row.get("of"), row.get("n")
        if type(of) is not int or type(n) is not int or not n <= of:
            yield f"{EVALUATION}: {row.get('task')}: {n!r} questions were asked of {of!r}"
        if row.get("own_questions") is True and row.get("scored_by") != EQUAL:
            yield f"{EVALUATION}: {row.get('task')}: questions of a file are scored by equality"
    if told.get("asked_by") is not None:
        yield from _conversation_differs(told["asked_by"])
    if generated:
        sampling: dict[str, Any] = told.get("sampling") or {}
        lines = wrong_pins(told.get("pins"), sampling.get("temperature"), sampling.get("seed"))
        yield from (f"{EVALUATION}: pins: {line}" for line in lines)


def _conversation_differs(raw: Any) -> Iterator[str]:
    try:
        conversation_of(raw)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        yield f"{EVALUATION}: asked_by: {e}"


def _facts(samples: dict[str, tuple[Sample, ...]], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "questions": sum(map(len, samples.values())), "tasks": len(samples),
        "by_equality": [r["task"] for r in rows if r.get("scored_by") == EQUAL],
        "by_lm_eval": [r["task"] for r in rows if r.get("scored_by") == LM_EVAL],
    }  # fmt: skip
