"""What an evaluation leaves in its run folder, and how its parts are called."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from profile_and_optimize.evals.base import Failed, Outcome, Shown, TaskRun, Wanted
from profile_and_optimize.evals.samples import Sample, by_task, encode_samples, questions_digest, scored
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.manifest import write_manifest

PRODUCER = "evaluate"
SCHEMA = 3
SCHEMAS = (1, 2, 3)
EVALUATION, SAMPLES, ANSWERS = "evaluation.json", "raw/samples.jsonl", "raw/answers.jsonl"
CONTROL_SAMPLES = "raw/control_samples.jsonl"
LOG_BYTES = 200_000
# Scores that are plain equality of answer and expected one are computed again by verify; others are lm-eval's word.
EQUAL, LM_EVAL = "equality", "lm-eval"


def task_row(run: TaskRun, wanted: Sequence[Wanted]) -> dict[str, Any]:
    """What is said of one task. None is unknown."""
    mine = next((w for w in wanted if w.name == run.wanted), None)
    return {
        "task": run.task, "metric": run.metric, **numbers(run.samples), "scored_by": scored_by(run.samples),
        "kind": run.kind, "fewshot": run.fewshot, "version": run.version, "source": mine.source if mine else None,
        "own_questions": bool(mine and mine.questions), "of": run.of,
    }  # fmt: skip


def numbers(samples: Sequence[Sample], schema: int = SCHEMA) -> dict[str, Any]:
    """What follows from the samples alone; verify computes it again. Before schema 3 nobody kept how an answer ended."""
    found = scored(samples)
    unfinished = {"cut": sum(s.cut for s in samples), "unknown": sum(s.mean is None for s in samples)}
    return {
        **(unfinished if schema >= 3 else {}),
        "n": len(samples), "score": found.score if found else None, "lower": found.lower if found else None,
        "upper": found.upper if found else None, "questions_sha256": questions_digest(samples),
    }  # fmt: skip


def scored_by(samples: Sequence[Sample]) -> str:
    return EQUAL if all(s.scores == tuple(map(float, s.equal)) for s in samples) else LM_EVAL


def control_rows(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    return [{"task": task, **numbers(those)} for task, those in by_task(samples).items()]


def limited(tasks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Which questions were asked of the tasks that were not asked whole."""
    return [
        f"{r['task']}: the first {r['n']} of {r['of']} questions, in the order of its data"
        for r in tasks
        if type(r.get("of")) is int and r["n"] < r["of"]
    ]


def failed_row(f: Failed) -> dict[str, str]:
    return {"task": f.task, "code": f.code, "message": f.message, "next": f.next}


def samples_of(outcome: Outcome) -> tuple[Sample, ...]:
    return tuple(s for run in outcome.runs for s in run.samples)


def shown_lines(runs: Iterable[TaskRun]) -> bytes:
    rows = (_shown(s) for run in runs for s in run.shown)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _shown(s: Shown) -> dict[str, Any]:
    return {"task": s.task, "id": s.id, "asked": s.asked, "answers": list(s.answers), "question": s.question}


def keep(folder: RunFolder, evaluation: Mapping[str, Any], outcome: Outcome, control: Outcome | None) -> None:
    """Every file of the run but its logs, and the manifest over all of them."""
    inputs = [SAMPLES]
    folder.write(SAMPLES, encode_samples(samples_of(outcome)), producer=PRODUCER)
    folder.write(ANSWERS, shown_lines(outcome.runs), producer=PRODUCER)
    if control is not None:
        folder.write(CONTROL_SAMPLES, encode_samples(samples_of(control)), producer=PRODUCER)
        inputs.append(CONTROL_SAMPLES)
    folder.write_json(EVALUATION, dict(evaluation), producer=PRODUCER, inputs=tuple(inputs))
    write_manifest(folder.path, {})


def keep_log(folder: RunFolder, name: str, text: str) -> None:
    """The end of a log, in whole lines; the text comes without credentials."""
    if text:
        end = text if len(text) <= LOG_BYTES else text[-LOG_BYTES:].partition("\n")[2]
        folder.write(f"raw/{name}", end.encode("utf-8", "replace"), producer=PRODUCER)


def read_text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
