"""What `--tasks` and `--data` name: tasks of lm-eval, YAML files, files of questions, the demo model's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import slug
from profile_and_optimize.core.opens import Kind, Opens
from profile_and_optimize.evals.base import Wanted
from profile_and_optimize.evals.exact_match import json_lines, load_questions
from profile_and_optimize.evidence.given import read_given

DEMO = "demo"
# Of lm-eval: they can name Python to run.
TASK_FILES = (".yaml", ".yml")
# What the demo model was trained on, where the server applies no template (demo/tokenizer.py); its longest answer has 12 tokens.
DEMO_FORMAT, DEMO_END, DEMO_TOKENS = "<|user|>{question}<|end|><|assistant|>", "<|end|>", 24
DEMO_FILES = ("heldout.jsonl", "heldout_more.jsonl")
# lm-eval has several forms of a data set; this one is meant where its plain name is given.
ALIASES = {"gpqa_diamond": "gpqa_diamond_cot_zeroshot", "gpqa": "gpqa_main_cot_zeroshot"}
# What data sets call a question and its answer.
FIELDS = ("question", "answer", "target", "problem", "solution")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,119}")


def files_of(text: str) -> tuple[str, ...]:
    """The parts of `--tasks` that are files."""
    return tuple(part for part in _parts(text) if part.endswith((".jsonl", ".yaml", ".yml")))


TASKS = Opens(Kind.PATH, files_of)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def wanted_tasks(text: str, data: Mapping[str, str], *, chat: bool) -> tuple[Wanted, ...]:
    """Raises WrongUse for a name that is none, a file that cannot be read, data that belongs to no task, and a task twice."""
    parts = _parts(text)
    found = tuple(_with_data(_wanted(part, chat), data.get(part)) for part in parts)
    names = [w.name for w in found]
    if not found:
        raise WrongUse("no task", where="--tasks", next="--tasks gsm8k,FILE.jsonl")
    if twice := [n for n in names if names.count(n) > 1]:
        raise WrongUse(f"{twice[0]!r} stands there twice", where="--tasks", next="name each task once")
    if strange := sorted(set(data) - set(parts)):
        raise WrongUse(f"data for {strange[0]!r}, which is not in --tasks", where="--data", next="correct the name")
    return found


def _wanted(part: str, chat: bool) -> Wanted:
    if part == DEMO:
        return demo(chat=chat)
    if part.endswith(".jsonl"):
        return questions(slug(Path(part).stem), Path(part), chat=chat)
    if part.endswith(TASK_FILES):
        read_given(Path(part))
        return Wanted(slug(Path(part).stem), load=str(Path(part).absolute()), source=Path(part).name)
    if not _NAME.fullmatch(part):
        raise WrongUse(
            f"{part[:80]!r} is not a task", where="--tasks", next="a name of lm-eval's, FILE.yaml or FILE.jsonl"
        )
    load = ALIASES.get(part, part)
    return Wanted(part, load=load, source=f"lm-eval task {load}")


def questions(name: str, path: Path, *, chat: bool) -> Wanted:
    """A file of questions and answers, scored by exact match. Without a chat template an answer of one line ends with it:
    a base model goes on with a question of its own."""
    read = load_questions(path)
    lines = any("\n" in q.answer.strip() for q in read)
    return Wanted(name, questions=read, until=() if chat or lines else ("\n",), source=path.name)


def demo(*, chat: bool) -> Wanted:
    read = tuple(q for path in demo_files() for q in load_questions(path))
    form, until = ("{question}", ()) if chat else (DEMO_FORMAT, (DEMO_END,))
    return Wanted(
        DEMO, questions=read, format=form, until=until, max_tokens=DEMO_TOKENS, source=" and ".join(DEMO_FILES)
    )


def demo_files() -> tuple[Path, ...]:
    """The held-out questions of the demo model: in the installed package, else in the repository that holds it."""
    room = Path(str(resources.files(__package__)))
    for folder in (room / "data", room.parents[2] / "demo"):
        if all((folder / name).is_file() for name in DEMO_FILES):
            return tuple(folder / name for name in DEMO_FILES)
    raise WrongUse("the demo model's questions are not here", where="--tasks demo", next="give --tasks FILE.jsonl")


def _with_data(w: Wanted, place: str | None) -> Wanted:
    """With a local copy of its data set: a JSONL file, or a folder with a file per split."""
    if place is None:
        return w
    if w.questions:
        raise WrongUse(f"{w.name} has its own questions", where="--data", next="leave it out")
    path = Path(place)
    splits = {p.stem: p for p in sorted(path.glob("*.jsonl"))} if path.is_dir() else {"": path}
    if not splits:
        raise WrongUse("no .jsonl file in this folder", where=place, next="test.jsonl, train.jsonl: one per split")
    for file in splits.values():
        _require_rows(file)
    return replace(
        w, splits=tuple((k, v.absolute()) for k, v in splits.items()), source=f"{w.source}, data {path.name}"
    )


def _require_rows(path: Path) -> None:
    """Raises WrongUse naming the line that is no JSON object, asks or expects nothing, or was there before, and for a file without
    any. The fields are the task's own; what it expects by other names is judged where it is read."""
    first: dict[str, int] = {}
    for number, row in json_lines(path):
        where = f"{path}:{number}"
        for name in FIELDS:
            if name in row and (row[name] is None or (isinstance(row[name], str) and not row[name].strip())):
                raise WrongUse(f"its {name!r} is empty", where=where, next="correct it, or remove the line")
        if (before := first.setdefault(json.dumps(row, sort_keys=True), number)) != number:
            raise WrongUse(f"line {before} again, which would count as two", where=where, next="remove one of the two")
    if not first:
        raise WrongUse("no lines", where=str(path), next="one JSON object a line")
