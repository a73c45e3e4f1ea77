"""Exact match on a file of questions and answers, and the paired gate between two arms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import orjson

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.evidence.given import read_given


@dataclass(frozen=True, slots=True)
class Question:
    """`task` is the kind it belongs to, "" where the file names none."""

    question: str
    answer: str
    task: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the server said, and whether it equals the answer after trimming white space."""

    question: str
    expected: str
    said: str
    task: str = ""

    @property
    def right(self) -> bool:
        return self.said.strip() == self.expected.strip()


def load_questions(path: Path, limit: int | None = None) -> tuple[Question, ...]:
    """Lines of {"question", "answer"}, and "task" or "kind" where there are several. Raises WrongUse naming file and line."""
    found = []
    for number, line in enumerate(read_given(path).splitlines(), start=1):
        try:
            row = orjson.loads(line)  # refuses what no text can hold, half surrogates among it
            task = row.get("task") or row.get("kind") or ""
            found.append(Question(str(row["question"]), str(row["answer"]), str(task)))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise WrongUse(
                "not a question with its answer", where=f"{path}:{number}", next='{"question": "...", "answer": "..."}'
            ) from e
    if not found:
        raise WrongUse("no questions", where=str(path), next="give a JSONL file of questions")
    return tuple(found[:limit])


def answer_all(
    questions: Sequence[Question], ask: Callable[[str], str], *, concurrency: int = 8
) -> tuple[Answered, ...]:
    """Every question once, `concurrency` at a time, in the order given. What `ask` raises goes through."""
    with ThreadPoolExecutor(concurrency) as pool:
        said = list(pool.map(lambda q: ask(q.question), questions))
    return tuple(Answered(q.question, q.answer, s, q.task) for q, s in zip(questions, said, strict=True))
