"""The texts of the questions of an evaluation, by which near-duplicates among them are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import Corrupted
from profile_and_optimize.evals.samples import Sample
from profile_and_optimize.evidence.reading import read_bytes, strict_json

Texts = dict[tuple[str, str], str]


def read_texts(told: dict[str, Any], samples: tuple[Sample, ...], answers: Path) -> Texts | None:
    """Task and id to the question's own text. None for a record of schema 1 that shows examples or has no answers beside it: its
    texts were kept only within all that was sent. Raises Corrupted naming file and line, or the question that is missing."""
    first = told["schema"] == 1
    if first and (not answers.is_file() or any(row.get("fewshot") for row in told["tasks"])):
        return None
    found = _rows(answers, "asked" if first else "question")
    missing = [s for s in samples if (s.task, s.id) not in found]
    if missing and first:
        return None
    if missing or len(found) != len(samples):
        lack = f"{missing[0].task} {missing[0].id} is missing" if missing else "it has more questions than the samples"
        raise Corrupted(
            f"its questions are not those of the samples: {lack}", where=str(answers), next="evaluate again"
        )
    return found


def _rows(path: Path, field: str) -> Texts:
    found: Texts = {}
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        try:
            row = strict_json(line)
            key, text = (row["task"], row["id"]), row[field]
            if type(text) is not str or key in found:
                raise ValueError(f"no text in {field!r}" if key not in found else "this question appears twice")
            found[key] = text
        except (ValueError, TypeError, KeyError, AttributeError) as e:
            raise Corrupted(f"not an answer: {e}", where=f"{path}:{number}", next="evaluate again") from e
    return found
