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
    """`task` is the kind it belongs to, "" where the file names none; `cluster` joins questions that may flip together (of one
    passage, of one template), "" where none is declared."""

    question: str
    answer: str
    task: str = ""
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the server said, and whether it equals the answer after trimming white space."""

    question: str
    expected: str
    said: str
    task: str = ""
    cluster: str = ""

    @property
    def right(self) -> bool:
        return self.said.strip() == self.expected.strip()


def load_questions(path: Path, limit: int | None = None) -> tuple[Question, ...]:
    """Lines of {"question", "answer"}, "task" or "kind" where there are several, "cluster" where questions may flip together.

    Raises WrongUse naming file and line: no such line, a cluster that is no name, a question that stands twice with another
    answer or in another cluster."""
    found: list[Question] = []
    first: dict[str, tuple[int, Question]] = {}
    for number, line in enumerate(read_given(path).splitlines(), start=1):
        where = f"{path}:{number}"
        question = _question(line, where)
        before, same = first.setdefault(question.question, (number, question))
        _require_agreeing(question, same, before, where)
        found.append(question)
    if not found:
        raise WrongUse("no questions", where=str(path), next="give a JSONL file of questions")
    return tuple(found[:limit])


def _question(line: bytes, where: str) -> Question:
    try:
        row = orjson.loads(line)  # refuses what no text can hold, half surrogates among it
        task = row.get("task") or row.get("kind") or ""
        question, answer = str(row["question"]), str(row["answer"])
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise WrongUse(
            "not a question with its answer", where=where, next='{"question": "...", "answer": "..."}'
        ) from e
    cluster = row.get("cluster", "")
    if "cluster" in row and not (isinstance(cluster, str) and cluster.strip()):
        raise WrongUse(
            f"cluster must be a name in text, got {str(cluster)[:40]!r}", where=where,
            next='"cluster": "NAME", the same for all questions that may flip together; leave it out for a question alone',
        )  # fmt: skip
    return Question(question, answer, str(task), cluster.strip())


def _require_agreeing(question: Question, same: Question, before: int, where: str) -> None:
    """The same text asks the same."""
    if question.answer.strip() != same.answer.strip():
        raise WrongUse(
            f"the question of line {before} again, with another answer ({question.answer[:40]!r}, there {same.answer[:40]!r})",
            where=where, next="correct one of the two, or remove it",
        )  # fmt: skip
    if question.cluster != same.cluster:
        raise WrongUse(
            f"the question of line {before} again, in another cluster ({question.cluster!r}, there {same.cluster!r})",
            where=where, next="give both the same cluster, or remove one",
        )  # fmt: skip


def answer_all(
    questions: Sequence[Question], ask: Callable[[str], str], *, concurrency: int = 8
) -> tuple[Answered, ...]:
    """Every question once, `concurrency` at a time, in the order given. What `ask` raises goes through."""
    with ThreadPoolExecutor(concurrency) as pool:
        said = list(pool.map(lambda q: ask(q.question), questions))
    return tuple(Answered(q.question, q.answer, s, q.task, q.cluster) for q, s in zip(questions, said, strict=True))
