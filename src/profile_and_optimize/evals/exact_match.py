"""Exact match on a file of questions and answers, and the paired gate between two arms."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.finish import bad_reason
from profile_and_optimize.evals.pao_eval.ending import CUT
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.evidence.reading import strict_json

LINE = 'a line is {"question": "...", "answer": "..."}'
# Letters and symbols that are drawn as nothing.
_BLANK = "\u115f\u1160\u3164\uffa0\u2800"


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
    """What the server said, and how it ended."""

    question: str
    expected: str
    said: str
    task: str = ""
    cluster: str = ""
    finish: str = ""


def is_right(said: str, expected: str) -> bool:
    """Exact match: equal after trimming white space."""
    return said.strip() == expected.strip()


def is_unfinished(finish: str) -> bool:
    """Cut at the limit of tokens, or broken off: nobody knows what the whole answer would have been, so it is neither right nor
    wrong. A server that gives no reason at all is believed to have ended the answer."""
    return finish == CUT or bad_reason(finish or None) is not None


def could_be_right(said: str, expected: str) -> bool:
    """May an answer that begins like this still come to equal the expected one?"""
    return expected.strip().startswith(said.strip())


def load_questions(path: Path, limit: int | None = None) -> tuple[Question, ...]:
    """Lines of {"question", "answer"}, "task" or "kind" where there are several, "cluster" where questions may flip together.

    The one reader of question files. Raises WrongUse naming file and line: no such line, a key that stands twice, a question or
    an answer that is no text or says nothing, a question that was asked before, a task or cluster that is no name."""
    found: list[Question] = []
    first: dict[str, tuple[int, Question]] = {}
    for number, row in json_lines(path):
        where = f"{path}:{number}"
        question = _question(row, where)
        before, same = first.setdefault(_same_text(question.question), (number, question))
        if same is not question:
            raise _asked_before(question, same, before, where)
        found.append(question)
    if not found:
        raise WrongUse("no questions", where=str(path), next="give a JSONL file of questions")
    return tuple(found[:limit])


def questions_file(path: Path) -> str:
    """The absolute path of a file that was read once: what is wrong with it is said before anything starts."""
    load_questions(path)
    return str(path.absolute())


def _same_text(question: str) -> str:
    return unicodedata.normalize("NFC", question.strip())


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSONL file. Raises WrongUse naming file and line for what is no JSON object, or names a key twice:
    two readers could take different ones."""
    for number, line in enumerate(read_given(path).splitlines(), start=1):
        try:
            row = strict_json(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            if not isinstance(row, dict):
                raise ValueError(f"not an object: {str(row)[:40]!r}")
            json.dumps(row, ensure_ascii=False).encode()  # half surrogates are no text
        except ValueError as e:
            why = f"not a JSON object: {e}" if line.strip() else "an empty line"
            raise WrongUse(why, where=f"{path}:{number}", next=LINE) from e
        yield number, row


def _question(row: dict[str, Any], where: str) -> Question:
    for name in ("question", "answer"):
        if name not in row:
            raise WrongUse(f"not a question with its answer: it has no {name!r}", where=where, next=LINE)
        if why := says_nothing(row[name]):
            raise WrongUse(f"the {name} {why}", where=where, next=f"correct it, or remove the line; {LINE}")
    if "task" in row and "kind" in row and row["task"] != row["kind"]:
        raise WrongUse("task and kind mean the same, and this line gives both", where=where, next="leave one out")
    task, cluster = (_name(row, where, *names) for names in (("task", "kind"), ("cluster",)))
    return Question(row["question"], row["answer"], task, cluster)


def says_nothing(value: object) -> str:
    """Why this cannot be a question or an expected answer, in words; "" for a text with a letter, a digit or a symbol in it."""
    if not isinstance(value, str):
        return f"must be a text, got {json.dumps(value, default=str)[:40]}"
    if not value.strip():
        return f"is empty: {value[:20]!r}"
    if not any(unicodedata.category(c)[0] in "LNS" and c not in _BLANK for c in value):
        return f"has no letter, digit or symbol: {value[:20]!r}"
    return ""


def _name(row: dict[str, Any], where: str, *keys: str) -> str:
    """The first of these keys that the line has, as a name; "" where it has none of them."""
    key = next((k for k in keys if k in row), None)
    if key is None:
        return ""
    value = row[key]
    if not (isinstance(value, str) and value.strip()):
        raise WrongUse(
            f"{key} must be a name in text, got {str(value)[:40]!r}", where=where,
            next=f'"{key}": "NAME", or leave it out' + ("; one name for all that may flip together" if key == "cluster" else ""),
        )  # fmt: skip
    return value.strip()


def _asked_before(question: Question, same: Question, before: int, where: str) -> WrongUse:
    """The same text asks the same, and once."""
    if question.answer.strip() != same.answer.strip():
        other = f"with another answer ({question.answer[:40]!r}, there {same.answer[:40]!r})"
    elif question.cluster != same.cluster:
        other = f"in another cluster ({question.cluster!r}, there {same.cluster!r})"
    else:
        other = "which would count as two"
    return WrongUse(f"the question of line {before} again, {other}", where=where, next="remove one of the two")


def answer_all(
    questions: Sequence[Question], ask: Callable[[str], tuple[str, str]], *, concurrency: int = 8
) -> tuple[Answered, ...]:
    """Every question once, `concurrency` at a time, in the order given. `ask` gives the text and how it ended; what it raises goes
    through."""
    with ThreadPoolExecutor(concurrency) as pool:
        said = list(pool.map(lambda q: ask(q.question), questions))
    return tuple(
        Answered(q.question, q.answer, text, q.task, q.cluster, finish)
        for q, (text, finish) in zip(questions, said, strict=True)
    )
